// Loaded before require.js and before the theme's (deferred) Font Awesome script, and only on pages with sliders.
(() => {
  // By default the theme swaps <i> for <svg>, which makes ipywidgets.Play throw and unlinks every slider tied to it.
  window.FontAwesomeConfig = { autoReplaceSvg: "nest" };

  // ipywidgets asks MathJax 2 to typeset its labels and throws at MathJax 3, which has no Hub. Ours hold no formulas.
  let mathJax = window.MathJax;
  Object.defineProperty(window, "MathJax", {
    get: () => mathJax && Object.assign(mathJax, { Hub: { Queue() {} } }),
    set: (value) => { mathJax = value; },
  });

  // build.py leaves this attribute off where it could not bundle the scripts; ipywidgets' own loader then fetches
  // the sliders from the network.
  const { src, dataset: { vendor } } = document.currentScript;
  if (!vendor) return;
  window.require = { baseUrl: new URL(vendor, src).href }; // anywidget.js and the widgets' fonts lie there

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
  async function showSliders() {
    const state = document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]');
    const [{ HTMLManager }] = await withoutEval(() => load(["@jupyter-widgets/html-manager"]));
    const manager = new HTMLManager({ loader: (name) => load([name]).then(([module]) => module) });
    await manager.set_state(JSON.parse(state.textContent));
    for (const tag of document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')) {
      const place = document.createElement("div");
      place.className = "widget-subarea";
      tag.before(place);
      const model = await manager.get_model(JSON.parse(tag.textContent).model_id);
      manager.display_view(await manager.create_view(model), place);
    }
  }
  window.addEventListener("load", showSliders);
})();
