// Colours of data. Classes: Okabe and Ito (2008); numbers: viridis without the end that the background swallows.

// Both are lighter on a dark ground.

const LIGHT = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8a800", "#7f6bb0"];
const DARK = ["#4fa3e0", "#e69f00", "#2fc79a", "#e0a3c8", "#f0743a", "#a9dcf7", "#f0e442", "#a796e6"];
const OTHER = "#8b8b8b";

const VIRIDIS = [
  [68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140], [34, 168, 132], [68, 191, 112],
  [122, 209, 81], [189, 223, 38], [253, 231, 37],
];

export const isDark = () => {
  const set = document.documentElement.style.colorScheme;
  return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

// t from 0 to 1, as [red, green, blue].
export function ramp(t) {
  const [from, to] = isDark() ? [0.22, 1] : [0, 0.86];
  const place = (from + (to - from) * Math.min(1, Math.max(0, t))) * (VIRIDIS.length - 1);
  const low = Math.min(VIRIDIS.length - 2, Math.floor(place));
  return VIRIDIS[low].map((value, i) => Math.round(value + (VIRIDIS[low + 1][i] - value) * (place - low)));
}

export const classColour = (place) => (isDark() ? DARK : LIGHT)[place] ?? OTHER;

export const CLASSES_SHOWN = LIGHT.length;

// A colour of the style sheet as the browser works it out now: "rgb(1, 2, 3)" and the like.
export function token(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

export function rgb(colour) {
  if (colour.startsWith("#")) return [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  return colour.match(/[\d.]+/g).slice(0, 3).map(Number);
}

// What colours the points: a colour for each, and what the legend says.
//   number: {low, high, colours}; classes: {items: [{name, count, colour, numbers}], colours}
export function numberScale(values) {
  const sorted = Float32Array.from(values).sort();
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const [low, high] = [at(0.01), at(0.99)]; // a few extreme sentences would leave one colour for all others
  const span = high - low || 1;
  const table = Array.from({ length: 256 }, (_, i) => ramp(i / 255));
  const colours = new Uint8Array(3 * values.length);
  values.forEach((value, i) => {
    colours.set(table[Math.round(255 * Math.min(1, Math.max(0, (value - low) / span)))], 3 * i);
  });
  return { low, high, colours };
}

export function classScale(values, classes) {
  const counts = new Array(classes.length).fill(0);
  for (const value of values) counts[value] += 1;
  const order = classes.map((_, i) => i).sort((a, b) => counts[b] - counts[a] || a - b);
  const named = classes.length > CLASSES_SHOWN ? CLASSES_SHOWN - 1 : classes.length;
  // The most frequent classes get colours, in the order of their names, so that two kinds of labels look alike.
  const main = order.slice(0, named).sort((a, b) => a - b);
  const items = main.map((number, place) => ({
    name: classes[number] || "(empty)", count: counts[number], colour: classColour(place), numbers: new Set([number]),
  }));
  const rest = order.slice(named);
  if (rest.length) {
    const count = rest.reduce((sum, i) => sum + counts[i], 0);
    items.push({ name: `${rest.length} others`, count, colour: OTHER, numbers: new Set(rest) });
  }
  const colours = new Uint8Array(3 * values.length);
  const byNumber = new Map(items.flatMap((item) => [...item.numbers].map((n) => [n, rgb(item.colour)])));
  values.forEach((value, i) => colours.set(byNumber.get(value), 3 * i));
  return { items, colours };
}
