// Cosine similarity of every pair, as a table with arrow-key navigation.
// Share of colour above which white text has more contrast on light pages, and black text on dark ones.
const DEEP = { light: 0.77, dark: 0.55 };
const watchers = new WeakMap();

export function drawHeatMap(place, pair, sentences, vectors, model = "") {
  const table = document.createElement("table");
  table.className = "heat";
  table.setAttribute("role", "grid");
  table.setAttribute("aria-label", `Cosine of every pair of sentences${model && `, ${model}`}`);
  const head = table.createTHead().insertRow();
  head.append(header("", "col"), ...sentences.map((text, row) => header(row + 1, "col", text)));
  const body = table.createTBody();
  const cells = sentences.map((text, row) => {
    const line = body.insertRow();
    line.append(header(`${row + 1}  ${text}`, "row", text));
    return sentences.map((_, column) => {
      const cell = line.insertCell();
      fill(cell, cosine(vectors[row], vectors[column]));
      cell.tabIndex = row || column ? -1 : 0;
      const show = () => tell(pair, cell, sentences[row], sentences[column]);
      cell.addEventListener("focus", show);
      cell.addEventListener("pointerenter", show);
      return cell;
    });
  });
  table.addEventListener("keydown", (event) => walk(event, cells));
  place.replaceChildren(table);
  cueScrolling(place);
  pair.textContent = closest(sentences, vectors);
}

// While columns on the right are hidden, CSS fades the edge and shows a hint.
function cueScrolling(place) {
  const look = () => {
    const left = place.scrollWidth - place.clientWidth - place.scrollLeft;
    place.toggleAttribute("data-more", left > 1);
  };
  place.onscroll = look;
  watchers.get(place)?.disconnect();
  const watcher = new ResizeObserver(look);
  watchers.set(place, watcher);
  watcher.observe(place);
  watcher.observe(place.firstElementChild);
}

export function cosine(one, other) {
  let product = 0, first = 0, second = 0;
  for (let index = 0; index < one.length; index++) {
    product += one[index] * other[index];
    first += one[index] ** 2;
    second += other[index] ** 2;
  }
  return product / Math.sqrt(first * second || 1);
}

function header(text, scope, title = text) {
  const cell = document.createElement("th");
  cell.scope = scope;
  cell.textContent = text;
  cell.title = title;
  return cell;
}

export function fill(cell, value) {
  const share = Math.min(1, Math.abs(value));
  cell.textContent = value.toFixed(2).replace("-0.00", "0.00");
  cell.toggleAttribute("data-warm", value >= 0);
  for (const scheme of ["light", "dark"]) { // both, because the colour scheme can change while the page is open
    cell.classList.toggle(`deep-${scheme}`, value > 0 && share >= DEEP[scheme]);
  }
  cell.style.setProperty("--share", share);
}

function tell(pair, cell, first, second) {
  cell.closest(".heat").querySelectorAll(".marked").forEach((old) => old.classList.remove("marked"));
  cell.classList.add("marked");
  const value = document.createElement("b");
  value.textContent = cell.textContent;
  pair.replaceChildren(value, ` “${first}” and “${second}”`);
}

function closest(sentences, vectors) {
  let best = { value: -2 };
  for (let row = 0; row < vectors.length; row++) {
    for (let column = row + 1; column < vectors.length; column++) {
      const value = cosine(vectors[row], vectors[column]);
      if (value > best.value) best = { value, row, column };
    }
  }
  if (best.value < -1.5) return "";
  const { row, column, value } = best;
  return `Closest: “${sentences[row]}” and “${sentences[column]}”, ${value.toFixed(2)}`;
}

function walk(event, cells) {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[
    event.key
  ];
  const row = cells.findIndex((line) => line.includes(document.activeElement));
  if (!step || row < 0) return;
  const column = cells[row].indexOf(document.activeElement);
  const next = cells[row + step[0]]?.[column + step[1]];
  event.preventDefault();
  if (!next) return;
  document.activeElement.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
