// Draws points into an image, pixel by pixel: the same picture on every machine, with or without a graphics card, and
// fast enough to follow the hand at 100,000 points.

// How much of each pixel a disc of this radius covers.
function disc(radius) {
  const reach = Math.ceil(radius), size = 2 * reach + 1, cover = new Float32Array(size * size);
  for (let y = -reach; y <= reach; y += 1) {
    for (let x = -reach; x <= reach; x += 1) {
      cover[(y + reach) * size + x + reach] = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x, y)));
    }
  }
  return { reach, size, cover };
}

// `places`: x and y of each point in pixels; `order`: which are drawn, the last on top; `strength(point)`: 0 to 1.
export function splat(image, background, places, order, colours, radius, strength) {
  const { width, height, data } = image, { reach, size, cover } = disc(radius);
  const words = new Uint32Array(data.buffer);
  words.fill((255 << 24) | (background[2] << 16) | (background[1] << 8) | background[0]);
  for (let k = 0; k < order.length; k += 1) {
    const point = order[k];
    const left = Math.round(places[2 * point]) - reach, top = Math.round(places[2 * point + 1]) - reach;
    if (left < 0 || top < 0 || left + size > width || top + size > height) continue;
    const red = colours[3 * point], green = colours[3 * point + 1], blue = colours[3 * point + 2];
    const much = strength[point];
    for (let y = 0, j = 0; y < size; y += 1) {
      let at = 4 * ((top + y) * width + left);
      for (let x = 0; x < size; x += 1, j += 1, at += 4) {
        const alpha = cover[j] * much;
        if (alpha === 0) continue;
        data[at] += (red - data[at]) * alpha;
        data[at + 1] += (green - data[at + 1]) * alpha;
        data[at + 2] += (blue - data[at + 2]) * alpha;
      }
    }
  }
}
