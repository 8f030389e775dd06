// What networks make of a digit that is drawn on strokes.js's page: READINGS, twins of the classes in readings.py.
// Each is given its settings, its programs and what the pad shares; it returns its node and update(x), which shows what
// its network makes of x, 28 * 28 in [0, 1].

const percent = (p) => (p > 0.9995 ? "over 99.9 %" : `${(100 * p).toFixed(p > 0.99 ? 1 : 0)} %`);
const binarised = (x) => Float32Array.from(x, (v) => (v > 128.5 / 255 ? 1 : 0));

/** A 28 x 28 picture in a canvas, with its words. */
function tile(width, words) {
  const canvas = element("canvas", { width: SIDE, height: SIDE });
  canvas.style.width = `${width}px`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words);
  const context = canvas.getContext("2d"), picture = context.createImageData(SIDE, SIDE);
  const show = (values) => {
    for (let i = 0; i < SIDE * SIDE; i++) {
      picture.data.fill(Math.round(255 * values[i]), 4 * i, 4 * i + 3);
      picture.data[4 * i + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  };
  show(new Float32Array(SIDE * SIDE));
  return { canvas, show };
}

const captioned = (node, words) => element("figure", { className: "genmed-tile" }, node, element("figcaption", {}, words));

/** Upright bars over 0 to 9, or over the numbers of a code. */
function bars(count, width, height) {
  const root = chart(width, height + 16, ""), step = width / count;
  const shapes = Array.from({ length: count }, (_, k) => svg("rect", { x: (k + 0.14) * step, width: 0.72 * step, rx: 1.5,
                                                                      class: "genmed-bar genmed-pbar" }));
  root.append(svg("line", { x1: 0, x2: width, y1: height, y2: height, class: "genmed-line" }), ...shapes);
  for (let k = 0; k < count; k++) root.append(text((k + 0.5) * step, height + 13, String(k), { "text-anchor": "middle" }));
  const show = (shares) => shapes.forEach((shape, k) => {
    const tall = Math.max(0.6, (height - 4) * Math.min(1, shares[k]));
    shape.setAttribute("y", height - tall);
    shape.setAttribute("height", tall);
  });
  return { root, show };
}

const READINGS = {
  reader(settings, { reader }, shared) {
    const drawing = bars(10, 260, 56), said = element("p", { className: "genmed-reads" });
    const update = async (x) => {
      const [p] = await reader.run({ x });
      const order = [...p.keys()].sort((a, b) => p[b] - p[a]);
      [shared.digit] = order;
      said.replaceChildren("reads ", element("b", {}, String(order[0])), `, ${percent(p[order[0]])}`);
      drawing.show(p);
      drawing.root.setAttribute("aria-label", `Probabilities: ${order.slice(0, 3).map((k) => `${k} ${percent(p[k])}`).join(", ")}`);
      return `Our reader says ${order[0]}, ${percent(p[order[0]])}.`;
    };
    return { nodes: [said, drawing.root], update };
  },

  copy({ usual }, { copy }) {
    const made = tile(84, "The copy"), missed = tile(84, "What the copy misses");
    const error = element("p");
    const update = async (x) => {
      const [y] = await copy.run({ x });
      made.show(y);
      missed.show(y.map((v, i) => Math.abs(v - x[i])));
      const mean = y.reduce((sum, v, i) => sum + (v - x[i]) ** 2, 0) / y.length;
      error.replaceChildren("squared error per pixel ", element("b", {}, mean.toFixed(4)),
                            `; half of the test digits lie between ${usual[0].toFixed(4)} and ${usual[1].toFixed(4)}`);
      return `The copy's error is ${mean.toFixed(4)} per pixel.`;
    };
    return { nodes: [element("div", { className: "genmed-tiles" }, captioned(made.canvas, "copy"),
                             captioned(missed.canvas, "what it misses")), error], update };
  },

  bound({ plane, eps, points }, { encode, decode }) {
    const made = tile(84, "Decoded at the mean of the code"), d = eps[0].length, prices = bars(d, 150, 56);
    const cells = [0, 1, 2].map(() => element("td"));
    const rows = [["reconstruction", "−E log p(x|z)"], ["+ price of the code", "KL(q‖p(z))"], ["= minus the bound", "−ELBO"]]
      .map(([name, formula], k) => element("tr", {}, element("th", { scope: "row" }, name, " ", element("span", {}, formula)),
                                           cells[k]));
    const table = element("table", { className: "genmed-terms genmed-nats" },
                          element("caption", {}, "For your digit in black and white, nats"), element("tbody", {}, ...rows));
    const ends = [0, 1].map((axis) => {
      const sorted = points.map((point) => point[axis]).sort((a, b) => a - b);
      return [sorted[0] - 0.4, sorted[sorted.length - 1] + 0.4];
    });
    const [x, y] = [linearScale(...ends[0], 0, 260), linearScale(...ends[1], 240, 0)];
    const map = chart(260, 240, ""), ellipse = svg("ellipse", { class: "genmed-ellipse" });
    const dot = svg("circle", { r: 3.5, class: "genmed-qhandle" });
    map.classList.add("genmed-map");
    map.append(...points.map(([a, b, k]) => text(x(a), y(b) + 3, String(k), { "text-anchor": "middle", class: `genmed-class${k}` })),
               ellipse, dot);
    const draws = Float32Array.from(eps.flat());
    const update = async (drawing) => {
      const image = binarised(drawing), [mu, logvar] = await encode.run({ x: image });
      const sigma = logvar.map((v) => Math.exp(0.5 * v));
      const codes = Float32Array.from({ length: d * (eps.length + 1) }, (_, i) => (
        mu[i % d] + (i < d ? 0 : sigma[i % d] * draws[i - d])));
      const [logits] = await decode.run({ z: codes });
      made.show(logits.subarray(0, SIDE * SIDE).map((a) => 1 / (1 + Math.exp(-a))));
      let nll = 0;
      for (let i = SIDE * SIDE; i < logits.length; i++) {
        const a = logits[i];
        nll += Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a))) - image[i % (SIDE * SIDE)] * a;
      }
      nll /= eps.length;
      const kl = Array.from(mu, (m, j) => 0.5 * (m * m + Math.exp(logvar[j]) - 1 - logvar[j])), price = kl.reduce((a, b) => a + b, 0);
      [nll, price, nll + price].forEach((value, k) => { cells[k].textContent = value.toFixed(1); });
      prices.show(kl.map((v) => v / 6));
      prices.root.setAttribute("aria-label", `KL of each coordinate, nats: ${kl.map((v) => v.toFixed(1)).join(", ")}`);
      showEllipse(ellipse, dot, plane, mu, sigma, x, y);
      map.setAttribute("aria-label", `Map of the code: test digits by class, and yours at ${project(plane[0], mu).toFixed(1)}, ` +
        `${project(plane[1], mu).toFixed(1)} with an ellipse of one standard deviation`);
      return `The bound is ${inWords(-nll - price, 1)} nats.`;
    };
    return { nodes: [element("div", { className: "genmed-tiles" }, captioned(made.canvas, "decoded at the mean"),
                             captioned(prices.root, "KL of each number of the code, at most 6 nats shown")), table,
                     captioned(map, "μ, and an ellipse of σ, among test digits: the plane of the code that tells the classes apart best")],
             update };
  },

  hand(settings, { encode, decode }, shared, again) {
    const made = Array.from({ length: 10 }, (_, k) => tile(54, `A ${k} in your hand`));
    const choice = element("select", {}, element("option", { value: "" }, "as our reader reads it"),
                           ...[...made.keys()].map((k) => element("option", { value: k }, String(k))));
    choice.dataset.lmSuppressShortcuts = "true";
    choice.addEventListener("change", again);
    const update = async (x) => {
      const label = choice.value === "" ? shared.digit : Number(choice.value);
      const [mu] = await encode.run({ x: binarised(x), y: [label] });
      const codes = Float32Array.from({ length: 10 * mu.length }, (_, i) => mu[i % mu.length]);
      const [digits] = await decode.run({ z: codes, y: [...made.keys()] });
      made.forEach(({ show, canvas }, k) => {
        show(digits.subarray(k * SIDE * SIDE, (k + 1) * SIDE * SIDE));
        canvas.classList.toggle("genmed-chosen", k === label);
      });
      return `Ten digits are written as your ${label} is.`;
    };
    return { nodes: [element("div", { className: "genmed-ten" }, ...made.map(({ canvas }) => canvas)),
                     element("label", {}, "Your digit is ", choice)], update };
  },

  score({ groups }, { score }) {
    const names = Object.keys(groups), spans = names.map((name) => groups[name]);
    const low = Math.min(...spans.map((q) => q[0])), high = Math.max(...spans.map((q) => q[100]));
    const root = chart(300, 34 * names.length + 44, ""), said = element("p");
    const marker = svg("path", { class: "genmed-marker" }), heights = names.map((_, k) => 34 * k + 18);
    const x = linearScale(low - 0.08 * (high - low), high + 0.08 * (high - low), 8, 292);
    spans.forEach((q, k) => {
      const y = 34 * k + 24;
      root.append(text(8, y - 9, `${names[k]}: middle half and 98 of 100`),
                  svg("line", { x1: x(q[1]), x2: x(q[99]), y1: y + 2, y2: y + 2, class: `genmed-whisker genmed-group${k}` }),
                  svg("rect", { x: x(q[25]), width: x(q[75]) - x(q[25]), y: y - 4, height: 12, rx: 2, class: `genmed-group${k}` }),
                  svg("line", { x1: x(q[50]), x2: x(q[50]), y1: y - 4, y2: y + 8, class: "genmed-median" }));
    });
    root.append(marker);
    const axis = 34 * names.length + 14;
    root.append(svg("line", { x1: 8, x2: 292, y1: axis, y2: axis, class: "genmed-line" }),
                ...[low, high].map((v, k) => text(x(v), axis + 15, inWords(v, 1), { "text-anchor": k ? "end" : "start" })));
    const update = async (drawing) => {
      const [[value]] = await score.run({ x: drawing }), place = Math.min(296, Math.max(4, x(value)));
      marker.setAttribute("d", [...heights, axis - 9].map((y, k) => `M${place},${y}v${k < heights.length ? 17 : 9}`).join(""));
      const more = spans.map((q) => q.filter((v) => v < value).length); // of 101 quantiles
      const words = names.map((name, k) => `${Math.min(100, more[k])} of 100 ${name}`).join(" and ");
      said.replaceChildren("scores ", element("b", {}, inWords(value, 2)), `, more than ${words}`);
      root.setAttribute("aria-label", `Scores: yours ${inWords(value, 2)}; half of the ${names.map((name, k) => (
        `${name} lie from ${inWords(spans[k][25], 2)} to ${inWords(spans[k][75], 2)}`)).join(", half of the ")}`);
      return `Your digit scores ${inWords(value, 2)}.`;
    };
    return { nodes: [said, root], update };
  },
};

const project = (axis, z) => axis.reduce((sum, v, j) => sum + v * z[j], 0);

/** The ellipse of one standard deviation of N(mu, sigma^2) as seen in a plane of two orthonormal axes. */
function showEllipse(ellipse, dot, plane, mu, sigma, x, y) {
  const [a, b, c] = [[0, 0], [0, 1], [1, 1]].map(([i, k]) => plane[i].reduce((sum, v, j) => sum + v * plane[k][j] * sigma[j] ** 2, 0));
  // In the drawing's units, whose axes have scales of their own; y points down.
  const sx = x(1) - x(0), sy = y(1) - y(0), [A, B, C] = [a * sx * sx, b * sx * sy, c * sy * sy];
  const middle = (A + C) / 2, apart = Math.hypot((A - C) / 2, B), angle = 0.5 * Math.atan2(2 * B, A - C);
  const [cx, cy] = [x(project(plane[0], mu)), y(project(plane[1], mu))];
  for (const [key, value] of Object.entries({ cx, cy, rx: Math.sqrt(middle + apart), ry: Math.sqrt(Math.max(0, middle - apart)),
                                              transform: `rotate(${(angle * 180) / Math.PI} ${cx} ${cy})` })) {
    ellipse.setAttribute(key, value);
  }
  dot.setAttribute("cx", cx);
  dot.setAttribute("cy", cy);
}

// --- the pad itself ---------------------------------------------------------------------------------------------------

const NOTHING = "The page is empty: draw a digit, or take a ready one.";

VIEWS.pad = function padView(model, place) {
  const engine = startEngine(), shared = { digit: 0 }, weights = [...model.get("weights")];
  const status = element("p", { className: "genmed-note" });
  status.setAttribute("role", "status");
  const say = (words) => { if (status.textContent !== words) status.textContent = words; };
  const small = tile(84, "Your digit as MNIST has it, 28 by 28 pixels");

  const readings = model.get("readings").map(({ kind, heading, settings, programs }) => {
    const nets = Object.fromEntries(programs.map(([name, graph]) => [name, engine.load(graph, weights.shift())]));
    const { nodes, update } = READINGS[kind](settings, nets, shared, () => look());
    const node = element("div", { className: `genmed-reading genmed-reading-${kind}` },
                         element("p", { className: "genmed-heading" }, heading), ...nodes);
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", heading);
    return { node, update };
  });

  // While a look goes on, only the newest drawing waits: the pen is never behind by more than one.
  let looking = false, again = false, closed = false;
  async function look() {
    again = true;
    if (looking) return;
    looking = true;
    try {
      while (again && !closed) {
        again = false;
        const x = centred(pad.page(), PAGE, PAGE), empty = !x.some((v) => v > 0), said = [];
        small.show(x);
        place.classList.toggle("genmed-empty", empty);
        if (empty) {
          say(NOTHING);
          continue;
        }
        for (const reading of readings) said.push(await reading.update(x));
        if (!again) say(said.join(" "));
      }
    } catch (error) {
      if (!closed) say(`The networks do not run in this browser: ${error.message}.`);
    } finally {
      looking = false;
      place.dataset.looks = Number(place.dataset.looks ?? 0) + 1;
    }
  }
  const pad = drawingPad(look, (strokes) => {
    model.set("strokes", strokes);
    model.save_changes();
    draw();
  }, say);
  const help = element("p", { className: "genmed-help", id: `genmed-${Math.random().toString(36).slice(2)}` }, HELP);
  pad.canvas.setAttribute("aria-describedby", help.id);
  const ready = element("select", {}, element("option", { value: "" }, "choose …"),
                        ...model.get("ready").map((_, k) => element("option", { value: k }, String(k))));
  ready.dataset.lmSuppressShortcuts = "true";
  ready.addEventListener("change", () => {
    if (ready.value === "") return;
    model.set("strokes", model.get("ready")[ready.value]);
    model.save_changes();
  });
  const buttons = element("div", { className: "genmed-buttons" }, button("Clear", "An empty page", pad.clear),
                          button("Undo", "Take the last stroke back", pad.undo));
  const desk = element("div", { className: "genmed-desk" }, pad.canvas, help, element(
    "div", { className: "genmed-tools" }, captioned(small.canvas, "what they see"),
    element("div", {}, buttons, element("label", {}, "or a ready digit ", ready))));
  place.classList.add("genmed-pad-view");
  place.append(desk, element("div", { className: "genmed-readings" }, ...readings.map((reading) => reading.node)), status);

  const draw = () => {
    const strokes = model.get("strokes");
    pad.show(strokes);
    ready.value = Math.max(-1, model.get("ready").indexOf(strokes)) < 0 ? "" : model.get("ready").indexOf(strokes);
    look();
  };
  const unwatch = watch(model, ["strokes"], draw);
  const fit = ({ strokes }) => (fitStrokes(strokes) ? { strokes } : null);
  return {
    draw, fit,
    close() {
      closed = true;
      unwatch();
      engine.close();
    },
  };
};
