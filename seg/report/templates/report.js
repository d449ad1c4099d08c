"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);

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
          if (x === "" || y === "") return (x === "") - (y === "");  // what is missing stays below
          return sign * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
        };
        table.tBodies[0].append(...all("tbody tr", table).sort(compare));
      });
    });
  }

  const list = one("cards");
  if (!list) return;
  const cards = all("li", list);
  const controls = one("controls");
  const dialog = one("zoom");
  const names = all("[data-show]", controls).map((button) => button.textContent);
  let shown = names.findIndex((_, i) => all("[data-show]", controls)[i].getAttribute("aria-pressed") === "true");
  let current = null;
  controls.hidden = false;

  const visible = () => all("li:not([hidden])", list);

  function say() {
    one("status").textContent = `Shown: ${names[shown]} of ${visible().length} of ${cards.length} images.`;
  }

  function show(column) {
    shown = column;
    for (const part of all("[data-column]", list)) part.hidden = Number(part.dataset.column) !== column;
    for (const button of all("[data-show]")) button.setAttribute("aria-pressed", Number(button.dataset.show) === column);
    if (dialog.open) enlarge(current);
    say();
  }

  function arrange() {
    const label = one("label").value;
    const split = one("split") ? one("split").value : "";
    for (const card of cards) {
      card.hidden = Boolean((label && !card.dataset.label.split(" ").includes(label)) || (split && card.dataset.split !== split));
    }
    const [way, which] = one("order").value.split(" ");
    const sign = way === "worst" ? 1 : -1;
    const iou = (card) => card.dataset.ious.split(" ")[which];
    const place = (card) => iou(card) ? sign * iou(card) : 9;  // what has none stays below
    const byName = (a, b) => a.dataset.name.localeCompare(b.dataset.name);
    const byIou = (a, b) => place(a) - place(b) || byName(a, b);
    list.append(...cards.sort(way === "name" ? byName : byIou));
    say();
  }

  function enlarge(card) {
    current = card;
    const part = card.querySelector(`[data-column="${shown}"]`).cloneNode(true);
    part.hidden = false;
    one("large").replaceChildren(part);
    const codes = (part.dataset.codes ?? "").split(" ");
    const colours = all("[data-code]", one("legend")).filter((entry) => codes.includes(entry.dataset.code));
    one("key").replaceChildren(...colours.map((entry) => entry.cloneNode(true)));
    one("zoomed").textContent = `${card.dataset.name}: ${names[shown]}`;
    one("facts").textContent = all("figcaption span", card).map((span) => span.textContent.trim()).join("; ");
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const row = visible();
    enlarge(row[(row.indexOf(current) + by + row.length) % row.length]);
  }

  for (const button of all("[data-show]")) button.addEventListener("click", () => show(Number(button.dataset.show)));
  for (const button of all("[data-step]", dialog)) button.addEventListener("click", () => step(Number(button.dataset.step)));
  for (const card of cards) card.querySelector(".open").addEventListener("click", () => enlarge(card));
  for (const id of ["label", "split", "order"]) if (one(id)) one(id).addEventListener("change", arrange);
  one("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    if (current) current.querySelector(".open").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("select") || event.ctrlKey || event.altKey || event.metaKey) return;
    const column = Number(event.key) - 1;
    if (Number.isInteger(column) && column >= 0 && column < names.length) show(column);
    else if (dialog.open && (event.key === "ArrowLeft" || event.key === "ArrowRight")) step(event.key === "ArrowLeft" ? -1 : 1);
  });
  arrange();
})();
