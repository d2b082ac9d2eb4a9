// The run behind the model: its verdict and its curves.

import { lineChart } from "./charts.js";
import { classColour } from "./colours.js";
import { fill, h, number } from "./dom.js";
import { asker } from "./fields.js";

export function runTab(desk) {
  const { about, source } = desk, { curves, measured, methods } = about.run;
  const diagnosis = h("div", { class: "group" }), ask = asker(diagnosis);
  const [split, report] = Object.entries(measured).find(([name]) => name === "test") ?? Object.entries(measured)[0] ?? [];
  const button = h("button", { class: report ? "" : "main", type: "button", onclick: go }, "Diagnose on the sentences of the map");
  const element = h("div", { class: "page" },
    report ? verdictCard(`Measured on the ${split} split, ${report.sentences.toLocaleString("en")} sentences`, report.verdict) : null,
    h("div", { class: "group" }, source.saved ? null : button, diagnosis),
    ...charts(curves),
    h("div", { class: "group" }, h("h2", {}, "Model"), h("dl", { class: "pairs" }, pairs(about).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
    methods.length ? h("div", { class: "group" }, h("h2", {}, "Methods"), methods.map((each) => h("p", { class: "code" },
      Object.entries(each).map(([name, value]) => (name === "name" ? value : `${name} ${JSON.stringify(value)}`)).join(", ")))) : null);

  function go() {
    button.disabled = true;
    fill(diagnosis, h("p", { class: "soft" }, "Measuring …"));
    ask(() => source.diagnosis(), (found) => {
      desk.verdict(found.verdict);
      fill(diagnosis, verdictCard(`On ${found.sentences.toLocaleString("en")} sentences of the map`, found.verdict),
        h("dl", { class: "pairs" }, found.findings.flatMap(({ name, nats, se, meaning }) => [
          h("dt", {}, name), h("dd", {}, `${number(nats)}${se === null ? "" : ` ± ${number(se)}`} nats`, h("br"), h("span", { class: "soft small" }, meaning))])),
        found.remedies.length ? h("div", { class: "group" }, h("h2", {}, "What to try, in this order"), found.remedies.map(({ settings, reason }) =>
          h("div", { class: "group" }, h("p", {}, reason), settings.map((setting) => h("p", { class: "code" }, `--set '${setting}'`))))) : null);
    }).finally(() => { button.disabled = false; });
  }

  if (report) desk.verdict(report.verdict);
  if (source.saved?.diagnosis) go();
  return { name: "run", title: "Run", element, go: () => {}, restore: () => {}, pick: null, fields: {} };
}

function verdictCard(title, { text, evidence, next }) {
  return h("div", { class: "card" }, h("h3", {}, title), h("p", { class: "verdict-text" }, text),
    evidence.length ? h("p", { class: "soft small number" }, evidence.join(" · ")) : null,
    next ? h("p", { class: "code" }, next) : null);
}

function charts({ train, valid, why_none }) {
  if (why_none) return [h("p", { class: "empty" }, `There are no training curves: ${why_none}.`)];
  const line = (name, kind, column, place, dash) => ({ name, x: kind?.step ?? [], y: kind?.[column] ?? [], colour: classColour(place), dash });
  const all = [
    ["Loss, nats a sentence", [line("−ELBO", valid, "elbo_nats", 0), line("rec", valid, "rec_nats", 2), line("train", train, "elbo_nats", 0, "3 3")], {}],
    ["KL, nats a sentence", [line("KL", valid, "kl_nats", 4), line("train", train, "kl_nats", 4, "3 3"), line("weight", train, "kl_weight", 1)], { zero: true }],
    ["Active units", [line("active", valid, "active_units", 2)], { zero: true }],
    ["Perplexity, by −ELBO", [line("PPL", valid, "ppl_elbo", 3)], {}],
  ];
  return all.map(([title, lines, options]) => {
    const chart = lineChart(lines.filter(({ y }) => y.some(Number.isFinite)), { title, xTitle: "updates", ...options });
    return chart ? h("figure", { class: "group" }, h("h2", {}, title), chart) : null;
  }).filter(Boolean);
}

function pairs(about) {
  const { corpus } = about;
  return [
    ["code", `${about.latent_dim} units${about.spherical ? ", on a sphere" : ""}`],
    ["network", `${about.cells}, ${about.parameters.toLocaleString("en")} parameters`],
    ["vocabulary", `${about.vocabulary.toLocaleString("en")} ${about.unit}s`],
    ["corpus", `${corpus.sentences.toLocaleString("en")} of ${corpus.total.toLocaleString("en")} sentences of the ${corpus.name}`],
  ];
}
