// --- heaps of earth on a line; earth.py is the twin of what is computed here ------------------------------------------

const MOST = 6; // barrows in the largest heap
const total = (values) => values.reduce((a, b) => a + b, 0);

/** The cheapest plan on a line: [from, to, share of the earth] a load, worked out in whole numbers. */
export function cheapestPlan(heaps, holes) {
  const supply = heaps.map((n) => n * total(holes)), demand = holes.map((n) => n * total(heaps));
  const loads = [], volume = total(supply);
  for (let i = 0, j = 0; i < supply.length && j < demand.length;) {
    const load = Math.min(supply[i], demand[j]);
    if (load) loads.push([i, j, load / volume]);
    supply[i] -= load;
    demand[j] -= load;
    if (supply[i] === 0) i++; else j++;
  }
  return loads;
}

/** F_q - F_p between the places, in shares of the earth: what passes there, to the right if negative. */
export function passing(heaps, holes) {
  let sum = 0;
  return heaps.slice(1).map((_, k) => {
    sum += holes[k] * total(heaps) - heaps[k] * total(holes);
    return sum / (total(heaps) * total(holes));
  });
}

/** f at the places, 0 in the middle of the line. */
function heights(slopes) {
  const f = [0];
  for (const slope of slopes) f.push(f[f.length - 1] + slope);
  const middle = 0.5 * (f[f.length / 2 - 1] + f[f.length / 2]);
  return f.map((value) => value - middle);
}

const meanOf = (f, barrows) => total(f.map((value, k) => value * barrows[k])) / total(barrows);

/** A group of sliders made of shapes: one stop of the tab key, left and right to the next, up and down to change. */
function sliderGroup(shapes, change) {
  const focus = (k) => {
    shapes.forEach((shape, i) => shape.setAttribute("tabindex", i === k ? 0 : -1));
    shapes[k].focus();
  };
  shapes.forEach((shape, k) => {
    shape.setAttribute("role", "slider");
    shape.setAttribute("aria-orientation", "vertical");
    shape.setAttribute("tabindex", k ? -1 : 0);
    arrows(shape, (dx, dy) => {
      if (dx) focus(Math.min(shapes.length - 1, Math.max(0, k + Math.sign(dx))));
      if (dy) change(k, dy);
    });
  });
}

function describeSlider(shape, label, value, low, high, words) {
  for (const [key, said] of Object.entries({ label, valuenow: value, valuemin: low, valuemax: high, valuetext: words })) {
    shape.setAttribute(`aria-${key}`, said);
  }
}

const SPACE = 42, LEFT = 23; // from one place to the next, and to the first of them
const at = (place) => LEFT + SPACE * place;

/** Heaps above, holes below, and between them the plan. */
function heapsAndHoles(places, change) {
  const unit = 15, upper = 6 + MOST * unit, lower = upper + 116, half = 15;
  const root = chart(340, lower + MOST * unit + 26, "Heaps of earth above, holes below, and the plan between them");
  root.setAttribute("role", "group");
  const loads = svg("g"), sides = { heaps: [], holes: [] };
  root.append(loads);
  for (const [name, ground, way] of [["heaps", upper, -1], ["holes", lower, 1]]) {
    for (let k = 0; k < places; k++) {
      const area = svg("rect", { x: at(k) - SPACE / 2, y: way < 0 ? ground - MOST * unit : ground, width: SPACE,
                                 height: MOST * unit, fill: "transparent" });
      const bar = svg("rect", { x: at(k) - half, width: 2 * half, rx: 2, class: `genmed-${name}` });
      const grip = svg("rect", { x: at(k) - 9, width: 18, height: 5, rx: 2.5, class: "genmed-grip" });
      const group = svg("g", { class: "genmed-drag" }, area, bar, grip);
      const show = (value) => {
        bar.setAttribute("y", way < 0 ? ground - value * unit : ground);
        bar.setAttribute("height", value * unit);
        grip.setAttribute("y", ground + way * value * unit - 2.5);
      };
      follow(root, group, (x, y) => change(name, k, Math.round((way * (y - ground)) / unit)));
      root.append(group);
      sides[name].push({ group, show });
    }
    root.append(svg("line", { x1: 0, x2: 340, y1: ground, y2: ground, class: "genmed-line" }));
  }
  for (let k = 0; k < places; k++) root.append(text(at(k), lower + MOST * unit + 20, String(k), { "text-anchor": "middle" }));
  root.append(text(340, 14, "heaps, p", { "text-anchor": "end", class: "genmed-name" }),
              text(0, lower + MOST * unit - 2, "holes, q", { class: "genmed-name" }));
  const draw = (heaps, holes, cheapest) => {
    for (const [name, values] of [["heaps", heaps], ["holes", holes]]) values.forEach((value, k) => {
      sides[name][k].show(value);
      const share = (100 * value) / total(values);
      describeSlider(sides[name][k].group, `${name === "heaps" ? "Heap" : "Hole"} at ${k}`, value, 0, MOST,
                     `${value} barrows, ${share.toFixed(0)} percent of the earth`);
    });
    const taken = heaps.map(() => 0), filled = holes.map(() => 0), width = 2 * half;
    loads.replaceChildren(...cheapest.flatMap(([i, j, load]) => {
      const out = (load * total(heaps)) / heaps[i], into = (load * total(holes)) / holes[j];
      const a = at(i) - half + width * taken[i], b = at(j) - half + width * filled[j];
      taken[i] += out;
      filled[j] += into;
      const c = (a + width * out / 2), d = (b + width * into / 2), middle = (upper + lower) / 2;
      const curve = (x0, y0, x1, y1) => `C${x0},${middle} ${x1},${middle} ${x1},${y1}`;
      const ribbon = `M${a},${upper}${curve(a, upper, b, lower)}L${b + width * into},${lower}` +
        `${curve(b + width * into, lower, a + width * out, upper)}Z`;
      return [svg("path", { d: ribbon, class: "genmed-load" }),
              svg("path", { d: `M${c},${upper + 2}${curve(c, upper, d, lower - 8)}`, class: "genmed-way" }),
              svg("path", { d: `M${d - 4},${lower - 9}L${d + 4},${lower - 9}L${d},${lower - 2}Z`, class: "genmed-tip" })];
    }));
  };
  return { root, sides, draw };
}

/** f over the places, as steep as 45 degrees where the limit is reached, and its means over heaps and holes. */
function critic(places, tilt) {
  const y = linearScale(-3.5, 3.5, 8 + 7 * SPACE, 8), middle = y(0);
  const root = chart(340, 8 + 7 * SPACE + 26, "A function f of slope 1 at most");
  root.setAttribute("role", "group");
  const means = { p: svg("line", { class: "genmed-mean genmed-pmean" }), q: svg("line", { class: "genmed-mean genmed-qmean" }) };
  const words = { p: text(338, 0, "mean of f over p", { "text-anchor": "end" }),
                  q: text(338, 0, "mean of f over q", { "text-anchor": "end" }) };
  root.append(svg("line", { x1: 0, x2: 340, y1: middle, y2: middle, class: "genmed-line", "stroke-dasharray": "2 4" }),
              ...Object.values(means), ...Object.values(words));
  const segments = Array.from({ length: places - 1 }, (_, k) => {
    const wide = svg("line", { stroke: "transparent", "stroke-width": 30 });
    const line = svg("line", { class: "genmed-f" });
    const group = svg("g", { class: "genmed-drag" }, wide, line);
    let from = null;
    follow(root, group, (_, place) => {
      from ??= { place, slope: segments[k].slope };
      tilt(k, from.slope + (from.place - place) / SPACE);
    }, () => { from = null; });
    root.append(group);
    return { group, wide, line, slope: 0 };
  });
  const dots = ["heaps", "holes"].map((name) => Array.from({ length: places }, () => {
    const dot = svg("circle", { class: `genmed-${name} genmed-mass` });
    root.append(dot);
    return dot;
  }));
  for (let k = 0; k < places; k++) root.append(text(at(k), 8 + 7 * SPACE + 20, String(k), { "text-anchor": "middle" }));
  root.append(text(0, 20, "f", { class: "genmed-name" }));
  const draw = (heaps, holes, slopes, over) => {
    const f = heights(slopes), mean = { p: meanOf(f, heaps), q: meanOf(f, holes) };
    segments.forEach((segment, k) => {
      segment.slope = slopes[k];
      for (const line of [segment.wide, segment.line]) {
        for (const [key, value] of Object.entries({ x1: at(k), x2: at(k + 1), y1: y(f[k]), y2: y(f[k + 1]) })) {
          line.setAttribute(key, value);
        }
      }
      segment.line.setAttribute("stroke-width", 2 + 9 * Math.abs(over[k]));
      describeSlider(segment.group, `Slope of f between ${k} and ${k + 1}`, slopes[k], -1, 1,
                     `${inWords(slopes[k], 2)}; ${(100 * Math.abs(over[k])).toFixed(0)} percent of the earth passes here`);
    });
    [heaps, holes].forEach((barrows, side) => barrows.forEach((value, k) => {
      const dot = dots[side][k];
      dot.setAttribute("cx", at(k));
      dot.setAttribute("cy", y(f[k]));
      dot.setAttribute("r", 17 * Math.sqrt(value / total(barrows)));
    }));
    const near = Math.abs(y(mean.p) - y(mean.q)) < 34, higher = mean.p >= mean.q ? "p" : "q"; // then one above, one below
    for (const name of ["p", "q"]) {
      const place = y(mean[name]);
      for (const [key, value] of Object.entries({ x1: 0, x2: 340, y1: place, y2: place })) means[name].setAttribute(key, value);
      words[name].setAttribute("y", place + (near && name !== higher ? 21 : -11));
    }
  };
  return { root, segments, draw };
}

VIEWS.earth = function earthView(model, place) {
  const places = model.get("heaps").length;
  const set = (changes) => {
    for (const [key, value] of Object.entries(changes)) model.set(key, value);
    model.save_changes();
  };
  const withAt = (values, k, value) => values.map((old, i) => (i === k ? value : old));
  const change = (name, k, value) => {
    const changed = withAt(model.get(name), k, Math.min(MOST, Math.max(0, value)));
    if (total(changed) === 0) return note(`There must be some earth: the last of the ${name} stays.`);
    note("");
    return set({ [name]: changed });
  };
  const tilt = (k, slope) => {
    const held = Math.min(1, Math.max(-1, Math.round(slope * 20) / 20));
    note(Math.abs(slope) > 1.001 ? "The slope limit holds f: no steeper than 1." : "");
    set({ slopes: withAt(model.get("slopes"), k, held) });
  };
  const ground = heapsAndHoles(places, change), function_ = critic(places, tilt);
  sliderGroup(ground.sides.heaps.map((bar) => bar.group), (k, d) => change("heaps", k, model.get("heaps")[k] + d));
  sliderGroup(ground.sides.holes.map((bar) => bar.group), (k, d) => change("holes", k, model.get("holes")[k] + d));
  sliderGroup(function_.segments.map((segment) => segment.group), (k, d) => tilt(k, model.get("slopes")[k] + 0.1 * d));

  const status = element("p", { className: "genmed-note" });
  status.setAttribute("role", "status");
  const note = (words) => { if (status.textContent !== words) status.textContent = words; };
  const bars = ["genmed-costbar", "genmed-boundbar"].map((kind) => svg("rect", { y: 3, height: 12, rx: 2, class: `genmed-bar ${kind}` }));
  const cells = [0, 1].map(() => element("td"));
  const rows = [["the cheapest plan costs", "W(p, q)"], ["f certifies", "E f(p) − E f(q) ≤ W"]].map(([name, formula], k) => {
    const track = svg("svg", { viewBox: "0 0 240 18", preserveAspectRatio: "none", "aria-hidden": "true" }, bars[k]);
    const head = element("th", { scope: "row" }, name, " ",
                         element("span", {}, ...(k ? ["E", element("sub", {}, "p"), " f − E", element("sub", {}, "q"), " f"] : [formula])));
    return element("tr", {}, head, element("td", { className: "genmed-track" }, track), cells[k]);
  });
  place.classList.add("genmed-earth-view");
  place.append(ground.root, function_.root,
               element("table", { className: "genmed-terms" }, element("tbody", {}, ...rows)), status);

  const draw = () => {
    const [heaps, holes, slopes] = ["heaps", "holes", "slopes"].map((key) => model.get(key));
    const loads = cheapestPlan(heaps, holes), f = heights(slopes);
    const cost = total(loads.map(([i, j, load]) => load * Math.abs(i - j))), bound = meanOf(f, heaps) - meanOf(f, holes);
    ground.draw(heaps, holes, loads);
    function_.draw(heaps, holes, slopes, passing(heaps, holes));
    const scale = linearScale(0, [1, 2, 3, 4, 5, 6, 7].find((end) => end >= cost) ?? 7, 0, 240);
    [cost, bound].forEach((value, k) => {
      bars[k].setAttribute("width", Math.max(0, scale(value)));
      cells[k].textContent = inWords(value, 4);
    });
  };
  const best = () => {
    note("");
    set({ slopes: passing(model.get("heaps"), model.get("holes")).map((over) => (Math.abs(over) < 1e-9 ? 0 : Math.sign(over))) });
  };
  const close = watch(model, ["heaps", "holes", "slopes"], draw);
  const barrows = (values) => values.every((v) => Number.isInteger(v) && v >= 0 && v <= MOST) && total(values) > 0;
  const fit = (given) => (alike(given, model.get("home")) && barrows(given.heaps) && barrows(given.holes)
    && given.slopes.every((slope) => Math.abs(slope) <= 1) ? given : null);
  return { draw, close, fit, buttons: [button("Best f", "Slope 1 against the way of the earth, as in (6.7)", best),
                                  button("Level f", "All slopes 0", () => set({ slopes: model.get("slopes").map(() => 0) }))] };
};

