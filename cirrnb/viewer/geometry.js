// Where a pixel lies in the patient, and which slice lies at a place. Positions are mm in RAS+; heights those of the first sequence.

// 0.6 mm: a breathing shift is no better known than that.
const OFF = 0.6;

// Of each plane: the patient's axis through it, and the letters at the left, right, upper and lower edge of a picture.
const PLANES = {
  axial: { axis: 2, edges: ["R", "L", "A", "P"] },
  coronal: { axis: 1, edges: ["R", "L", "S", "I"] },
  sagittal: { axis: 0, edges: ["A", "P", "S", "I"] },
};
const SIDES = [["R", "L"], ["A", "P"], ["S", "I"]];

// Which slice of a pane lies nearest to a place along its own axis, and whether that is too far away to stand there.
function sliceAt(pane, place) {
  let best = 0;
  for (let i = 1; i < pane.slices; i++) {
    if (Math.abs(pane.positions[i] - place) < Math.abs(pane.positions[best] - place)) best = i;
  }
  const away = Math.abs(pane.positions[best] - place);
  return { index: best, outside: away > pane.spacing[0] / 2 + OFF };
}

function toPatient(pane, slice, row, column) {
  return [0, 1, 2].map((axis) => {
    const [a, b, c, d] = pane.affine[axis];
    return a * slice + b * row + c * column + d;
  });
}

// Row and column, not rounded, at a place: Cramer's rule, since a scan may be tilted.
function fromPatient(pane, mm) {
  const columns = [0, 1, 2].map((index) => pane.affine.map((line) => line[index]));
  const to = pane.affine.map((line, axis) => mm[axis] - line[3]);
  const volume = ([a, b, c]) => a[0] * (b[1] * c[2] - b[2] * c[1]) - b[0] * (a[1] * c[2] - a[2] * c[1]) + c[0] * (a[1] * b[2] - a[2] * b[1]);
  const whole = volume(columns);
  return [1, 2].map((index) => volume(columns.map((one, i) => (i === index ? to : one))) / whole);
}

const inMm = (height) => `${height >= 0 ? "+" : "−"}${Math.abs(height).toFixed(0)} mm`;
const sided = (axis, mm) => `${SIDES[axis][mm >= 0 ? 0 : 1]} ${Math.abs(mm).toFixed(0)}`;
// RAS+ counts to the right, so that a positive x is right in name and the letter the first of its pair.
const placeWords = (plane, place) => (plane === "axial" ? inMm(place) : `${sided(PLANES[plane].axis, place)} mm`);

// How a pane lies in another plane: shape, spacing, affine and positions, and how its volumes are turned.
function turned(pane, plane) {
  const { slices, rows, columns, spacing: [through, down, across], affine } = pane;
  const lift = slices - 1; // heads are up: rows run from the last slice to the first
  const coronal = plane === "coronal";
  const column = (index) => affine.map((line) => line[index]);
  const [s, r, c, origin] = [0, 1, 2, 3].map(column);
  const first = coronal ? r : c, last = coronal ? c : r;
  const start = origin.map((one, axis) => one + lift * s[axis]);
  const shape = { slices: coronal ? rows : columns, rows: slices, columns: coronal ? columns : rows };
  const lying = { ...shape, affine: [0, 1, 2].map((one) => [first[one], -s[one], last[one], start[one]]) };
  const middle = (i) => toPatient(lying, i, (shape.rows - 1) / 2, (shape.columns - 1) / 2)[PLANES[plane].axis];
  return {
    ...lying,
    spacing: coronal ? [down, through, across] : [across, through, down],
    positions: Array.from({ length: shape.slices }, (_, i) => middle(i)),
  };
}

// The voxels of an axial volume (slices, rows, columns) in the order of another plane.
function reformatted(values, { slices, rows, columns }, plane) {
  const out = new Uint8Array(values.length);
  if (plane === "coronal") {
    for (let row = 0, to = 0; row < rows; row++) {
      for (let slice = slices - 1; slice >= 0; slice--, to += columns) {
        const from = (slice * rows + row) * columns;
        out.set(values.subarray(from, from + columns), to);
      }
    }
    return out;
  }
  for (let slice = 0; slice < slices; slice++) {
    for (let row = 0; row < rows; row++) {
      const from = (slice * rows + row) * columns, to = (slices - 1 - slice) * rows + row;
      for (let column = 0; column < columns; column++) out[column * slices * rows + to] = values[from + column];
    }
  }
  return out;
}

// The scan's own signal at a prepared intensity, where it is known.
const signalOf = (pane, value) => (pane.signal ? pane.signal[0] + pane.signal[1] * value : value);
const intensityOf = (pane, signal) => (pane.signal ? (signal - pane.signal[0]) / pane.signal[1] : signal);
const rounded = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "")).replace("-", "−");

// What lies at a pixel, in words. `sign` is the name of a planted sign to be told, `named` what the kernel knows of the place.
function described(pane, { slice, row, column, mm }, overlay, sign, named) {
  const place = (slice * pane.rows + row) * pane.columns + column;
  const words = [];
  if (named) words.push(named);
  else if (pane.organs && pane.organs[place]) words.push(`${pane.organ_names[pane.organs[place] - 1]}, drawn by ${pane.organs_by_program ? "a program" : "a person"}`);
  if (pane.mask && !named) words.push(pane.mask[place] ? "liver (inside the liver mask)" : "outside the liver mask");
  const value = pane.range[0] + ((pane.range[1] - pane.range[0]) * pane.image[place]) / 255;
  const where = mm.map((one, axis) => sided(axis, one)).join("  ");
  if (!(named && named.includes("signal"))) words.push(pane.signal ? `signal about ${rounded(signalOf(pane, value))}` : `signal ${value.toFixed(2)} (0 is the body's darkest, 1 its brightest hundredth)`);
  words.push(`${where} mm (${pane.name} slice ${slice + 1})`);
  if (pane.map) {
    const share = (pane.map[place] - 128) / 127;
    if (Math.abs(share) < 0.005) words.push("the map says nothing here");
    else words.push(`map ${share >= 0 ? "+" : "−"}${Math.abs(100 * share).toFixed(0)} % of its strongest${overlay.unit ? `, about ${(share * overlay.limit).toPrecision(2).replace("-", "−")} ${overlay.unit}` : ""}`);
  }
  if (sign) words.push(`planted: ${sign}`);
  return words.join("; ");
}
