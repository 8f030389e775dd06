// Two things that the stock pages leave out: names for the sliders' handles, and headings for screen readers.
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
})();
