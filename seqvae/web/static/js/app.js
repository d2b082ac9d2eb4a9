// Puts the page together.

import { isDark } from "./colours.js";
import { byId, fill, h, notify, shown } from "./dom.js";
import { handle } from "./hand.js";
import { mapBar } from "./mapbar.js";
import { download } from "./picture.js";
import { Plane } from "./plane.js";
import { openSource } from "./source.js";
import { fillTab } from "./tab_fill.js";
import { pathTab } from "./tab_path.js";
import { runTab } from "./tab_run.js";
import { sampleTab } from "./tab_sample.js";
import { selectionTab } from "./tab_selection.js";
import { sentenceTab } from "./tab_sentence.js";
import { sumTab } from "./tab_sum.js";
import { unitsTab } from "./tab_units.js";
import { view } from "./view.js";

// What the tabs and the map share.
class Desk {
  constructor(source, about, { texts, lines }, lengths) {
    Object.assign(this, { source, about, texts, lines, lengths, download, mapName: "pca", xy: new Float32Array(2 * texts.length) });
    this.scenes = new Map();
    this.plane = new Plane(byId("plane"), {
      hover: (point, x, y) => this.hover(point, x, y),
      pick: (point) => this.take(texts[point]),
      select: (rows) => this.select(rows),
      moved: () => this.moved(),
    });
    handle(this.plane);
    this.bar = mapBar(this);
    const kinds = source.saved ? [sentenceTab, pathTab, unitsTab, sampleTab, runTab, selectionTab]
      : [sentenceTab, pathTab, unitsTab, sumTab, sampleTab, fillTab, runTab, selectionTab];
    this.tabs = kinds.map((kind) => kind(this));
    this.build();
  }

  at(row) { return [this.xy[2 * row], this.xy[2 * row + 1]]; }

  // Asks the model, for texts of the label that is chosen where it was trained with labels.
  ask(name, body) {
    return this.source.ask(name, this.about.labels ? { ...body, label: byId("label").value } : body);
  }

  build() {
    fill(byId("tabs"), this.tabs.map(({ name, title }) => h("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `page-${name}`, onclick: () => this.turn(name),
    }, title)));
    fill(byId("pages"), this.tabs.map(({ name, element }) =>
      h("div", { role: "tabpanel", id: `page-${name}`, "aria-labelledby": `tab-${name}`, hidden: true }, element)));
    byId("tabs").addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const at = this.tabs.findIndex(({ name }) => name === this.tab.name);
      this.turn(this.tabs[(at + step + this.tabs.length) % this.tabs.length].name);
      byId(`tab-${this.tab.name}`).focus();
    });
  }

  // Opens a tab as it was left.
  turn(name) {
    this.tab = this.tabs.find((each) => each.name === name) ?? this.tabs[0];
    for (const each of this.tabs) {
      const open = each === this.tab;
      byId(`page-${each.name}`).hidden = !open;
      byId(`tab-${each.name}`).setAttribute("aria-selected", String(open));
      byId(`tab-${each.name}`).tabIndex = open ? 0 : -1;
    }
    byId(`tab-${this.tab.name}`).scrollIntoView({ block: "nearest", inline: "nearest" });
    view.set("tab", this.tab.name === this.tabs[0].name ? "" : this.tab.name);
    this.drawScene();
    if (!this.scenes.has(this.tab.name)) this.tab.restore();
  }

  // Opens a tab with other sentences in its fields.
  open(name, values) {
    const tab = this.tabs.find((each) => each.name === name);
    for (const [field, text] of Object.entries(values)) {
      if (!tab.fields[field].set(text)) {
        notify("This page was saved without answers for that sentence.");
        return;
      }
      view.set(field, text);
    }
    if (name === "units") view.set("moves", "");
    this.scenes.delete(name);
    this.turn(name);
  }

  // A sentence was clicked.
  take(text) {
    const tab = this.tab.pick ? this.tab : this.tabs[0];
    if (tab !== this.tab) this.turn(tab.name);
    if (!tab.pick(text)) notify("This page was saved: it has answers for the sentences with a ring.");
  }

  // What a tab draws on the map. `scene(map)` gives it; `again` asks anew where the answer came before the map did.
  show(name, scene, again) {
    this.scenes.set(name, { scene, again, map: this.mapName });
    if (this.tab.name === name) this.drawScene();
  }

  drawScene() {
    const { path = [], at, marks = [] } = this.scenes.get(this.tab.name)?.scene(this.mapName) ?? {};
    const chosen = this.source.saved ? new Set(this.source.saved.choices.sentence) : null;
    const rings = chosen ? this.texts.flatMap((text, row) => (chosen.delete(text) ? [this.at(row)] : [])) : [];
    this.plane.show({ path, at, marks: marks.filter(({ xy }) => xy), rings });
  }

  mapChanged() {
    const kept = this.tab && this.scenes.get(this.tab.name);
    if (kept && kept.map !== this.mapName) kept.again();
    if (this.tab) this.drawScene();
  }

  hover(point, x, y) {
    const tip = byId("tip");
    tip.hidden = point === null;
    if (point === null) return;
    fill(tip, h("p", { class: "text" }, shown(this.texts[point])), h("p", { class: "soft" }, `line ${this.lines[point]} · ${this.bar.colourOf(point)}`));
    tip.style.left = `${Math.max(6, Math.min(x + 16, this.plane.width - tip.offsetWidth - 6))}px`;
    tip.style.top = `${y + tip.offsetHeight + 26 > this.plane.height ? y - tip.offsetHeight - 14 : y + 18}px`;
  }

  point(row) {
    this.plane.hovered = row;
    this.plane.drawOver();
  }

  select(rows) {
    this.bar.select(rows);
    this.list(rows);
  }

  list(rows) {
    this.tabs.find(({ name }) => name === "selection").tell(rows);
    this.turn("selection");
  }

  moved() {
    const { centre, zoom } = this.plane, home = this.plane.home();
    view.set("at_x", home ? "" : centre[0].toFixed(4));
    view.set("at_y", home ? "" : centre[1].toFixed(4));
    view.set("zoom", home ? "" : zoom.toFixed(3));
  }

  verdict({ collapsed, text }) {
    const chip = byId("verdict");
    chip.hidden = false;
    chip.className = `chip ${collapsed === false ? "good" : collapsed ? "bad" : ""}`;
    chip.textContent = collapsed === false ? "code in use" : collapsed ? "collapsed" : "no verdict";
    chip.title = text;
  }
}

function dress(desk) {
  const { about } = desk, { corpus } = about;
  document.title = `${about.name} · seqvae explore`;
  byId("name").textContent = about.name;
  const active = about.units.filter((unit) => unit.active).length;
  byId("facts").textContent = `${active} of ${about.latent_dim} units active · ${corpus.sentences.toLocaleString("en")} sentences of the ${corpus.name}`;
  if (about.labels) {
    const choice = h("select", { id: "label" }, about.labels.map((label) => h("option", { value: label }, label)));
    choice.value = about.labels.includes(view.get("label")) ? view.get("label") : about.labels[0];
    choice.addEventListener("change", () => { view.set("label", choice.value); desk.tab.go(); });
    document.querySelector(".bar").prepend(h("label", { class: "field" }, h("span", {}, "Write as"), choice));
  }
  byId("verdict").addEventListener("click", () => desk.turn("run"));
  byId("theme").addEventListener("click", () => theme(isDark() ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(""));
  byId("help").addEventListener("click", () => byId("keys").showModal());
  byId("link").addEventListener("click", async () => {
    const link = view.link();
    await navigator.clipboard?.writeText(link).then(() => notify("The link is copied: it restores this view."), () => notify(link));
  });
  addEventListener("keydown", keys);

  function theme(name) {
    document.documentElement.style.colorScheme = name;
    view.set("theme", name);
    desk.bar.paint();
    desk.plane.draw();
    desk.tab.redraw?.();
  }

  function keys(event) {
    const typing = event.target.matches("input:not([type=range]), textarea, select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "/") desk.bar.searchFor();
    else if (event.key === "?") byId("keys").showModal();
    else if (desk.tabs[Number(event.key) - 1]) desk.turn(desk.tabs[Number(event.key) - 1].name);
    else if (desk.tab.keys?.[event.key]) desk.tab.keys[event.key]();
    else return;
    event.preventDefault();
  }
}

async function start() {
  document.documentElement.style.colorScheme = view.get("theme");
  const source = openSource();
  const [about, texts, lengths] = await Promise.all([source.about(), source.texts(), source.numbers("column/length")]);
  const desk = new Desk(source, about, texts, lengths);
  dress(desk);
  desk.turn(view.get("tab", "sentence"));
  await desk.bar.start();
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => notify(error.message));
