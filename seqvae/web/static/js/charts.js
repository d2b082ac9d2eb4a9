// Line charts.

import { number, svg } from "./dom.js";

function ticks(low, high, count = 4) {
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((each) => each * power >= raw) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return found;
}

const plain = (value) => (Math.abs(value) >= 10000 ? `${Number((value / 1000).toPrecision(4))}k` : `${Number(value.toPrecision(6))}`);

// `curves`: [{name, x, y, colour, dash}]; options: {x: title, zero, height, marks: [x]}
export function lineChart(curves, { title, xTitle = "", zero = false, height = 170, now = null, pick = null }) {
  const width = 396, left = 40, right = 62, top = 10, bottom = 26;
  const points = curves.map(({ x, y }) => x.map((at, i) => [at, y[i]]).filter(([, value]) => Number.isFinite(value)));
  const all = points.flat();
  if (!all.length) return null;
  const xs = all.map(([x]) => x), ys = all.map(([, y]) => y);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  let [y0, y1] = [zero ? Math.min(0, ...ys) : Math.min(...ys), Math.max(...ys)];
  if (y0 === y1) [y0, y1] = [y0 - 0.5, y1 + 0.5];
  const across = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right);
  const up = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);
  const chart = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  for (const y of ticks(y0, y1)) {
    chart.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: up(y), y2: up(y) }),
      svg("text", { x: left - 6, y: up(y) + 4, "text-anchor": "end" }, plain(y).replace("-", "−")));
  }
  for (const x of ticks(x0, x1, 3)) {
    chart.append(svg("text", { x: across(x), y: height - bottom + 16, "text-anchor": "middle" }, plain(x)));
  }
  if (xTitle) chart.append(svg("text", { x: width - right + 22, y: height - bottom + 16 }, xTitle));
  const ends = [];
  curves.forEach(({ name, colour, dash }, i) => {
    const line = points[i].map(([x, y], k) => `${k ? "L" : "M"}${across(x).toFixed(1)} ${up(y).toFixed(1)}`).join("");
    if (!line) return;
    chart.append(svg("path", { class: "curve", d: line, style: { stroke: colour }, "stroke-dasharray": dash }));
    ends.push({ name, colour, y: up(points[i][points[i].length - 1][1]) });
  });
  ends.sort((a, b) => a.y - b.y).forEach((end, i) => { // names do not lie on each other, nor on the axis
    if (i) end.y = Math.max(end.y, ends[i - 1].y + 13);
  });
  const over = ends.length ? Math.max(0, ends[ends.length - 1].y - (height - bottom - 4)) : 0;
  ends.forEach((end) => {
    end.y -= over;
    chart.append(svg("text", { class: "name", x: width - right + 8, y: end.y + 4, style: { fill: end.colour } }, end.name));
  });
  if (now !== null) {
    const [x, y] = points[0][now];
    chart.append(svg("line", { class: "now", x1: across(x), x2: across(x), y1: top, y2: height - bottom }),
      svg("circle", { class: "dot", cx: across(x), cy: up(y), r: 4.5 }));
  }
  const text = svg("text", { x: width - right, y: top + 3, "text-anchor": "end" });
  chart.append(text);
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = x0 + ((((event.clientX - box.left) / box.width) * width - left) / (width - left - right)) * (x1 - x0);
    const seen = points.map((line) => line.reduce((best, each) => (Math.abs(each[0] - x) < Math.abs(best[0] - x) ? each : best), line[0]));
    text.textContent = curves.map(({ name }, i) => (seen[i] ? `${name} ${number(seen[i][1])}` : "")).filter(Boolean).join("  ");
  });
  chart.addEventListener("pointerleave", () => { text.textContent = ""; });
  if (pick) {
    chart.addEventListener("click", (event) => {
      const box = chart.getBoundingClientRect();
      const share = (((event.clientX - box.left) / box.width) * width - left) / (width - left - right);
      pick(Math.min(1, Math.max(0, share)));
    });
  }
  return chart;
}
