// Colours as in plots.py. Everything else is drawn in the page's own ink, so that a dark page needs nothing.
const REAL = [0, 114, 178], FAKE = [213, 94, 0], HELD = [0, 158, 115]; // blue, vermilion, green
const REAL_ON_DARK = [86, 180, 233], FAKE_ON_DARK = [245, 140, 50];
const PATHS = {
  Langevin: { colour: "#CC79A7", dash: [2, 3] }, DDPM: { colour: "#E69F00", dash: [7, 3] },
  DDIM: { colour: "#009E73", dash: [] }, ODE: { colour: "ink", dash: [1, 4] },
};
const CELLS = 48, REACH = 3; // of the background; the plane runs from -REACH to REACH

const rgba = ([r, g, b], alpha = 1) => `rgba(${r}, ${g}, ${b}, ${alpha})`;

/** The page's ink as [r, g, b], and whether its ground is dark. */
function inkOf(element) {
  const ink = (getComputedStyle(element).color.match(/[\d.]+/g) ?? [0, 0, 0]).slice(0, 3).map(Number);
  return { ink, dark: ink[0] + ink[1] + ink[2] > 384 };
}

/** A canvas as sharp as the screen: context with a unit of one CSS pixel, cleared, and its size. */
function clean(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** The centres of the background's cells (CELLS^2, 2), from the top left, row by row. */
const GRID = Float64Array.from({ length: 2 * CELLS * CELLS }, (_, i) => {
  const cell = i >> 1, at = i % 2 ? CELLS - 1 - Math.floor(cell / CELLS) : cell % CELLS;
  return ((at + 0.5) / CELLS * 2 - 1) * REACH;
});

/** Values from -1, vermilion, to 1, blue, as a small picture. */
function heat(canvas, values, dark) {
  const context = canvas.getContext("2d"), picture = context.createImageData(CELLS, CELLS);
  values.forEach((value, i) => {
    picture.data.set(value > 0 ? REAL : FAKE, 4 * i);
    picture.data[4 * i + 3] = (dark ? 150 : 110) * Math.min(1, Math.abs(value));
  });
  context.putImageData(picture, 0, 0);
}

/** What is drawn on the plane; x and y of points become pixels by `place`. */
class Plane {
  constructor(canvas) {
    this.canvas = canvas;
    this.heat = Object.assign(document.createElement("canvas"), { width: CELLS, height: CELLS });
  }

  begin() {
    Object.assign(this, clean(this.canvas), inkOf(this.canvas));
    this.scale = this.width / (2 * REACH);
    [this.real, this.fake] = this.dark ? [REAL_ON_DARK, FAKE_ON_DARK] : [REAL, FAKE];
  }

  place(x, y) {
    return [(x + REACH) * this.scale, (REACH - y) * this.scale];
  }

  background() {
    this.context.imageSmoothingEnabled = true;
    this.context.drawImage(this.heat, 0, 0, this.width, this.height);
  }

  points(points, colour, { radius = 2, alpha = 1, rim = false } = {}) {
    const { context, dark } = this;
    context.beginPath();
    for (let i = 0; i < points.length; i += 2) {
      const [px, py] = this.place(points[i], points[i + 1]);
      context.moveTo(px + radius, py);
      context.arc(px, py, radius, 0, 2 * Math.PI);
    }
    if (rim) {
      context.lineWidth = 2;
      context.strokeStyle = dark ? "rgba(0, 0, 0, 0.55)" : "rgba(255, 255, 255, 0.85)";
      context.stroke();
    }
    context.fillStyle = rgba(colour, alpha);
    context.fill();
  }

  /** Arrows from points (n, 2); a vector's length is bent by v / (v + half), so that small ones stay small. */
  arrows(from, vectors, { half, longest, alpha }) {
    const { context, ink } = this;
    context.strokeStyle = context.fillStyle = rgba(ink, alpha);
    context.lineWidth = 1.1;
    for (let i = 0; i < from.length; i += 2) {
      const norm = Math.hypot(vectors[i], vectors[i + 1]), length = longest * norm / (norm + half);
      if (!(length * this.scale > 1)) continue; // nothing to see
      const [u, v] = [vectors[i] / norm, -vectors[i + 1] / norm], [px, py] = this.place(from[i], from[i + 1]);
      const [qx, qy] = [px + u * length * this.scale, py + v * length * this.scale];
      const head = Math.min(5, 0.6 * length * this.scale);
      context.beginPath();
      context.moveTo(px, py);
      context.lineTo(qx - u * head, qy - v * head);
      context.stroke();
      context.beginPath();
      context.moveTo(qx, qy);
      context.lineTo(qx - head * (u + 0.5 * v), qy - head * (v - 0.5 * u));
      context.lineTo(qx - head * (u - 0.5 * v), qy - head * (v + 0.5 * u));
      context.fill();
    }
  }

  /** The way [[x, y], ...] of a particle, and where it ends. */
  path(name, way) {
    const { context, ink } = this, { colour, dash } = PATHS[name];
    context.strokeStyle = context.fillStyle = colour === "ink" ? rgba(ink) : colour;
    context.lineWidth = name === "Langevin" ? 1.2 : 2;
    context.setLineDash(dash);
    context.beginPath();
    way.forEach(([x, y]) => context.lineTo(...this.place(x, y)));
    context.stroke();
    context.setLineDash([]);
    context.beginPath();
    context.arc(...this.place(...way[way.length - 1]), 5, 0, 2 * Math.PI);
    context.fill();
    context.strokeStyle = this.dark ? "#000" : "#fff";
    context.lineWidth = 1.5;
    context.stroke();
  }

  ringed([x, y], radius) {
    const { context, ink } = this;
    context.strokeStyle = rgba(ink);
    context.lineWidth = 2;
    context.beginPath();
    context.arc(...this.place(x, y), radius, 0, 2 * Math.PI);
    context.stroke();
  }

  cross([x, y]) {
    const { context, ink } = this, [px, py] = this.place(x, y);
    context.strokeStyle = rgba(ink, 0.9);
    context.lineWidth = 1.5;
    context.beginPath();
    for (const [u, v] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(px + 3 * u, py + 3 * v);
      context.lineTo(px + 10 * u, py + 10 * v);
    }
    context.stroke();
  }

  say(lines) {
    const { context, ink } = this;
    context.fillStyle = rgba(ink, 0.85);
    context.font = "14px system-ui, sans-serif";
    context.textAlign = "center";
    lines.forEach((line, k) => context.fillText(line, this.width / 2, this.height / 2 + 20 * k));
  }
}

/** A bar for each part against half a fair share; filled where it is reached. The cloud's are short lines. */
function drawMeter(canvas, { shares, fair, cloud }) {
  const { context, width, height } = clean(canvas), { ink } = inkOf(canvas);
  const top = 1.6, base = height - 3, tall = (share, k) => Math.min(share / fair[k], top) / top * (base - 3);
  const step = width / shares.length, bar = Math.min(step * 0.62, 34);
  shares.forEach((share, k) => {
    const left = (k + 0.5) * step - bar / 2, held = share >= fair[k] / 2;
    context.fillStyle = rgba(held ? HELD : ink, held ? 1 : 0.18);
    context.strokeStyle = held ? rgba(HELD) : rgba(ink, 0.55);
    context.lineWidth = 1;
    context.fillRect(left, base - tall(share, k), bar, tall(share, k));
    context.strokeRect(left, base - tall(share, k), bar, tall(share, k));
    context.strokeStyle = rgba(ink, 0.9);
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(left - 3, base - tall(cloud[k], k));
    context.lineTo(left + bar + 3, base - tall(cloud[k], k));
    context.stroke();
  });
  const half = base - 0.5 / top * (base - 3);
  context.strokeStyle = rgba(ink, 0.7);
  context.lineWidth = 1;
  context.setLineDash([4, 3]);
  context.beginPath();
  context.moveTo(0, half);
  context.lineTo(width, half);
  context.stroke();
  context.setLineDash([]);
}

/** Running means of values, so that a curve shows where they go. */
function smooth(values) {
  let mean = values[0];
  return values.map((value) => { mean += 0.2 * (value - mean); return mean; });
}

/** Loss curves against steps, with a dashed line where the floor or the coin's toss is. */
function drawCurves(canvas, raw, floor) {
  const curves = raw.map(({ values, colour }) => ({ values: smooth(values), colour }));
  const { context, width, height } = clean(canvas), { ink } = inkOf(canvas), left = 34, bottom = height - 4;
  const all = curves.flatMap(({ values }) => values).sort((a, b) => a - b);
  const at = (share) => all[Math.min(all.length - 1, Math.floor(share * all.length))] ?? floor;
  const [low, high] = [Math.min(at(0.01), floor), Math.max(at(0.99), floor)], room = (high - low || 1) * 0.08;
  const y = (value) => bottom - (value - low + room) / (high - low + 2 * room || 1) * (bottom - 4);
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = rgba(ink, 0.8);
  context.textAlign = "right";
  for (const value of [low, high]) context.fillText(short(value), left - 5, Math.max(9, y(value) + 4));
  context.strokeStyle = rgba(ink, 0.6);
  context.setLineDash([4, 3]);
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(left, y(floor));
  context.lineTo(width, y(floor));
  context.stroke();
  context.setLineDash([]);
  context.save();
  context.beginPath();
  context.rect(left, 0, width - left, height);
  context.clip();
  for (const { values, colour } of curves) {
    context.strokeStyle = colour === "ink" ? rgba(ink) : colour;
    context.lineWidth = 1.4;
    context.beginPath();
    values.forEach((value, k) => context.lineTo(left + k / Math.max(1, values.length - 1) * (width - left), y(value)));
    context.stroke();
  }
  context.restore();
}

/** A number in few characters. */
function short(value) {
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}
