// The large view of an image: a slider over reference and candidate, both side by side, or their difference.

const VIEWS = [["slide", "slider"], ["beside", "side by side"], ["difference", "difference"]];
let view = "slide";

function large(place, alt) {
  const image = make("img", { src: uri(place), alt, draggable: false });
  // Small images are enlarged without smoothing.
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth <= 160));
  return image;
}

function slider(candidate, reference) {
  const above = large(reference, "reference");
  above.className = "above";
  const range = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, "aria-label": "reference on the left, candidate on the right" });
  const frame = make("div", { className: "compare" }, large(candidate, "candidate"), above, make("span", { className: "divider" }),
    make("span", { className: "tag left" }, "reference"), make("span", { className: "tag right" }, "candidate"), range);
  const move = () => frame.style.setProperty("--at", `${range.value}%`);
  range.addEventListener("input", move);
  move();
  return frame;
}

function single(place, name) {
  const inside = place === null ? make("span", { className: "absent" }, "no image") : large(place, name);
  return make("figure", { className: "compare" }, inside, make("figcaption", { className: "tag left" }, name));
}

function stageOf(sample) {
  const [candidate, reference, difference] = sample.images;
  if (view === "difference") return [single(difference, "difference")];
  if (candidate === null || reference === null) return [single(candidate ?? reference, candidate === null ? "reference" : "candidate")];
  return view === "slide" ? [slider(candidate, reference)] : [single(reference, "reference"), single(candidate, "candidate")];
}

function viewChoice(again) {
  const boxes = VIEWS.map(([key, name]) => {
    const box = make("input", { type: "radio", name: "view", value: key, checked: key === view });
    box.addEventListener("change", () => {
      view = key;
      again();
    });
    return make("label", {}, box, make("span", {}, name));
  });
  return make("div", { className: "choice" }, ...boxes);
}

/** The next job with images in this direction, in the sweep's order. */
function neighbour(place, step) {
  for (let next = place + step; next >= 0 && next < JOBS.length; next += step) if (JOBS[next].samples.length) return next;
  return null;
}

function stepButton(text, title, next, open) {
  const button = make("button", { type: "button", title, disabled: next === null }, text);
  button.addEventListener("click", () => open(next));
  return button;
}

function openViewer(place) {
  const job = JOBS[place], sample = sampleOf(job), dialog = byId("viewer");
  const links = ["candidate", "reference"].map((name, which) => sample.links[which] && make("a", { href: sample.links[which], target: "_blank", rel: "noopener" }, `${name} file`));
  const details = make("button", { type: "button" }, "Job details");
  details.addEventListener("click", () => {
    dialog.close();
    openJob(place);
  });
  const close = make("button", { type: "button", className: "close", title: "close" }, "✕");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    make("header", {}, make("div", {}, make("h2", {}, ...breakable(job.label)), make("p", { className: "quiet" }, sample.prompt)),
      viewChoice(() => openViewer(place)), close),
    make("div", { className: "stage" }, ...stageOf(sample)),
    make("footer", {}, stepButton("←", "previous job", neighbour(place, -1), openViewer), stepButton("→", "next job", neighbour(place, 1), openViewer),
      make("span", { className: "figures" }, `${job.text.time}, ${job.text.speedup}, SSIM ${sample.ssim ?? "–"}`), ...links, details),
  );
  if (!dialog.open) dialog.showModal();
}
