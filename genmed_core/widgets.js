// The browser's half of widgets.py. Two views, both of which work with no kernel behind them:
//   renderDecoder  runs a trained decoder: a list of layers ("ops") over one float16 block of weights.
//                  widgets.py compiles the program and holds its twin, `run_program`; tests hold the two together.
//   renderFrames   shows one of many ready-made pictures.

const SCRATCH = new DataView(new ArrayBuffer(4));

/** One IEEE half, as its 16 bits, to a number. Float16Array is too new to rely on. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  SCRATCH.setUint32(0, ((bits & 0x8000) << 16) | ((exponent + 112) << 23) | (fraction << 13));
  return SCRATCH.getFloat32(0);
}

/** Little-endian float16 bytes (a DataView, as the kernel sends them) to float32. */
export function unpack(view) {
  const weights = new Float32Array(view.byteLength / 2);
  for (let i = 0; i < weights.length; i++) weights[i] = half(view.getUint16(2 * i, true));
  return weights;
}

/** erf to 1.5e-7: Abramowitz and Stegun 1964, formula 7.1.26. */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - poly * Math.exp(-x * x));
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const POINTWISE = {
  tanh: Math.tanh,
  sigmoid,
  relu: (x) => (x > 0 ? x : 0),
  leaky_relu: (x, op) => (x > 0 ? x : op.slope * x),
  silu: (x) => x * sigmoid(x),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))),
  half: (x) => 0.5 * (x + 1), // a tanh picture, -1..1, to 0..1
};

function linear(op, W, x) {
  const y = new Float32Array(op.out);
  for (let j = 0, k = op.w; j < op.out; j++) {
    let sum = W[op.b + j];
    for (let i = 0; i < op.in; i++) sum += W[k++] * x[i];
    y[j] = sum;
  }
  return y;
}

/** The first and one-past-last position o for which 0 <= o * stride + shift < size. */
function range(positions, stride, shift, size) {
  const first = Math.max(0, Math.ceil(-shift / stride));
  return [first, Math.max(first, Math.min(positions, Math.floor((size - 1 - shift) / stride) + 1))];
}

/** Cross-correlation; each weight sweeps a row at a time, so that the inner loop runs along memory. */
function conv(op, W, x) {
  const [C, H, V] = op.from, [K, Ho, Vo] = op.to, [kh, kw] = op.kernel, [sy, sx] = op.stride, [py, px] = op.padding;
  const y = new Float32Array(K * Ho * Vo);
  for (let k = 0; k < K; k++) {
    y.fill(W[op.b + k], k * Ho * Vo, (k + 1) * Ho * Vo);
    for (let c = 0; c < C; c++) for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) {
      const w = W[op.w + ((k * C + c) * kh + i) * kw + j];
      const [r0, r1] = range(Ho, sy, i - py, H), [q0, q1] = range(Vo, sx, j - px, V);
      for (let r = r0; r < r1; r++) {
        const out = (k * Ho + r) * Vo, row = (c * H + r * sy + i - py) * V + j - px;
        for (let q = q0; q < q1; q++) y[out + q] += w * x[row + q * sx];
      }
    }
  }
  return y;
}

/** Transposed convolution: the same sweep as `conv`, scattering where `conv` gathers. */
function convTranspose(op, W, x) {
  const [C, H, V] = op.from, [K, Ho, Vo] = op.to, [kh, kw] = op.kernel, [sy, sx] = op.stride, [py, px] = op.padding;
  const y = new Float32Array(K * Ho * Vo);
  for (let k = 0; k < K; k++) {
    y.fill(W[op.b + k], k * Ho * Vo, (k + 1) * Ho * Vo);
    for (let c = 0; c < C; c++) for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) {
      const w = W[op.w + ((c * K + k) * kh + i) * kw + j];
      const [r0, r1] = range(H, sy, i - py, Ho), [q0, q1] = range(V, sx, j - px, Vo);
      for (let r = r0; r < r1; r++) {
        const row = (c * H + r) * V, out = (k * Ho + r * sy + i - py) * Vo + j - px;
        for (let q = q0; q < q1; q++) y[out + q * sx] += w * x[row + q];
      }
    }
  }
  return y;
}

function affine(op, W, x) {
  const y = new Float32Array(x.length), area = x.length / op.channels;
  for (let i = 0; i < x.length; i++) {
    const c = Math.floor(i / area);
    y[i] = W[op.w + c] * x[i] + W[op.b + c];
  }
  return y;
}

function groupNorm(op, W, x) {
  const y = new Float32Array(x.length), area = x.length / op.channels, n = x.length / op.groups;
  for (let g = 0; g < op.groups; g++) {
    let mean = 0, variance = 0;
    for (let i = g * n; i < (g + 1) * n; i++) mean += x[i] / n;
    for (let i = g * n; i < (g + 1) * n; i++) variance += (x[i] - mean) ** 2 / n;
    const scale = 1 / Math.sqrt(variance + op.eps);
    for (let i = g * n; i < (g + 1) * n; i++) {
      const c = Math.floor(i / area);
      y[i] = (x[i] - mean) * scale * W[op.w + c] + W[op.b + c];
    }
  }
  return y;
}

function pixelShuffle(op, W, x) {
  const y = new Float32Array(x.length), [, H, V] = op.from, [K, Ho, Vo] = op.to, s = op.factor;
  for (let k = 0, o = 0; k < K; k++) for (let r = 0; r < Ho; r++) for (let q = 0; q < Vo; q++) {
    const c = (k * s + (r % s)) * s + (q % s);
    y[o++] = x[(c * H + Math.floor(r / s)) * V + Math.floor(q / s)];
  }
  return y;
}

function upsample(op, W, x) {
  const [K, Ho, Vo] = op.to, [, H, V] = op.from, [sy, sx] = op.factor, y = new Float32Array(K * Ho * Vo);
  for (let k = 0, o = 0; k < K; k++) for (let r = 0; r < Ho; r++) for (let q = 0; q < Vo; q++) {
    y[o++] = x[(k * H + Math.floor(r / sy)) * V + Math.floor(q / sx)];
  }
  return y;
}

const LAYERS = { linear, conv, conv_transpose: convTranspose, affine, group_norm: groupNorm,
                 pixel_shuffle: pixelShuffle, upsample };

/** The whole decoder: an input vector to the picture's values in [0, 1], row by row. */
export function decode(ops, weights, input) {
  let x = Float32Array.from(input);
  for (const op of ops) {
    if (op.op in LAYERS) x = LAYERS[op.op](op, weights, x);
    else {
      const f = POINTWISE[op.op];
      x = x.map((value) => f(value, op));
    }
  }
  return x;
}

/** What the decoder is fed: the code with the label's vector added to it, or set behind it. */
export function join(z, embedding, label, how) {
  if (!embedding.length) return z;
  const e = embedding[label];
  return how === "add" ? z.map((v, i) => v + e[i]) : [...z, ...e];
}

function gaussian() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

const clip = (value, low, high) => Math.min(high, Math.max(low, value));

/** ipywidgets leaves its slider handles without a name: give each the text of the label beside it. */
function nameSliders(el) {
  const panel = el.closest(".genmed-panel");
  for (const slider of panel ? panel.querySelectorAll(".widget-slider") : []) {
    const label = slider.querySelector(".widget-label"), handle = slider.querySelector(".noUi-handle");
    if (label && handle) handle.setAttribute("aria-label", label.textContent);
  }
}

function button(text, title, onClick) {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = text;
  b.title = title;
  b.addEventListener("click", onClick);
  return b;
}

/** Calls back when any of the traits changes; returns what undoes it. */
function watch(model, traits, callback) {
  for (const trait of traits) model.on(`change:${trait}`, callback);
  return () => { for (const trait of traits) model.off(`change:${trait}`, callback); };
}

function renderDecoder({ model, el }) {
  const weights = unpack(model.get("weights")), ops = model.get("ops"), dims = model.get("dims");
  const [height, width] = model.get("shape"), [low, high, step] = model.get("limits");
  const start = [...model.get("base")], startLabel = model.get("label");
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.style.width = `${model.get("size")}px`;
  canvas.style.aspectRatio = `${width} / ${height}`;
  canvas.setAttribute("role", "img");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const picture = context.createImageData(width, height);

  // The sliders own some coordinates (z0, z1, ... are linked to them); "base" holds the rest.
  const code = () => {
    const z = [...model.get("base")];
    dims.forEach((dim, i) => { z[dim] = model.get(`z${i}`); });
    return z;
  };
  const describe = (z) => {
    const moved = dims.map((dim) => z[dim].toFixed(1)).join(", ");
    const names = model.get("classes");
    return `${model.get("alt")} z = (${moved})` + (names.length ? `, class ${names[model.get("label")]}` : "");
  };
  const draw = () => {
    const z = code(), began = performance.now();
    const y = decode(ops, weights, join(z, model.get("embedding"), model.get("label"), model.get("how")));
    for (let i = 0; i < y.length; i++) {
      picture.data.fill(Math.round(255 * clip(y[i], 0, 1)), 4 * i, 4 * i + 3);
      picture.data[4 * i + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    canvas.dataset.ms = (performance.now() - began).toFixed(2);
    canvas.setAttribute("aria-label", describe(z));
  };
  let waiting = false; // several coordinates may change at once: draw once a frame
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };
  const moveTo = (z) => {
    model.set("base", z);
    dims.forEach((dim, i) => model.set(`z${i}`, z[dim]));
    model.save_changes();
  };
  const randomise = () => moveTo(start.map(gaussian).map((v, i) => ( // a slider can stand at its steps only
    dims.includes(i) ? low + Math.round((clip(v, low, high) - low) / step) * step : v)));

  const buttons = document.createElement("div");
  buttons.className = "genmed-buttons";
  if (model.get("gaussian")) {
    buttons.append(button("Randomise", "Draw every coordinate of z from N(0, 1)", randomise));
  }
  buttons.append(button("Reset", "Back to where it started", () => {
    model.set("label", startLabel);
    moveTo(start);
  }));
  el.classList.add("genmed-picture");
  el.append(canvas, buttons);
  draw();
  requestAnimationFrame(() => nameSliders(el));
  return watch(model, ["base", "label", ...dims.map((_, i) => `z${i}`)], redraw);
}

function figureFor(caption, width) {
  const figure = document.createElement("figure"), image = document.createElement("img");
  image.style.width = `${width}px`;
  image.draggable = false;
  figure.append(image);
  if (caption) {
    const text = document.createElement("figcaption");
    text.textContent = caption;
    figure.append(text);
  }
  return figure;
}

function renderFrames({ model, el }) {
  const urls = model.get("frames").map((png) => URL.createObjectURL(new Blob([png], { type: "image/png" })));
  const captions = model.get("captions"), columns = model.get("columns");
  el.classList.add("genmed-frames");
  for (let k = 0; k < columns; k++) el.append(figureFor(captions[k], model.get("width")));
  const images = [...el.querySelectorAll("img")];
  const show = () => {
    const place = model.get("stride") * model.get("index") + model.get("offset");
    images.forEach((image, k) => {
      image.src = urls[place * columns + k];
      image.alt = [captions[k], model.get("alts")[place]].filter(Boolean).join(", ");
    });
    el.dataset.place = place;
  };
  show();
  requestAnimationFrame(() => nameSliders(el));
  const unwatch = watch(model, ["index", "offset"], show);
  return () => {
    unwatch();
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

/** The two kinds of picture share this file, and so their stylesheet and helpers. */
function render(context) {
  return context.model.get("view") === "frames" ? renderFrames(context) : renderDecoder(context);
}

export default { render };
