// Missing words.

import { fill, h, number } from "./dom.js";
import { asker, empty, sentenceField } from "./fields.js";
import { view } from "./view.js";

export function fillTab(desk) {
  const result = h("div", { class: "group" }), ask = asker(result);
  const field = sentenceField("Sentence with gaps", { value: view.get("gaps"), go, placeholder: "the ___ was ___*" });
  const element = h("div", { class: "page" },
    h("div", { class: "form" }, field.box,
      h("p", { class: "soft small" }, "___ is one missing word, ___* any number of them."),
      h("div", { class: "row" }, h("button", { class: "main", type: "button", onclick: go }, "Fill"))),
    result);
  empty(result, "Looks for the words that the model finds likeliest in the gaps. Click a point and replace words by ___.");

  function go() {
    view.set("gaps", field.value);
    if (!field.value) return;
    const body = { text: field.value };
    ask(() => desk.ask("fill", body), ({ found }) => {
      const most = Math.max(...found.map(({ share }) => share));
      fill(result, h("p", { class: "soft small" }, "Shares are among the sentences that were found; the search is not exhaustive."),
        h("ol", { class: "stack", id: "fillings" }, found.map((each) => h("li", {},
          h("button", { class: "pick", type: "button", onclick: () => desk.open("sentence", { text: each.text }) },
            h("span", { class: "text" }, withGaps(field.value, each)), h("span", { class: "number" }, `${number(100 * each.share, 0)} %`)),
          h("div", { class: "share", style: { width: `${(100 * each.share) / most}%` } })))));
    });
  }

  return {
    name: "fill", title: "Fill", element, go, restore: () => (view.get("gaps") ? go() : null),
    pick: (text) => (field.set(text), field.element.focus(), true),
    fields: { gaps: field },
  };
}

// The filled sentence with what stands in its gaps marked, where its words are told apart by spaces.
function withGaps(gapped, { text, fills }) {
  const parts = gapped.split(/___\*?/), pieces = parts.flatMap((part, i) => (i < fills.length ? [part, h("mark", {}, fills[i] || "∅")] : [part]));
  const plain = parts.map((part, i) => part + (fills[i] ?? "")).join("").replace(/\s+/g, " ").trim();
  return plain === text ? pieces : [text];
}
