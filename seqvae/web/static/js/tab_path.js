// The way between two sentences.

import { lineChart } from "./charts.js";
import { token } from "./colours.js";
import { changed, fill, h, number, shown } from "./dom.js";
import { asker, empty, pickList, radios, sentenceField } from "./fields.js";
import { view } from "./view.js";

const STEPS = 21;

export function pathTab(desk) {
  const { about, source } = desk, pairs = source.saved?.choices.path;
  const result = h("div", { class: "group" }), ask = asker(result);
  let kind = view.get("way", "slerp"), next = "a", found = null;
  const a = sentenceField("From", { choices: unique(pairs, 0), value: view.get("a"), go: pairs ? narrow : go, placeholder: "type, or click a point" });
  const b = sentenceField("To", { choices: pairs ? endsOf(a.value) : null, value: view.get("b"), go, placeholder: "type, or click another point" });
  const slider = h("input", { type: "range", min: 0, max: STEPS - 1, value: view.get("at", "0"), "aria-label": "Position on the path", oninput: step });
  const element = h("div", { class: "page" },
    h("div", { class: "form" }, a.box, b.box,
      h("div", { class: "row" },
        radios("Kind of path", "way", [["slerp", "slerp, along a great circle"], ["lerp", "lerp, straight", about.spherical]], kind, (value) => { kind = value; go(); })),
      pairs ? null : h("div", { class: "row" }, h("button", { class: "main", type: "button", onclick: go }, "Walk"),
        h("button", { type: "button", onclick: swap }, "Swap"))),
    result);
  empty(result, "Decodes the sentences on the way from one to the other. With this tab open, click two points of the map.");

  function endsOf(start) { return [...new Set(pairs.filter(([from]) => from === start).map(([, to]) => to))]; }

  function narrow() {
    fill(b.element, endsOf(a.value).map((text) => h("option", { value: text }, text)));
    go();
  }

  function swap() {
    const [from, to] = [a.value, b.value];
    a.set(to);
    b.set(from);
    go();
  }

  function go() {
    view.set("a", a.value);
    view.set("b", b.value);
    view.set("way", kind);
    if (!a.value || !b.value) return;
    const body = { a: a.value, b: b.value, steps: STEPS, path: kind };
    ask(() => desk.ask("path", body), answer);
  }

  function answer(answered) {
    found = answered;
    const list = [];
    found.steps.forEach(({ text, t }, i) => {
      if (!i || text !== found.steps[i - 1].text) list.push({ text, first: i, note: number(t) });
    });
    const now = h("div", { class: "card sticky" });
    const chart = h("figure", {});
    fill(result, now, chart,
      h("div", { class: "group" }, h("h2", {}, `${list.length} ${list.length === 1 ? "sentence" : "different sentences"} on the way`),
        stations(list)));
    draw(now, chart, list);
  }

  function stations(list) {
    const element = pickList(list.map(({ text, note }, i) => ({ text, note, content: changed(shown(text), list[i - 1]?.text) })), () => {});
    [...element.querySelectorAll("button")].forEach((button, i) => {
      button.addEventListener("click", () => { slider.value = list[i].first; step(); });
    });
    return element;
  }

  let redraw = () => {};

  function draw(now, chart, list) {
    redraw = () => {
      const at = Math.min(found.steps.length - 1, Number(slider.value)), { t, text, log_prob, tokens } = found.steps[at];
      const before = at ? found.steps[at - 1].text : text;
      fill(now, h("p", { class: "text", id: "step", "aria-live": "polite" }, changed(shown(text), before)),
        h("div", { class: "row tight" }, h("span", { class: "number small soft" }, `t = ${number(t)}`), h("span", { class: "grow" }, slider)),
        h("p", { class: "number small soft" }, `log p(text | z) ${number(log_prob)} nats, ${number(log_prob / tokens)} a token`));
      slider.style.width = "100%";
      const curve = { name: "log p", x: found.steps.map((each) => each.t), y: found.steps.map((each) => each.log_prob / each.tokens), colour: token("accent") };
      fill(chart, h("h3", {}, "log p(text | z) by token, nats"), lineChart([curve], { title: "Log-probability of the text of each step, by token, in nats", xTitle: "t", height: 128, now: at, pick: (share) => { slider.value = Math.round(share * (found.steps.length - 1)); step(); } }));
      const here = list.findLast(({ first }) => first <= at);
      [...result.querySelectorAll(".pick")].forEach((button, i) => button.classList.toggle("now", list[i] === here));
      desk.show("path", (map) => ({ path: found.places[map] ?? [], at: found.places[map]?.[at] }), go);
    };
    redraw();
  }

  function step() {
    view.set("at", slider.value === "0" ? "" : slider.value);
    const held = document.activeElement === slider;
    redraw();
    if (held) slider.focus();
  }

  return {
    name: "path", title: "Path", element, go,
    restore: () => (view.get("a") && view.get("b")) || pairs ? go() : null,
    pick(text) {
      if (pairs) {
        if (!a.set(text)) return false;
        narrow();
        return true;
      }
      if (next === "a") b.set("");
      (next === "a" ? a : b).set(text);
      next = next === "a" ? "b" : "a";
      slider.value = 0;
      view.set("at", "");
      go();
      return true;
    },
    keys: { "[": () => { slider.value -= 1; step(); }, "]": () => { slider.value = Number(slider.value) + 1; step(); } },
    fields: { a, b },
    redraw: () => redraw(),
  };
}

const unique = (pairs, side) => pairs && [...new Set(pairs.map((pair) => pair[side]))];
