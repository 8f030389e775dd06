// --- a code of one number and data of two; posterior.py is the twin of what is computed here --------------------------

const MODEL = { radius: 2, sigma: 0.5, end: 8, count: 3201 };

const normal = (z, mean, sd) => -0.5 * ((z - mean) / sd) ** 2 - Math.log(sd * Math.sqrt(2 * Math.PI));

/** log p(x|z) + log p(z). */
function logJoint(x, z) {
  const { radius, sigma } = MODEL;
  const distance2 = (x[0] - radius * Math.sin(z)) ** 2 + (x[1] - radius * Math.cos(z)) ** 2;
  return -0.5 * distance2 / sigma ** 2 - Math.log(2 * Math.PI * sigma ** 2) + normal(z, 0, 1);
}

/** The integral of f from a to b by the trapezium rule. */
function integral(f, a, b, count = MODEL.count) {
  const step = (b - a) / (count - 1);
  let sum = -0.5 * (f(a) + f(b));
  for (let k = 0; k < count; k++) sum += f(a + step * k);
  return sum * step;
}

/** log p(x), (2.1): no logarithm of the joint density exceeds -0.4, so that nothing overflows. */
const evidence = (x, count) => Math.log(integral((z) => Math.exp(logJoint(x, z)), -MODEL.end, MODEL.end, count));

/** All terms of the bound, in nats; the gap is an integral of its own. */
export function boundTerms(x, m, s) {
  const { radius, sigma } = MODEL, shrunk = Math.exp(-s * s / 2);
  const inner = radius * shrunk * (x[0] * Math.sin(m) + x[1] * Math.cos(m));
  const distance2 = x[0] ** 2 + x[1] ** 2 - 2 * inner + radius ** 2;
  const reconstruction = -0.5 * distance2 / sigma ** 2 - Math.log(2 * Math.PI * sigma ** 2);
  const price = 0.5 * (m * m + s * s - 1 - Math.log(s * s)), logP = evidence(x);
  const excess = (z) => Math.exp(normal(z, m, s)) * (normal(z, m, s) - logJoint(x, z) + logP);
  return { reconstruction, price, elbo: reconstruction - price, gap: integral(excess, m - 8 * s, m + 8 * s), logP };
}

/** The q of the greatest bound among the places of the sliders for m and s. */
export function bestQ(x, [forM, forS]) {
  const { radius, sigma } = MODEL, best = { bound: -Infinity };
  const places = ({ low, high, step }) => Array.from({ length: Math.round((high - low) / step) + 1 },
                                                     (_, k) => Number((low + k * step).toFixed(10)));
  const gains = places(forM).map((m) => [m, radius * (x[0] * Math.sin(m) + x[1] * Math.cos(m)) / sigma ** 2]);
  for (const s of places(forS)) for (const [m, gain] of gains) {
    const bound = gain * Math.exp(-s * s / 2) - 0.5 * (m * m + s * s - Math.log(s * s));
    if (bound > best.bound) Object.assign(best, { bound, m, s });
  }
  return [best.m, best.s];
}

/** p(x) over the plane as a picture behind the drawing, darker (or lighter) where it is larger. */
function heatMap(canvas, x1, x2) {
  const { width, height } = canvas, context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  const values = Float64Array.from({ length: width * height }, (_, k) => Math.exp(evidence(
    [x1.back((k % width) + 0.5), x2.back(Math.floor(k / width) + 0.5)], 161)));
  const largest = Math.max(...values);
  values.forEach((value, k) => { picture.data.set([42, 143, 208, 150 * Math.sqrt(value / largest)], 4 * k); });
  context.putImageData(picture, 0, 0);
}

/** The plane of the data: p(x), the circle f(z), and on it the posterior (inside) and q (outside) as ribbons. */
function plane(onMove) {
  const size = 250, x1 = linearScale(-3, 3, 0, size), x2 = linearScale(3, -3, 0, size);
  const canvas = element("canvas", { width: 75, height: 75 });
  canvas.setAttribute("aria-hidden", "true");
  heatMap(canvas, linearScale(-3, 3, 0, 75), linearScale(3, -3, 0, 75));
  const ribbons = { posterior: svg("path", { class: "genmed-posterior" }), q: svg("path", { class: "genmed-q" }) };
  const dot = svg("circle", { r: 7, class: "genmed-handle genmed-x" });
  const circle = svg("circle", { cx: x1(0), cy: x2(0), r: x1(MODEL.radius) - x1(0), class: "genmed-line" });
  const zero = text(x1(0), x2(MODEL.radius) + 15, "z = 0", { "text-anchor": "middle" });
  const name = text(0, 0, "x", { class: "genmed-name" });
  const root = chart(size, size, "");
  root.append(circle, ribbons.posterior, ribbons.q, zero, dot, name);
  follow(root, root, (a, b) => onMove(x1.back(a), x2.back(b)));
  const ribbon = (density, largest, side) => {
    const from = MODEL.radius + 0.06 * side, rim = [], edge = [];
    for (let z = -4; z <= 4; z += 0.02) {
      const r = from + 0.62 * side * density(z) / largest;
      edge.push([x1(from * Math.sin(z)), x2(from * Math.cos(z))]);
      rim.push([x1(r * Math.sin(z)), x2(r * Math.cos(z))]);
    }
    return `${pathOf([...rim, ...edge.reverse()])}Z`;
  };
  const draw = (x, { posterior, q, tops }) => {
    ribbons.posterior.setAttribute("d", ribbon(posterior, tops[0], -1));
    ribbons.q.setAttribute("d", ribbon(q, tops[1], 1));
    for (const [key, value] of [["cx", x1(x[0])], ["cy", x2(x[1])]]) dot.setAttribute(key, value);
    name.setAttribute("x", x1(x[0]) + 11);
    name.setAttribute("y", x2(x[1]) + 4);
  };
  return { node: element("div", { className: "genmed-plane" }, canvas, root), root, draw };
}

/** The line of codes: prior, posterior, and q with a handle for its mean and one for its width. */
function codeLine(onMean, onWidth) {
  const width = 380, height = 250, base = 218, z = linearScale(-4, 4, 14, width - 14);
  const shapes = { posterior: svg("path", { class: "genmed-posterior" }), prior: svg("path", { class: "genmed-prior" }),
                   q: svg("path", { class: "genmed-q genmed-open" }) };
  const mean = svg("circle", { r: 8, class: "genmed-handle genmed-qhandle" });
  const side = svg("circle", { r: 8, class: "genmed-handle genmed-qhandle" });
  const root = chart(width, height, "");
  root.append(svg("line", { x1: z(-4), x2: z(4), y1: base, y2: base, class: "genmed-line" }));
  for (let k = -4; k <= 4; k++) root.append(text(z(k), base + 15, String(k), { "text-anchor": "middle" }));
  root.append(text(z(4), base + 30, "code z", { "text-anchor": "end" }), ...Object.values(shapes), mean, side);
  [["p(z|x), posterior", "genmed-posterior"], ["q(z), yours", "genmed-q genmed-open"], ["p(z), prior", "genmed-prior"]]
    .forEach(([words, kind], k) => root.append(
      svg("line", { x1: 14, x2: 34, y1: 12 + 16 * k, y2: 12 + 16 * k, class: `${kind} genmed-key` }),
      text(40, 16 + 16 * k, words)));
  let q = [0, 1];
  follow(root, mean, (a) => onMean(z.back(a)));
  follow(root, side, (a) => onWidth(Math.abs(z.back(a) - q[0])));
  const draw = ({ posterior, q: density, tops }, m, s) => {
    q = [m, s];
    const y = linearScale(0, Math.max(...tops, 0.45), base, 58), points = (f) => {
      const made = [];
      for (let a = -4; a <= 4.001; a += 0.02) made.push([z(a), y(f(a))]);
      return made;
    };
    shapes.posterior.setAttribute("d", `M${z(-4)},${base}L${pathOf(points(posterior)).slice(1)}L${z(4)},${base}Z`);
    shapes.q.setAttribute("d", pathOf(points(density)));
    shapes.prior.setAttribute("d", pathOf(points((a) => Math.exp(normal(a, 0, 1)))));
    const right = m + s <= 4 ? m + s : m - s; // the handle of the width stays on the drawing
    for (const [handle, at] of [[mean, m], [side, right]]) {
      handle.setAttribute("cx", z(at));
      handle.setAttribute("cy", y(density(at)));
    }
  };
  return { root, draw };
}

/** The terms of the bound as steps along a line of nats, each with its name and number. */
function steps() {
  const rows = [["reconstruction", ["E", element("sub", {}, "q"), " log p(x|z)"], "genmed-bar"], ["− price of the code", ["KL(q‖p(z))"], "genmed-bar"],
                ["= bound, ELBO", [], "genmed-bar genmed-qbar"], ["+ gap", ["KL(q‖p(z|x))"], "genmed-bar genmed-gap"],
                ["= log p(x)", [], "genmed-bar genmed-pbar"]];
  const bars = rows.map(([, , kind]) => svg("rect", { y: 3, height: 12, rx: 2, class: kind }));
  const cells = rows.map(() => element("td"));
  const body = element("tbody", {}, ...rows.map(([name, formula], k) => {
    const drawing = svg("svg", { viewBox: "0 0 240 18", preserveAspectRatio: "none", "aria-hidden": "true" }, bars[k]);
    return element("tr", {}, element("th", { scope: "row" }, name, " ", element("span", {}, ...formula)),
                   element("td", { className: "genmed-track" }, drawing), cells[k]);
  }));
  const table = element("table", { className: "genmed-terms" },
                        element("caption", {}, "What the bound is made of, in nats"), body);
  const show = ({ reconstruction, price, elbo, gap, logP }) => {
    const reach = [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128].find((end) => end >= -elbo) ?? 192;
    const at = linearScale(-reach, 0, 0, 240);
    [[0, reconstruction], [reconstruction, elbo], [0, elbo], [elbo, logP], [0, logP]].forEach(([a, b], k) => {
      bars[k].setAttribute("x", at(Math.min(a, b)));
      bars[k].setAttribute("width", Math.max(1, Math.abs(at(a) - at(b))));
    });
    [reconstruction, price, elbo, gap, logP].forEach((value, k) => { cells[k].textContent = inWords(value, 3); });
  };
  return { table, show };
}

VIEWS.posterior = function posteriorView(model, place) {
  const sliders = model.get("sliders");
  const move = (changes) => {
    model.set("values", model.get("values").map((old, k) => (k in changes ? nearest(sliders[k], changes[k]) : old)));
    model.save_changes();
  };
  const data = plane((a, b) => move({ 0: a, 1: b })), code = codeLine((m) => move({ 2: m }), (s) => move({ 3: s }));
  const numbers = steps();
  place.classList.add("genmed-posterior-view");
  place.append(data.node, code.root, numbers.table);
  const draw = () => {
    const [a, b, m, s] = model.get("values"), x = [a, b], found = boundTerms(x, m, s);
    const posterior = (z) => Math.exp(logJoint(x, z) - found.logP), q = (z) => Math.exp(normal(z, m, s));
    let top = 0;
    for (let z = -4; z <= 4; z += 0.01) top = Math.max(top, posterior(z));
    const curves = { posterior, q, tops: [top, q(m)] };
    data.draw(x, curves);
    code.draw(curves, m, s);
    numbers.show(found);
    data.root.setAttribute("aria-label", `The plane of the data: the codes lie on a circle, x at ${a.toFixed(2)}, ` +
      `${b.toFixed(2)}, log p(x) ${found.logP.toFixed(2)}`);
    code.root.setAttribute("aria-label", `The line of codes: q has mean ${m.toFixed(2)} and standard deviation ` +
      `${s.toFixed(2)}; it misses the posterior by ${found.gap.toFixed(2)} nats`);
  };
  const drawX = () => {
    const z = normalDraw();
    move({ 0: MODEL.radius * Math.sin(z) + MODEL.sigma * normalDraw(),
           1: MODEL.radius * Math.cos(z) + MODEL.sigma * normalDraw() });
  };
  const bestButton = () => {
    const [m, s] = bestQ(model.get("values").slice(0, 2), sliders.slice(2));
    move({ 2: m, 3: s });
  };
  return { draw, buttons: [button("Best q", "The q of the greatest bound for this x", bestButton),
                           button("Draw x", "Draw a code from the prior, and x from it", drawX)] };
};

