// Bands of the time plot: what others have published, as their speedups applied to the reference here.

/** Adds a band, and its name along its lower end, to a plot's shapes and annotations. */
function addBand({ name, low, high }, shapes, annotations) {
  const [x0, x1] = [low, high].map((seconds) => seconds * DATA.seconds_factor);
  const line = { color: colour("whisker"), width: 1 };
  shapes.push({ type: "rect", layer: "below", yref: "paper", y0: 0, y1: 1, x0, x1, fillcolor: colour("whisker"), opacity: 0.3, line });
  annotations.push({
    x: (x0 + x1) / 2, yref: "paper", y: 0.01, yanchor: "bottom", textangle: -90, showarrow: false,
    text: plain(name), font: { size: 10.5, color: colour("quiet") },
  });
}
