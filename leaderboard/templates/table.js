// Sorts, filters and chooses columns of the boards of this page. What the reader chose stands in the page's address.
const boards = [...document.querySelectorAll(".boards > table.board")];
const element = (id) => document.getElementById(id);
const boxes = (id) => [...element(id).querySelectorAll("input")];
const checked = (id) => boxes(id).filter((box) => box.checked).map((box) => box.value);
const usual = { columns: checked("columns"), kinds: checked("kinds"), methods: checked("methods") };
const rows = boards.map((board) => [...board.tBodies[0].rows]);
const given = { sort: "bleu", order: "descending" };
let view = given;

function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const sign = view.order === "ascending" ? 1 : -1;
  const numbers = [Number(a), Number(b)];
  if (numbers.some(Number.isNaN)) return sign * a.localeCompare(b, "en", { numeric: true });
  return sign * (numbers[0] - numbers[1] || 0);
}

function draw() {
  const columns = new Set(["rank", "method", ...checked("columns")]);
  const kinds = new Set(checked("kinds")), methods = new Set(checked("methods"));
  const wanted = element("filter").value.trim().toLowerCase().split(/\s+/);
  let visible = 0;
  boards.forEach((board, number) => {
    const heads = [...board.tHead.rows[0].cells];
    const sorted = heads.findIndex((head) => head.dataset.key === view.sort);
    heads.forEach((head, place) => {
      if (place === sorted) head.setAttribute("aria-sort", view.order);
      else head.removeAttribute("aria-sort");
    });
    for (const row of rows[number]) {
      const text = `${row.querySelector(".name").textContent} ${row.dataset.method}`.toLowerCase();
      const kind = kinds.has(row.dataset.role) && (row.dataset.role !== "method" || methods.has(row.dataset.method));
      row.hidden = !kind || !wanted.every((word) => text.includes(word));
      visible += !row.hidden;
      heads.forEach((head, place) => row.cells[place].classList.toggle("off", !columns.has(head.dataset.key)));
    }
    heads.forEach((head) => head.classList.toggle("off", !columns.has(head.dataset.key)));
    const key = (row) => row.cells[sorted].dataset.value;
    const order = view === given ? rows[number] : [...rows[number]].sort((a, b) => compare(key(a), key(b)));
    board.tBodies[0].append(...order);
  });
  const all = rows.flat().length;
  element("told").textContent = visible < all ? `${visible} of ${all} rows` : "";
}

function address() {
  const chosen = new URLSearchParams();
  if (view !== given) {
    chosen.set("sort", view.sort);
    chosen.set("order", view.order);
  }
  for (const id of ["columns", "kinds", "methods"]) {
    if (String(checked(id)) !== String(usual[id])) chosen.set(id, checked(id));
  }
  if (element("filter").value) chosen.set("q", element("filter").value);
  return String(chosen).replaceAll("%2C", ",");
}

function changed() {
  draw();
  const fragment = address();
  history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
}

// An address with no "=" leads to a place in the page and says nothing of the view.
function restore() {
  if (location.hash && !location.hash.includes("=")) return draw();
  const chosen = new URLSearchParams(location.hash.slice(1));
  const known = boards[0].tHead.querySelector(`[data-key="${CSS.escape(chosen.get("sort") ?? "")}"]`);
  const order = chosen.get("order") === "ascending" ? "ascending" : "descending";
  view = known ? { sort: known.dataset.key, order } : given;
  for (const id of ["columns", "kinds", "methods"]) {
    const values = chosen.has(id) ? chosen.get(id).split(",") : usual[id];
    boxes(id).forEach((box) => (box.checked = values.includes(box.value)));
  }
  element("filter").value = chosen.get("q") ?? "";
  draw();
}

if (boards.length) {
  for (const head of boards.flatMap((board) => [...board.tHead.rows[0].cells])) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const other = { ascending: "descending", descending: "ascending" };
      const order = view.sort === head.dataset.key ? other[view.order] : head.dataset.first;
      view = { sort: head.dataset.key, order };
      changed();
    });
  }
  element("tools").hidden = false;
  element("tools").addEventListener("input", changed);
  element("reset").addEventListener("click", () => {
    history.replaceState(null, "", location.pathname + location.search);
    restore();
  });
  element("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      element("told").textContent = "The link is in the clipboard.";
    } catch {
      element("told").textContent = "The link is in the address bar.";
    }
  });
  // One menu is open at a time; Escape and a click elsewhere close it.
  const menus = [...document.querySelectorAll(".menu")];
  document.addEventListener("click", (event) => {
    for (const menu of menus) if (!menu.contains(event.target)) menu.open = false;
  });
  for (const menu of menus) {
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  }
  window.addEventListener("hashchange", restore);
  restore();
}
