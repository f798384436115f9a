// The table: sorts by a click on a column head, filters by words, limits and status. Plots show only the rows that are left.

const rows = all("#table tbody tr");
const visible = new Set(JOBS.keys());
const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase().replace(/\s+/g, " ")]));

/** Order of two cells: numbers before texts, texts alphabetically, empty cells last. */
function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const [x, y] = [Number(a), Number(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a.localeCompare(b);
  return x - y;
}

function sortValue(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.sort ?? cell.textContent.trim();
  return text === "–" ? "" : text;
}

function sortBy(head) {
  const falling = head.getAttribute("aria-sort") === "ascending";
  all("#table th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const keyed = rows.map((row) => [sortValue(row, head.cellIndex), row]);
  keyed.sort(([a], [b]) => (a === "" || b === "" || !falling ? compare(a, b) : compare(b, a)));
  byId("table").querySelector("tbody").append(...keyed.map(([, row]) => row));
}

const LIMIT = /^([^<>]+)(<=?|>=?)(\d*\.?\d+)$/;

/** Whether a row meets a limit such as `ssim>=0.98`; the name is the beginning of a column's head. */
function meetsLimit(row, [, name, sign, limit]) {
  const column = all("#table th").findIndex((head) => head.textContent.trim().toLowerCase().startsWith(name));
  const text = column < 0 ? "" : sortValue(row, column), value = Number(text), bound = Number(limit);
  if (text === "" || Number.isNaN(value)) return false;
  return sign.startsWith("<") ? value < bound || (sign === "<=" && value === bound) : value > bound || (sign === ">=" && value === bound);
}

const matches = (row, word) => (LIMIT.test(word) ? meetsLimit(row, LIMIT.exec(word)) : words.get(row).includes(word));

function applyFilter() {
  const wanted = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const statuses = new Set(all('input[name="status"]:checked').map((box) => box.value));
  const frontOnly = document.querySelector('input[name="front"]').checked;
  visible.clear();
  for (const row of rows) {
    const fits =
      statuses.has(row.dataset.status) &&
      (!frontOnly || row.classList.contains("front")) &&
      wanted.every((word) => matches(row, word));
    row.hidden = !fits;
    if (fits) visible.add(Number(row.dataset.row));
  }
  byId("shown").textContent = visible.size === rows.length ? "" : `${visible.size} of ${rows.length}`;
}

function startTable(onFilter) {
  for (const head of all("#table th")) {
    head.tabIndex = 0;
    head.addEventListener("click", () => sortBy(head));
    head.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sortBy(head);
    });
  }
  let waiting = 0;
  const changed = () => {
    applyFilter();
    clearTimeout(waiting);
    waiting = setTimeout(onFilter, 120);
  };
  byId("filter").addEventListener("input", changed);
  all('input[name="status"], input[name="front"]').forEach((box) => box.addEventListener("change", changed));
  byId("table").addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr");
    // Elsewhere than on the button, a click may be the end of selecting text.
    if (row && (event.target.closest("[data-job]") || getSelection().isCollapsed)) openJob(Number(row.dataset.row));
  });
}
