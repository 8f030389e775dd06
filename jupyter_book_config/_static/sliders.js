// The sliders of a page, with no kernel. Ours are drawn by their own scripts over a model of a few lines
// (stored_model.js), one by one as they arrive below the text, as lighten.py puts them there: before the formulas, which
// take a second. A page that holds any other widget has its state in Jupyter's form, and all of its widgets are drawn by
// ipywidgets' html-manager, which is 3.6 MB and is loaded for it alone.
(() => {
  // build.py leaves the folder out where it could not bundle html-manager; ipywidgets' own loader is on the page then.
  const { src, dataset: { vendor } } = document.currentScript;
  const views = () => document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]');

  function placeOf(tag) {
    const place = Object.assign(document.createElement("div"), { className: "widget-subarea" });
    tag.before(place);
    return place;
  }

  // --- Ours ---------------------------------------------------------------------------------------------------

  const texts = {}, modules = {}, carried = [], drawn = [];

  /** A model that the page carries, its bytes where they belong: `then` is a buffer that came before, and ends this. */
  function modelOf({ state, buffers = [] }) {
    for (const { path, data, then } of buffers) {
      if (then === undefined) carried.push(data);
      const bytes = then === undefined ? data : [data, carried[then]];
      path.slice(0, -1).reduce((inside, key) => inside[key], state)[path.at(-1)] = { bytes };
    }
    return storedModel({ ...state, _esm: texts[state._esm], _css: texts[state._css] });
  }

  const moduleOf = (esm) => {
    modules[esm] ??= import(URL.createObjectURL(new Blob([texts[esm]], { type: "text/javascript" })));
    return modules[esm];
  };

  async function show({ name, ...content }) {
    const model = modelOf(content), { default: widget } = await moduleOf(content.state._esm);
    for (const tag of views()) {
      if (JSON.parse(tag.textContent).model_id === name) await widget.render({ model, el: placeOf(tag) });
    }
  }

  /** Below each model stands a call of this. */
  window.genmedShow = () => {
    const content = JSON.parse(document.currentScript.previousElementSibling.textContent);
    const { texts: given, state: { _css: css, _esm: esm } } = content;
    Object.assign(texts, given);
    if (css in given) document.head.append(Object.assign(document.createElement("style"), { textContent: given[css] }));
    drawn.push(show(content).catch((error) => console.error(error))); // the others are drawn all the same
  };

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
    for (const tag of views()) {
      const model = await manager.get_model(JSON.parse(tag.textContent).model_id);
      manager.display_view(await manager.create_view(model), placeOf(tag));
    }
  }

  // One of the two is below, not read yet.
  document.addEventListener("readystatechange", () => {
    const state = document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]');
    if (state) {
      prepare();
      if (vendor) window.addEventListener("load", () => showAny(JSON.parse(state.textContent)));
    } else if (window.MathJax) {
      const patience = new Promise((resume) => { setTimeout(resume, 3000); }); // formulas wait for no panel that hangs
      const frame = () => new Promise((resume) => { // typesetting takes a second: first the panels are shown
        requestAnimationFrame(() => setTimeout(resume));
        setTimeout(resume, 300); // in a tab that nobody sees there are no frames
      });
      const panels = Promise.race([Promise.all(drawn), patience]).then(frame);
      window.MathJax.startup = { pageReady: () => panels.then(() => window.MathJax.startup.defaultPageReady()) };
    }
  }, { once: true });
})();
