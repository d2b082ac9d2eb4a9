// Draws points into an image, pixel by pixel: the same picture on every machine, with or without a graphics card, and
// fast enough to follow the hand at 100,000 points.

// The pixels of a disc, by their distance from its middle in an image of this width, and how much it covers of each.
function disc(radius, width) {
  const reach = Math.ceil(radius), steps = [], covers = [];
  for (let y = -reach; y <= reach; y += 1) {
    for (let x = -reach; x <= reach; x += 1) {
      const cover = Math.min(1, radius + 0.5 - Math.hypot(x, y));
      if (cover > 0.02) {
        steps.push(y * width + x);
        covers.push(cover);
      }
    }
  }
  return { reach, steps: Int32Array.from(steps), covers: Float32Array.from(covers) };
}

// `to`: {left, top, x, y, scale}, from the map to pixels; `order`: the points, the last on top, of which every
// `every`-th is drawn; `strength`: of each point, 0 to 1.
export function splat(image, background, { xy, order, every, colours, strength }, to, radius) {
  const { width, height, data } = image, pixels = new Uint32Array(data.buffer);
  const { reach, steps, covers } = disc(radius, width), [right, bottom] = [width - reach, height - reach];
  pixels.fill((255 << 24) | (background[2] << 16) | (background[1] << 8) | background[0]);
  for (let k = 0; k < order.length; k += every) {
    const point = order[k];
    const x = Math.round(to.left + (xy[2 * point] - to.x) * to.scale), y = Math.round(to.top - (xy[2 * point + 1] - to.y) * to.scale);
    if (x < reach || y < reach || x >= right || y >= bottom) continue;
    const red = colours[3 * point], green = colours[3 * point + 1], blue = colours[3 * point + 2];
    const middle = y * width + x, much = 256 * strength[point];
    for (let j = 0; j < steps.length; j += 1) {
      const alpha = (covers[j] * much) | 0, below = pixels[middle + steps[j]]; // alpha in 256ths, a pixel as ABGR
      const r = below & 255, g = (below >> 8) & 255, b = (below >> 16) & 255;
      pixels[middle + steps[j]] = (255 << 24) | ((b + (((blue - b) * alpha) >> 8)) << 16)
        | ((g + (((green - g) * alpha) >> 8)) << 8) | (r + (((red - r) * alpha) >> 8));
    }
  }
}
