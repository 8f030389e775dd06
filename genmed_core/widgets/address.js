// Where every control stands, in the page's address, so that a link leads there; behind it "Reset" and "Copy link". The
// panels (widgets.js) and the laboratory share it. An address is #genmed.NAME.STATE.NAME.STATE and so on: NAME says which
// panel, STATE is its traits as JSON in base64, of those panels alone that do not stand as they began.

const ADDRESS = "#genmed.";

/** A panel's name in an address: letters and hyphens, from its caption or what else says what it is. */
export function addressName(words) {
  return words.toLowerCase().replace(/[^a-z]+/g, "-").replace(/^-+/, "").slice(0, 32).replace(/-+$/, "") || "panel";
}

const shortNumbers = (key, value) => (typeof value === "number" ? Number(value.toPrecision(6)) : value);

/** A state, lists and objects of numbers and plain words, as letters, digits, "-" and "_"; and back, null for no state. */
export function packState(state) {
  return btoa(JSON.stringify(state, shortNumbers)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
export function unpackState(text) {
  try {
    return JSON.parse(atob(text.replace(/-/g, "+").replace(/_/g, "/")));
  } catch {
    return null;
  }
}

/** What an address says: a map from names to packed states. */
export function addressEntries(hash) {
  const parts = hash.startsWith(ADDRESS) ? hash.slice(ADDRESS.length).split(".") : [];
  return new Map(parts.flatMap((part, k) => (k % 2 ? [[parts[k - 1], part]] : [])));
}

const addressOf = (entries) => (entries.size ? ADDRESS + [...entries].flat().join(".") : "");

/** Whether a state that a link brought may take the place of one: numbers for numbers, as many; words for words. */
export function alike(given, present) {
  if (typeof given !== typeof present) return false;
  if (typeof given === "number") return Number.isFinite(given);
  if (Array.isArray(present)) {
    return Array.isArray(given) && given.length === present.length && given.every((v, k) => alike(v, present[k]));
  }
  if (typeof present !== "object") return true;
  if (!present || !given) return present === given;
  return Object.keys(present).every((key) => key in given && alike(given[key], present[key]));
}

/** Hold a panel in the middle of the screen while those above it are still filling, until the reader moves. */
function keepInView(panel) {
  const look = () => panel.scrollIntoView({ block: "center" }), kinds = ["wheel", "keydown", "pointerdown", "touchstart"];
  const filling = new ResizeObserver(look);
  const stop = () => {
    filling.disconnect();
    for (const kind of kinds) removeEventListener(kind, stop);
  };
  filling.observe(document.body);
  for (const kind of kinds) addEventListener(kind, stop, { passive: true });
  setTimeout(stop, 5000);
}

/** Copy a text; where the browser has no clipboard for this page, show it, selected. */
async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy link"; }, 1500);
  } catch {
    const field = Object.assign(document.createElement("input"), { value: text, readOnly: true, className: "genmed-link" });
    field.setAttribute("aria-label", "Link to this panel as it stands");
    field.addEventListener("blur", () => field.remove());
    button.after(field);
    field.select();
  }
}

/** Ties the traits named in the model's `home` to the address: { buttons, close }.
 *  name: of the panel; panel: its node; fit(state): the state that a link brought, made to fit, or null; reset(): what
 *  "Reset" does besides. In JupyterLab the address is that of the application: there is Reset alone. */
export function addressed(model, panel, name, { fit, reset = () => {} }) {
  const home = model.get("home"), traits = Object.keys(home);
  const own = !document.querySelector("#jupyter-config-data");
  const state = () => Object.fromEntries(traits.map((trait) => [trait, model.get(trait)]));
  const isHome = () => packState(state()) === packState(home);
  const move = (to) => {
    for (const trait of traits) model.set(trait, to[trait]);
    model.save_changes();
  };

  let waiting = null;
  const write = () => {
    waiting = null;
    const entries = addressEntries(location.hash);
    if (isHome()) entries.delete(name);
    else entries.set(name, packState(state()));
    const hash = addressOf(entries);
    if (hash === location.hash || (!hash && !location.hash.startsWith(ADDRESS))) return;
    try {
      history.replaceState(history.state, "", hash || location.href.split("#")[0]);
    } catch { /* a page within another may have no address of its own */ }
  };
  const writeSoon = () => { waiting ??= setTimeout(write, 400); }; // browsers refuse more than a few a second
  const read = () => {
    const entries = addressEntries(location.hash), brought = unpackState(entries.get(name) ?? "");
    const fitting = brought && typeof brought === "object" ? fit(brought) : null;
    if (!fitting) return;
    move(fitting);
    if ([...entries.keys()][0] === name) keepInView(panel);
  };
  const make = (textContent, title, onclick) => (
    Object.assign(document.createElement("button"), { type: "button", textContent, title, onclick }));
  const buttons = [make("Reset", "Back to where it started", () => {
    move(home);
    reset();
  })];
  if (!own) return { buttons, close() {} };

  buttons.push(make("Copy link", "A link to this page with every control as it stands", () => {
    const entries = new Map([[name, packState(state())], ...addressEntries(location.hash)]);
    entries.set(name, packState(state())); // first, for that is where the page will open
    copyText(location.href.split("#")[0] + addressOf(entries), buttons[1]);
  }));
  read();
  for (const trait of traits) model.on(`change:${trait}`, writeSoon);
  addEventListener("hashchange", read);
  return {
    buttons,
    close() {
      clearTimeout(waiting);
      removeEventListener("hashchange", read);
      for (const trait of traits) model.off(`change:${trait}`, writeSoon);
    },
  };
}
