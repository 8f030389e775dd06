// --- what explorables draw with: shapes of SVG, scales, and handles that follow a finger or the arrow keys -----------

/** A shape: svg("line", { x1: 0, ... }, ...children). */
function svg(tag, settings = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(settings)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A drawing of width by height units that shrinks with its place, and says in words what it shows, once it does. */
function chart(width, height, label) {
  const made = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
                            "aria-label": label || "Nothing to show yet" });
  made.classList.add("genmed-chart");
  return made;
}

/** Text at a place; settings such as "text-anchor". */
function text(x, y, words, settings = {}) {
  return svg("text", { x, y, ...settings }, words);
}

/** Numbers from a to b onto lengths from p to q; `.back` is the way back. */
function linearScale(a, b, p, q) {
  const scale = (value) => p + ((value - a) / (b - a)) * (q - p);
  scale.back = (place) => a + ((place - p) / (q - p)) * (b - a);
  return scale;
}

/** A path through points [x, y]; "" for none. */
const pathOf = (points) => points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");

/** Follow the pointer from its press on `target`: onMove(x, y) in the units of the drawing `root`. */
function follow(root, target, onMove, onEnd = () => {}) {
  const tell = (event) => {
    const box = root.getBoundingClientRect(), view = root.viewBox.baseVal;
    onMove(((event.clientX - box.left) / box.width) * view.width, ((event.clientY - box.top) / box.height) * view.height,
           event);
  };
  target.style.touchAction = "none";
  target.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return;
    event.preventDefault();
    target.setPointerCapture(event.pointerId);
    target.focus?.();
    tell(event);
    const hand = event.pointerId, move = (moved) => { if (moved.pointerId === hand) tell(moved); };
    const stop = (ended) => {
      if (ended.pointerId !== hand) return; // a second finger
      target.removeEventListener("pointermove", move);
      for (const end of ["pointerup", "pointercancel"]) target.removeEventListener(end, stop);
      onEnd();
    };
    target.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) target.addEventListener(end, stop);
  });
}

/** What the arrow keys ask for: onStep(dx, dy), y upwards; Shift takes ten steps at once. */
function arrows(target, onStep) {
  target.dataset.lmSuppressShortcuts = "true"; // in JupyterLab the keys would move to another cell
  target.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const far = event.shiftKey ? 10 : 1;
    onStep(way[0] * far, way[1] * far);
  });
}

/** A draw from N(0, 1): Box and Muller 1958. */
function normalDraw() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

/** A number with a true minus sign. */
const inWords = (value, digits) => value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");

