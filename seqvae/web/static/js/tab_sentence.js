// A sentence and its code.

import { changed, fill, h, number, shown } from "./dom.js";
import { asker, empty, pickList, sentenceField } from "./fields.js";
import { view } from "./view.js";

export function sentenceTab(desk) {
  const { about, source } = desk;
  const result = h("div", { class: "page-result group" });
  const ask = asker(result);
  const field = sentenceField("Sentence", {
    choices: source.saved?.choices.sentence, value: view.get("text"), go, placeholder: "type a sentence, or click a point",
  });
  const element = h("div", { class: "page" },
    h("div", { class: "form" }, field.box,
      source.saved ? null : h("div", { class: "row" }, h("button", { class: "main", type: "button", onclick: go }, "Show its code"))),
    result);
  empty(result, "Shows where a sentence lies, what each unit of its code says, what comes back, what lies near, and which words the code makes likelier.");

  function go() {
    view.set("text", field.value);
    ask(() => desk.ask("sentence", { text: field.value }), answer);
  }

  function answer(found) {
    const { score, reconstruction: back } = found;
    const name = score.by === "rec" ? "rec" : "−ELBO";
    desk.show("sentence", (map) => ({
      marks: [...found.neighbors.map(({ row }) => ({ xy: desk.at(row), kind: "near" })), { xy: found.places[map]?.[0], kind: "main" }],
    }), go);
    fill(result,
      found.unknown.length ? h("p", { class: "soft" }, `The model does not know: ${found.unknown.join(", ")}`) : null,
      h("div", { class: "card" }, h("h3", {}, "What comes back"),
        h("p", { class: "text", id: "back" }, changed(shown(back.text), found.text)),
        h("p", { class: "soft small number" },
          `${name} ${number(score.nats)} nats, ${number(score.nats / score.tokens)} a token · log p(text | z) ${number(back.log_prob)}`)),
      h("div", { class: "row" },
        h("button", { type: "button", onclick: () => desk.open("units", { base: found.text }) }, "Move its units"),
        h("button", { type: "button", onclick: () => desk.open("path", { a: found.text }) }, "Path from here"),
        h("button", { type: "button", onclick: () => desk.open("path", { b: found.text }) }, "to here")),
      h("div", { class: "group" }, h("h2", {}, "Code"),
        h("p", { class: "soft small" }, "Mean and deviation of each unit, in deviations of the corpus from −4 to 4; the liveliest first. Pale units are idle."),
        unitBars(about.units, found)),
      h("div", { class: "group" }, h("h2", {}, "Nearest sentences"),
        h("p", { class: "soft small" }, "By the cosine between posterior means."),
        pickList(found.neighbors.map(({ text, score: cosine }) => ({ text, note: number(cosine, 4) })), (text) => desk.take(text))),
      h("div", { class: "group" }, h("h2", {}, "Words"),
        h("p", { class: "soft small" }, "How often a word is expected in the text above, beside the codes of other sentences."),
        h("div", { class: "words" }, wordList("More likely", "more", found.words.more), wordList("Less likely", "less", found.words.less))));
  }

  return {
    name: "sentence", title: "Sentence", element, go, restore: () => view.has("text") || source.saved ? go() : null,
    pick: (text) => (field.set(text) ? (go(), true) : false),
    fields: { text: field },
  };
}

function unitBars(units, { mean, std }) {
  const place = (value) => `${50 + 12.5 * Math.min(4, Math.max(-4, value))}%`;
  return h("div", { class: "units" }, units.flatMap(({ dim, mean: middle, deviation, active }) => {
    const scale = deviation || 1, at = (mean[dim] - middle) / scale, wide = std ? std[dim] / scale : 0;
    const idle = active === false ? " idle" : "";
    const low = Math.max(-4, at - wide), high = Math.min(4, at + wide);
    const told = `unit ${dim}: mean ${number(mean[dim])}${std ? `, deviation ${number(std[dim])}` : ""}${idle ? ", idle" : ""}`;
    return [
      h("span", { class: `name number${idle}` }, `${dim}`),
      h("span", { class: `unit-bar${idle}`, role: "img", "aria-label": told, title: told },
        high > low ? h("i", { style: { left: place(low), width: `${12.5 * (high - low)}%` } }) : null,
        h("b", { style: { left: place(at) } })),
      h("span", { class: `number${idle}` }, number(mean[dim]), std ? h("span", { class: "soft" }, ` ± ${number(std[dim])}`) : null),
    ];
  }));
}

function wordList(title, kind, words) {
  const most = Math.max(...words.map(({ here, elsewhere }) => Math.abs(here - elsewhere)), 1e-9);
  return h("div", { class: kind }, h("h3", {}, title), h("ul", {}, words.map(({ word, here, elsewhere }) =>
    h("li", { style: { "--share": `${(100 * Math.abs(here - elsewhere)) / most}%` }, title: `${number(here, 3)} here, ${number(elsewhere, 3)} elsewhere` },
      h("span", { class: "text" }, word), h("span", { class: "number small soft" }, `${here > elsewhere ? "+" : ""}${number(here - elsewhere)}`)))));
}
