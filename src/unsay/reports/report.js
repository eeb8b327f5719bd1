(function () {
  "use strict";
  // Harmful text stays behind a blur, out of the tab order and unread by screen readers, until someone asks for it.
  function set(card, shown) {
    card.classList.toggle("veiled", !shown);
    card.querySelectorAll(".hide").forEach(function (part) {
      part.inert = !shown;
      part.setAttribute("aria-hidden", String(!shown));
    });
    var button = card.querySelector("button.veil");
    button.setAttribute("aria-expanded", String(shown));
    button.textContent = shown ? "Hide again" : "Show hidden text";
  }
  function measure() {
    document.querySelectorAll(".scroll").forEach(function (box) {
      // In closed <details> nothing has a width yet.
      if (!box.clientWidth) return;
      var fits = box.scrollWidth <= box.clientWidth;
      box.classList.toggle("fits", fits);
      // Only what really scrolls needs a tab stop.
      if (fits) box.removeAttribute("tabindex");
      else box.tabIndex = 0;
    });
  }
  measure();
  window.addEventListener("resize", measure);
  // Does not bubble, so it is caught on its way down.
  document.addEventListener("toggle", measure, true);
  document.querySelectorAll("[data-veil]").forEach(function (card) {
    set(card, false);
    card.querySelector("button.veil").addEventListener("click", function (event) {
      event.stopPropagation();
      set(card, card.classList.contains("veiled"));
    });
    card.addEventListener("click", function () {
      if (card.classList.contains("veiled")) set(card, true);
    });
  });
  document.querySelectorAll("button.veil").forEach(function (button) { button.hidden = false; });
})();
