// The sliders of a page, with no kernel. Ours are drawn by their own scripts over a model of a few lines
// (stored_model.js), as soon as the page is parsed: before its formulas, which take a second, and with no word of
// Jupyter's. A page that holds any other widget has all of them drawn by ipywidgets' html-manager, which is 3.6 MB and
// is loaded for it alone.
(() => {
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
  // build.py leaves the folder out where it could not bundle html-manager; ipywidgets' own loader is on the page then.
  const { src, dataset: { vendor } } = document.currentScript;

  const isOurs = ({ model_name: name, state }) =>
    name === "LayoutModel" || state._anywidget_id?.startsWith("genmed_core.");

  function placeOf(tag) {
    const place = Object.assign(document.createElement("div"), { className: "widget-subarea" });
    tag.before(place);
    return place;
  }

  // --- Ours ---------------------------------------------------------------------------------------------------

  /** What makes a thing of a text, or the thing that was made of it before. */
  function once(make, made = new Map()) {
    return (text) => made.get(text) ?? made.set(text, make(text)).get(text);
  }

  const widgetOf = once((text) => import(URL.createObjectURL(new Blob([text], { type: "text/javascript" }))));
  const dress = once((css) => document.head.appendChild(
    Object.assign(document.createElement("style"), { textContent: css })));

  /** A model that the page carries, its bytes where they belong. */
  function modelOf({ state, buffers = [] }) {
    for (const { path, data } of buffers) {
      path.slice(0, -1).reduce((inside, key) => inside[key], state)[path.at(-1)] = { bytes: data };
    }
    return storedModel(state);
  }

  async function showOurs(models) {
    const named = once((name) => modelOf(models[name]));
    for (const tag of document.querySelectorAll(VIEW)) {
      const model = named(JSON.parse(tag.textContent).model_id), el = placeOf(tag);
      dress(model.get("_css"));
      if (!vendor) tag.remove();
      try {
        await (await widgetOf(model.get("_esm"))).default.render({ model, el });
      } catch (error) {
        console.error(error); // the next ones are drawn all the same
      }
    }
  }

  // --- Any other ----------------------------------------------------------------------------------------------

  /** What ipywidgets expects of a page, and the theme and MathJax do not give. */
  function prepare() {
    // By default the theme swaps <i> for <svg>, which makes ipywidgets.Play throw and unlinks every slider tied to it.
    window.FontAwesomeConfig = { autoReplaceSvg: "nest" };
    // It asks MathJax 2 to typeset its labels and throws at MathJax 3, which has no Hub.
    let mathJax = window.MathJax;
    Object.defineProperty(window, "MathJax", {
      get: () => mathJax && Object.assign(mathJax, { Hub: { Queue() {} } }),
      set: (value) => { mathJax = value; },
    });
  }

  const script = (name) => new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src: new URL(vendor + name, src).href });
    element.addEventListener("load", resolve);
    element.addEventListener("error", reject);
    document.head.append(element);
  });

  const load = (modules) => new Promise((resolve, reject) => {
    window.requirejs(modules, (...found) => resolve(found), reject);
  });

  // While it loads, html-manager compiles two JSON schemas with `new Function`, which a strict content security policy
  // forbids. They check the page's own state, and only in its own loader: a stub that approves takes their place.
  async function withoutEval(action) {
    const Native = window.Function;
    window.Function = function (...code) { return new.target ? () => () => true : Native(...code); };
    window.Function.prototype = Native.prototype;
    try {
      return await action();
    } finally {
      window.Function = Native;
    }
  }

  // Unlike html-manager's own loader, this one turns to no other host for what it does not find.
  async function showAny(state) {
    window.require = { baseUrl: new URL(vendor, src).href }; // anywidget.js and the widgets' fonts lie there
    await script("require.js");
    await script("html-manager.js");
    const [{ HTMLManager }] = await withoutEval(() => load(["@jupyter-widgets/html-manager"]));
    const manager = new HTMLManager({ loader: (name) => load([name]).then(([module]) => module) });
    await manager.set_state(state);
    for (const tag of document.querySelectorAll(VIEW)) {
      const model = await manager.get_model(JSON.parse(tag.textContent).model_id);
      manager.display_view(await manager.create_view(model), placeOf(tag));
    }
  }

  const parsed = (action) => document.addEventListener("readystatechange", action, { once: true });
  const { state: models, ...version } = JSON.parse(document.querySelector(STATE).textContent);
  if (Object.values(models).every(isOurs)) {
    // Their scripts are ready when the page is parsed, so that the panels come before any deferred script.
    Object.values(models).forEach(({ state }) => state._esm && widgetOf(state._esm));
    const drawn = new Promise((resolve) => { parsed(() => resolve(showOurs(models))); });
    if (window.MathJax) {
      window.MathJax.startup = { pageReady: () => drawn.then(() => window.MathJax.startup.defaultPageReady()) };
    }
  } else {
    prepare();
    if (vendor) window.addEventListener("load", () => showAny({ state: models, ...version }));
  }
})();
