// Where a pixel lies in the patient, and which slice lies at a height. Positions are mm in RAS+, heights those of the first sequence.

// 0.6 mm: a breathing shift is no better known than that.
const OFF = 0.6;

// Which slice of a pane lies nearest to a height in its own scan, and whether that is too far away to stand there.
function sliceAt(pane, height) {
  let best = 0;
  for (let i = 1; i < pane.slices; i++) {
    if (Math.abs(pane.positions[i] - height) < Math.abs(pane.positions[best] - height)) best = i;
  }
  const away = Math.abs(pane.positions[best] - height);
  return { index: best, outside: away > pane.spacing[0] / 2 + OFF };
}

function toPatient(pane, slice, row, column) {
  return [0, 1, 2].map((axis) => {
    const [a, b, c, d] = pane.affine[axis];
    return a * slice + b * row + c * column + d;
  });
}

// Prepared slices are axial, so that row and column follow from the two in-plane coordinates alone.
function fromPatient(pane, mm) {
  const [x, y] = pane.affine;
  return [(mm[1] - y[3]) / y[1], (mm[0] - x[3]) / x[2]];
}

const inMm = (height) => `${height >= 0 ? "+" : "−"}${Math.abs(height).toFixed(0)} mm`;

// What lies at a pixel, in words. `sign` is the name of a planted sign to be told, or nothing.
function described(pane, { slice, row, column, mm }, overlay, sign) {
  const place = (slice * pane.rows + row) * pane.columns + column;
  const value = pane.range[0] + ((pane.range[1] - pane.range[0]) * pane.image[place]) / 255;
  const sides = [["R", "L"], ["A", "P"], ["S", "I"]];
  const where = mm.map((one, axis) => `${sides[axis][one >= 0 ? 0 : 1]} ${Math.abs(one).toFixed(0)}`).join("  ");
  const words = [`${pane.name} slice ${slice + 1}: ${where} mm; signal ${value.toFixed(2)} (0 is the body's darkest, 1 its brightest hundredth)`];
  if (pane.mask) words.push(pane.mask[place] ? "inside the liver mask" : "outside the liver mask");
  if (pane.organs && pane.organs[place]) words.push(`${pane.organ_names[pane.organs[place] - 1]}, drawn by ${pane.organs_by_program ? "a program" : "a person"}`);
  if (pane.map) {
    const share = (pane.map[place] - 128) / 127;
    if (Math.abs(share) < 0.005) words.push("the map says nothing here");
    else words.push(`map ${share >= 0 ? "+" : "−"}${Math.abs(100 * share).toFixed(0)} % of its strongest${overlay.unit ? `, about ${(share * overlay.limit).toPrecision(2).replace("-", "−")} ${overlay.unit}` : ""}`);
  }
  if (sign) words.push(`planted: ${sign}`);
  return words.join("; ");
}
