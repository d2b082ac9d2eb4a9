// Sentences added and subtracted.

import { fill, h, number, shown } from "./dom.js";
import { asker, empty, pickList, sentenceField } from "./fields.js";
import { view } from "./view.js";

const SIGNS = [["1", "+"], ["-1", "−"], ["0.5", "+ ½"], ["-0.5", "− ½"], ["2", "+ 2×"], ["-2", "− 2×"]];

export function sumTab(desk) {
  const list = h("ol", { class: "group" }), result = h("div", { class: "group" }), ask = asker(result);
  let terms = [];
  const element = h("div", { class: "page" },
    h("div", { class: "form" }, list,
      h("div", { class: "row" }, h("button", { class: "main", type: "button", onclick: go }, "Add up"),
        h("button", { type: "button", onclick: () => add("1", "") }, "One more"))),
    result);
  empty(result, "Adds codes up. Three sentences b − a + c ask what is to c as b is to a. A click on the map fills the first empty line.");

  function add(weight, text) {
    const field = sentenceField(`Sentence ${terms.length + 1}`, { value: text, go });
    const sign = h("select", { "aria-label": "Weight" }, SIGNS.map(([value, name]) => h("option", { value, selected: value === weight }, name)));
    const term = { sign, field };
    const row = h("li", { class: "term" }, sign, field.element,
      h("button", { class: "plain", type: "button", "aria-label": "Leave this sentence out", onclick: () => { row.remove(); terms = terms.filter((each) => each !== term); } }, "✕"));
    terms.push(term);
    list.append(row);
  }

  function go() {
    const given = terms.map(({ sign, field }) => ({ text: field.value, weight: Number(sign.value) })).filter(({ text }) => text);
    view.set("sum", given.map(({ text, weight }) => `${weight} ${text}`).join("\n"));
    if (!given.length) return;
    ask(() => desk.ask("sum", { terms: given }), (found) => {
      desk.show("sum", (map) => ({ marks: [...found.neighbors.map(({ row }) => ({ xy: desk.at(row), kind: "near" })), { xy: found.places[map]?.[0], kind: "main" }] }), go);
      fill(result,
        h("div", { class: "card" }, h("p", { class: "text", id: "sum" }, shown(found.text)), h("p", { class: "number small soft" }, `log p(text | z) ${number(found.log_prob)} nats`),
          h("div", { class: "row" }, h("button", { class: "plain", type: "button", onclick: () => desk.open("sentence", { text: found.text }) }, "Show its code"))),
        h("div", { class: "group" }, h("h2", {}, "Nearest sentences"),
          pickList(found.neighbors.map(({ text, score }) => ({ text, note: number(score, 4) })), (text) => desk.open("sentence", { text }))));
    });
  }

  const kept = view.get("sum").split("\n").filter(Boolean).map((line) => [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)]);
  for (const [weight, text] of kept.length ? kept : [["1", ""], ["-1", ""], ["1", ""]]) add(weight, text);

  return {
    name: "sum", title: "Sum", element, go, restore: () => (kept.length ? go() : null),
    pick(text) {
      if (terms.every(({ field }) => field.value)) add("1", "");
      terms.find(({ field }) => !field.value).field.set(text);
      if (terms.every(({ field }) => field.value)) go();
      return true;
    },
    fields: {},
  };
}
