// Mouse, touch and keys on the map.

const CLICK = 5; // pixels that a hand may slip in a click

export function handle(plane) {
  const canvas = plane.over, hands = new Map();
  let lassoing = false, travelled = 0, spread = null, drawing = false;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  function hover(point, x, y) {
    if (point !== plane.hovered) {
      plane.hovered = point;
      plane.drawOver();
    }
    plane.on.hover(point, x, y);
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    hands.set(event.pointerId, place(event));
    travelled = 0;
    drawing = hands.size === 1 && (lassoing || event.shiftKey);
    plane.line = drawing ? [place(event)] : null;
    spread = null;
  });

  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event), before = hands.get(event.pointerId);
    if (!before) {
      hover(plane.nearest(x, y), x, y);
      return;
    }
    travelled += Math.hypot(x - before[0], y - before[1]);
    hands.set(event.pointerId, [x, y]);
    if (drawing) {
      plane.line.push([x, y]);
      plane.drawOver();
    } else if (hands.size === 2) {
      const [[ax, ay], [bx, by]] = [...hands.values()], apart = Math.hypot(ax - bx, ay - by);
      if (spread) plane.zoomBy(apart / spread, (ax + bx) / 2, (ay + by) / 2);
      spread = apart;
    } else if (travelled > CLICK) {
      plane.moveBy(x - before[0], y - before[1]);
    }
  });

  function release(event) {
    if (!hands.delete(event.pointerId)) return;
    const [x, y] = place(event);
    if (drawing) {
      const line = plane.line;
      [plane.line, drawing] = [null, false];
      setLasso(false);
      if (line.length > 2 && event.type === "pointerup") plane.on.select(plane.within(line));
      plane.drawOver();
    } else if (event.type === "pointerup" && travelled <= CLICK && hands.size === 0) {
      const point = plane.nearest(x, y, event.pointerType === "touch" ? 24 : 14);
      if (event.pointerType === "touch") hover(point, x, y);
      if (point !== null) plane.on.pick(point);
    }
  }

  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => hover(null));
  canvas.addEventListener("dblclick", (event) => plane.zoomBy(2, ...place(event)));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    plane.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), ...place(event));
  }, { passive: false });

  canvas.addEventListener("focus", () => { plane.crosshair = canvas.matches(":focus-visible"); plane.drawOver(); });
  canvas.addEventListener("blur", () => { plane.crosshair = false; plane.drawOver(); });
  canvas.addEventListener("keydown", (event) => {
    const step = 40, centre = [plane.width / 2, plane.height / 2];
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) plane.moveBy(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") plane.zoomBy(1.4);
    else if (event.key === "-") plane.zoomBy(1 / 1.4);
    else if (event.key === "0") plane.fit();
    else if (event.key === "l" || event.key === "L") setLasso(!lassoing);
    else if (event.key === "Enter") {
      const point = plane.nearest(...centre, Math.max(plane.width, plane.height));
      if (point !== null) plane.on.pick(point);
    } else return;
    plane.crosshair = true;
    const point = plane.nearest(...centre, 30);
    hover(point, ...centre);
    event.preventDefault();
    event.stopPropagation();
  });

  function setLasso(wanted) {
    lassoing = wanted;
    document.getElementById("lasso").setAttribute("aria-pressed", String(wanted));
  }

  document.getElementById("lasso").addEventListener("click", () => setLasso(!lassoing));
}
