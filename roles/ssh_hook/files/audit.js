
// Sorts and filters the table of an audit. Without it the page is a plain table.
"use strict";
(() => {
  const table = document.getElementById("nodes");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const filter = document.getElementById("filter");
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  let state = "";

  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !((!state || row.dataset.state === state) && words.every((word) => text.includes(word)));
      shown += row.hidden ? 0 : 1;
    }
    document.getElementById("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
  }

  function value(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  }

  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const sign = descending ? -1 : 1;
      body.append(...rows.slice().sort((a, b) => sign * compare(value(a, column), value(b, column))));
    });
  });

  const chips = Array.from(document.getElementById("states").children).map((item) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...item.childNodes);
    button.setAttribute("aria-pressed", String(item.dataset.state === state));
    item.append(button);
    button.addEventListener("click", () => {
      state = item.dataset.state;
      chips.forEach((chip) => chip.setAttribute("aria-pressed", String(chip === button)));
      show();
    });
    return button;
  });

  filter.addEventListener("input", show);
  document.getElementById("controls").hidden = false;
  // The file holds no time, so that it does not change while the nodes do not; each audit sets its time of modification.
  const time = new Date(document.lastModified);
  if (Date.now() - time > 5000) // a server that does not say the time has the browser take the present one
    document.getElementById("time").textContent = `, of ${time.toLocaleString()}`;
  show();
})();
