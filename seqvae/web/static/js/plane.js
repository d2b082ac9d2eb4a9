// The map: points on one canvas; what belongs to the open tab, and the hand's own marks, on another above it.

import { rgb, token } from "./colours.js";
import { Grid, inside } from "./near.js";
import { splat } from "./splat.js";

const PIXELS_WHILE_MOVING = 1_000_000; // painted at most in one frame while the hand moves; all points once it rests

// The middle of all points, and how wide and high they are together.
function boundsOf(xy) {
  const low = [1, 1], high = [-1, -1];
  for (let i = 0; i < xy.length; i += 1) {
    low[i % 2] = Math.min(low[i % 2], xy[i]);
    high[i % 2] = Math.max(high[i % 2], xy[i]);
  }
  return [0, 1].map((i) => (low[i] + high[i]) / 2).concat([0, 1].map((i) => Math.max(high[i] - low[i], 1e-3)));
}

export class Plane {
  // `on`: hover(point, x, y), pick(point), select(points), moved().
  constructor(element, on) {
    this.element = element;
    this.on = on;
    [this.below, this.over] = element.querySelectorAll("canvas");
    this.xy = new Float32Array();
    this.colours = new Uint8Array();
    this.strength = new Float32Array();
    this.order = new Uint32Array();
    this.box = [0, 0, 2, 2];
    this.centre = [0, 0];
    this.zoom = 1;
    this.things = {};
    this.line = null;
    this.hovered = null;
    new ResizeObserver(() => this.resize()).observe(element);
    this.resize();
  }

  resize() {
    const { width, height } = this.element.getBoundingClientRect();
    this.ratio = Math.min(2, devicePixelRatio || 1);
    [this.width, this.height] = [Math.max(1, Math.round(width)), Math.max(1, Math.round(height))];
    for (const canvas of [this.below, this.over]) {
      canvas.width = Math.round(this.width * this.ratio);
      canvas.height = Math.round(this.height * this.ratio);
    }
    this.image = new ImageData(this.below.width, this.below.height);
    this.draw();
  }

  setPoints(xy) {
    this.xy = xy;
    this.grid = new Grid(xy);
    const was = this.home();
    this.box = boundsOf(xy);
    if (was) this.centre = this.box.slice(0, 2);
    if (this.order.length !== xy.length / 2) this.highlight(null);
    this.draw();
  }

  setColours(colours) {
    this.colours = colours;
    this.draw();
  }

  // `lit`: which points stand out, as 0 and 1; null where all do.
  highlight(lit) {
    const count = this.xy.length / 2;
    this.strength = new Float32Array(count).fill(0.72);
    this.order = Uint32Array.from({ length: count }, (_, i) => i);
    if (lit) {
      this.strength.forEach((_, i) => { this.strength[i] = lit[i] ? 0.95 : 0.1; });
      this.order.sort((a, b) => lit[a] - lit[b] || a - b);
    }
    this.draw();
  }

  // What the open tab shows: {path, at, marks: [{xy, kind, text}]}, in the coordinates of the map.
  show(things) {
    this.things = things;
    this.drawOver();
  }

  // Pixels for one unit of the map; at zoom 1 all points fit in.
  get scale() { return this.zoom * Math.min(this.width / this.box[2], this.height / this.box[3]) * 0.9; }

  get radius() {
    const count = Math.max(1, this.xy.length / 2);
    return Math.min(7, Math.max(1.2, 2.7 * (5000 / count) ** 0.22 * this.zoom ** 0.3));
  }

  toScreen(x, y) {
    return [this.width / 2 + (x - this.centre[0]) * this.scale, this.height / 2 - (y - this.centre[1]) * this.scale];
  }

  toMap(x, y) {
    return [this.centre[0] + (x - this.width / 2) / this.scale, this.centre[1] - (y - this.height / 2) / this.scale];
  }

  nearest(x, y, reach = 14) {
    return this.grid ? this.grid.nearest(...this.toMap(x, y), reach / this.scale) : null;
  }

  within(line) {
    return inside(this.xy, line.map(([x, y]) => this.toMap(x, y)));
  }

  moveBy(dx, dy) {
    this.centre = [this.centre[0] - dx / this.scale, this.centre[1] + dy / this.scale];
    this.moving();
  }

  // Keeps the place under (x, y) where it is.
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const before = this.toMap(x, y);
    this.zoom = Math.min(400, Math.max(0.4, this.zoom * factor));
    const after = this.toMap(x, y);
    this.centre = [this.centre[0] + before[0] - after[0], this.centre[1] + before[1] - after[1]];
    this.moving();
  }

  lookAt(centre, zoom) {
    [this.centre, this.zoom] = [centre, Math.min(400, Math.max(0.4, zoom))];
    this.draw();
  }

  home() { return this.zoom === 1 && this.centre.every((value, i) => value === this.box[i]); }

  fit() {
    [this.centre, this.zoom] = [this.box.slice(0, 2), 1];
    this.moving();
  }

  moving() {
    this.inMotion = true;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => { this.inMotion = false; this.draw(); this.on.moved(); }, 130);
    this.draw();
  }

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = null;
      this.drawPoints();
      this.drawOver();
    });
  }

  drawPoints() {
    const count = this.xy.length / 2, radius = this.radius * this.ratio;
    const every = this.inMotion ? Math.ceil((count * 4 * (radius + 1) ** 2) / PIXELS_WHILE_MOVING) || 1 : 1;
    const colours = this.colours.length === 3 * count ? this.colours : new Uint8Array(3 * count).fill(128);
    const points = { xy: this.xy, order: this.order, every, colours, strength: this.strength };
    const to = { left: this.below.width / 2, top: this.below.height / 2, x: this.centre[0], y: this.centre[1], scale: this.scale * this.ratio };
    splat(this.image, rgb(token("paper")), points, to, radius);
    this.below.getContext("2d").putImageData(this.image, 0, 0);
  }

  drawOver() {
    const pen = this.over.getContext("2d");
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const ink = token("ink"), paper = token("paper"), warm = token("warm");
    const ring = (xy, radius, colour, filled) => {
      pen.beginPath();
      pen.arc(...this.toScreen(...xy), radius, 0, 2 * Math.PI);
      [pen.strokeStyle, pen.lineWidth] = [paper, 4];
      pen.stroke();
      if (filled) { pen.fillStyle = colour; pen.fill(); }
      [pen.strokeStyle, pen.lineWidth] = [filled ? paper : colour, 2];
      pen.stroke();
    };
    const { path = [], at = null, marks = [], rings = [] } = this.things;
    for (const xy of rings) ring(xy, this.radius + 2.5, ink, false);
    if (path.length) {
      for (const [colour, width] of [[paper, 5], [warm, 2.5]]) {
        pen.beginPath();
        path.forEach((xy, i) => (i ? pen.lineTo(...this.toScreen(...xy)) : pen.moveTo(...this.toScreen(...xy))));
        [pen.strokeStyle, pen.lineWidth, pen.lineJoin] = [colour, width, "round"];
        pen.stroke();
      }
      ring(path[0], 5, warm, true);
      ring(path[path.length - 1], 5, warm, true);
    }
    for (const { xy, kind } of marks) ring(xy, kind === "main" ? 7 : 4.5, kind === "near" ? ink : warm, kind !== "near");
    if (at) ring(at, 7.5, warm, true);
    if (this.hovered !== null) {
      ring([this.xy[2 * this.hovered], this.xy[2 * this.hovered + 1]], this.radius + 3, ink, false);
    }
    if (this.line) {
      pen.beginPath();
      this.line.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      [pen.strokeStyle, pen.lineWidth] = [ink, 1.5];
      pen.setLineDash([5, 4]);
      pen.stroke();
      pen.setLineDash([]);
    }
    if (this.crosshair) {
      const [x, y] = [this.width / 2, this.height / 2];
      pen.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        pen.moveTo(x + 5 * dx, y + 5 * dy);
        pen.lineTo(x + 12 * dx, y + 12 * dy);
      }
      [pen.strokeStyle, pen.lineWidth] = [ink, 1.5];
      pen.stroke();
    }
  }
}
