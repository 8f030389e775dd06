// The view of LatentExplorer, behind widgets.js and engine.js: sliders over a code, and the decoder's picture of it.
//
// From a slider's move to the frame with its picture, the decoders of chapters 1 to 5 need 17 to 21 ms in the middle of
// 40 moves, most of it the wait for the frame, on an EPYC with other work on it (tests/benchmarks/first_picture.py).
// All sliders of a chapter on a page of their own: the first can be moved after 0.2 to 0.8 s of the processor.

/** What the decoder is fed: the code with the label's vector added to it, or set behind it. */
export function join(z, embedding, label, how) {
  if (!embedding.length) return z;
  const e = embedding[label];
  return how === "add" ? z.map((v, i) => v + e[i]) : [...z, ...e];
}

function gaussian() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

/** A trained decoder that runs here. */
VIEWS.decoder = (model, place) => {
  const net = makeEngine().load(model.get("graph"), model.get("weights")), dims = model.get("dims");
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
    const [y] = net.run({ z: join(z, model.get("embedding"), label, model.get("how")) });
    for (let i = 0; i < y.length; i++) {
      picture.data.fill(Math.round(255 * y[i]), 4 * i, 4 * i + 3); // the bytes clip by themselves
      picture.data[4 * i + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    canvas.dataset.ms = (performance.now() - began).toFixed(2);
    canvas.setAttribute("aria-label", describe(z, label));
  };
  const randomise = () => {
    const z = model.get("base").map(gaussian), values = [...model.get("values")];
    dims.forEach((dim, i) => { values[first + i] = nearest(sliders[first + i], z[dim]); });
    model.set("base", z);
    model.set("values", values);
    model.save_changes();
  };
  const buttons = model.get("gaussian")
    ? [button("Randomise", "Draw every coordinate of z from N(0, 1)", randomise)] : [];
  return { draw, buttons };
};
