// The details of one job: figures, images, the decision at each step, and the config to copy.

function jobFigures(job) {
  const text = job.text;
  const figures = [["time per image", text.time, text.time_interval], ["speedup", text.speedup, ""], ["computed", text.share, job.never_hit ? "the cache never hit" : ""],
    ["forks", text.forks, ""], ["peak memory", text.peak, text.weights],
    ...(DATA.rivals ? [["against fewer steps", text.verdict, ""]] : [])];
  const measured = [...DATA.metrics, ...DATA.judges].filter(({ key }) => text[`${key}_worst`] !== undefined);
  const cells = (kind, texts) => texts.map((text) => make(kind, {}, text));
  const rows = measured.map(({ key, name }) => make("tr", {}, ...cells("td", [name, text[key], text[`${key}_interval`] || "–", text[`${key}_median`], text[`${key}_p10`], text[`${key}_floor`] ?? "–", text[`${key}_worst`], text[`${key}_worst_at`]])));
  const heads = cells("th", ["metric", "mean", "95 % interval", "median", "10 %", "noise floor", "worst", "worst image"]);
  return [
    make("dl", { className: "figures" }, ...figures.map(([name, value, more]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, more ? make("small", {}, more) : null)))),
    ...(rows.length ? [make("table", { className: "metrics" }, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows))] : []),
  ];
}

function jobImages(job, place) {
  const cells = job.samples.flatMap((sample, which) => {
    if (sample.images[0] === null) return [];
    const button = make("button", { type: "button", className: "image", title: sample.prompt }, make("img", { src: uri(sample.images[0]), alt: sample.prompt }));
    button.addEventListener("click", () => {
      sampleShown = which;
      byId("sample").value = String(which);
      drawGrid();
      openViewer(place);
    });
    return [make("div", { className: "cell" }, button, make("div", { className: "caption" }, sample.ssim ? `SSIM ${sample.ssim}` : "", make("span", { title: sample.prompt }, sample.prompt)))];
  });
  return cells.length ? [make("h3", {}, "Images"), make("div", { className: "strip" }, ...cells)] : [];
}

/** One row of squares per sample and guidance branch; filled: computed, hollow: cached. */
function strips(lines) {
  const points = lines.flatMap((line, row) => [...line.computed].map((mark, step) => ({ x: step + 1, y: row, computed: mark === "1" })));
  return [["computed", true, "square"], ["cached", false, "square-open"]].map(([name, computed, symbol]) => {
    const marks = points.filter((point) => point.computed === computed);
    return {
      type: "scatter", mode: "markers", name, yaxis: "y2", x: marks.map((p) => p.x), y: marks.map((p) => p.y),
      hovertemplate: `step %{x}: ${name}<extra></extra>`,
      marker: { symbol, size: 9, color: colour(computed ? "accent" : "quiet"), line: { width: 1 } },
    };
  });
}

/** The signal at each step, and the value compared with the threshold where it is another one. */
function curves(trace) {
  const palette = ["accent", "rival", "group2"];
  return trace.flatMap((line, order) => {
    const steps = line.signal.map((_, step) => step + 1);
    const style = { type: "scatter", x: steps, line: { width: 1.5, color: colour(palette[order % palette.length]) }, connectgaps: true };
    const name = line.name ? `, ${plain(line.name)}` : "";
    const hovertemplate = "step %{x}: %{y:.4g}<extra></extra>";
    return [
      { ...style, mode: "lines+markers", marker: { size: 4 }, y: line.signal, name: `signal${name}`, hovertemplate },
      ...(line.level ? [{ ...style, mode: "lines", y: line.level, name: `compared with the threshold${name}`, hovertemplate, line: { ...style.line, dash: "dash" } }] : []),
    ].filter((curve) => curve.y.some((value) => value !== null));
  });
}

function drawTrace(place, job, which) {
  const lines = job.samples.flatMap((sample, which) => sample.trace.map((line) => ({ ...line, which })));
  const drawn = curves(job.samples[which].trace);
  const steps = Math.max(...lines.map((line) => line.computed.length));
  const strip = 26 + 17 * lines.length, total = strip + (drawn.length ? 250 : 0) + 60;
  const limits = [...new Set(job.samples[which].trace.map((line) => line.threshold).filter((value) => value !== null))];
  const highest = Math.max(0, ...drawn.flatMap((curve) => curve.y.filter((value) => value !== null)));
  const shown = limits.filter((limit) => limit <= 2.5 * highest); // a threshold far above would flatten the curves
  const below = drawn.length ? 1 - strip / (total - 60) : 0;
  // Named in the legend: beside the line its name would lie on the curve.
  const thresholds = limits.map((limit) => ({
    type: "scatter", mode: "lines", hoverinfo: "skip", line: { color: colour("failed"), width: 1.25, dash: "dash" },
    x: [0.3, steps + 0.7], y: shown.includes(limit) ? [limit, limit] : [null, null],
    name: `threshold ${limit}${shown.includes(limit) ? "" : ", off scale"}`,
  }));
  Plotly.react(place, [...strips(lines), ...drawn, ...thresholds], {
    ...baseLayout(), height: total, margin: { l: 56, r: 12, t: 6, b: 54 }, legend: { ...baseLayout().legend, y: -44 / Math.max(120, total - 60) },
    xaxis: { ...axisStyle("step"), anchor: drawn.length ? "y" : "y2", showgrid: false, range: [0.3, steps + 0.7] },
    yaxis: { ...axisStyle("signal"), domain: [0, Math.max(0.01, below - 0.06)], visible: drawn.length > 0, rangemode: "tozero" },
    yaxis2: {
      ...axisStyle(""), domain: [below, 1], range: [lines.length - 0.4, -0.6], showgrid: false,
      tickvals: [...lines.keys()], ticktext: lines.map((line) => (line.which === which ? "▸ " : "") + (line.which + 1) + (line.name ? ` ${plain(line.name.slice(0, 14))}` : "")),
    },
  }, { ...OPTIONS, displayModeBar: false });
}

function jobTrace(job) {
  const traced = [...job.samples.keys()].filter((which) => job.samples[which].trace.length);
  if (!traced.length) {
    // The share is unknown for strategies that skip attention inside a step.
    const reason = job.share === null ? "No decisions on whole steps were recorded." : "No cache decided on steps: every step was computed.";
    return { parts: [make("h3", {}, "Steps"), make("p", { className: "note" }, job.samples.length ? reason : "This job has no images.")], start() {} };
  }
  const plot = make("div", { className: "trace" }), select = make("select", { id: "trace-sample" });
  const first = traced.includes(sampleShown) ? sampleShown : traced[0];
  fill(select, traced.map((which) => [String(which), `${which + 1}: ${job.samples[which].prompt}`]), String(first));
  select.addEventListener("change", () => drawTrace(plot, job, Number(select.value)));
  const head = make("div", { className: "section-head" }, make("h3", {}, "Steps"), make("label", { className: "pick" }, "signal of ", select));
  return { parts: [head, plot], start: () => drawTrace(plot, job, first) };
}

/** What quantization, compilation and the other groups did, a line each. */
function jobEngaged(job) {
  if (!job.engaged.length) return [];
  const lines = job.engaged.flatMap(([group, what]) => [make("dt", {}, group), make("dd", {}, what)]);
  return [make("h3", {}, "What took effect"), make("dl", { className: "engaged" }, ...lines)];
}

const jobHash = (job) => `#job-${encodeURIComponent(job.job)}`;

function openJob(place) {
  const job = JOBS[place], dialog = byId("job");
  const config = make("pre", {}, make("code", {}, job.config));
  const close = make("button", { type: "button", className: "close", title: "close" }, "✕");
  close.addEventListener("click", () => dialog.close());
  const trace = jobTrace(job);
  const before = place > 0 ? place - 1 : null, after = place + 1 < JOBS.length ? place + 1 : null;
  dialog.replaceChildren(
    make("header", {}, make("div", {}, make("p", { className: "quiet" }, `job ${job.job} `, make("span", { className: `pill ${job.status}` }, job.status)), make("h2", {}, ...breakable(job.label))),
      make("div", { className: "controls" }, stepButton("←", "previous job", before, openJob), stepButton("→", "next job", after, openJob), close)),
    ...(job.reason ? [make("p", { className: "reason" }, job.reason)] : []),
    ...jobFigures(job), ...jobEngaged(job), ...jobImages(job, place), ...trace.parts,
    ...(job.config ? [make("div", { className: "section-head" }, make("h3", {}, "Config"), copyButton(config)), config] : []),
  );
  byId("card").hidden = true;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  history.replaceState(null, "", jobHash(job));
  trace.start();
}
