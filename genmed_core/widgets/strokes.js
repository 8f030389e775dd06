// A page to draw a digit on, by pointer or keys, and its form in MNIST. pad.py is the twin of `drawn` and `centred`.

const PAGE = 280, RADIUS = 10.5, SOFT = 7, SIDE = 28, BOX = 20, MARGIN = 4, FAINT = 0.25, LEAST = 0.25;

/** Lay the ink of one straight piece of a stroke on a page of `side` pixels. */
function ink(page, side, [x0, y0], [x1, y1]) {
  const reach = RADIUS + SOFT / 2, dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy;
  const left = Math.max(0, Math.floor(Math.min(x0, x1) - reach));
  const right = Math.min(side, Math.ceil(Math.max(x0, x1) + reach));
  const top = Math.max(0, Math.floor(Math.min(y0, y1) - reach));
  const bottom = Math.min(side, Math.ceil(Math.max(y0, y1) + reach));
  for (let r = top; r < bottom; r++) for (let c = left; c < right; c++) {
    const x = c + 0.5 - x0, y = r + 0.5 - y0;
    const t = length === 0 ? 0 : Math.min(1, Math.max(0, (x * dx + y * dy) / length));
    const distance = Math.sqrt((x - t * dx) ** 2 + (y - t * dy) ** 2);
    const value = Math.min(1, Math.max(0, 0.5 + (RADIUS - distance) / SOFT)), k = r * side + c;
    if (value > page[k]) page[k] = value;
  }
}

/** Strokes, lists of [x, y], inked on a page: side * side values in [0, 1]. */
export function drawn(strokes, side = PAGE) {
  const page = new Float64Array(side * side);
  for (const points of strokes) {
    if (points.length === 1) ink(page, side, points[0], points[0]);
    for (let k = 1; k < points.length; k++) ink(page, side, points[k - 1], points[k]);
  }
  return page;
}

/** [start, stop) of the rows or columns that hold ink; null for none. */
function extent(page, n, inked) {
  let start = 0, stop = n;
  while (start < n && !inked(start)) start++;
  while (stop > start && !inked(stop - 1)) stop--;
  return start === n ? null : [start, stop];
}

/** Shares of n pixels in each of 28 of width `size`, the fifth of which begins at start: lists of [pixel, share]. */
function areas(n, start, size) {
  return Array.from({ length: SIDE }, (_, i) => {
    const low = start + size * (i - MARGIN), shares = [];
    for (let k = Math.max(0, Math.floor(low)); k < Math.min(n, low + size); k++) {
      const overlap = Math.min(k + 1, low + size) - Math.max(k, low);
      if (overlap > 0) shares.push([k, overlap / size]);
    }
    return shares;
  });
}

/** Whole pixels that bring a centre of mass into pixel 14, the digit's extent staying inside. */
function shiftOf(centre, length) {
  return Math.min(Math.max(SIDE / 2 - Math.floor(centre + 1e-6), -MARGIN), SIDE - MARGIN - Math.ceil(length));
}

/** A drawing in MNIST's form: values of a page, row by row, to 28 * 28 in [0, 1]; all 0 for an empty page. */
export function centred(page, height, width) {
  const image = new Float32Array(SIDE * SIDE);
  const rows = extent(page, height, (r) => page.subarray(r * width, (r + 1) * width).some((v) => v > FAINT));
  if (!rows) return image;
  const columns = extent(page, width, (c) => {
    for (let r = rows[0]; r < rows[1]; r++) if (page[r * width + c] > FAINT) return true;
    return false;
  });
  const lengths = [rows[1] - rows[0], columns[1] - columns[0]];
  const size = Math.max(...lengths, LEAST * Math.max(height, width)) / BOX;
  const down = areas(height, rows[0], size), across = areas(width, columns[0], size);
  const digit = new Float64Array(SIDE * SIDE);
  let mass = 0, y = 0, x = 0;
  for (let i = 0; i < SIDE; i++) for (let j = 0; j < SIDE; j++) {
    let sum = 0;
    for (const [r, a] of down[i]) for (const [c, b] of across[j]) sum += a * b * page[r * width + c];
    digit[i * SIDE + j] = sum;
    mass += sum;
    y += sum * (i + 0.5);
    x += sum * (j + 0.5);
  }
  const top = shiftOf(y / mass, lengths[0] / size), left = shiftOf(x / mass, lengths[1] / size);
  for (let i = 0; i < SIDE; i++) for (let j = 0; j < SIDE; j++) {
    const r = i - top, c = j - left;
    if (r >= 0 && r < SIDE && c >= 0 && c < SIDE) image[i * SIDE + j] = Math.min(1, Math.max(0, digit[r * SIDE + c]));
  }
  return image;
}

/** Strokes that a link brought: lists of points on the page, or null. */
function fitStrokes(strokes) {
  const onPage = (point) => alike(point, [0, 0]) && point.every((v) => v >= 0 && v <= PAGE);
  const isStroke = (points) => Array.isArray(points) && points.length > 0 && points.every(onPage);
  return Array.isArray(strokes) && strokes.every(isStroke) ? strokes : null;
}

const HELP = "Arrow keys move the pen, with Shift further; space puts it down or lifts it; Backspace undoes, Delete clears.";

/** The page under pointer and keys. onInk() while ink flows, onStrokes(strokes) when a stroke is done. */
function drawingPad(onInk, onStrokes, say) {
  const canvas = element("canvas", { width: PAGE, height: PAGE, className: "genmed-pad", tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Drawing pad");
  canvas.dataset.lmSuppressShortcuts = "true";
  const context = canvas.getContext("2d"), picture = context.createImageData(PAGE, PAGE);
  const pen = { at: [PAGE / 2, PAGE / 4], down: false, seen: false };
  let strokes = [], stroke = null, page = drawn([]), hand = null; // hand: the pointer that draws

  const paint = () => {
    for (let i = 0; i < page.length; i++) {
      picture.data.fill(255 * page[i], 4 * i, 4 * i + 3);
      picture.data[4 * i + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    if (!pen.seen) return;
    context.beginPath();
    context.arc(...pen.at, RADIUS, 0, 2 * Math.PI);
    context.lineWidth = 3;
    context.strokeStyle = pen.down ? "#ff8c3a" : "#58b4f0";
    context.stroke();
  };
  const begin = (point) => {
    stroke = [point];
    ink(page, PAGE, point, point);
  };
  const extend = (point) => {
    const last = stroke[stroke.length - 1];
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) < 2) return;
    ink(page, PAGE, last, point);
    stroke.push(point);
  };
  const end = () => {
    if (!stroke) return;
    strokes = [...strokes, stroke];
    stroke = null;
    onStrokes(strokes);
  };
  const round = (v) => Math.round(10 * Math.min(PAGE, Math.max(0, v))) / 10;
  /** Where the pointer is on the page; null beside it. */
  const pointOf = (event) => {
    const box = canvas.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return at.every((share) => share >= 0 && share <= 1) ? at.map((share) => round(share * PAGE)) : null;
  };
  const move = (event) => {
    if (event.pointerId !== hand) return;
    for (const each of (event.getCoalescedEvents?.() ?? []).concat(event)) {
      const point = pointOf(each);
      if (!point) end(); // beside the page there is no ink; back on it, a new stroke
      else if (stroke) extend(point);
      else begin(point);
    }
    paint();
    onInk(page);
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return; // a second finger draws nothing
    event.preventDefault();
    end();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    hand = event.pointerId;
    pen.seen = pen.down = false;
    begin(pointOf(event) ?? pen.at);
    paint();
    onInk(page);
  });
  canvas.addEventListener("pointermove", move);
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => {
      if (event.pointerId !== hand) return;
      hand = null;
      end();
    });
  }

  const lift = () => {
    pen.down = false;
    end();
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const act = { " ": () => (pen.down ? lift() : press()), Backspace: undo, Delete: clear, Escape: lift }[event.key];
    if (!way && !act) return;
    event.preventDefault();
    event.stopPropagation();
    pen.seen = true;
    if (way) {
      const far = event.shiftKey ? 28 : 7;
      pen.at = pen.at.map((v, k) => round(v + far * way[k]));
      if (pen.down) extend(pen.at);
      if (pen.down) onInk(page);
    } else act();
    paint();
  });
  canvas.addEventListener("blur", () => {
    if (pen.down) lift();
    pen.seen = false;
    paint();
  });
  function press() {
    pen.down = true;
    begin(pen.at);
    say("The pen is down.");
    onInk(page);
  }
  function undo() {
    pen.down = false;
    stroke = null;
    onStrokes(strokes.slice(0, -1));
  }
  function clear() {
    pen.down = false;
    stroke = null;
    onStrokes([]);
  }
  const show = (given) => {
    if (stroke) return; // while the hand draws, the hand is right
    strokes = given;
    page = drawn(given);
    paint();
  };
  return { canvas, show, undo, clear, page: () => page };
}
