// What the stock pages leave out: names for the sliders' handles, and formulas that fit on paper.
(() => {
  const name = () => {
    for (const slider of document.querySelectorAll(".widget-slider")) {
      const label = slider.querySelector(".widget-label"), handle = slider.querySelector(".noUi-handle");
      if (label && handle && !handle.hasAttribute("aria-label")) handle.setAttribute("aria-label", label.textContent);
    }
  };
  document.addEventListener("DOMContentLoaded", () => {
    name();
    new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  });
  // A formula that is wider than the paper is set smaller; on the screen it scrolls.
  window.fitFormulas = (width) => {
    for (const formula of document.querySelectorAll("div.math mjx-container")) {
      formula.style.fontSize = "";
      const inner = formula.querySelector("mjx-math"), box = formula.getBoundingClientRect();
      const room = Math.min(width, formula.parentElement.clientWidth), wide = Math.max(formula.scrollWidth, inner.scrollWidth, box.width);
      if (wide > room) formula.style.fontSize = `${Math.floor(100 * room / wide)}%`;
    }
  };
  addEventListener("beforeprint", () => window.fitFormulas(650));
  addEventListener("afterprint", () => {
    for (const formula of document.querySelectorAll("div.math mjx-container")) formula.style.fontSize = "";
  });
})();
