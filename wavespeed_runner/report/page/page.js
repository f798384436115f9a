// Helpers of all scripts. Text from records enters the page only as textContent and attributes, never as markup.

const read = (id) => JSON.parse(document.getElementById(id).textContent);

const DATA = read("data");
const JOBS = DATA.jobs;
let album = null; // the images: megabytes, so parsed only when the first one is shown

/** The data URI of an image by its place in the album; null where there is none. */
function uri(place) {
  if (place === null || place === undefined) return null;
  album ??= read("album");
  return album[place];
}

/** Creates an element: make("p", {className: "note"}, "text", child). */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "data") Object.assign(element.dataset, value);
    else if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The current value of a colour of the style sheet; plotly cannot read CSS variables. */
function colour(name) {
  const probe = make("span", { hidden: true });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** Escapes text for plotly, which interprets some HTML tags. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

const BREAKS = /([_=,/:]|\.(?=[A-Za-z_]))(?=\S)/; // as in breaks.py

/** Text that may go on in the next line after a separator inside of a name. */
const breakable = (text) => String(text).split(BREAKS).flatMap((part, place) => (place % 2 ? [part, make("wbr")] : [part]));

/** Stands for an image that is not loaded yet: one transparent pixel, so that nothing looks broken. */
const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

/** Loads images when they come near the visible part of the page. */
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      target.src = uri(target.place);
      watcher.unobserve(target);
    }
  },
  { rootMargin: "400px" },
);

function lazyImage(place, alt) {
  const image = make("img", { src: BLANK, alt, decoding: "async", draggable: false });
  image.place = place;
  watcher.observe(image);
  return image;
}

function copyButton(element) {
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", () => copy(element, button));
  return button;
}

/** Fills a select with options, each [value, text]. */
function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  select.value = chosen;
}

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const metricName = (key) => DATA.metrics.find((metric) => metric.key === key).name;

/** Place, in every job, of the sample that the page shows. */
let sampleShown = 0;
const sampleOf = (job) => job.samples[Math.min(sampleShown, job.samples.length - 1)];
