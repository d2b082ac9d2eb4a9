// Finding points in the plane: the nearest to a place, and those within a line drawn by hand.

const CELLS = 128;

export class Grid {
  // `xy` within [-1, 1]; a column and a row of cells for each 1 / CELLS of it.
  constructor(xy) {
    this.xy = xy;
    const count = xy.length / 2, cell = new Uint32Array(count);
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < count; i += 1) {
      cell[i] = this.#column(xy[2 * i + 1]) * CELLS + this.#column(xy[2 * i]);
      this.starts[cell[i] + 1] += 1;
    }
    for (let i = 0; i < CELLS * CELLS; i += 1) this.starts[i + 1] += this.starts[i];
    const next = this.starts.slice();
    this.points = new Uint32Array(count);
    for (let i = 0; i < count; i += 1) this.points[next[cell[i]]++] = i;
  }

  #column(value) {
    return Math.min(CELLS - 1, Math.max(0, Math.floor(((value + 1) / 2) * CELLS)));
  }

  // The nearest point within `reach`; null where there is none.
  nearest(x, y, reach) {
    let best = null, least = reach * reach;
    for (let row = this.#column(y - reach); row <= this.#column(y + reach); row += 1) {
      const first = this.starts[row * CELLS + this.#column(x - reach)];
      const end = this.starts[row * CELLS + this.#column(x + reach) + 1];
      for (let k = first; k < end; k += 1) {
        const point = this.points[k];
        const square = (this.xy[2 * point] - x) ** 2 + (this.xy[2 * point + 1] - y) ** 2;
        if (square < least) [best, least] = [point, square];
      }
    }
    return best;
  }
}

// Points inside a closed line, by the even-odd rule.
export function inside(xy, line) {
  const found = [];
  for (let i = 0; i < xy.length / 2; i += 1) {
    const x = xy[2 * i], y = xy[2 * i + 1];
    let within = false;
    for (let a = 0, b = line.length - 1; a < line.length; b = a, a += 1) {
      const [ax, ay] = line[a], [bx, by] = line[b];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
    }
    if (within) found.push(i);
  }
  return found;
}
