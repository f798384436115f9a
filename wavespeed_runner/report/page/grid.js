// The images of one prompt as a grid along two of the sweep's axes.

// Keys that were swept in pairs are one axis together: along each of them alone most cells would be empty.
const PAIRED = DATA.paired ?? { keys: [], of: [] };
const AXES = DATA.paired ? [...DATA.axes, DATA.paired] : DATA.axes;
PAIRED.of.forEach((value, place) => (JOBS[place].axes[PAIRED.key] = value));

const valueOf = (job, axis) => job.axes[axis.key] ?? "";

/** The axes that are fixed to one value when the grid uses the given ones. */
function restOf(own) {
  const merged = own.some((axis) => axis.key === PAIRED.key) ? PAIRED.keys : [PAIRED.key];
  return AXES.filter((axis) => !own.includes(axis) && !merged.includes(axis.key));
}

/** The values of the other axes that fill the most cells: the number of cells, and one job with these values. */
function fullest(own, jobs = JOBS) {
  const rest = restOf(own), groups = new Map();
  for (const job of jobs) {
    if (!own.every((axis) => job.axes[axis.key])) continue;
    const name = JSON.stringify(rest.map((axis) => valueOf(job, axis)));
    if (!groups.has(name)) groups.set(name, { job, cells: new Set() });
    groups.get(name).cells.add(JSON.stringify(own.map((axis) => job.axes[axis.key])));
  }
  const best = [...groups.values()].toSorted((a, b) => b.cells.size - a.cells.size)[0];
  return { job: best?.job ?? null, filled: best?.cells.size ?? 0 };
}

/** Number of jobs that do not set one of these axes, so they have no cell in the grid. */
const leftOut = (own) => JOBS.filter((job) => !own.every((axis) => job.axes[axis.key])).length;

/** The axes that the grid can use, and the one or two of them that show most jobs at once. */
function gridChoices() {
  const many = AXES.filter((axis) => axis.values.length > 1).toSorted((a, b) => b.values.length - a.values.length);
  const allowed = ([a, b]) => !b || ![[a, b], [b, a]].some(([one, other]) => one.key === PAIRED.key && PAIRED.keys.includes(other.key));
  const layouts = many.flatMap((a, order) => [[a], ...many.slice(order + 1).map((b) => [a, b])]).filter(allowed)
    .map((own) => ({ own, filled: fullest(own).filled, cells: own.reduce((product, axis) => product * axis.values.length, 1) }))
    .filter(({ own, filled, cells }) => 2 * filled >= cells && (own.length > 1 || cells <= 12) && leftOut(own) <= JOBS.length / 4);
  const best = layouts.toSorted((a, b) => b.filled - a.filled || a.cells - b.cells)[0];
  return { many, across: best?.own[0].key ?? "", down: best?.own[1]?.key ?? "" };
}

function figureOf(job, place) {
  const sample = sampleOf(job);
  if (!sample) return make("div", { className: "cell empty", title: job.reason }, make("span", { className: `pill ${job.status}` }, job.status));
  const shown = sample.images[Number(chosen("shown"))];
  const image = shown === null ? make("span", { className: "absent" }, "no image") : lazyImage(shown, job.label);
  const button = make("button", { type: "button", className: "image", title: "enlarge", data: { place } }, image);
  button.addEventListener("click", () => openViewer(place));
  const ssim = sample.ssim ?? job.text.ssim;
  return make("div", { className: "cell" }, button, make("div", { className: "caption" }, job.text.time, make("span", {}, ssim === "–" ? "" : ` SSIM ${ssim}`)));
}

/** The reference of these jobs, if they have the same one. */
function referenceCell(jobs) {
  const places = new Set(jobs.map((job) => sampleOf(job)?.images[1]).filter((place) => place !== undefined && place !== null));
  if (places.size !== 1) return null;
  const timed = jobs.filter((job) => job.reference.text).toSorted((a, b) => a.reference.seconds - b.reference.seconds);
  return make("div", { className: "cell reference" }, make("div", { className: "image" }, lazyImage([...places][0], "reference")),
    make("div", { className: "caption" }, timed[Math.floor(timed.length / 2)]?.reference.text ?? "", make("span", {}, " reference")));
}

const fitsOthers = (job) => all("#others select").every((select) => (job.axes[select.dataset.key] ?? "") === select.value);
const axisOf = (id) => AXES.find((axis) => axis.key === byId(id).value);

/** All jobs in order. */
function flow(jobs) {
  const cells = jobs.map(([job, place]) => {
    const cell = figureOf(job, place);
    cell.prepend(make("div", { className: "label", title: job.label }, job.label));
    return cell;
  });
  const reference = referenceCell(jobs.map(([job]) => job));
  if (reference) reference.prepend(make("div", { className: "label" }, "reference"));
  return make("div", { className: "flow" }, ...(reference ? [reference] : []), ...cells);
}

/** A table with a column for each value of one axis and a row for each value of the other. */
function matrix(jobs, across, down) {
  const compared = jobs.some(([job]) => hasImage(1)(job));
  const cells = new Map(jobs.map(([job, place]) => [JSON.stringify([job.axes[across.key], down ? job.axes[down.key] : ""]), [job, place]]));
  const tableRows = (down ? down.values : [""]).map((y) => {
    const rowCells = across.values.map((x) => cells.get(JSON.stringify([x, y])));
    const reference = compared ? [make("td", {}, referenceCell(rowCells.filter(Boolean).map(([job]) => job)))] : [];
    const name = down ? make("th", { scope: "row" }, make("small", {}, down.short), y) : make("th");
    return make("tr", {}, name, ...reference,
      ...rowCells.map((cell) => make("td", {}, cell ? figureOf(...cell) : make("div", { className: "cell empty" }))));
  });
  const heads = across.values.map((x) => make("th", { scope: "col" }, make("small", {}, across.short), x));
  return make("table", { className: "matrix" }, make("thead", {}, make("tr", {}, make("th"), ...(compared ? [make("th", {}, "reference")] : []), ...heads)), make("tbody", {}, ...tableRows));
}

function drawGrid() {
  const across = axisOf("across"), down = axisOf("down");
  const jobs = JOBS.map((job, place) => [job, place]).filter(([job]) => fitsOthers(job));
  byId("grid").style.setProperty("--cell", `${byId("size").value}px`);
  byId("grid").replaceChildren(across ? matrix(jobs, across, down) : flow(jobs.filter(([job]) => job.samples.length)));
}

/** Selects for the axes that the grid does not use, at first with the values that fill the most cells. */
function drawOthers() {
  const own = [axisOf("across"), axisOf("down")].filter(Boolean);
  const jobs = JOBS.filter((job) => own.every((axis) => job.axes[axis.key]));
  const start = fullest(own).job;
  // A job may not set an axis. That counts as a value too, or the job would share a cell with another one.
  const free = (own.length ? restOf(own) : []).map((axis) => ({ axis, values: [...new Set(jobs.map((job) => valueOf(job, axis)))] })).filter(({ values }) => values.length > 1);
  byId("others").replaceChildren(...free.map(({ axis, values }) => {
    const select = make("select", { data: { key: axis.key } });
    fill(select, values.map((value) => [value, value || "–"]), valueOf(start, axis));
    select.addEventListener("change", () => {
      followOthers(own, axis, select.value);
      drawGrid();
    });
    return make("label", { className: "pick" }, `${axis.short} `, select);
  }));
  byId("down").disabled = !byId("across").value;
}

/** If no job has the new value together with the other selected values, changes those to values that exist with it. */
function followOthers(own, axis, value) {
  if (JOBS.some((job) => own.every(({ key }) => job.axes[key]) && fitsOthers(job))) return;
  const { job } = fullest(own, JOBS.filter((one) => valueOf(one, axis) === value));
  if (job) all("#others select").forEach((select) => (select.value = job.axes[select.dataset.key] ?? ""));
}

/** Shrinks the images until the last column fits, down to the smallest size. */
function fitGrid() {
  const size = byId("size"), grid = byId("grid");
  while (grid.scrollWidth > grid.clientWidth && Number(size.value) > Number(size.min)) {
    size.value = String(Number(size.value) - Number(size.step));
    grid.style.setProperty("--cell", `${size.value}px`);
  }
}

/** Whether a job has images of this kind: 0 results, 1 references, 2 differences. */
const hasImage = (kind) => (job) => job.samples.some((sample) => sample.images[kind] !== null);

function startGrid() {
  byId("images").hidden = !JOBS.some(hasImage(0));
  if (byId("images").hidden) return;
  byId("kinds").hidden = !JOBS.some(hasImage(2));
  const { many, across, down } = gridChoices();
  const axes = many.map((axis) => [axis.key, axis.short]);
  fill(byId("across"), [["", "all jobs in order"], ...axes], across);
  fill(byId("down"), [["", "nothing"], ...axes], down);
  fill(byId("sample"), DATA.samples.map((text, place) => [String(place), text]), "0");
  byId("sample").addEventListener("change", () => {
    sampleShown = Number(byId("sample").value);
    drawGrid();
  });
  for (const id of ["across", "down"]) {
    byId(id).addEventListener("change", () => {
      const other = byId(id === "across" ? "down" : "across");
      if (other.value === byId(id).value) other.value = "";
      drawOthers();
      drawGrid();
      fitGrid();
    });
  }
  all('input[name="shown"]').forEach((box) => box.addEventListener("change", drawGrid));
  addEventListener("resize", fitGrid);
  byId("size").addEventListener("input", () => byId("grid").style.setProperty("--cell", `${byId("size").value}px`));
  drawOthers();
  drawGrid();
  fitGrid();
}
