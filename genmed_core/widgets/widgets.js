// The browser's half of genmed_core.widgets; all of it works with no kernel behind it.
//   OPS    what each operation of a compiled decoder computes, over one float16 block of weights. Its twin in
//          torch stands in layers.py; tests hold the two together. A new layer is one entry here.
//   VIEWS  what each kind of panel draws at its sliders' values. The sliders themselves, native ones with a
//          name and a value in words, are made by `render` from the panel's list.

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

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const pointwise = (f) => (op, W, x) => x.map((value) => f(value, op));

/** op: its settings; W: all weights; x: the values before it. Returns the values after it. */
const OPS = {
  linear,
  conv,
  conv_transpose: convTranspose,
  affine,
  group_norm: groupNorm,
  pixel_shuffle: pixelShuffle,
  upsample,
  tanh: pointwise(Math.tanh),
  sigmoid: pointwise(sigmoid),
  relu: pointwise((x) => (x > 0 ? x : 0)),
  leaky_relu: pointwise((x, op) => (x > 0 ? x : op.slope * x)),
  silu: pointwise((x) => x * sigmoid(x)),
  gelu: pointwise((x) => 0.5 * x * (1 + erf(x / Math.SQRT2))),
  gelu_tanh: pointwise((x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)))),
  half: pointwise((x) => 0.5 * (x + 1)), // a tanh picture, -1..1, to 0..1
};

/** The whole decoder: an input vector to the picture's values in [0, 1], row by row. */
export function decode(ops, weights, input) {
  let x = Float32Array.from(input);
  for (const op of ops) x = OPS[op.op](op, weights, x);
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

/** The place where a slider can stand that is nearest to a number; its ends, for what lies beyond. */
export function nearest({ low, high, step }, value) {
  const last = Math.floor((high - low) / step + 1e-6);
  const k = Math.min(last, Math.max(0, Math.round((value - low) / step)));
  return Number((low + k * step).toFixed(10));
}

/** What a slider says at a value. */
const said = (slider, value) => (slider.labels.length ? slider.labels[value] : value.toFixed(slider.digits));

function element(tag, settings = {}, ...children) {
  const made = Object.assign(document.createElement(tag), settings);
  made.append(...children);
  return made;
}

function button(text, title, onclick) {
  return element("button", { type: "button", textContent: text, title, onclick });
}

/** Calls back when any of the traits changes; returns what undoes it. */
function watch(model, traits, callback) {
  for (const trait of traits) model.on(`change:${trait}`, callback);
  return () => { for (const trait of traits) model.off(`change:${trait}`, callback); };
}

// --- the kinds of panel: each puts its picture into `place` and returns { draw, buttons?, close? } -------------------

/** A trained decoder that runs here. */
function decoderView(model, place) {
  const weights = unpack(model.get("weights")), ops = model.get("ops"), dims = model.get("dims");
  const [height, width] = model.get("shape"), sliders = model.get("sliders");
  const first = sliders.length - dims.length; // a slider over the classes stands before those of the code
  const canvas = element("canvas", { width, height });
  canvas.style.width = `${model.get("width")}px`;
  canvas.style.aspectRatio = `${width} / ${height}`;
  canvas.setAttribute("role", "img");
  place.append(canvas);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const picture = context.createImageData(width, height);

  // The sliders own some coordinates of the code; "base" holds the rest.
  const code = () => {
    const z = [...model.get("base")];
    dims.forEach((dim, i) => { z[dim] = model.get("values")[first + i]; });
    return z;
  };
  const describe = (z, label) => {
    const moved = dims.map((dim) => z[dim].toFixed(1)).join(", ");
    return `${model.get("alt")} z = (${moved})` + (first ? `, class ${sliders[0].labels[label]}` : "");
  };
  const draw = () => {
    const z = code(), label = model.get("values")[0], began = performance.now();
    const y = decode(ops, weights, join(z, model.get("embedding"), label, model.get("how")));
    for (let i = 0; i < y.length; i++) {
      picture.data.fill(Math.round(255 * y[i]), 4 * i, 4 * i + 3); // the bytes clip by themselves
      picture.data[4 * i + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    canvas.dataset.ms = (performance.now() - began).toFixed(2);
    canvas.setAttribute("aria-label", describe(z, label));
  };
  const moveTo = ({ base, values }) => {
    model.set("base", base);
    model.set("values", values);
    model.save_changes();
  };
  const randomise = () => {
    const z = model.get("base").map(gaussian), values = [...model.get("values")];
    dims.forEach((dim, i) => { values[first + i] = nearest(sliders[first + i], z[dim]); });
    moveTo({ base: z, values });
  };
  const reset = () => moveTo(model.get("start")); // not this view's: a second one begins where the first was left
  const buttons = [button("Reset", "Back to where it started", reset)];
  if (model.get("gaussian")) {
    buttons.unshift(button("Randomise", "Draw every coordinate of z from N(0, 1)", randomise));
  }
  return { draw, buttons };
}

/** One of many ready-made pictures, or several side by side. */
function framesView(model, place) {
  const urls = model.get("frames").map((png) => URL.createObjectURL(new Blob([png], { type: "image/png" })));
  const captions = model.get("captions"), columns = model.get("columns"), sliders = model.get("sliders");
  place.classList.add("genmed-frames");
  const images = Array.from({ length: columns }, (_, k) => {
    const image = element("img", { draggable: false });
    image.style.width = `${model.get("width")}px`;
    place.append(element("figure", {}, image, ...(captions[k] ? [element("figcaption", {}, captions[k])] : [])));
    return image;
  });
  const draw = () => {
    const values = model.get("values");
    const frame = sliders.reduce((index, slider, i) => index * slider.labels.length + values[i], 0);
    const words = sliders.map((slider, i) => `${slider.name} ${said(slider, values[i])}`);
    images.forEach((image, k) => {
      image.src = urls[frame * columns + k];
      image.alt = [captions[k], ...words].filter(Boolean).join(", ");
    });
    place.dataset.place = frame;
  };
  const play = model.get("interval") ? playButton(model) : null;
  return {
    draw,
    buttons: play ? [play.button] : [],
    close() {
      play?.stop();
      urls.forEach((url) => URL.revokeObjectURL(url));
    },
  };
}

/** A button that moves the first slider by itself: on to the end, and from the end once more. */
function playButton(model) {
  const last = model.get("sliders")[0].high;
  let timer = null;
  const move = (value) => {
    model.set("values", [value, ...model.get("values").slice(1)]);
    model.save_changes();
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  const tick = () => {
    const value = model.get("values")[0];
    if (value < last) move(value + 1);
    if (value + 1 >= last) stop();
  };
  const play = button("Play", "Move the slider by itself", () => {
    if (timer !== null) return stop();
    if (model.get("values")[0] >= last) move(0);
    play.textContent = "Pause";
    timer = setInterval(tick, model.get("interval"));
  });
  return { button: play, stop };
}

export const VIEWS = { decoder: decoderView, frames: framesView };

// --- the panel: picture, sliders, buttons ----------------------------------------------------------------------------

/** One native slider with its name before it and what it says behind; `show` moves it to a value. */
function sliderRow(slider, onMove) {
  const id = `genmed-${Math.random().toString(36).slice(2)}`;
  const label = element("label", { htmlFor: id, textContent: slider.name });
  const input = element("input", { type: "range", id });
  // In this order: a slider of the default range would round what it is given.
  for (const [key, value] of [["step", slider.step], ["min", slider.low], ["max", slider.high]]) input[key] = value;
  input.dataset.lmSuppressShortcuts = "true"; // in JupyterLab the arrow keys would move to another cell
  const readout = element("span", { className: "genmed-readout" });
  readout.setAttribute("aria-hidden", "true"); // the slider itself says it
  const longest = Math.max(...[slider.low, slider.high].map((end) => said(slider, end).length),
                           ...slider.labels.map((text) => text.length));
  readout.style.minWidth = `${Math.min(longest, 16)}ch`;
  input.addEventListener("input", () => onMove(nearest(slider, input.valueAsNumber)));
  const show = (value) => {
    input.value = value;
    readout.textContent = said(slider, value);
    input.setAttribute("aria-valuetext", readout.textContent);
  };
  return { parts: [label, input, readout], show };
}

function render({ model, el }) {
  const place = element("div", { className: "genmed-picture" });
  const view = VIEWS[model.get("view")](model, place);
  const rows = model.get("sliders").map((slider, i) => sliderRow(slider, (value) => {
    model.set("values", model.get("values").map((old, k) => (k === i ? value : old)));
    model.save_changes();
  }));
  const controls = element("div", { className: "genmed-controls" },
                           element("div", { className: "genmed-sliders" }, ...rows.flatMap((row) => row.parts)));
  if (view.buttons?.length) controls.append(element("div", { className: "genmed-buttons" }, ...view.buttons));
  const caption = model.get("caption");
  if (caption) controls.append(element("p", { className: "genmed-caption", textContent: caption }));
  const panel = element("div", { className: "genmed-panel" }, place, controls);
  panel.setAttribute("role", "group");
  panel.setAttribute("aria-label", caption || model.get("alt") || "Picture with sliders");
  el.append(panel);

  const show = () => {
    model.get("values").forEach((value, i) => rows[i].show(value));
    view.draw();
  };
  let waiting = 0; // several traits may change at once: draw once a frame
  const later = () => { waiting ||= requestAnimationFrame(() => { waiting = 0; show(); }); };
  show();
  const unwatch = watch(model, ["values", "base"], later);
  return () => {
    unwatch();
    cancelAnimationFrame(waiting);
    view.close?.();
  };
}

export default { render };
