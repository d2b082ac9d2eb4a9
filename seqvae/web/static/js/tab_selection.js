// Sentences that a lasso, a search or a class of the legend took.

import { fill, h, number, shown } from "./dom.js";

const LISTED = 200;

export function selectionTab(desk) {
  const element = h("div", { class: "page" });
  tell([]);

  function tell(rows) {
    if (!rows.length) {
      fill(element, h("p", { class: "empty" }, "Draw a lasso around points (shift and drag) to list their sentences here."));
      return;
    }
    const words = rows.reduce((sum, row) => sum + desk.lengths[row], 0) / rows.length;
    fill(element,
      h("div", { class: "group" }, h("h2", {}, `${rows.length.toLocaleString("en")} sentences`),
        h("p", { class: "soft small" }, `${number(words, 1)} ${desk.about.unit}s each in the mean`),
        h("div", { class: "row" }, h("button", { type: "button", onclick: () => save(rows) }, "Save them, TSV"),
          h("button", { type: "button", onclick: () => desk.select([]) }, "Clear"))),
      h("ul", { class: "stack" }, rows.slice(0, LISTED).map((row) => h("li", {},
        h("button", { class: "pick", type: "button", onclick: () => desk.open("sentence", { text: desk.texts[row] }), onpointerenter: () => desk.point(row), onfocus: () => desk.point(row) },
          h("span", { class: "text" }, shown(desk.texts[row])), h("span", { class: "number" }, `${desk.lines[row]}`))))),
      rows.length > LISTED ? h("p", { class: "soft small" }, `and ${(rows.length - LISTED).toLocaleString("en")} more`) : null);
  }

  function save(rows) {
    const cell = (text) => text.replace(/\s+/g, " ");
    const lines = rows.map((row) => `${desk.lines[row]}\t${cell(desk.texts[row])}\t${desk.at(row).join("\t")}\n`);
    desk.download(new Blob([`line\ttext\tx\ty\n${lines.join("")}`], { type: "text/tab-separated-values" }), "selection.tsv");
  }

  return { name: "selection", title: "List", element, go: () => {}, restore: () => {}, pick: null, fields: {}, tell };
}
