// Paging, sorting, filtering and searching the table of patients; without a script its first page stands as it is.
const content = JSON.parse(document.getElementById("rows").textContent);
const table = document.querySelector("table.patients");
const controls = document.querySelector(".controls");
const shown = document.querySelector(".shown");
const pagers = [...document.querySelectorAll(".pages")];
const search = controls.querySelector("input[type=search]");
const filters = [...controls.querySelectorAll("select")];
const rank = (names, name) => (names.indexOf(name) + 1 || names.length + 1);

// Of each row: its text for the search, and the value of each column for sorting.
const rows = content.rows.map((row) => ({
  ...row,
  status: row.status ?? (row.kind === "refused" ? "refused" : ""),
  state: row.kind ? "failed" : row.flags ? "flagged" : "",
  text: Object.entries(row).filter(([name]) => name !== "page" && name !== "log" && name !== "probability")
    .map(([, value]) => value).join(" ").toLowerCase(),
  values: [row.subject, rank(content.stages, row.predicted), row.probability, row.set, rank(content.uncertainties, row.uncertainty),
    rank(content.statuses, row.status),
    row.recorded, row.sequences, row.flags],
}));
let fitting = rows;
let page = 0;

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function link(address, text) {
  const made = element("a", text);
  made.href = address;
  return made;
}

function drawn(row) {
  const line = element("tr", "", row.kind ? "failed" : "");
  const head = element("th");
  head.scope = "row";
  const name = element("bdi", row.subject);
  line.append(head);
  if (row.kind) {
    head.append(name);
    const cell = element("td");
    cell.colSpan = 8;
    cell.append(element("b", `No page: ${row.kind}.`), ` ${row.reason} `, ...(row.log ? [link(row.log, "log")] : []));
    line.append(cell);
    return line;
  }
  const address = link(row.page, "");
  address.append(name);
  head.append(address);
  line.append(...(row.hidden ? [asked(row)] : stage(row)), checked(row),
    element("td", row.recorded), element("td", row.sequences), element("td", row.flags, "flags"));
  return line;
}

// The cells that tell the stage.
function stage(row) {
  const likely = element("td", "", "likely");
  const swatch = element("span", "", "stage");
  swatch.style.background = content.colours[row.predicted] ?? "#BBBBBB";
  likely.append(swatch, row.predicted);
  return [likely, element("td", `${Math.round(100 * row.probability)}%`), element("td", row.set, "set"), element("td", row.uncertainty)];
}

// Instead of them a cell that tells it when asked.
function asked(row) {
  const cell = element("td", "", "likely");
  cell.colSpan = 4;
  const details = element("details", "", "asked");
  details.append(element("summary", "hidden: far from the scans that the model knows"), `${row.predicted}, ${Math.round(100 * row.probability)}%; ${row.set}`);
  cell.append(details);
  return cell;
}

// The status with its first reason; the others on request.
function checked(row) {
  const [first, ...others] = row.reasons;
  const cell = element("td", first ? `${row.status}: ${first}` : row.status, "checked");
  if (others.length) {
    const list = element("ul");
    list.append(...others.map((reason) => element("li", reason)));
    const details = element("details");
    details.append(element("summary", `${others.length} more`), list);
    cell.append(details);
  }
  return cell;
}

function show(all = false) {
  const last = Math.max(0, Math.ceil(fitting.length / content.limit) - 1);
  page = Math.min(Math.max(page, 0), last);
  const some = all ? fitting : fitting.slice(page * content.limit, (page + 1) * content.limit);
  table.tBodies[0].replaceChildren(...some.map(drawn));
  shown.textContent = `${fitting.length} of ${rows.length} patients`;
  for (const pager of pagers) {
    pager.hidden = fitting.length <= content.limit;
    pager.querySelector(".page").textContent = `Page ${page + 1} of ${last + 1}`;
    pager.querySelector(".previous").disabled = page === 0;
    pager.querySelector(".next").disabled = page === last;
  }
}

function narrow() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  fitting = rows.filter((row) => words.every((word) => row.text.includes(word))
    && filters.every((filter) => !filter.value || row[filter.name] === filter.value));
  page = 0;
  show();
}
search.addEventListener("input", narrow);
filters.forEach((filter) => filter.addEventListener("change", narrow));
for (const pager of pagers) {
  pager.querySelector(".previous").addEventListener("click", () => { page -= 1; show(); });
  pager.querySelector(".next").addEventListener("click", () => { page += 1; show(); });
}

const compare = new Intl.Collator("en", { numeric: true }).compare;
table.querySelectorAll("thead button").forEach((button, column) => button.addEventListener("click", () => {
  const head = button.closest("th");
  const falling = head.getAttribute("aria-sort") === "ascending";
  table.querySelectorAll("thead th").forEach((one) => one.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  rows.sort((one, other) => {
    const [first, second] = [one.values[column], other.values[column]];
    const failures = column ? Boolean(one.kind) - Boolean(other.kind) : 0;  // they know no more than who it is
    const order = failures || (typeof first === "number" ? first - second : compare(first, second)) || 0;
    return falling ? -order : order;
  });
  narrow();
}));
addEventListener("beforeprint", () => show(true));
addEventListener("afterprint", () => show());
controls.hidden = false;
narrow();
