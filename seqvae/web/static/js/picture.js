// The map as a picture.

import { rgb, token } from "./colours.js";

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function asPng(plane, done) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [plane.below.width, plane.below.height];
  const pen = canvas.getContext("2d");
  for (const layer of [plane.below, plane.over]) pen.drawImage(layer, 0, 0);
  canvas.toBlob(done, "image/png");
}

const hex = ([r, g, b]) => `#${[r, g, b].map((value) => Math.round(value).toString(16).padStart(2, "0")).join("")}`;

// What is in view, a circle for each point; numbers only, so that no text of the corpus gets into it.
export function asSvg(plane) {
  const { width, height, xy, colours, order, strength, things } = plane, radius = plane.radius.toFixed(2);
  const parts = [`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<rect width="100%" height="100%" fill="${hex(rgb(token("paper")))}"/>`];
  for (const i of order) {
    const [x, y] = plane.toScreen(xy[2 * i], xy[2 * i + 1]);
    if (x < 0 || y < 0 || x > width || y > height) continue;
    const colour = hex(colours.subarray(3 * i, 3 * i + 3));
    parts.push(`<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${radius}" fill="${colour}" fill-opacity="${strength[i].toFixed(2)}"/>`);
  }
  const warm = hex(rgb(token("warm")));
  const line = (things.path ?? []).map((place) => plane.toScreen(...place).map((value) => value.toFixed(1)).join(","));
  if (line.length) parts.push(`<polyline points="${line.join(" ")}" fill="none" stroke="${warm}" stroke-width="2.5" stroke-linejoin="round"/>`);
  for (const { xy: place, kind } of things.marks ?? []) {
    const [x, y] = plane.toScreen(...place).map((value) => value.toFixed(1));
    parts.push(`<circle cx="${x}" cy="${y}" r="${kind === "main" ? 7 : 4.5}" fill="${kind === "near" ? "none" : warm}" stroke="${warm}" stroke-width="2"/>`);
  }
  return new Blob([...parts, "</svg>"], { type: "image/svg+xml" });
}
