const SLICE = 22; // ms of a frame that are given to training
const SLOW = 400; // ms from step to step in slow motion
const CALM = 1000; // ms from picture to picture for readers who want less motion
const SPOKEN = 12000; // ms from one spoken sentence to the next while it trains
const RATE = { log: true, low: 1e-5, high: 0.1 };
const SLIDERS = [
  { key: "rate_d", ...RATE, name: (trial) => (trial.isGame ? "rate of D" : "rate") },
  { key: "rate_g", ...RATE, name: () => "rate of G", when: (trial) => trial.isGame },
  { key: "critic_steps", low: 1, high: 10, step: 1, name: () => "steps of D to one of G",
    when: (trial) => trial.isGame },
  { key: "momentum", low: 0, high: 0.9, step: 0.1, name: () => "momentum β₁" },
  { key: "penalty", log: true, low: 0.01, high: 100, name: () => "weight of the penalty",
    when: (trial) => trial.isGame && trial.model.rules.penalty },
  { key: "clip", log: true, low: 0.001, high: 1, name: () => "clip weights at",
    when: (trial) => trial.isGame && trial.model.rules.clipped },
  { key: "level", low: 0, high: 1, step: 0.02, name: () => "level of noise", when: (trial) => !trial.isGame },
  { key: "steps", low: 1, high: 100, step: 1, name: () => "steps down", when: (trial) => !trial.isGame },
];
const BACKGROUNDS = { learned: "D as it is", exact: "the best D, p / (p + q)", none: "nothing" };
const SCORES = { learned: "the network's", exact: "exact", none: "not shown" };

function make(tag, settings = {}, ...children) {
  const { role, label, ...rest } = settings, made = Object.assign(document.createElement(tag), rest);
  if (role) made.setAttribute("role", role);
  if (label) made.setAttribute("aria-label", label);
  made.append(...children);
  return made;
}

const per = (share) => `${Math.round(100 * share)}\u00a0%`;
const whole = (n) => n.toLocaleString("en-US");
const name = () => `genmed-${Math.random().toString(36).slice(2)}`;

/** Whether the reader is at an element, on the page itself or in a shadow root, as MyST has it. */
const hasFocus = (element) => element.getRootNode().activeElement === element;

/** The state of a trial in words. */
function inWords(trial, cover) {
  if (!trial.mixture) return "No points yet.";
  const { partName, cloudName, cloud, mixture, curves } = trial, parts = `${mixture.parts} ${partName}s`;
  const said = [`Step ${whole(trial.steps)}.`];
  if (cover) {
    said.push(`${cover.held} of ${parts} held, ${per(cover.on)} of the samples on one`
      + ` (${cloudName}: ${cloud.held}, ${per(cloud.on)}).`);
  }
  if (curves.D.values.length) {
    const what = !trial.isGame ? "Loss" : trial.isCritic ? "The critic's gain" : "D's loss";
    const floor = !trial.isGame ? `, the best possible ${short(trial.floor)}`
      : trial.isCritic ? "" : `, a coin's ${short(trial.floor)}`;
    said.push(`${what} ${short(curves.D.now)}${floor}.`);
  }
  return said.join(" ");
}

/** A native slider: { row, show(value) }; a logarithmic one moves in twentieths of a power of ten. */
function laboratorySlider({ key, low, high, step, log }, onMove) {
  const id = name(), label = make("label", { htmlFor: id }), readout = make("span", { className: "genmed-readout" });
  readout.setAttribute("aria-hidden", "true"); // the slider itself says it
  const input = make("input", { type: "range", id });
  const inner = log ? [0.05, Math.log10(low), Math.log10(high)] : [step, low, high];
  ["step", "min", "max"].forEach((attribute, k) => { input[attribute] = inner[k]; });
  input.dataset.lmSuppressShortcuts = "true"; // in JupyterLab the arrow keys would move to another cell
  input.dataset.key = key;
  input.addEventListener("input", () => {
    const value = log ? 10 ** input.valueAsNumber : input.valueAsNumber;
    onMove(Number(value.toPrecision(2)));
  });
  const show = (value, text) => {
    if (!hasFocus(input) || !log) input.value = log ? Math.log10(value) : value;
    label.textContent = text;
    readout.textContent = String(value);
    input.setAttribute("aria-valuetext", readout.textContent);
  };
  return { parts: [label, input, readout], show };
}

/** A native menu: { part, show(value, names, text) }. */
function menu(onPick) {
  const id = name(), select = make("select", { id });
  select.dataset.lmSuppressShortcuts = "true";
  select.addEventListener("change", () => onPick(select.value));
  const label = make("label", { htmlFor: id });
  const show = (value, names, text) => {
    label.textContent = text;
    if (select.dataset.names !== JSON.stringify(names)) {
      const options = Object.entries(names).map(([value, textContent]) => make("option", { value, textContent }));
      select.replaceChildren(...options);
      select.dataset.names = JSON.stringify(names);
    }
    select.value = value;
  };
  return { part: make("span", { className: "genmed-lab-menu" }, label, select), show };
}

function tick(text, onTurn) {
  const input = make("input", { type: "checkbox" });
  input.addEventListener("change", () => onTurn(input.checked));
  return { part: make("label", { className: "genmed-lab-tick" }, input, text), input };
}

/** An entry of the legend. */
function dot(colour, text) {
  const spot = make("i", { className: "genmed-lab-dot" });
  spot.style.background = colour;
  return make("span", {}, spot, text);
}

function press(text, title, onclick) {
  return make("button", { type: "button", textContent: text, title, onclick });
}

/** The laboratory on a page: what is trained, what is drawn of it, and what is pressed. */
class Bench {
  constructor(model, el) {
    this.traits = model;
    this.who = "both";
    this.playing = false;
    this.slow = false;
    this.onScreen = true;
    this.cursor = [0, 0];
    this.held = null; // the pointer that draws, or drags the particle
    this.draws = 1; // another draw of noise for the particle's ways
    this.lastLook = this.lastStep = this.lastSaid = -Infinity;
    this.calm = window.matchMedia("(prefers-reduced-motion: reduce)");
    this.build(el);
    this.restart();
  }

  get settings() {
    return this.traits.get("settings");
  }

  set(changes) {
    this.ours = true;
    this.traits.set("settings", { ...this.settings, ...changes });
    this.ours = false;
    this.traits.save_changes();
  }

  // --- what stands on the page -------------------------------------------------------------------------------------

  build(el) {
    this.canvas = make("canvas", { className: "genmed-lab-plane", id: name() });
    this.plane = new Plane(this.canvas);
    this.meter = make("canvas", { className: "genmed-lab-meter", role: "img" });
    this.curves = make("canvas", { className: "genmed-lab-curves", role: "img" });
    this.legend = make("p", { className: "genmed-lab-legend" });
    this.words = make("p", { className: "genmed-lab-words", id: name() });
    this.spoken = make("p", { className: "genmed-lab-spoken", role: "status" });
    this.meterName = make("p", { className: "genmed-lab-name" });
    this.curvesName = make("p", { className: "genmed-lab-name" });
    const left = make("div", { className: "genmed-lab-left" }, this.canvas, this.legend);
    const right = make("div", { className: "genmed-lab-right" }, ...this.controls(), this.meterName, this.meter,
      this.curvesName, this.curves, this.words, this.spoken);
    const caption = this.traits.get("caption");
    const label = caption || "Laboratory in two dimensions";
    this.root = make("div", { className: "genmed-lab", role: "group", label }, left, right);
    if (caption) this.root.append(make("p", { className: "genmed-lab-caption", textContent: caption }));
    this.address = addressed(this.traits, this.root, addressName(label), {
      fit: (given) => this.fit(given), reset: () => this.beginAgain(),
    });
    right.append(make("div", { className: "genmed-buttons" }, ...this.address.buttons));
    this.canvas.setAttribute("aria-describedby", this.words.id);
    this.canvas.dataset.lmSuppressShortcuts = "true";
    el.append(this.root);
    this.listen();
  }

  controls() {
    this.menus = {
      data: menu((data) => { this.set({ data }); this.restart(); }),
      model: menu((kind) => {
        this.set({ model: kind, ...this.traits.get("defaults")[kind] });
        this.restart();
      }),
      shown: menu((shown) => { this.set({ shown }); this.look(); }),
    };
    this.buttons = {
      play: press("Play", "Train, as fast as the page allows", () => this.play(!this.playing)),
      step: press("Step", "One step of training", () => { this.play(false); this.train(); this.look(); this.rest(); }),
      slow: press("Slow", "A few steps a second", () => { this.slow = !this.slow; this.showControls(); }),
      reset: press("Restart", "Start again from the same beginning", () => this.restart()),
      fresh: press("New start", "Start again from other weights and noise", () => {
        this.set({ seed: (this.settings.seed + 1) % 10000 });
        this.restart();
      }),
    };
    this.whoButtons = ["both", "D", "G"].map((who) => press(who === "both" ? "Both" : `${who} only`,
      who === "both" ? "D and G learn in turn" : `Only ${who} learns`, () => { this.who = who; this.showControls(); }));
    this.ticks = {
      arrows: tick("arrows", (arrows) => { this.set({ arrows }); this.look(); }),
      particle: tick("particle", (particle) => { this.set({ particle }); this.showControls(); this.look(); }),
    };
    this.another = press("Other noise", "Let the particle's random paths run again", () => {
      this.draws += 1;
      this.look();
    });
    this.undo = press("Remove last", "Remove the last point", () => this.draw(this.settings.points.slice(0, -1)));
    this.clear = press("Remove all", "Remove all points", () => this.draw([]));
    this.sliders = SLIDERS.map((slider) => laboratorySlider(slider, (value) => {
      this.set({ [slider.key]: value });
      this.showControls();
      if (slider.key === "level" || slider.key === "steps") this.look();
    }));
    this.whoRow = make("div", { className: "genmed-buttons", role: "group", label: "Who learns" }, ...this.whoButtons);
    return [
      make("div", { className: "genmed-lab-menus" }, ...Object.values(this.menus).map((one) => one.part)),
      make("div", { className: "genmed-buttons" }, ...Object.values(this.buttons)),
      this.whoRow,
      make("div", { className: "genmed-buttons" }, ...Object.values(this.ticks).map((one) => one.part), this.another,
        this.undo, this.clear),
      make("div", { className: "genmed-sliders" }, ...this.sliders.flatMap((slider) => slider.parts)),
    ];
  }

  /** What a link brought: settings that the laboratory has, their numbers within its ranges; null for anything else. */
  fit({ settings: given }) {
    const home = this.traits.get("home").settings, on = ([x, y]) => Math.abs(x) <= REACH && Math.abs(y) <= REACH;
    const points = Array.isArray(given?.points) ? given.points.slice(0, this.traits.get("most_points")) : null;
    const isKnown = points && alike({ ...given, points: [] }, { ...home, points: [] })
      && points.every((point) => alike(point, [0, 0])) && [...points, given.at].every(on)
      && Object.hasOwn(this.traits.get("datasets"), given.data) && Object.hasOwn(this.traits.get("models"), given.model)
      && Object.hasOwn(BACKGROUNDS, given.shown);
    if (!isKnown) return null;
    const held = Object.fromEntries([...SLIDERS, { key: "seed", low: 0, high: 9999, step: 1 }].map(({ key, low, high, step }) => {
      const value = Math.min(high, Math.max(low, given[key]));
      return [key, step === 1 ? Math.round(value) : value];
    }));
    return { settings: { ...home, ...given, ...held, points } };
  }

  beginAgain() {
    this.who = "both";
    this.slow = false;
    this.play(false);
    this.restart();
  }

  /** Settings that came from Python or from another view; only what began differently begins again. */
  takeSettings() {
    const { settings, begunWith } = this;
    if (["data", "model", "seed"].some((key) => settings[key] !== begunWith[key])) return this.restart();
    if (settings.data === "drawn") this.trial.setData(settings);
    this.showControls();
    return this.look();
  }

  /** Every control at its place, and only those that this model has. */
  showControls() {
    const { settings, trial } = this, pressed = (button, on) => button.setAttribute("aria-pressed", String(on));
    this.menus.data.show(settings.data, this.traits.get("datasets"), "Data");
    this.menus.model.show(settings.model, this.traits.get("models"), "Model");
    if (trial.isGame) this.menus.shown.show(settings.shown, BACKGROUNDS, "Background");
    else this.menus.shown.show(settings.shown, SCORES, "Score");
    this.buttons.play.textContent = this.playing ? "Pause" : "Play";
    pressed(this.buttons.slow, this.slow);
    this.whoButtons.forEach((button, k) => pressed(button, this.who === ["both", "D", "G"][k]));
    this.whoRow.hidden = !trial.isGame;
    for (const key of ["arrows", "particle"]) this.ticks[key].input.checked = settings[key];
    this.ticks.particle.part.hidden = trial.isGame;
    this.another.hidden = !this.hasParticle;
    this.undo.hidden = this.clear.hidden = settings.data !== "drawn";
    for (const button of [this.buttons.play, this.buttons.step]) button.disabled = !trial.mixture;
    SLIDERS.forEach((slider, k) => {
      const shown = !slider.when || Boolean(slider.when(trial));
      this.sliders[k].parts.forEach((part) => { part.hidden = !shown; });
      if (shown) this.sliders[k].show(settings[slider.key], slider.name(trial));
    });
    this.showPlaneRole();
  }

  /** The plane is a control while something on it can be moved, and a picture else. */
  showPlaneRole() {
    const draws = this.isDrawing, live = draws || this.hasParticle;
    this.canvas.setAttribute("role", live ? "application" : "img");
    if (live) this.canvas.tabIndex = 0;
    else this.canvas.removeAttribute("tabindex");
    this.canvas.style.touchAction = draws ? "none" : "auto";
    this.canvas.style.cursor = draws ? "crosshair" : this.hasParticle ? "grab" : "default";
    const hint = draws ? " Arrow keys move a cross, with Shift further; Space adds a point, Backspace removes the last."
      : this.hasParticle ? " Arrow keys move the particle, with Shift further." : "";
    this.canvas.setAttribute("aria-label", `Plane with the data in blue and samples in orange.${hint}`);
  }

  get isDrawing() {
    return this.settings.data === "drawn" && !this.hasParticle;
  }

  get hasParticle() {
    return !this.trial.isGame && this.settings.particle && Boolean(this.trial.mixture);
  }

  // --- training ----------------------------------------------------------------------------------------------------

  restart() {
    this.begunWith = this.settings;
    this.trial = new Trial(this.settings);
    if (!this.trial.mixture) this.playing = false;
    this.showControls();
    this.look();
    this.rest();
  }

  train() {
    if (this.trial.mixture) this.trial.step(this.settings, this.who);
  }

  play(on) {
    this.playing = on && Boolean(this.trial.mixture);
    this.showControls();
    if (this.playing) this.later();
    else this.rest();
  }

  later() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (this.playing && this.onScreen) this.turn(performance.now());
    });
  }

  /** A slice of training, and a picture of it; then the next. */
  turn(now) {
    if (this.slow) {
      if (now - this.lastStep > (this.calm.matches ? CALM : SLOW)) {
        this.lastStep = now;
        this.train();
        this.look();
      }
    } else {
      do this.train(); while (performance.now() - now < SLICE);
      const gap = this.calm.matches ? CALM : 120;
      if (now - this.lastLook > Math.max(gap, 5 * this.lookTime)) this.look();
      else if (this.trial.isGame && !this.calm.matches) this.sketch();
    }
    if (now - this.lastSaid > SPOKEN) this.say();
    this.later();
  }

  /** Training stands: say how far it came, to those who listen and to Python. */
  rest() {
    if (!this.playing) this.look();
    this.say();
    const { trial, cover } = this, { D, G } = trial.curves;
    this.traits.set("progress", {
      step: trial.steps, held: cover?.held ?? 0, parts: trial.mixture?.parts ?? 0, on: cover?.on ?? 0,
      loss_d: D.values.length ? D.now : null, loss_g: G.values.length ? G.now : null, ends: this.ends ?? {},
    });
    this.traits.save_changes();
  }

  say() {
    this.lastSaid = performance.now();
    this.spoken.textContent = this.words.textContent;
  }

  // --- pictures ----------------------------------------------------------------------------------------------------

  /** Everything anew: samples, background, meter, curves, words. */
  look() {
    if (this.pointsMoved) this.takePoints();
    const began = performance.now(), { trial, settings, plane } = this;
    plane.begin();
    if (trial.mixture || trial.isGame) this.fakes = trial.fakes(settings);
    if (!trial.mixture) {
      this.cover = null;
      plane.say(["Draw your data here: press and drag,", "or use the arrow keys and Space."]);
    } else {
      this.cover = trial.mixture.cover(this.finished());
      if (trial.isGame && settings.shown !== "none") {
        heat(plane.heat, trial.judged(GRID, settings.shown, this.fakes), plane.dark);
      }
      if (!trial.isGame) heat(plane.heat, trial.density(GRID, settings.level), plane.dark);
      this.ends = this.hasParticle ? this.follow() : {};
      this.sketch();
    }
    if (this.isDrawing && hasFocus(this.canvas)) plane.cross(this.cursor);
    this.lookBeside();
    this.lookTime = performance.now() - began;
    this.lastLook = performance.now();
  }

  /** The samples without noise, which are counted. */
  finished() {
    const { trial, settings } = this;
    return trial.isGame || settings.level === 0 ? this.fakes : trial.fakes({ ...settings, level: 0 });
  }

  /** The plane with the last background. */
  sketch() {
    const { trial, settings, plane } = this;
    plane.begin();
    if (!trial.isGame || settings.shown !== "none") plane.background();
    if (trial.isGame) this.fakes = trial.fakes(settings);
    const faint = this.hasParticle ? 0.35 : 1;
    plane.points(trial.reals(settings.level), plane.real, { radius: 1.8, alpha: 0.55 * faint });
    plane.points(this.fakes, plane.fake, { radius: 2.2, alpha: faint, rim: !this.hasParticle });
    if (settings.arrows) this.sketchArrows();
    if (this.hasParticle) this.sketchParticle();
    if (this.isDrawing && hasFocus(this.canvas)) plane.cross(this.cursor);
  }

  sketchArrows() {
    const { trial, settings, plane } = this;
    if (trial.isGame) {
      const some = this.fakes.slice(0, 128);
      return plane.arrows(some, trial.model.pull(some, 64), { half: 2, longest: 0.7, alpha: 0.9 });
    }
    if (settings.shown === "none") return null;
    const n = 17, from = Float64Array.from({ length: 2 * n * n }, (_, i) => {
      const at = i % 2 ? Math.floor((i >> 1) / n) : (i >> 1) % n;
      return ((at + 0.5) / n * 2 - 1) * REACH;
    });
    const { eps } = trial.guess(settings.shown)(from, Math.max(settings.level, 0.1));
    const alpha = this.hasParticle ? 0.22 : 0.4;
    return plane.arrows(from, eps.map((value) => -value), { half: 1, longest: 0.42, alpha });
  }

  /** The particle's ways: { name: [[x, y], ...] } into this.ways; returns where they end. */
  follow() {
    const { trial, settings } = this, guess = trial.guess(settings.shown);
    this.ways = {};
    for (const [way, walk] of Object.entries(WAYS)) {
      const random = randomStream(this.draws);
      const from = way === "Langevin" ? settings.level : 1;
      const options = { steps: settings.steps, random, spread: trial.mixture.sd };
      this.ways[way] = [...walk(Float64Array.from(settings.at), guess, trial.model.noising, from, options)]
        .map(([x, y]) => [x, y]);
    }
    return Object.fromEntries(Object.entries(this.ways).map(([way, path]) => [way, path[path.length - 1]]));
  }

  sketchParticle() {
    for (const [way, path] of Object.entries(this.ways)) this.plane.path(way, path);
    this.plane.ringed(this.settings.at, 8);
    if (hasFocus(this.canvas)) this.plane.ringed(this.settings.at, 12);
  }

  lookBeside() {
    const { trial, cover } = this, { D, G } = trial.curves, { mixture, cloud } = trial;
    const curves = trial.isCritic ? [{ ...D, colour: "ink" }]
      : [{ ...D, colour: "ink" }, { ...G, colour: rgba(FAKE) }];
    drawCurves(this.curves, curves, trial.floor ?? 0);
    drawMeter(this.meter, cover ? { shares: cover.shares, fair: mixture.share, cloud: cloud.shares }
      : { shares: [], fair: [], cloud: [] });
    this.words.textContent = inWords(trial, cover) + this.endsInWords();
    const held = cover ? `: ${cover.held} of ${mixture.parts} hold half their fair share` : "";
    this.meterName.textContent = `${trial.partName === "mode" ? "Modes" : "Parts"}${held}`;
    this.meter.setAttribute("aria-label", cover ? "Share of a fair share that each part holds: "
      + cover.shares.map((share, k) => per(share / mixture.share[k])).join(", ") : "No parts yet");
    this.curvesName.textContent = trial.isCritic ? "The critic's gain, real minus fake"
      : trial.isGame ? "Loss of D and, in orange, of G; dashed, a coin's" : "Loss; dashed, the best possible";
    this.curves.setAttribute("aria-label", D.values.length ? `Now ${short(D.now)}` : "Nothing trained yet");
    this.lookLegend();
  }

  endsInWords() {
    if (!this.hasParticle) return "";
    const { mixture, partName } = this.trial;
    const ends = Object.entries(this.ends).map(([way, [x, y]]) => {
      const part = mixture.partAt(x, y);
      return `${way} ${part < 0 ? `on no ${partName}` : `on ${partName} ${part + 1}`}`;
    });
    return ` The particle's paths end: ${ends.join(", ")}.`;
  }

  lookLegend() {
    const { trial, settings } = this, { real, fake } = this.plane;
    const parts = [dot(rgba(real), "data"), dot(rgba(fake), "samples")];
    if (trial.isGame && settings.shown !== "none") {
      const ends = settings.shown === "exact" || !trial.isCritic ? ["fake", "real"] : ["critic low", "high"];
      parts.push(make("span", {}, ends[0], make("i", { className: "genmed-lab-scale" }), ends[1]));
      if (settings.shown === "exact") {
        parts.push(make("span", {}, `both densities blurred by ${BLUR}, q by a kernel estimate`));
      }
    }
    if (this.hasParticle) {
      const ink = "currentColor";
      for (const [way, { colour }] of Object.entries(PATHS)) {
        parts.push(dot(colour === "ink" ? ink : colour, way === "Langevin" ? "Langevin at the level of noise" : way));
      }
    }
    const key = parts.map((part) => part.outerHTML).join("");
    if (this.legend.dataset.key === key) return;
    this.legend.dataset.key = key;
    this.legend.replaceChildren(...parts);
  }

  // --- hands -------------------------------------------------------------------------------------------------------

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.grab(event));
    canvas.addEventListener("pointermove", (event) => { if (this.held === event.pointerId) this.drag(event); });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        if (this.held !== event.pointerId) return;
        this.held = null;
        this.showControls();
        this.rest();
      });
    }
    // A finger on the particle drags it; anywhere else it scrolls the page.
    canvas.addEventListener("touchstart", (event) => {
      if (this.hasParticle && this.isNear(this.at(event.touches[0]))) event.preventDefault();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, () => this.look());
    const redraw = () => { if (this.root.isConnected) this.look(); };
    const watch = (trait, callback) => {
      this.traits.on(`change:${trait}`, callback);
      return () => this.traits.off(`change:${trait}`, callback);
    };
    this.seen = new IntersectionObserver(([entry]) => {
      this.onScreen = entry.isIntersecting;
      if (this.onScreen && this.playing) this.later();
    });
    this.seen.observe(this.root);
    this.sized = new ResizeObserver(redraw);
    this.sized.observe(this.canvas);
    this.themed = new MutationObserver(redraw);
    for (const part of [document.documentElement, document.body]) {
      this.themed.observe(part, { attributeFilter: ["class", "data-theme", "data-jp-theme-light"] });
    }
    this.unwatch = watch("settings", () => { if (!this.ours) this.takeSettings(); });
  }

  close() {
    this.playing = false;
    cancelAnimationFrame(this.frame);
    cancelAnimationFrame(this.soon);
    for (const observer of [this.seen, this.sized, this.themed]) observer.disconnect();
    this.unwatch();
    this.address.close();
  }

  at({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    const x = (clientX - box.left) / box.width, y = (clientY - box.top) / box.height;
    return [(2 * x - 1) * REACH, (1 - 2 * y) * REACH];
  }

  isNear([x, y]) {
    return Math.hypot(x - this.settings.at[0], y - this.settings.at[1]) < 0.4;
  }

  grab(event) {
    if (event.button || !event.isPrimary || (!this.isDrawing && !this.hasParticle)) return;
    if (this.hasParticle && event.pointerType === "touch" && !this.isNear(this.at(event))) return;
    this.held = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag(event);
  }

  drag(event) {
    const at = this.at(event).map((value) => Number(Math.max(-REACH, Math.min(REACH, value)).toFixed(3)));
    if (this.hasParticle) return this.moveParticle(at);
    if (this.at(event).some((value) => Math.abs(value) > REACH)) return null; // beside the plane no data are drawn
    const { points } = this.settings, last = points[points.length - 1];
    if (last && Math.hypot(at[0] - last[0], at[1] - last[1]) < 0.08) return null;
    this.cursor = at;
    return this.draw([...points, at]);
  }

  moveParticle(at) {
    this.set({ at });
    this.lookSoon();
  }

  /** A hand moves more often than a page can draw: once a frame is enough. */
  lookSoon() {
    this.soon ||= requestAnimationFrame(() => {
      this.soon = 0;
      this.look();
    });
  }

  /** Other points of the reader's own: the data change, the networks stay. */
  draw(points) {
    const most = this.traits.get("most_points");
    this.set({ points: points.slice(0, most) });
    this.pointsMoved = true;
    this.lookSoon();
  }

  takePoints() {
    this.pointsMoved = false;
    this.trial.setData(this.settings);
    if (!this.trial.mixture) this.playing = false;
    this.showControls();
  }

  key(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const far = event.shiftKey ? 0.5 : 0.1, bound = (v) => Number(Math.max(-REACH, Math.min(REACH, v)).toFixed(3));
    if (!this.isDrawing && !this.hasParticle) return;
    if (event.key in ways) {
      const from = this.hasParticle ? this.settings.at : this.cursor;
      const to = ways[event.key].map((way, d) => bound(from[d] + far * way));
      if (this.hasParticle) this.moveParticle(to);
      else this.cursor = to;
      this.lookSoon();
    } else if (this.isDrawing && (event.key === " " || event.key === "Enter")) {
      this.draw([...this.settings.points, this.cursor]);
    } else if (this.isDrawing && event.key === "Backspace") {
      this.draw(this.settings.points.slice(0, -1));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function render({ model, el }) {
  const bench = new Bench(model, el);
  return () => bench.close();
}

export default { render };
