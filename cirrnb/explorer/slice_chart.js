// What each slice adds to the score and its attention, as bars over the height. Drawn anew at every width, so that it
// fits a phone, and whenever data come, however late.

const SVG = "http://www.w3.org/2000/svg";
const NARROW = 250; // pixels that a sequence needs beside another; with less, sequences stand below each other
const EDGE = { left: 52, right: 8, top: 20, between: 22, bottom: 38 };
const HIGH = { share: 130, attention: 70 };

// Steps of 1, 2 or 5 that part a range into two to five.
function ticks(low, high) {
  const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + 1e-9 * step; at += step) found.push(Math.abs(at) < 1e-9 * step ? 0 : at);
  return found;
}

const minus = (text) => String(text).replace("-", "\u2212");
const figures = (value) => minus(Number(value.toPrecision(3)));
const signed = (value) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(2)}`;

function add(parent, name, given = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(given)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

// Both panels have one scale for all sequences: their bars can be compared.
function scales(columns) {
  const ends = columns.flatMap((one) => one.shares.flatMap((value, i) => [value - one.errors[i], value + one.errors[i]]));
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const room = 0.06 * (high - low || 1);
  return { share: [low < 0 ? low - room : 0, high > 0 || low === high ? high + room : 0], attention: [0, 1.08 * Math.max(1e-6, ...columns.flatMap((one) => one.weights))] };
}

function drawColumn(column, width, scale, position, go) {
  const { left, right, top, between, bottom } = EDGE, inner = width - left - right;
  const tops = { share: top, attention: top + HIGH.share + between };
  const height = tops.attention + HIGH.attention + bottom;
  const svg = document.createElementNS(SVG, "svg");
  const label = `${column.name}: share and attention of ${column.positions.length} slices`;
  for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label })) svg.setAttribute(key, value);
  const from = Math.min(...column.positions) - column.width, to = Math.max(...column.positions) + column.width;
  const x = (mm) => left + (inner * (mm - from)) / (to - from);
  add(svg, "text", { x: left + inner / 2, y: 13, class: "cn-column", "text-anchor": "middle" }, column.name);
  const wide = Math.max(1.2, (0.8 * inner * column.width) / (to - from));
  for (const kind of ["share", "attention"]) {
    const [low, high] = scale[kind], high_ = HIGH[kind];
    const y = (value) => tops[kind] + high_ - (high_ * (value - low)) / (high - low);
    for (const value of ticks(low, high)) {
      add(svg, "line", { x1: left, x2: left + inner, y1: y(value), y2: y(value), class: value ? "cn-grid" : "cn-zero" });
      add(svg, "text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, figures(value));
    }
    const middle = tops[kind] + high_ / 2;
    add(svg, "text", { transform: `rotate(-90 11 ${middle})`, x: 11, y: middle + 4, "text-anchor": "middle" }, kind === "share" ? "share (log-odds)" : "attention (%)");
    column.positions.forEach((mm, i) => {
      const value = kind === "share" ? column.shares[i] : column.weights[i];
      const [upper, lower] = [Math.min(y(value), y(0)), Math.max(y(value), y(0))];
      const bar = add(svg, "rect", { x: x(mm) - wide / 2, y: upper, width: wide, height: Math.max(lower - upper, 0.5), fill: column.colour, class: "cn-slice" });
      const said = kind === "share" ? `${signed(value)} \u00b1 ${column.errors[i].toFixed(2)} log-odds` : `${value.toFixed(1)} %`;
      add(bar, "title", {}, `${minus(mm.toFixed(0))} mm: ${said}`);
      if (kind === "share" && column.errors[i]) add(svg, "line", { x1: x(mm), x2: x(mm), y1: y(value - column.errors[i]), y2: y(value + column.errors[i]), class: "cn-error" });
    });
  }
  const foot = tops.attention + HIGH.attention;
  for (const value of ticks(from, to)) {
    add(svg, "line", { x1: x(value), x2: x(value), y1: foot, y2: foot + 4, class: "cn-zero" });
    add(svg, "text", { x: x(value), y: foot + 16, "text-anchor": "middle" }, minus(value));
  }
  add(svg, "text", { x: left + inner / 2, y: foot + 32, "text-anchor": "middle" }, "height (mm)");
  const line = add(svg, "line", { y1: top, y2: foot, class: "cn-here" });
  const mark = (mm) => {
    const there = mm !== null && mm >= from && mm <= to;
    line.style.display = there ? "" : "none";
    if (there) for (const end of ["x1", "x2"]) line.setAttribute(end, x(mm));
  };
  mark(position);
  // Anywhere above or below a bar will do: bars are thin.
  svg.addEventListener("click", (event) => {
    const mm = from + ((event.clientX - svg.getBoundingClientRect().left - left) / inner) * (to - from);
    go(column.positions.reduce((best, one) => (Math.abs(one - mm) < Math.abs(best - mm) ? one : best)));
  });
  return { svg, mark };
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "cn-slice-chart";
  el.append(root);
  let drawn = [], width = 0;

  const position = () => model.get("position");
  const draw = () => {
    const { title = "", columns = [] } = model.get("shown");
    drawn = [];
    root.replaceChildren();
    root.hidden = !columns.length;
    width = root.clientWidth;
    if (!columns.length || !width) return; // the observer calls once there is a width
    const words = document.createElement("p");
    words.textContent = title;
    const side = document.createElement("div");
    side.className = "cn-columns";
    const count = width / columns.length < NARROW ? 1 : columns.length;
    side.style.gridTemplateColumns = `repeat(${count}, 1fr)`;
    const scale = scales(columns), each = Math.floor((width - 8 * (count - 1)) / count);
    const go = (mm) => model.send({ kind: "go", position: mm });
    drawn = columns.map((column) => drawColumn(column, each, scale, position(), go));
    side.append(...drawn.map((one) => one.svg));
    root.append(words, side);
  };
  const mark = () => { for (const one of drawn) one.mark(position()); };
  const resized = new ResizeObserver(() => { if (root.clientWidth !== width) draw(); });
  resized.observe(el);
  resized.observe(root);
  model.on("change:shown", draw);
  model.on("change:position", mark);
  draw();
  return () => {
    resized.disconnect();
    model.off("change:shown", draw);
    model.off("change:position", mark);
  };
}

export default { render };
