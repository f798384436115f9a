// Starts everything once the other scripts have defined their functions.

const PAPER = 660; // width of a plot in print, in pixels
const PRINTED = [48, 110]; // smallest and largest width of a printed image in the grid, in pixels

function turn(scheme) {
  document.documentElement.style.colorScheme = scheme;
  drawPlots();
}

function startTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => document.documentElement.style.colorScheme || (dark.matches ? "dark" : "light");
  byId("theme").addEventListener("click", () => turn(now() === "dark" ? "light" : "dark"));
  dark.addEventListener("change", drawPlots);
}

/** Printing: light colours, all images loaded, plots as wide as the paper. */
function startPrinting() {
  let before = "";
  addEventListener("beforeprint", () => {
    before = document.documentElement.style.colorScheme;
    turn("light");
    all(".plot.js-plotly-plot").forEach((plot) => Plotly.relayout(plot, { width: PAPER }));
    // Decode synchronously: an image that is still being decoded would be blank on paper.
    all("#grid img").forEach((image) => {
      image.decoding = "sync";
      if (image.src === BLANK) image.src = uri(image.place);
    });
    const columns = byId("grid").querySelectorAll("thead th").length;
    const fitting = columns ? (PAPER - 60) / (columns - 1) - 8 : PRINTED[1];
    byId("grid").style.setProperty("--printed", `${Math.max(PRINTED[0], Math.min(PRINTED[1], fitting))}px`);
  });
  addEventListener("afterprint", () => turn(before));
}

function startDialogs() {
  for (const dialog of all("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
  byId("job").addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  const linked = JOBS.findIndex((job) => location.hash === jobHash(job));
  if (linked >= 0) openJob(linked);
}

startCopying();
startTable(drawPlots);
startPlots();
startGrid();
startTheme();
startPrinting();
startDialogs();
