"use strict";
// What all parts share. Text out of records reaches the page through textContent and attributes alone.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const byId = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

const DATA = read("data");
const JOBS = DATA.jobs;
let album = null; // the images; megabytes, read when the first is wanted

/** The data URI of an image, by its place in the album; null: there is none. */
function uri(place) {
  if (place === null || place === undefined) return null;
  album ??= read("album");
  return album[place];
}

/** An element: make("p", {className: "note"}, "text", child). */
function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "data") Object.assign(made.dataset, value);
    else if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A colour of the style sheet, as it is now: plots know no variables. */
function colour(name) {
  const probe = make("span", { hidden: true });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** Text as plotly shall show it: it takes some markup. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** Images get their source when they come near the window. */
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
  const made = make("img", { alt, decoding: "async", draggable: false });
  made.place = place;
  watcher.observe(made);
  return made;
}

/** Copies text; where the browser refuses (a page over plain http), selects it, so that Ctrl-C does. */
async function copy(element, button) {
  const say = (text) => {
    const before = (button.dataset.label ??= button.textContent);
    button.textContent = text;
    setTimeout(() => (button.textContent = before), 1600);
  };
  try {
    await navigator.clipboard.writeText(element.textContent);
    say("Copied");
  } catch {
    getSelection().selectAllChildren(element);
    say(document.execCommand("copy") ? "Copied" : "Press Ctrl-C");
  }
}

function copyButton(element) {
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", () => copy(element, button));
  return button;
}

/** Fills a select: [value, text] each. */
function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  select.value = chosen;
}

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const metricName = (key) => DATA.metrics.find((metric) => metric.key === key).name;

/** The sample that is looked at everywhere: its place in each job. */
let sampleShown = 0;
const sampleOf = (job) => job.samples[Math.min(sampleShown, job.samples.length - 1)];
