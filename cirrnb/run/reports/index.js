// Sorting, filtering and searching the table of patients; without a script the table stands as it is.
const table = document.querySelector("table.patients");
const rows = [...table.tBodies[0].rows];
const controls = document.querySelector(".controls");
const shown = document.querySelector(".shown");
controls.hidden = false;
const search = controls.querySelector("input[type=search]");
const filters = [...controls.querySelectorAll("select")];

function narrow() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits = words.every((word) => text.includes(word))
      && filters.every((filter) => !filter.value || (row.dataset[filter.name] || "").split(" ").includes(filter.value));
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = `${count} of ${rows.length} patients`;
}
search.addEventListener("input", narrow);
filters.forEach((filter) => filter.addEventListener("change", narrow));

const order = new Intl.Collator("en", { numeric: true }).compare;
table.querySelectorAll("thead button").forEach((button) => button.addEventListener("click", () => {
  const head = button.closest("th");
  const falling = head.getAttribute("aria-sort") === "ascending";
  table.querySelectorAll("thead th").forEach((one) => one.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const value = (row) => row.cells[head.cellIndex].dataset.sort ?? row.cells[head.cellIndex].textContent;
  const sorted = [...rows].sort((one, other) => order(value(one), value(other)) * (falling ? -1 : 1));
  table.tBodies[0].append(...sorted);
}));
narrow();
