// The browser's half of genmed_core.widgets; all of it works with no kernel behind it.
//   VIEWS  what each kind of panel draws at its sliders' values; a kind's own script, set behind this one, adds its
//          entry. The sliders themselves, native ones with a name and a value in words, are made by `render` from the
//          panel's list.

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

// --- the kinds of panel: each puts its picture into `place` and returns { draw, buttons?, below?, close?, reset?, fit? }
//     reset: what else "Reset" does; fit(state): what a link brought, as this kind can take it, or null -----------------

/** One of many ready-made pictures, or several side by side. */
function framesView(model, place) {
  const urls = model.get("frames").map((png) => URL.createObjectURL(new Blob([png], { type: "image/png" })));
  const captions = model.get("captions"), columns = model.get("columns"), sliders = model.get("sliders");
  const order = model.get("order");
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
      image.src = urls[order[frame * columns + k]];
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

export const VIEWS = { frames: framesView };

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
  const table = (some) => element("div", { className: "genmed-sliders" }, ...some.flatMap((row) => row.parts));
  const unfolded = model.get("unfolded") || rows.length; // the others wait behind a fold
  const controls = element("div", { className: "genmed-controls" }, table(rows.slice(0, unfolded)));
  const buttons = element("div", { className: "genmed-buttons" }, ...(view.buttons ?? []));
  controls.append(buttons);
  if (view.below) controls.append(...view.below);
  if (unfolded < rows.length) {
    controls.append(element("details", {}, element("summary", { textContent: "More sliders" }), table(rows.slice(unfolded))));
  }
  const caption = model.get("caption");
  if (caption) controls.append(element("p", { className: "genmed-caption", textContent: caption }));
  const panel = element("div", { className: "genmed-panel" }, place, controls);
  panel.setAttribute("role", "group");
  panel.setAttribute("aria-label", caption || model.get("alt") || "Picture with sliders");
  el.append(panel);
  const sliders = model.get("sliders"), words = caption || model.get("alt") || sliders.map(({ name }) => name).join(" ");
  const fit = (given) => {
    const fitting = (view.fit ?? ((state) => (alike(state, model.get("home")) ? state : null)))(given);
    return fitting?.values ? { ...fitting, values: fitting.values.map((v, k) => nearest(sliders[k], v)) } : fitting;
  };
  const address = addressed(model, panel, addressName(words || model.get("view")), { fit, reset: view.reset });
  buttons.append(...address.buttons);

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
    address.close();
    view.close?.();
  };
}

export default { render };
