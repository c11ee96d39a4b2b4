// Charts: the figures of the mark that is pointed at or has the focus, arrow keys from mark to mark, and rows that stand
// out in all charts of the page. Without this script marks are links, and all figures stand in tables.
{
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true"); // a mark's name says the same
  document.body.append(tip);
  const parts = [...document.querySelectorAll("[data-rows]")];
  const pinned = new Set();
  let shown = null;

  const rowsOf = (part) => part.dataset.rows.split(" ");

  function stress(rows) {
    const wanted = new Set([...pinned, ...rows]);
    for (const part of parts) {
      const of = rowsOf(part).some((row) => wanted.has(row));
      part.classList.toggle("lit", of);
      part.classList.toggle("faded", wanted.size > 0 && !of && !part.closest("table"));
    }
  }

  function show(mark) {
    if (shown !== mark) hide();
    shown = mark;
    mark.classList.add("shown");
    tip.replaceChildren(...mark.getAttribute("aria-label").split(",\n").map((line) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = line;
      return paragraph;
    }));
    tip.hidden = false;
    const at = mark.querySelector(".reach").getBoundingClientRect(), own = tip.getBoundingClientRect();
    const right = document.documentElement.clientWidth - own.width - 4;
    const middle = at.left + at.width / 2 - own.width / 2;
    const above = at.top - own.height - 6;
    tip.style.left = `${window.scrollX + Math.max(4, Math.min(middle, right))}px`;
    tip.style.top = `${window.scrollY + (above < 4 ? at.bottom + 6 : above)}px`;
    if (mark.dataset.rows) stress(rowsOf(mark));
  }

  function hide() {
    shown?.classList.remove("shown");
    shown = null;
    tip.hidden = true;
    stress([]);
  }

  for (const drawing of document.querySelectorAll("svg.drawing")) {
    const marks = [...drawing.querySelectorAll(".mark")];
    const stop = (mark) => marks.forEach((each) => each.setAttribute("tabindex", each === mark ? "0" : "-1"));
    // By place, so that the arrows go from left to right.
    marks.sort((a, b) => parseFloat(a.querySelector("svg").getAttribute("x")) - parseFloat(b.querySelector("svg").getAttribute("x")));
    stop(marks[0]);
    marks.forEach((mark, place) => {
      let touched = false;
      mark.addEventListener("pointerenter", () => show(mark));
      mark.addEventListener("pointerleave", (event) => event.relatedTarget !== tip && hide());
      mark.addEventListener("focus", () => { stop(mark); show(mark); });
      mark.addEventListener("blur", hide);
      // The first touch shows the figures, the second one follows the link.
      mark.addEventListener("pointerdown", (event) => { touched = event.pointerType === "touch" && document.activeElement !== mark; });
      mark.addEventListener("click", (event) => {
        if (touched) { event.preventDefault(); mark.focus(); }
        touched = false;
      });
      mark.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        const target = event.key === "Home" ? 0 : event.key === "End" ? marks.length - 1 : place + (step ?? 0);
        if (target === place || !marks[target]) return;
        event.preventDefault();
        marks[target].focus();
      });
    });
  }
  tip.addEventListener("pointerleave", hide);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());

  const buttons = [];
  for (const entry of document.querySelectorAll(".legend li[data-rows]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Make this row stand out in all charts";
    button.setAttribute("aria-label", `Make ${entry.querySelector("bdi").textContent} stand out in all charts`);
    button.append(entry.querySelector(".key"));
    entry.prepend(button);
    buttons.push([button, entry]);
    button.addEventListener("click", () => {
      const rows = rowsOf(entry), on = !rows.every((row) => pinned.has(row));
      rows.forEach((row) => (on ? pinned.add(row) : pinned.delete(row)));
      for (const [each, of] of buttons) each.setAttribute("aria-pressed", rowsOf(of).every((row) => pinned.has(row)));
      stress([]);
    });
    button.setAttribute("aria-pressed", "false");
    entry.addEventListener("pointerenter", () => stress(rowsOf(entry)));
    entry.addEventListener("pointerleave", () => stress([]));
  }
}
