// A question on a page: letters to press or a number to type, and what is said of the answer. Judged here by the same
// key as in questions.py (tests hold the two together); nothing is sent or stored.

/** [state, sentence] for an answer; null for none. */
export function judge(number, key, answer) {
  if (key.form === "choice") {
    if (answer === key.answer) return ["right", `✓ ${number} is right: ${key.why}`];
    return ["wrong", `✗ ${number} is not right yet. (${answer}): ${key.wrongs[answer]}`];
  }
  const text = answer.trim().replace(/\u2212/g, "-").replace(/^([^.,]*),([^.,]*)$/, "$1.$2");
  if (text === "") return null;
  const value = Number(text);
  if (!Number.isFinite(value)) {
    return ["wrong", `✗ ${number} is not right yet. One number is asked for, such as 0.25 or -3.`];
  }
  if (Math.abs(value - key.truth) <= key.slack) return ["right", `✓ ${number} is right: near enough. ${key.why}`];
  for (const [near, slack, message] of key.near) {
    if (Math.abs(value - near) <= slack) return ["wrong", `✗ ${number} is not right yet. ${message}`];
  }
  return ["wrong", `✗ ${number} is not right yet. Too ${value > key.truth ? "high" : "low"}.`];
}

function make(tag, settings, ...children) {
  const node = Object.assign(document.createElement(tag), settings);
  node.append(...children);
  return node;
}

/** Buttons for the letters; the one pressed stays marked. */
function letters(number, key, give) {
  const buttons = key.letters.map((letter) => make("button", { type: "button", textContent: letter }));
  buttons.forEach((button, k) => {
    button.setAttribute("aria-label", `${number}: sentence ${key.letters[k]}`);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      buttons.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
      give(key.letters[k]);
    });
  });
  return buttons;
}

/** A field for a number; Enter answers too. */
function field(number, give) {
  const input = make("input", { type: "text", inputMode: "decimal", autocomplete: "off", size: 10 });
  input.setAttribute("aria-label", `${number}: your number`);
  const button = make("button", { type: "button", textContent: "Check" });
  button.setAttribute("aria-label", `${number}: check`);
  button.addEventListener("click", () => give(input.value));
  input.addEventListener("keydown", (event) => {
    event.stopPropagation(); // JupyterLab has keys of its own
    if (event.key === "Enter") give(input.value);
  });
  return [input, button];
}

function render({ model, el }) {
  const number = model.get("number"), key = model.get("key");
  const said = make("p", { className: "genmed-said" });
  said.setAttribute("role", "status");
  const give = (answer) => {
    const verdict = judge(number, key, answer);
    said.dataset.state = verdict ? verdict[0] : "";
    said.textContent = verdict ? verdict[1] : "";
    if (!verdict) return;
    const value = key.form === "choice" ? answer : Number(answer.trim().replace(/\u2212/g, "-").replace(",", "."));
    model.set("answer", Number.isNaN(value) ? answer : value);
    model.save_changes();
  };
  const controls = key.form === "choice" ? letters(number, key, give) : field(number, give);
  const ask = make("span", { textContent: `${number}: your answer` });
  el.append(make("div", { className: "genmed-question" }, make("div", { className: "genmed-answers" }, ask, ...controls),
    said));
}

export default { render };
