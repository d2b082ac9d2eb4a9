// New sentences.

import { fill, h } from "./dom.js";
import { asker, empty, numberField, pickList, radios } from "./fields.js";
import { view } from "./view.js";

export function sampleTab(desk) {
  const { about, source } = desk, saved = source.saved?.choices.sample;
  const result = h("div", { class: "group" }), ask = asker(result);
  let from = view.get("from", about.noiseless ? "aggregate" : "prior");
  const n = numberField("How many", view.get("n", "8"), { min: 1, max: 50 });
  const temperature = numberField("Temperature", view.get("temperature", "1"), { min: 0.05, max: 10, step: 0.05 });
  const topP = numberField("Top-p", view.get("top_p", "1"), { min: 0.05, max: 1, step: 0.05 });
  const seed = numberField("Seed", view.get("seed", "0"), { min: 0, step: 1 });
  const element = h("div", { class: "page" },
    saved ? null : h("div", { class: "form" },
      radios("Codes", "from", [["prior", "from the prior", about.noiseless], ["aggregate", "from where the corpus lies"]], from, (value) => { from = value; }),
      h("div", { class: "numbers" }, n.box, temperature.box, topP.box, seed.box),
      h("div", { class: "row" }, h("button", { class: "main", type: "button", onclick: go }, "Draw"),
        h("button", { type: "button", onclick: () => { seed.input.value = Math.floor(Math.random() * 1e6); go(); } }, "Draw others"))),
    result);
  empty(result, "Draws codes and writes a sentence from each. Where the model is wrong about the prior, its samples show it.");
  element.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.type === "number") go(); });

  function go() {
    const body = saved ?? { n: n.value, temperature: temperature.value, top_p: topP.value, seed: seed.value, source: from };
    if (!saved) for (const [name, value] of Object.entries({ ...body, from: body.source, source: "" })) view.set(name, String(value));
    view.set("drawn", "1");
    ask(() => desk.ask("sample", body), (found) => {
      desk.show("sample", (map) => ({ marks: (found.places[map] ?? []).map((xy) => ({ xy, kind: "sample" })) }), go);
      fill(result, h("h2", {}, `${found.texts.length} sentences`),
        pickList(found.texts.map((text) => ({ text })), (text) => desk.open("sentence", { text })));
    });
  }

  return { name: "sample", title: "Sample", element, go, restore: () => (view.has("drawn") || saved ? go() : null), pick: null, fields: {} };
}
