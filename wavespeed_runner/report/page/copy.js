"use strict";
// The buttons that copy a text: all that pages other than report.html have of scripts.

const byId = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

/** Copies text. Where the browser refuses (a page over plain http), selects it for Ctrl-C. */
async function copy(element, button) {
  const show = (text) => {
    const before = (button.dataset.label ??= button.textContent);
    button.textContent = text;
    setTimeout(() => (button.textContent = before), 1600);
  };
  try {
    await navigator.clipboard.writeText(element.textContent);
    show("Copied");
  } catch {
    getSelection().selectAllChildren(element);
    show(document.execCommand("copy") ? "Copied" : "Press Ctrl-C");
  }
}

function startCopying() {
  document.documentElement.classList.add("scripted");
  all("[data-copy]").forEach((button) => button.addEventListener("click", () => copy(byId(button.dataset.copy), button)));
}
