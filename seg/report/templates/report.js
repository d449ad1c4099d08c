"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Tables that can be sorted by their headings.
  for (const table of all("table[data-sortable]")) {
    all("thead th", table).forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const value = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
        const compare = (a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x === "" || y === "") return (x === "") - (y === "");  // missing values stay below
          return sign * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
        };
        table.tBodies[0].append(...all("tbody tr", table).sort(compare));
      });
    });
  }

  // A click enlarges the pictures of an image.
  for (const button of all(".open")) button.addEventListener("click", () => button.classList.toggle("large"));
})();
