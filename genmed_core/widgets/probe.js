
// --- maps whose pixels tell their numbers under the pointer, or where two sliders stand ------------------------------

VIEWS.probe = (model, place) => {
  const maps = model.get("maps"), names = model.get("names"), [height, width] = model.get("shape");
  const side = Math.max(1, Math.floor(model.get("width") / width));
  place.classList.add("genmed-frames");
  const words = element("p", { className: "genmed-caption genmed-says" });
  const go = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const place = [((event.clientY - box.top) / box.height) * height, ((event.clientX - box.left) / box.width) * width];
    const values = place.map((at, k) => Math.min([height, width][k] - 1, Math.max(0, Math.floor(at))));
    if (values.every((value, k) => value === model.get("values")[k])) return;
    model.set("values", values);
    model.save_changes();
  };
  const contexts = maps.map((map, k) => {
    const canvas = element("canvas", { width: side * width, height: side * height, onpointerdown: go });
    canvas.onpointermove = (event) => { if (event.pointerType === "mouse") go(event); };
    canvas.setAttribute("role", "img");
    place.append(element("figure", {}, canvas, element("figcaption", {}, names[k])));
    return canvas.getContext("2d");
  });
  const draw = () => {
    const [row, column] = model.get("values"), numbers = maps.map((map) => map[row * width + column]);
    words.textContent = `Row ${row}, column ${column}: ${names.map((name, k) => `${name} ${numbers[k]}`).join(", ")}`;
    contexts.forEach((context, k) => {
      const largest = Math.max(1, ...maps[k]);
      maps[k].forEach((number, i) => {
        const grey = Math.round(255 * Math.max(0, number) / largest);
        context.fillStyle = `rgb(${grey} ${grey} ${grey})`;
        context.fillRect(side * (i % width), side * Math.floor(i / width), side, side);
      });
      context.strokeStyle = "#ff8c1a";
      context.lineWidth = 2;
      context.strokeRect(side * column, side * row, side, side);
      context.canvas.setAttribute("aria-label", `${names[k]} ${numbers[k]} at row ${row}, column ${column}`);
    });
    place.dataset.place = row * width + column;
  };
  return { draw, below: [words] };
};
