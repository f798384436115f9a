// Puts everything in motion.

const PAPER = 660; // width of a plot in print, in pixels
const PRINTED = [48, 110]; // of an image in the grid, from and to

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

/** On paper: light, every image there, plots that fit the page. */
function startPrinting() {
  let before = "";
  addEventListener("beforeprint", () => {
    before = document.documentElement.style.colorScheme;
    turn("light");
    all(".plot.js-plotly-plot").forEach((plot) => Plotly.relayout(plot, { width: PAPER }));
    // At once: what waits until it is decoded would be white on paper.
    all("#grid img").forEach((image) => {
      image.decoding = "sync";
      if (!image.src) image.src = uri(image.place);
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
  const named = JOBS.findIndex((job) => location.hash === jobHash(job));
  if (named >= 0) openJob(named);
}

document.documentElement.classList.add("scripted");
all("[data-copy]").forEach((button) => button.addEventListener("click", () => copy(byId(button.dataset.copy), button)));
startTable(drawPlots);
startPlots();
startGrid();
startTheme();
startPrinting();
startDialogs();
