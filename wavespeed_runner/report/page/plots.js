// Plots of quality against time and against another cost (computed share, memory), and the card that shows the image of a point.

const GROUPS = 8; // most values of an axis that get colours of their own
const REFERENCES = 4; // most references that get a vertical line
const TOP = 1e-4; // 1 - value at the end of the logarithmic axis; closer values look the same
const NARROW = 0.02; // smallest range of the quality axis
const TICKS = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999];
const AGAINST = {
  seconds: {
    title: () => `time per image, ${DATA.seconds_unit}${DATA.paced ? " (scaled)" : ""}`,
    bounds: (job) => job.seconds?.map((value) => value * DATA.seconds_factor),
  },
  share: { title: () => "computed, %", bounds: (job) => same(job.share, 100) },
  peak: { title: () => "peak memory, MB", bounds: (job) => same(job.peak, 1e-6) },
  weights: { title: () => "weights, MB", bounds: (job) => same(job.weights, 1e-6) },
};
const same = (value, factor) => (value === null ? null : Array(3).fill(factor * value)); // a figure without an interval
const OPTIONS = {
  displaylogo: false,
  responsive: true,
  // Listed one by one, because plotly's default buttons include one that uploads the data to a server.
  modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["resetScale2d"]],
  plotlyServerURL: "",
};

const stretched = () => byId("stretch").checked && chosen("metric") !== "psnr";
const height = (value) => (stretched() ? -Math.log10(Math.max(1 - value, TOP)) : value);

function axisStyle(title) {
  const line = colour("line");
  return {
    title: { text: title, font: { size: 12, color: colour("quiet") }, standoff: 8 },
    gridcolor: line, linecolor: line, zerolinecolor: line, zeroline: false,
    tickfont: { size: 11, color: colour("quiet") }, automargin: true,
  };
}

function baseLayout() {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: { family: getComputedStyle(document.body).fontFamily, color: colour("ink"), size: 12 },
    margin: { l: 56, r: 18, t: 34, b: 46 }, hovermode: "closest", dragmode: "zoom",
    legend: { orientation: "h", y: -0.17, x: 0, font: { size: 11, color: colour("quiet") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: colour("accent") },
  };
}

/** The points of a plot: job, its place, x and y with their interval bounds. */
function pointsOf(against, metric) {
  return JOBS.flatMap((job, place) => {
    const x = AGAINST[against].bounds(job);
    const y = job.quality[metric];
    return x && y ? [{ job, place, x, y: y.map(height) }] : [];
  });
}

function whiskers(points, axis) {
  return {
    type: "data", symmetric: false, thickness: 1, width: 0, color: colour("whisker"),
    visible: byId("intervals").checked,
    array: points.map((point) => point[axis][2] - point[axis][0]),
    arrayminus: points.map((point) => point[axis][0] - point[axis][1]),
  };
}

function scatter(points, more) {
  return {
    type: "scatter", mode: "markers", hoverinfo: "none",
    x: points.map((point) => point.x[0]), y: points.map((point) => point.y[0]),
    customdata: points.map((point) => point.place), ...more,
  };
}

/** Open circles on the time axis: jobs that were not timed in the same run as their reference. */
const symbolOf = (point, against) => (against === "seconds" && point.job.text.speedup.startsWith("~") ? "circle-open" : "circle");

/** The settings as one trace for each value of the colour axis. */
function groups(points, against) {
  const key = byId("colour").value;
  const settings = points.filter((point) => !point.job.rival && visible.has(point.place));
  const values = key ? [...DATA.axes.find((axis) => axis.key === key).values] : [null];
  if (key && settings.some((point) => !point.job.axes[key])) values.push(null); // jobs that do not set this key
  return values.map((value, order) => {
    const own = settings.filter((point) => !key || (value === null ? !point.job.axes[key] : point.job.axes[key] === value));
    return scatter(own, {
      name: value !== null ? plain(value) : key ? "default" : "settings",
      marker: { symbol: own.map((point) => symbolOf(point, against)), size: points.length > 200 ? 6 : 9, color: colour(value === null ? "accent" : `group${order}`), opacity: 0.9, line: { width: 1, color: colour("panel") } },
      error_x: whiskers(own, "x"), error_y: whiskers(own, "y"),
    });
  });
}

/** The colour of a group's Pareto front: the colour of its settings where they share one. */
function frontColour(own) {
  const key = byId("colour").value;
  const values = new Set(own.filter((point) => !point.job.rival).map((point) => point.job.axes[key]));
  const order = key && values.size === 1 ? DATA.axes.find((axis) => axis.key === key).values.indexOf([...values][0]) : -1;
  return colour(order < 0 ? "ink" : `group${order}`);
}

/** The distinct reference times of some jobs, in seconds. */
const referencesOfJobs = (jobs) => [...new Set(jobs.map((job) => job.reference.shown).filter((seconds) => seconds !== null))];

/** x and y of a line through some points of a group, ending at the fastest reference (not for PSNR, which is infinite there, and not where another sampler never comes to it). */
function toReference(own, through, against, metric, ends = true) {
  const chosenPoints = own.filter((point) => through(point.job)), places = chosenPoints.map((point) => [point.x[0], point.y[0]]);
  const seconds = referencesOfJobs(chosenPoints.map((point) => point.job));
  if (ends && seconds.length && metric !== "psnr" && (against === "seconds" || against === "share")) places.push([against === "share" ? 100 : Math.min(...seconds) * DATA.seconds_factor, height(1)]);
  places.sort((a, b) => a[0] - b[0]);
  return { x: places.map(([x]) => x), y: places.map(([, y]) => y) };
}

/** Pareto front and fewer-steps line of each group of jobs with the same reference. */
function lines(points, against, metric) {
  const ordered = points.filter((point) => point.job.group).toSorted((a, b) => a.x[0] - b.x[0]);
  const together = [...new Set(ordered.map((point) => point.job.group))].map((group) => ordered.filter((point) => point.job.group === group));
  const fronts = together.map((own) => ({ ...scatter([], {}), ...toReference(own, (job) => job.fronts[against].includes(metric), against, metric),
    name: "Pareto front", legendgroup: "front", mode: "lines", line: { color: frontColour(own), width: 1.25, shape: "hv" }, hoverinfo: "skip",
  })).filter((trace) => trace.x.length > 1);
  const lineOf = ({ job }) => JSON.stringify([job.rivals_with, job.solver]);
  const lined = [...new Set(ordered.map(lineOf))].map((line) => ordered.filter((point) => lineOf(point) === line));
  const dashed = lined.filter((own) => own.some((point) => point.job.rival)).map((own) => ({
    ...scatter([], {}), ...toReference(own, (job) => job.rival, against, metric, own[0].job.solver === ""),
    legendgroup: "rival", mode: "lines", line: { color: colour("rival"), width: 1.5, dash: "dash" }, hoverinfo: "skip",
  }));
  const rivals = together.map((own) => own.filter((point) => point.job.rival)).map((own) => scatter(own, {
    name: "fewer steps, no cache", legendgroup: "rival",
    marker: { size: 8, symbol: "square", color: colour("panel"), line: { width: 1.75, color: colour("rival") } },
    error_x: whiskers(own, "x"), error_y: whiskers(own, "y"),
  }));
  const named = [fronts, rivals].flatMap((kind) => kind.filter((trace) => trace.x.length).map((trace, order) => ({ ...trace, showlegend: order === 0 })));
  return [...dashed.map((trace) => ({ ...trace, showlegend: false })), ...named];
}

/** x of the references on the time or share axis; none where there would be too many lines, and for memory. */
function referencesOf(points, against) {
  const known = referencesOfJobs(points.map((point) => point.job).filter((job) => job.group));
  if (against === "share") return known.length ? [100] : [];
  if (against !== "seconds") return [];
  const places = known.map((seconds) => seconds * DATA.seconds_factor);
  return places.length > REFERENCES ? [] : places;
}

/** Straight lines: the noise floor and the references. */
function marks(points, against, metric) {
  const style = { type: "line", line: { color: colour("quiet"), width: 1, dash: "dot" }, layer: "below" };
  const label = { showarrow: false, font: { size: 10.5, color: colour("quiet") } };
  const shapes = [], annotations = [];
  const floors = points.map((point) => point.job.floor[metric]).filter((value) => value !== null && value !== undefined);
  if (floors.length) {
    const y = height(Math.min(...floors));
    shapes.push({ ...style, xref: "paper", x0: 0, x1: 1, y0: y, y1: y });
    annotations.push({ ...label, xref: "paper", x: 0, xanchor: "left", y, yanchor: "bottom", text: "noise floor" });
  }
  if (against === "seconds") DATA.published.forEach((band) => addBand(band, shapes, annotations));
  for (const x of referencesOf(points, against)) {
    shapes.push({ ...style, yref: "paper", y0: 0, y1: 1, x0: x, x1: x });
  }
  return { shapes, annotations };
}

/** A star at each reference; for PSNR, which is infinite there, only the legend entry of the dotted lines. */
function stars(points, against, metric) {
  const places = referencesOf(points, against);
  if (!places.length) return [];
  const quiet = colour("quiet"), finite = metric !== "psnr";
  return [{
    type: "scatter", mode: "lines+markers", name: "reference", hoverinfo: "skip", cliponaxis: false,
    // The nulls keep the stars unconnected; the line shows in the legend only.
    x: finite ? places.flatMap((x) => [x, null]) : [null], y: finite ? places.flatMap(() => [height(1), null]) : [null],
    line: { color: quiet, width: 1, dash: "dot" }, marker: { symbol: "star", size: finite ? 12 : 0, color: colour("ink") },
  }];
}

/** Range of the quality axis: up to the reference, and wide enough that small differences look small. */
function heights(points, metric) {
  const floors = points.map((point) => point.job.floor[metric]).filter((value) => value !== null && value !== undefined);
  const values = [...points.flatMap((point) => point.y), ...floors.map(height)];
  if (!values.length) return {};
  const lowest = Math.min(...values), highest = metric === "psnr" ? Math.max(...values) : height(1);
  const least = metric === "psnr" ? 3 : stretched() ? 1 : NARROW;
  const span = Math.max(least, highest - lowest);
  return { range: [highest - 1.08 * span, highest + 0.06 * span] };
}

function draw(against) {
  const metric = chosen("metric");
  const points = pointsOf(against, metric);
  const yaxis = { ...axisStyle(metricName(metric)), ...heights(points, metric) };
  if (stretched()) Object.assign(yaxis, { tickvals: TICKS.map(height), ticktext: TICKS.map((tick) => (1 - tick > 1.5 * TOP ? `${tick}` : `≥ ${tick}`)) });
  const layout = {
    ...baseLayout(), ...marks(points, against, metric), yaxis,
    xaxis: { ...axisStyle(AGAINST[against].title()), rangemode: "tozero" },
  };
  // The computed share is not known for every strategy.
  if (!points.length) Object.assign(layout, { xaxis: { visible: false }, yaxis: { visible: false }, shapes: [], annotations: [{ text: "not known", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5, font: { color: colour("quiet") } }] });
  const drawn = [...lines(points, against, metric), ...groups(points, against), ...stars(points, against, metric)];
  Plotly.react(byId(against === "seconds" ? "plot-seconds" : "plot-cost"), drawn, layout, { ...OPTIONS, toImageButtonOptions: { format: "svg", filename: against } });
}

function drawPlots() {
  if (!byId("plots").hidden) ["seconds", byId("cost").value].forEach(draw);
}

/** Shows the image and figures of a point beside the pointer. */
function showCard(job, event) {
  const card = byId("card");
  const sample = sampleOf(job);
  const source = sample && uri(sample.images[0]);
  const figures = [["time", job.text.time], ["speedup", job.text.speedup], ["computed", job.text.share],
    ...DATA.metrics.map(({ key, name }) => [name, job.text[key]])];
  card.replaceChildren(
    ...(source ? [make("img", { src: source, alt: sample.prompt })] : []),
    make("div", {}, make("h3", {}, ...breakable(job.label)), make("dl", {}, ...figures.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])),
      make("p", { className: "quiet" }, sample ? sample.prompt : "")),
  );
  card.hidden = false;
  const { width, height: tall } = card.getBoundingClientRect();
  const left = event.clientX + 18 + width < innerWidth ? event.clientX + 18 : event.clientX - 18 - width;
  card.style.left = `${Math.max(8, left)}px`;
  card.style.top = `${Math.max(8, Math.min(event.clientY - tall / 2, innerHeight - tall - 8))}px`;
}

/** Whether a linear axis would squeeze most settings together because of a few bad ones. */
function crowded() {
  const values = JOBS.flatMap((job) => job.quality.ssim ? [job.quality.ssim[0]] : []).sort((a, b) => a - b);
  return values.length > 2 && values[Math.floor(values.length / 2)] > values.at(-1) - (values.at(-1) - values[0]) / 4;
}

function startPlots() {
  byId("plots").hidden = !JOBS.some((job) => Object.keys(job.quality).length);
  if (byId("plots").hidden) return;
  const able = DATA.axes.filter((axis) => axis.values.length > 1 && axis.values.length <= GROUPS);
  const named = able.find((axis) => axis.values.some((value) => Number.isNaN(Number(value))));
  fill(byId("colour"), [["", "none"], ...able.map((axis) => [axis.key, axis.short])], named?.key ?? "");
  byId("intervals").checked = JOBS.length <= 60;
  byId("stretch").checked = crowded();
  drawPlots();
  all('#plots input, #plots select').forEach((control) => control.addEventListener("change", () => {
    byId("stretch").disabled = chosen("metric") === "psnr";
    drawPlots();
  }));
  for (const plot of [byId("plot-seconds"), byId("plot-cost")]) {
    plot.on("plotly_hover", ({ points, event }) => showCard(JOBS[points[0].customdata], event));
    plot.on("plotly_unhover", () => (byId("card").hidden = true));
    plot.on("plotly_click", ({ points }) => openJob(points[0].customdata));
  }
}
