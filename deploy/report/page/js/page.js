// The page itself: theme, the section one is in, sortable and searchable tables, printing.

const root = document.documentElement;

// --- Theme: the system's until the button is pressed; the choice is remembered where it can be.

let printing = false; // paper is always light

function currentTheme() {
  if (printing) return "light";
  return root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function remembered(value) {
  try {
    if (value === undefined) return localStorage.getItem("edgeport-theme");
    localStorage.setItem("edgeport-theme", value);
  } catch {
    // a file opened from disk may have no storage; the choice then lasts as long as the page
  }
  return null;
}

function setUpTheme() {
  const button = document.getElementById("theme");
  const saved = remembered();
  if (saved === "light" || saved === "dark") root.dataset.theme = saved;
  const label = () => {
    const other = currentTheme() === "dark" ? "Light" : "Dark";
    button.textContent = other;
    button.setAttribute("aria-label", `Use the ${other.toLowerCase()} theme`);
    document.dispatchEvent(new Event("edgeport-theme"));
  };
  button.addEventListener("click", () => {
    root.dataset.theme = currentTheme() === "dark" ? "light" : "dark";
    remembered(root.dataset.theme);
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  button.hidden = false;
  label();
}

// --- Navigation: mark the section whose heading was passed last.

function setUpNavigation() {
  const links = [...document.querySelectorAll(".bar nav a")];
  const sections = links.map((link) => document.querySelector(link.getAttribute("href")));
  let current = null;
  const update = () => {
    let index = -1;
    sections.forEach((section, i) => {
      if (section.getBoundingClientRect().top < innerHeight * 0.3) index = i;
    });
    if (links[index] === current) return;
    current?.removeAttribute("aria-current");
    current = links[index] ?? null;
    current?.setAttribute("aria-current", "true");
    if (current) current.parentElement.scrollLeft = current.offsetLeft - current.parentElement.offsetLeft - 40;
  };
  addEventListener("scroll", update, { passive: true });
  update();
}

// --- Tables.

function cellValue(row, column, kind) {
  const cell = row.cells[column];
  if (kind === "text") return cell.textContent.trim().toLowerCase();
  const raw = cell.dataset.value ?? cell.textContent;
  if (raw === "inf") return Infinity;
  return parseFloat(raw); // NaN where there is no number
}

function sortTable(table, column, kind, descending) {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [cellValue(row, column, kind), row]);
  keyed.sort(([a], [b]) => {
    if (kind === "text") return descending ? b.localeCompare(a) : a.localeCompare(b);
    // what has no number stands last either way
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    if (a === b) return 0;
    return (a < b ? -1 : 1) * (descending ? -1 : 1);
  });
  body.append(...keyed.map(([, row]) => row));
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const kind = heading.dataset.sort;
    if (!kind) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      // numbers are mostly read from the largest down, words from A to Z
      const first = kind === "number" ? "descending" : "ascending";
      const second = kind === "number" ? "ascending" : "descending";
      const order = heading.getAttribute("aria-sort") === first ? second : first;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      sortTable(table, column, kind, order === "descending");
    });
  });
}

function makeFilterable(block) {
  const input = block.querySelector("input[type=search]");
  const found = block.querySelector(".found");
  const rows = [...block.querySelectorAll("tbody tr")];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    found.textContent = words.length ? `${shown} of ${rows.length} nodes` : "";
  });
}

// A frame that scrolls must be reachable by keyboard.
function makeFramesReachable() {
  for (const frame of document.querySelectorAll(".scroll")) {
    const cut = frame.scrollWidth > frame.clientWidth + 1 || frame.scrollHeight > frame.clientHeight + 1;
    if (!cut) {
      frame.removeAttribute("tabindex");
      continue;
    }
    frame.tabIndex = 0;
    frame.setAttribute("role", "group"); // a table is no landmark, and two may have one caption
    const caption = frame.querySelector("caption")?.textContent ?? "Table";
    frame.setAttribute("aria-label", `${caption}, scrollable`);
  }
}

// --- Printing: on paper nothing can be opened, so everything is.

function setUpPrinting() {
  let opened = [];
  addEventListener("beforeprint", () => {
    printing = true;
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => {
    printing = false;
    opened.forEach((details) => { details.open = false; });
    document.dispatchEvent(new Event("edgeport-theme"));
  });
}

setUpTheme();
setUpNavigation();
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll(".filterable").forEach(makeFilterable);
makeFramesReachable();
addEventListener("resize", makeFramesReachable);
document.addEventListener("toggle", makeFramesReachable, true); // a details that opened
setUpPrinting();
