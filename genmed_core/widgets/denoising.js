// The view of DiffusionExplorer, behind widgets.js, engine.js, sampler.js and strokes.js: x_t beside x0_hat while they
// are drawn.

/** Which pixels are filled in; twin of `region` in denoising.py. */
export function region(name, H, W, painted) {
  const inside = {
    nothing: () => false,
    "left half": (r, c) => c < Math.floor(W / 2),
    "right half": (r, c) => c >= Math.floor(W / 2),
    "top half": (r) => r < Math.floor(H / 2),
    "bottom half": (r) => r >= Math.floor(H / 2),
    middle: (r, c) => Math.abs(r - H / 2 + 0.5) < H / 4 && Math.abs(c - W / 2 + 0.5) < W / 4,
    painted: (r, c) => painted[r * W + c] === 1,
  }[name];
  return Uint8Array.from({ length: H * W }, (_, i) => inside(Math.floor(i / W), i % W));
}

const BRUSH_KEYS = "Arrow keys move the brush, with Shift further; space puts it down or lifts it; Delete clears.";

const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
const doubles = (view) => new Float64Array(bytesOf(view).buffer);

/**
 * A page for a digit of the reader's own, behind a button: { open, close }. onDigit(digit) is given 28 * 28 in [0, 1]
 * in MNIST's form when a stroke is done, null when the page is empty.
 */
function ownDigit(grid, onDigit, say) {
  const sheet = drawingPad(() => {}, (strokes) => {
    sheet.show(strokes);
    onDigit(strokes.length ? centred(sheet.page(), PAGE, PAGE) : null);
  }, say);
  const help = element("p", { className: "genmed-help", id: `genmed-${Math.random().toString(36).slice(2)}` }, HELP);
  sheet.canvas.setAttribute("aria-describedby", help.id);
  const buttons = element("div", { className: "genmed-buttons" }, button("Clear", "An empty page", sheet.clear),
                          button("Undo", "Take the last stroke back", sheet.undo));
  const box = element("div", { className: "genmed-one genmed-own", hidden: true }, element(
    "figure", {}, sheet.canvas, element("figcaption", { textContent: "draw a digit to begin from" })), help, buttons);
  const toggle = () => {
    box.hidden = !box.hidden;
    open.setAttribute("aria-expanded", String(!box.hidden));
    if (!box.hidden) sheet.canvas.focus({ preventScroll: true });
  };
  const open = button("Draw your own", "A page for a digit of your own to begin from", toggle);
  open.setAttribute("aria-expanded", "false");
  grid.append(box);
  sheet.show([]);
  return { open, close: () => { if (!box.hidden) toggle(); sheet.show([]); } };
}

VIEWS.diffusion = (model, place) => {
  const facts = model.get("facts"), names = model.get("names"), sliders = model.get("sliders");
  const [C, H, W] = facts.picture, count = facts.shape.reduce((a, b) => a * b);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const engine = startEngine();
  const network = (name) => (model.get(`${name}weights`)?.byteLength
    ? engine.load(model.get(`${name}graph`), model.get(`${name}weights`)) : null);
  let drawer = null; // the networks are loaded when the first picture is asked for
  const drawing = () => (drawer ??= {
    ...facts, count, net: network(""), decoder: network("decoder_"), encoder: network("encoder_"),
    prior: network("prior_"), other: network("other_"),
    alphaBar: doubles(model.get("alpha_bar")), noiseVar: doubles(model.get("noise_var")),
  });

  // --- what is shown ---
  const grid = element("div", { className: "genmed-film" });
  place.append(grid);
  const canvas = (words, extra = "") => {
    const made = element("canvas", { width: W, height: H, className: extra });
    made.style.width = `${model.get("width")}px`;
    made.style.aspectRatio = `${W} / ${H}`;
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", words);
    const context = made.getContext("2d", { willReadFrequently: true });
    return { made, context, data: context.createImageData(W, H) };
  };
  const figure = (one, caption) => element("figure", {}, one.made, element("figcaption", { textContent: caption }));
  const paint = ({ context, data }, x, from = 0, [low, high] = facts.range) => {
    for (let i = 0; i < H * W; i++) for (let c = 0; c < 3; c++) {
      data.data[4 * i + c] = (255 * (x[from + (C === 3 ? c : 0) * H * W + i] - low)) / (high - low);
      data.data[4 * i + 3] = 255;
    }
    context.putImageData(data, 0, 0);
  };
  const films = [0, 1].map(() => {
    const told = element("p", { hidden: true });
    const noisy = canvas("Noise to begin with"), guess = canvas("The guess of the picture, still to come");
    const figures = [figure(noisy, "xₜ"), figure(guess, "x̂₀, its guess")];
    const box = element("div", { className: "genmed-one" }, told, ...figures);
    grid.append(box);
    return { box, told, noisy, guess, figures, steps: null };
  });
  const [now, other] = films;
  const given = canvas("The picture to begin from; paint over what is to be filled in", "genmed-given");
  given.made.setAttribute("role", "application");
  given.made.tabIndex = 0;
  given.made.dataset.lmSuppressShortcuts = "true";
  const help = element("p", { className: "genmed-help", id: `genmed-${Math.random().toString(36).slice(2)}` }, BRUSH_KEYS);
  given.made.setAttribute("aria-describedby", help.id);
  const givenBox = element("div", { className: "genmed-one" }, figure(given, "given; paint over it"), help);
  grid.append(givenBox);
  const bar = element("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", "Steps done");
  const status = element("p", { className: "genmed-status" });
  status.setAttribute("role", "status");

  // --- what the sliders say ---
  const read = (values) => {
    const at = (name, fallback) => (names[name] === undefined ? fallback : values[names[name]]);
    const number = (name, fallback) => (
      names[name] === undefined ? fallback : Number(sliders[names[name]].labels[values[names[name]]]));
    const start = number("start", facts.T), hasImage = model.get("image").byteLength > 0;
    return {
      y: at("class", null), seed: at("seed", 0), steps: number("steps", 25), eta: at("eta", 0),
      guidance: at("guidance", 1), window: [number("from", 0), number("to", facts.T)], order: facts.order,
      start: hasImage && start < facts.T ? start - 1 : null,
      fill: hasImage ? facts.regions[at("fill", 0)] : facts.regions[0],
      pure: at("prior", 0) === 1, subtract: at("rule", 0) === 1, other: at("network", 0) === 1,
    };
  };
  const words = (values) => sliders.map((slider, i) => `${slider.name} ${said(slider, values[i])}`);

  const picture = () => {
    const [low, high] = facts.range, grey = new Float32Array(bytesOf(model.get("image")).buffer);
    return grey.map((value) => low + (high - low) * value);
  };
  const painted = () => {
    const bytes = bytesOf(model.get("mask"));
    return bytes.length ? bytes : new Uint8Array(H * W);
  };

  /** The given picture as the sampler takes it: encoded, and with what is kept of each of its numbers. */
  async function known({ start, fill }) {
    if (start === null && fill === facts.regions[0]) return {};
    const { encoder } = drawing(), x0 = encoder ? (await encoder.run({ x: picture() }))[0] : picture();
    if (fill === facts.regions[0]) return { x0, start };
    const [c, h, w] = facts.shape, filled = region(fill, H, W, painted()), keep = new Float32Array(c * h * w).fill(1);
    filled.forEach((one, i) => {
      if (!one) return;
      const cell = Math.floor((Math.floor(i / W) * h) / H) * w + Math.floor(((i % W) * w) / W);
      for (let k = 0; k < c; k++) keep[k * h * w + cell] = 0;
    });
    return { x0, start, keep };
  }

  /** Both pictures of a step; a latent model's are decoded in one batch. */
  async function showStep(film, { t, k, of, x, x0 }) {
    const { decoder } = drawing(), both = new Float32Array(2 * count);
    both.set(x);
    both.set(x0, count);
    const [pictures] = decoder ? await decoder.run({ x: both }) : [both];
    paint(film.noisy, pictures, 0, facts.noisyRange);
    paint(film.guess, pictures, C * H * W);
    film.figures[0].lastChild.textContent = `xₜ, t = ${t + 1}`;
    film.guess.made.dataset.step = `${k + 1} of ${of}`;
    film.drawn = true;
  }

  // --- the film ---
  let turn = 0, playing = false, alive = false, began = 0, waiting = null; // alive: a new setting is drawn at once

  async function* stepsOf(settings) {
    const model = drawing(), other = settings.other ? { net: model.other, predicts: facts.otherPredicts } : {};
    yield* sample({ ...model, ...other }, { ...settings, known: await known(settings) });
  }

  /** The films begin anew: nothing is drawn yet but the noise. */
  function begin() {
    turn += 1;
    playing = false;
    clearTimeout(waiting);
    play.textContent = "Play";
    bar.value = 0;
    began = 0;
    const pinned = model.get("pinned");
    other.box.hidden = !pinned.length;
    const settings = [read(model.get("values")), pinned.length ? read(pinned) : null];
    films.forEach((film, i) => {
      const one = settings[i];
      film.finished = !one;
      film.share = one ? 0 : 1; // of its steps that are done
      film.guess.made.dataset.step = "0";
      film.steps = one && stepsOf(one);
      if (one && count === C * H * W) paint(film.noisy, noise(one.seed, 0, count), 0, facts.noisyRange);
    });
    compareWords(pinned);
    givenBox.hidden = names.fill === undefined || !model.get("image").byteLength;
    if (!givenBox.hidden) showGiven();
  }

  /** What each of two films is drawn with, where they differ. */
  function compareWords(pinned) {
    const values = model.get("values"), here = words(values), there = pinned.length ? words(pinned) : here;
    const differ = here.map((_, i) => i).filter((i) => here[i] !== there[i]);
    films.forEach((film, i) => {
      const told = differ.map((k) => [here, there][i][k]).join(", ") || "the same";
      film.told.textContent = `${["Now", "Kept"][i]}: ${told}`;
      film.told.hidden = !pinned.length;
    });
  }

  /** One step of every film; false at their end. `shown`: whether it is drawn before the end. */
  async function step(shown = true) {
    const mine = turn;
    began ||= performance.now();
    try {
      for (const film of films) {
        if (film.finished) continue;
        const { value } = await film.steps.next();
        if (mine !== turn) return false;
        film.finished = value.k + 1 === value.of;
        if (shown || film.finished) await showStep(film, value);
        if (mine !== turn) return false;
        film.share = (value.k + 1) / value.of;
        bar.value = Math.min(...films.map(({ share }) => share));
        const said = words(model.get(film === now ? "values" : "pinned"));
        film.guess.made.setAttribute("aria-label", [model.get("alt"), ...said].join(", "));
      }
    } catch (error) {
      status.textContent = `The network could not run: ${error.message}`;
      return false;
    }
    if (films.some((film) => !film.finished)) return true;
    const seconds = (performance.now() - began) / 1000;
    now.guess.made.dataset.seconds = seconds.toFixed(3);
    now.guess.made.dataset.where = engine.where;
    const count = now.guess.made.dataset.step.split(" ").at(-1);
    status.textContent = `Drawn in ${count} step${count === "1" ? "" : "s"}, ${seconds.toFixed(1)} s.${lacking()}`;
    return false;
  }

  /** A word to the reader who asks for a picture to begin from, where there is none. */
  function lacking() {
    if (names.start === undefined || C > 1 || model.get("image").byteLength) return "";
    const values = model.get("values"), last = sliders[names.start].labels.length - 1;
    if (values[names.start] === last && values[names.fill] === 0) return "";
    return " There is no picture to begin from yet: press “Take this”.";
  }

  async function run(shown = true) {
    if (films.every((film) => film.finished)) begin();
    const mine = turn;
    playing = alive = true;
    play.textContent = "Stop";
    status.textContent = "Drawing …";
    while (mine === turn && playing && await step(shown)) {
      if (shown) await new Promise((resume) => { requestAnimationFrame(resume); });
    }
    if (mine !== turn) return;
    playing = false;
    play.textContent = "Play";
  }

  function stop() {
    playing = alive = false;
    play.textContent = "Play";
    status.textContent = "Stopped.";
  }

  // --- the given picture, painted over by pointer or keys ---
  const pen = { row: H / 2, column: W / 2, down: false, seen: false };
  function showGiven() {
    const values = model.get("values"), fill = read(values).fill, filled = region(fill, H, W, painted());
    paint(given, picture());
    filled.forEach((one, i) => {
      if (one) given.data.data.set([200, 90, 20], 4 * i);
    });
    given.context.putImageData(given.data, 0, 0);
    if (!pen.seen) return;
    given.context.beginPath();
    given.context.arc(pen.column, pen.row, H / 12, 0, 2 * Math.PI);
    given.context.strokeStyle = pen.down ? "#ff8c3a" : "#58b4f0";
    given.context.stroke();
  }
  function brush(row, column) {
    const mask = painted();
    for (let i = 0; i < H * W; i++) {
      if (Math.hypot(Math.floor(i / W) + 0.5 - row, (i % W) + 0.5 - column) < H / 12) mask[i] = 1;
    }
    model.set("mask", new DataView(mask.buffer));
    if (model.get("values")[names.fill] !== facts.regions.length - 1) {
      model.set("values", model.get("values").map((v, k) => (k === names.fill ? facts.regions.length - 1 : v)));
    }
    showGiven();
  }
  const unpaint = () => model.set("mask", new DataView(new ArrayBuffer(0)));
  const brushAt = (event) => {
    const box = given.made.getBoundingClientRect();
    brush(((event.clientY - box.top) / box.height) * H, ((event.clientX - box.left) / box.width) * W);
  };
  given.made.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    given.made.setPointerCapture(event.pointerId);
    brushAt(event);
  });
  given.made.addEventListener("pointermove", (event) => { if (event.buttons) brushAt(event); });
  given.made.addEventListener("pointerup", () => model.save_changes());
  given.made.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const way = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!way && event.key !== " " && event.key !== "Delete") return;
    event.preventDefault();
    event.stopPropagation();
    pen.seen = true;
    const far = (H / 16) * (event.shiftKey ? 4 : 1);
    if (way) {
      pen.row = Math.min(H, Math.max(0, pen.row + far * way[0]));
      pen.column = Math.min(W, Math.max(0, pen.column + far * way[1]));
    } else pen.down = event.key === " " && !pen.down;
    if (event.key === "Delete") unpaint();
    else if (pen.down) brush(pen.row, pen.column);
    status.textContent = pen.down ? "The brush is down." : "The brush is lifted.";
    showGiven();
    model.save_changes();
  });
  given.made.addEventListener("blur", () => {
    pen.down = pen.seen = false;
    showGiven();
  });

  // --- buttons ---
  const play = button("Play", "Draw the picture, or stop", () => (playing ? stop() : run()));
  const one = button("Step", "One step of the network", () => {
    if (playing) stop();
    if (films.every((film) => film.finished)) begin();
    step();
  });
  const compare = button("Compare", "Keep these settings beside those to come", () => {
    model.set("pinned", model.get("pinned").length ? [] : [...model.get("values")]);
    model.save_changes();
  });
  // Another picture to begin from; null for the one that the panel came with.
  let brought = null;
  const give = (grey) => {
    brought ??= model.get("image");
    model.set("image", grey ? new DataView(grey.buffer) : brought);
    model.save_changes();
  };
  const own = names.fill !== undefined && C === 1 && H === SIDE && W === SIDE ? ownDigit(grid, (digit) => {
    const start = model.get("values")[names.start], last = sliders[names.start].labels.length - 1;
    alive = true;
    if (digit && start === last) { // from there nothing of it would be left
      model.set("values", model.get("values").map((v, k) => (k === names.start ? Math.round(0.6 * last) : v)));
    }
    give(digit);
  }, (said) => { status.textContent = said; }) : null;
  const reset = () => {
    unpaint();
    own?.close();
    if (brought) give(null);
  };
  const fit = ({ values, pinned }) => {
    const as = model.get("home").values, kept = Array.isArray(pinned) && pinned.length ? pinned : [];
    return alike(values, as) && (!kept.length || alike(kept, as)) ? { values, pinned: kept.map((v, k) => nearest(sliders[k], v)) } : null;
  };
  const buttons = [play, one, compare];
  if (names.fill !== undefined && C === 1) {
    buttons.push(button("Take this", "Begin from the picture that was drawn", () => {
      if (!now.drawn) {
        status.textContent = "Nothing is drawn yet: press Play first.";
        return;
      }
      const pixels = now.guess.context.getImageData(0, 0, W, H).data;
      const grey = Float32Array.from({ length: H * W }, (_, i) => pixels[4 * i] / 255);
      give(grey);
    }));
  }
  if (own) buttons.push(own.open);

  // A film begins by itself when it is first seen, unless the reader wants less motion; then after a slider has moved.
  let seen = false;
  const watcher = new IntersectionObserver((entries) => {
    if (seen || !entries.some((entry) => entry.isIntersecting)) return;
    seen = true;
    watcher.disconnect();
    if (!still) run();
  });
  watcher.observe(place);
  const draw = () => {
    begin();
    compare.textContent = model.get("pinned").length ? "End comparing" : "Compare";
    if (alive) waiting = setTimeout(() => run(!still), 250);
  };
  const unwatch = watch(model, ["image", "mask", "pinned"], draw);
  return {
    draw, buttons, reset, fit, below: [bar, status],
    close() {
      turn += 1;
      clearTimeout(waiting);
      watcher.disconnect();
      unwatch();
      engine.close();
    },
  };
};
