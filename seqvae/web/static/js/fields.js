// Parts of forms that several tabs have.

import { fill, h, notify, shown } from "./dom.js";

// One sentence to be typed; in a saved page, one to be chosen among those that it knows.
export function sentenceField(title, { choices = null, value = "", go, placeholder = "" }) {
  const element = choices
    ? h("select", { "aria-label": title }, choices.map((text) => h("option", { value: text }, shown(text))))
    : h("textarea", { rows: 2, "aria-label": title, placeholder, spellcheck: "false", maxlength: 4000 });
  if (value || choices) element.value = choices && !choices.includes(value) ? choices[0] : value;
  element.addEventListener(choices ? "change" : "keydown", (event) => {
    if (choices) go();
    else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      go();
    }
  });
  const box = h("label", { class: "labelled" }, h("span", {}, title), element);
  return {
    box,
    element,
    get value() { return element.value.replace(/\s*\n\s*/g, " "); },
    set(text) {
      if (choices && !choices.includes(text)) return false;
      element.value = text;
      return true;
    },
  };
}

// A number to be typed.
export function numberField(title, value, attributes) {
  const input = h("input", { type: "number", value, ...attributes });
  return { box: h("label", { class: "labelled" }, h("span", {}, title), input), input, get value() { return Number(input.value); } };
}

// One of a few.
export function radios(title, name, options, chosen, change) {
  return h("div", { class: "row", role: "radiogroup", "aria-label": title }, options.map(([value, text, off]) =>
    h("label", { class: "choice" }, h("input", {
      type: "radio", name, value, checked: value === chosen, disabled: Boolean(off), onchange: () => change(value),
    }), text)));
}

// Sentences to be taken by a click.
export function pickList(items, pick) {
  return h("ul", { class: "stack" }, items.map(({ text, note, content }) => h("li", {},
    h("button", { class: "pick", type: "button", onclick: () => pick(text) },
      h("span", { class: "text" }, content ?? shown(text)), note === undefined ? null : h("span", { class: "number" }, note)))));
}

// Runs what a form asks; the newest answer wins, and an older one is dropped.
export function asker(element) {
  let turn = 0;
  return async (question, answer) => {
    const mine = ++turn;
    element.classList.add("busy");
    try {
      const found = await question();
      if (mine === turn) answer(found);
    } catch (error) {
      if (mine === turn) notify(error.message);
    } finally {
      if (mine === turn) element.classList.remove("busy");
    }
  };
}

export function empty(element, text) {
  fill(element, h("p", { class: "empty" }, text));
}
