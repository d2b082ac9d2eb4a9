// What stands above the map and on it: which map, which colour, the search, the legend, the pictures.

import { classScale, numberScale, ramp } from "./colours.js";
import { byId, fill, h, notify, number } from "./dom.js";
import { asPng, asSvg, download } from "./picture.js";
import { view } from "./view.js";

export function mapBar(desk) {
  const { about, source, plane } = desk;
  const maps = byId("map"), colours = byId("colour"), search = byId("search"), found = byId("found");
  let values = null, column = null, hidden = new Set(), selected = null, matches = null;

  const known = source.saved ? about.maps.filter(({ name }) => source.saved.numbers[`map/${name}`]) : about.maps;
  fill(maps, known.map(({ name, title }) => h("option", { value: name }, title)));
  const dims = about.units.map(({ dim, active }) => ({ name: `dim-${dim}`, title: `unit ${dim}${active === false ? " (idle)" : ""}` }));
  const columns = [...about.columns, ...dims].filter(({ name }) => !source.saved || source.saved.numbers[`column/${name}`]);
  const options = (list) => list.map(({ name, title }) => h("option", { value: name }, title));
  const named = columns.filter(({ name }) => !name.startsWith("dim-"));
  fill(colours, options(named), h("optgroup", { label: "one unit" }, options(columns.filter((each) => !named.includes(each)))));

  async function choose(select, name, work) {
    const before = select.dataset.shown;
    select.value = name;
    try {
      await work(() => { found.textContent = "Working it out …"; });
      select.dataset.shown = name;
    } catch (error) {
      notify(error.message);
      select.value = before;
    }
    count();
  }

  const showMap = (name) => choose(maps, name, async (waiting) => {
    desk.xy = await source.numbers(`map/${name}`, waiting);
    desk.mapName = name;
    view.set("map", name === "pca" ? "" : name);
    plane.setPoints(desk.xy);
    light();
    desk.mapChanged();
  });

  const showColour = (name) => choose(colours, name, async (waiting) => {
    values = await source.numbers(`column/${name}`, waiting);
    column = columns.find((each) => each.name === name);
    hidden = new Set();
    view.set("colour", name === columns[0].name ? "" : name);
    paint();
    light();
  });

  function paint() {
    if (!column) return;
    const scale = column.classes ? classScale(values, column.classes) : numberScale(values);
    plane.setColours(scale.colours);
    legend(scale);
  }

  function legend(scale) {
    if (scale.items) {
      fill(byId("legend"), h("h3", {}, column.title), h("ul", {}, scale.items.map((item) => {
        const button = h("button", { type: "button", "aria-pressed": "false", title: "show these alone", onclick: () => {
          const on = button.getAttribute("aria-pressed") !== "true";
          for (const each of byId("legend").querySelectorAll("button")) each.setAttribute("aria-pressed", "false");
          button.setAttribute("aria-pressed", String(on));
          hidden = on ? new Set(scale.items.filter((each) => each !== item).flatMap((each) => [...each.numbers])) : new Set();
          light();
        } }, item.name);
        return h("li", {}, h("span", { class: "swatch", style: { background: item.colour } }), button, h("span", { class: "soft number" }, item.count.toLocaleString("en")));
      })));
      return;
    }
    const stops = Array.from({ length: 9 }, (_, i) => `rgb(${ramp(i / 8).join(" ")})`).join(", ");
    const digits = Math.max(Math.abs(scale.low), Math.abs(scale.high)) < 10 && column.name !== "length" ? 2 : 0;
    fill(byId("legend"), h("h3", {}, column.title), h("span", { class: "ramp", style: { background: `linear-gradient(to right, ${stops})` } }),
      h("div", { class: "ends" }, h("span", {}, number(scale.low, digits)), h("span", {}, number(scale.high, digits))));
  }

  // Points stand out where they are selected, match the search and belong to a class that is shown.
  function light() {
    const lit = new Uint8Array(desk.texts.length).fill(1);
    const keep = (test) => lit.forEach((on, i) => { if (on && !test(i)) lit[i] = 0; });
    if (selected) keep((i) => selected.has(i));
    if (matches) keep((i) => matches.has(i));
    if (hidden.size) keep((i) => !hidden.has(values[i]));
    const some = Boolean(selected || matches || hidden.size);
    plane.highlight(some ? lit : null);
    count(some ? lit.reduce((sum, on) => sum + on, 0) : null);
  }

  function count(some = null) {
    const all = desk.texts.length.toLocaleString("en");
    found.textContent = some === null ? `${all} sentences` : `${some.toLocaleString("en")} of ${all} sentences`;
  }

  function look() {
    const wanted = search.value.trim().toLowerCase();
    view.set("search", search.value);
    matches = wanted ? new Set(desk.texts.flatMap((text, i) => (text.toLowerCase().includes(wanted) ? [i] : []))) : null;
    light();
  }

  let typing;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(look, 120); });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    look();
    if (matches) desk.list([...matches]);
  });
  maps.addEventListener("change", () => showMap(maps.value));
  colours.addEventListener("change", () => showColour(colours.value));
  byId("fit").addEventListener("click", () => plane.fit());
  byId("save").addEventListener("click", (event) => {
    const kind = event.target.dataset?.save;
    if (!kind) return;
    byId("save").open = false;
    if (kind === "png") asPng(plane, (blob) => download(blob, "map.png"));
    else if (kind === "svg") download(asSvg(plane), "map.svg");
    else location.assign(`points/${desk.mapName}.${kind}`);
  });
  if (source.saved) for (const kind of ["tsv", "parquet"]) byId("save").querySelector(`[data-save=${kind}]`).remove();

  return {
    async start() {
      const seen = ["at_x", "at_y", "zoom"].map((name) => Number(view.get(name, "NaN")));
      await showMap(known.some(({ name }) => name === view.get("map")) ? view.get("map") : "pca");
      if (seen.every(Number.isFinite)) plane.lookAt(seen.slice(0, 2), seen[2]);
      await showColour(columns.some(({ name }) => name === view.get("colour")) ? view.get("colour") : columns[0].name);
      search.value = view.get("search");
      if (search.value) look();
    },
    select(rows) {
      selected = rows.length ? new Set(rows) : null;
      light();
    },
    colourOf: (row) => (!column ? "" : `${column.title}: ${column.classes ? column.classes[values[row]] : number(values[row], column.name === "length" ? 0 : 2)}`),
    paint,
    searchFor: () => search.focus(),
  };
}
