// The pictures of one prompt, laid out by two of the sweep's axes.

/** Axes along which the grid can be laid out, and the two of them that leave the fewest cells empty. */
function gridChoices() {
  const many = DATA.axes.filter((axis) => axis.values.length > 1).toSorted((a, b) => b.values.length - a.values.length);
  const taken = (own) => new Set(JOBS.filter((job) => own.every((axis) => job.axes[axis.key])).map((job) => JSON.stringify(own.map((axis) => job.axes[axis.key])))).size;
  const layouts = many.flatMap((a, order) => [[a], ...many.slice(order + 1).map((b) => [a, b])])
    .map((own) => ({ own, filled: taken(own), cells: own.reduce((product, axis) => product * axis.values.length, 1) }))
    // Lists that were zipped, not multiplied, would leave most cells empty.
    .filter(({ own, filled, cells }) => 2 * filled >= cells && (own.length > 1 || cells <= 12));
  const best = layouts.toSorted((a, b) => b.filled - a.filled)[0];
  return { many, across: best?.own[0].key ?? "", down: best?.own[1]?.key ?? "" };
}

function figureOf(job, place) {
  const sample = sampleOf(job);
  if (!sample) return make("div", { className: "cell empty", title: job.reason }, make("span", { className: `pill ${job.status}` }, job.status));
  const shown = sample.pictures[Number(chosen("shown"))];
  const picture = shown === null ? make("span", { className: "absent" }, "no picture") : lazyPicture(shown, job.label);
  const button = make("button", { type: "button", className: "picture", title: "large view", data: { place } }, picture);
  button.addEventListener("click", () => openViewer(place));
  const ssim = sample.ssim ?? job.text.ssim;
  return make("div", { className: "cell" }, button, make("div", { className: "caption" }, job.text.time, make("span", {}, ` SSIM ${ssim}`)));
}

/** Of jobs that share it: their reference. */
function referenceCell(jobs) {
  const places = new Set(jobs.map((job) => sampleOf(job)?.pictures[1]).filter((place) => place !== undefined && place !== null));
  if (places.size !== 1) return null;
  const timed = jobs.filter((job) => job.reference.text).toSorted((a, b) => a.reference.seconds - b.reference.seconds);
  return make("div", { className: "cell reference" }, make("div", { className: "picture" }, lazyPicture([...places][0], "reference")),
    make("div", { className: "caption" }, timed[Math.floor(timed.length / 2)]?.reference.text ?? "", make("span", {}, " reference")));
}

const fitsOthers = (job) => all("#others select").every((select) => (job.axes[select.dataset.key] ?? "") === select.value);
const laidOut = (job, keys) => keys.every((key) => job.axes[key]);
const axisOf = (id) => DATA.axes.find((axis) => axis.key === byId(id).value);

/** All jobs, one after the other. */
function flow(jobs) {
  const cells = jobs.map(([job, place]) => {
    const cell = figureOf(job, place);
    cell.prepend(make("div", { className: "label", title: job.label }, job.label));
    return cell;
  });
  return make("div", { className: "flow" }, ...cells);
}

/** A table: a column for each value of one axis, a row for each of the other. */
function matrix(jobs, across, down) {
  const cells = new Map(jobs.map(([job, place]) => [JSON.stringify([job.axes[across.key], down ? job.axes[down.key] : ""]), [job, place]]));
  const made = (down ? down.values : [""]).map((y) => {
    const found = across.values.map((x) => cells.get(JSON.stringify([x, y])));
    const reference = referenceCell(found.filter(Boolean).map(([job]) => job));
    const name = down ? make("th", { scope: "row" }, make("small", {}, down.short), y) : make("th");
    return make("tr", {}, name, make("td", {}, reference),
      ...found.map((one) => make("td", {}, one ? figureOf(...one) : make("div", { className: "cell empty" }))));
  });
  const heads = across.values.map((x) => make("th", { scope: "col" }, make("small", {}, across.short), x));
  return make("table", { className: "matrix" }, make("thead", {}, make("tr", {}, make("th"), make("th", {}, "reference"), ...heads)), make("tbody", {}, ...made));
}

function drawGrid() {
  const across = axisOf("across"), down = axisOf("down");
  const jobs = JOBS.map((job, place) => [job, place]).filter(([job]) => fitsOthers(job));
  byId("grid").style.setProperty("--cell", `${byId("size").value}px`);
  byId("grid").replaceChildren(across ? matrix(jobs, across, down) : flow(jobs.filter(([job]) => job.samples.length)));
}

/** Axes that are neither across nor down: one value of each is looked at. */
function drawOthers() {
  const used = [byId("across").value, byId("down").value].filter(Boolean);
  const jobs = JOBS.filter((job) => laidOut(job, used));
  const rest = used.length ? DATA.axes.filter((axis) => !used.includes(axis.key)) : [];
  // A job may leave an axis as it is: that is a value too, without which it would share a cell with another job.
  const free = rest.map((axis) => ({ axis, values: [...new Set(jobs.map((job) => job.axes[axis.key] ?? ""))] })).filter(({ values }) => values.length > 1);
  byId("others").replaceChildren(...free.map(({ axis, values }) => {
    const select = make("select", { data: { key: axis.key } });
    fill(select, values.map((value) => [value, value || "–"]), values[0]);
    select.addEventListener("change", drawGrid);
    return make("label", { className: "pick" }, `${axis.short} `, select);
  }));
  byId("down").disabled = !byId("across").value;
}

function startGrid() {
  byId("pictures").hidden = !JOBS.some((job) => job.samples.some((sample) => sample.pictures[0] !== null));
  if (byId("pictures").hidden) return;
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
    });
  }
  all('input[name="shown"]').forEach((box) => box.addEventListener("change", drawGrid));
  byId("size").addEventListener("input", () => byId("grid").style.setProperty("--cell", `${byId("size").value}px`));
  drawOthers();
  drawGrid();
}
