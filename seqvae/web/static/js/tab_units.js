// A slider for each unit, and the text that they make.

import { changed, fill, h, number, shown } from "./dom.js";
import { asker, empty, sentenceField } from "./fields.js";
import { view } from "./view.js";

const REACH = 3;

export function unitsTab(desk) {
  const { about, source } = desk, saved = source.saved?.choices.walk;
  const result = h("div", { class: "group" }), ask = asker(result);
  const text = h("p", { class: "text", id: "moved", "aria-live": "polite" });
  const note = h("p", { class: "number small soft" });
  const field = sentenceField("Start from", { choices: saved?.texts, value: view.get("base"), go, placeholder: "type a sentence, or click a point" });
  const lively = about.units.filter(({ active }) => active !== false);
  let units = saved ? about.units.filter(({ dim }) => saved.dims.includes(dim)) : lively.length ? lively : about.units;
  const walks = new Map();  // of a saved page: by unit, what its answers hold of the sentence
  let base = null, moved = new Map(), busy = false, again = false;
  const element = h("div", { class: "page" },
    h("div", { class: "form" }, field.box,
      saved ? null : h("div", { class: "row" }, h("button", { class: "main", type: "button", onclick: go }, "Start"),
        h("button", { type: "button", onclick: () => { field.set(""); go(); } }, "Average sentence"))),
    result);
  empty(result, "Moves one unit of a code at a time, from −3 to 3 deviations of the corpus, and writes what the decoder makes of it.");

  async function go() {
    view.set("base", field.value);
    if (!field.value && !saved) {
      begin({ text: null, mean: averageCode(about) });
      return;
    }
    const body = { text: field.value };
    ask(async () => {
      const found = await desk.ask("sentence", body);
      if (saved) for (const { dim } of units) walks.set(dim, await desk.ask("walk", { ...body, dim }));
      return found;
    }, begin);
  }

  function begin({ text: from, mean, reconstruction, places }) {
    base = { text: from, mean, reconstruction, places };
    moved = new Map(from === null ? [] : readMoves());
    const all = !saved && units.length < about.units.length;
    fill(result,
      h("div", { class: "card sticky" }, text, note,
        h("div", { class: "row" }, h("button", { class: "plain", type: "button", onclick: reset }, "Reset"),
          h("button", { class: "plain", type: "button", onclick: () => desk.open("sentence", { text: text.dataset.text }) }, "Show its code"))),
      h("div", { class: "row" }, h("h2", { class: "grow" }, `${units.length} ${lively.length ? "active " : ""}units`),
        all ? h("button", { class: "plain", type: "button", onclick: () => { units = about.units; begin(base); } }, `all ${about.units.length}`) : null),
      h("div", { class: "sliders" }, units.flatMap((unit) => slider(unit))));
    write();
  }

  const own = ({ dim, mean, deviation }) => (deviation ? (base.mean[dim] - mean) / deviation : 0);

  function slider(unit) {
    const value = moved.get(unit.dim) ?? own(unit);
    const [low, high, step] = saved ? ends(walks.get(unit.dim).t) : [-REACH, REACH, 0.05];
    const output = h("output", {}, number(value));
    const input = h("input", {
      type: "range", min: low, max: high, step, "aria-label": `Unit ${unit.dim}`, "data-dim": unit.dim,
      oninput: () => {
        if (saved) reset(unit.dim);
        moved.set(unit.dim, Number(input.value));
        output.value = number(Number(input.value));
        write();
      },
      ondblclick: () => { moved.delete(unit.dim); input.value = own(unit); output.value = number(own(unit)); write(); },
    });
    input.value = value;
    return [h("span", { class: "number soft small" }, `unit ${unit.dim}`), input, output];
  }

  function reset(but = null) {
    moved.clear();
    for (const input of result.querySelectorAll("input[type=range]")) {
      const dim = Number(input.dataset.dim);
      if (dim === but) continue;
      input.value = own(about.units.find((unit) => unit.dim === dim));
      input.nextSibling.value = number(own(about.units.find((unit) => unit.dim === dim)));
    }
    if (typeof but !== "number") write();
  }

  // One question at a time: while it is answered the sliders move on, and the newest place is asked for next.
  async function write() {
    view.set("moves", [...moved].map(([dim, value]) => `${dim}:${value}`).join(" "));
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      do {
        again = false;
        const began = performance.now();
        tell(await (saved ? fromWalk() : fromModel()), performance.now() - began);
      } while (again);
    } catch (error) {
      note.textContent = error.message;
    } finally {
      busy = false;
    }
  }

  function fromModel() {
    const z = base.mean.slice();
    for (const [dim, t] of moved) {
      const { mean, deviation } = about.units.find((unit) => unit.dim === dim);
      z[dim] = mean + t * deviation;
    }
    return desk.ask("decode", { z });
  }

  function fromWalk() {
    const [[dim, t] = []] = [...moved];
    if (dim === undefined) return { ...base.reconstruction, places: base.places };
    const { t: steps, texts, places } = walks.get(dim);
    const at = steps.reduce((best, each, i) => (Math.abs(each - t) < Math.abs(steps[best] - t) ? i : best), 0);
    return { text: texts[at], places: Object.fromEntries(Object.entries(places).map(([map, xy]) => [map, [xy[at]]])) };
  }

  function tell(found, took) {
    const before = text.dataset.text;
    text.dataset.text = found.text;
    fill(text, changed(shown(found.text), before));
    note.textContent = found.log_prob === undefined ? "" : `log p(text | z) ${number(found.log_prob)} nats · ${Math.round(took)} ms`;
    desk.show("units", (map) => ({ marks: [{ xy: found.places[map]?.[0], kind: "main" }] }), write);
  }

  return {
    name: "units", title: "Units", element, go, restore: () => go(),
    pick(picked) {
      if (!field.set(picked)) return false;
      view.set("moves", "");
      go();
      return true;
    },
    fields: { base: field },
  };
}

// Of a slider over the places of a walk: the first, the last, and from one to the next. A unit that never differs has one.
const ends = (t) => [t[0], t[t.length - 1], t.length > 1 ? (t[t.length - 1] - t[0]) / (t.length - 1) : 1];

function readMoves() {
  return view.get("moves").split(" ").filter(Boolean).map((each) => each.split(":").map(Number)).filter((pair) => pair.every(Number.isFinite));
}

function averageCode({ units }) {
  const mean = new Array(units.length).fill(0);
  for (const unit of units) mean[unit.dim] = unit.mean;
  return mean;
}
