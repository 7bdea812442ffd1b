// How one slice is painted: grey levels, the map, the edges of liver and planted signs, letters and scales.
//
// A `look` is what the viewer shows: `shown` (its settings), the `overlay`, the place `picked` and how it is brought into
// the pane's breath (`mm`), the slice `at` which a pane stands, whether it is drawn `sharp`, whether it carries the colour bar (`barred`), its `title` and whether it is `simulated`.

const FOR = [230, 97, 0];
const AGAINST = [93, 58, 155];
const LIVER = "#56B4E9";
// Okabe and Ito's colours, told apart with any colour vision, less the liver's own.
const SIGN_COLOURS = ["#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#FFFFFF", "#999999"];
const SCALE_BAR = 50; // mm

function paint(context, pane, look, w, h, ratio) {
  const { shown, picked, at } = look;
  context.fillStyle = "#000";
  context.fillRect(0, 0, w, h);
  const scale = (w / pane.columns) * shown.zoom;
  const down = (h / pane.rows) * shown.zoom;
  const left = w / 2 - shown.across * pane.columns * scale;
  const top = h / 2 - shown.down * pane.rows * down;
  pane.view = { scale: scale / ratio, down: down / ratio, left: left / ratio, top: top / ratio };
  if (!at.outside) {
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = look.sharp ? "high" : "low";
    context.drawImage(grey(pane, at.index), left, top, pane.columns * scale, pane.rows * down);
    if (pane.map && shown.overlayOn && shown.opacity > 0) {
      context.globalAlpha = shown.opacity;
      context.drawImage(coloured(pane, at.index, shown.threshold), left, top, pane.columns * scale, pane.rows * down);
      context.globalAlpha = 1;
    }
    context.save();
    context.translate(left, top);
    context.scale(scale, down);
    if (pane.evidence && shown.evidence) {
      for (const [number, path] of edges(pane, "evidence", at.index)) {
        context.lineWidth = (1.2 * ratio) / scale;
        context.strokeStyle = SIGN_COLOURS[(number - 1) % SIGN_COLOURS.length];
        context.stroke(path);
      }
    }
    context.lineWidth = (1.5 * ratio) / scale;
    const dashed = (byProgram) => context.setLineDash(byProgram ? [(5 * ratio) / scale, (4 * ratio) / scale] : []);
    if (pane.mask && shown.liver) {
      dashed(pane.drawn_by_program);
      context.strokeStyle = LIVER;
      for (const [, path] of edges(pane, "mask", at.index)) context.stroke(path);
    }
    if (pane.organs && shown.organs) {
      dashed(pane.organs_by_program);
      for (const [number, path] of edges(pane, "organs", at.index)) {
        context.strokeStyle = pane.organ_colours[number - 1];
        context.stroke(path);
      }
    }
    if (pane.drawnBox && at.index >= pane.drawnBox.slices[0] && at.index < pane.drawnBox.slices[1]) {
      const { rows: [above, below], columns: [first, last] } = pane.drawnBox;
      context.setLineDash([]);
      for (const [colour, width] of [["rgba(0,0,0,0.8)", 4], ["#fff", 1.8]]) {
        context.strokeStyle = colour;
        context.lineWidth = (width * ratio) / scale;
        context.strokeRect(first, above, last - first, below - above);
      }
    }
    context.restore();
    if (picked) drawCross(context, fromPatient(pane, look.mm(picked.mm)), left, top, scale, down, w, h, ratio);
    if (pane.ruler && pane.ruler.plane === shown.plane && pane.ruler.slice === at.index) drawRuler(context, pane, left, top, scale, down, ratio);
  }
  letters(context, pane, look, w, h, ratio, scale);
}

const shortened = (words) => (words.length > 40 ? `${words.slice(0, 39)}\u2026` : words);

function letters(context, pane, look, w, h, ratio, scale) {
  const { at } = look;
  const size = 13 * ratio, edge = 7 * ratio;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const write = (text, x, y, align) => {
    context.textAlign = align;
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "rgba(0,0,0,0.8)";
    context.strokeText(text, x, y);
    context.fillStyle = "#fff";
    context.fillText(text, x, y);
  };
  const [west, east, north, south] = PLANES[look.shown.plane].edges;
  write(west, edge, h / 2, "left");
  write(east, w - edge, h / 2, "right");
  write(north, w / 2, edge + size / 2, "center");
  write(south, w / 2, h - edge - size / 2, "center");
  write(pane.name, edge, edge + size / 2, "left");
  // Whose pictures they are stands in them: the name in a menu may already be another's.
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  write(shortened(look.title || ""), edge, edge + 1.8 * size, "left");
  context.font = `600 ${size}px system-ui, sans-serif`;
  if (at.outside) {
    context.font = `${size}px system-ui, sans-serif`;
    write(`no ${pane.name} slice ${look.shown.plane === "axial" ? "at this height" : "here"}`, w / 2, h / 2, "center");
  } else {
    write(`${at.index + 1} / ${pane.slices}   ${placeWords(look.shown.plane, pane.positions[at.index])}`, w - edge, edge + size / 2, "right");
  }
  if (look.overlay && !pane.map) write("no map: the model does not use this scan", edge, edge + 3.2 * size, "left");
  // Maps of the stage and of a sign look alike.
  else if (look.overlay && look.shown.overlayOn) {
    context.font = `600 ${11 * ratio}px system-ui, sans-serif`;
    write(shortened(look.overlay.title || ""), edge, edge + 2.8 * size, "left");
  }
  if (look.simulated) {
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    write("simulated", w - edge, h - edge - 6 * ratio, "right");
  }
  const bar = (SCALE_BAR / pane.spacing[2]) * scale;
  if (bar < w * 0.7) {
    context.fillStyle = "rgba(0,0,0,0.8)";
    context.fillRect(edge - ratio, h - edge - 3 * ratio, bar + 2 * ratio, 4 * ratio);
    context.fillStyle = "#fff";
    context.fillRect(edge, h - edge - 2 * ratio, bar, 2 * ratio);
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    write("5 cm", edge, h - edge - 11 * ratio, "left");
  }
  if (look.barred) colourBar(context, look, w, h, ratio, write);
}

function colourBar(context, { overlay, shown }, w, h, ratio, write) {
  const [high, wide, right] = [h * 0.34, 9 * ratio, 26 * ratio];
  const top = h * 0.55, left = w - right - wide;
  const steps = 40;
  for (let i = 0; i < steps; i++) {
    const value = overlay.signed ? 1 - (2 * i) / (steps - 1) : 1 - i / (steps - 1);
    const strength = Math.abs(value) < shown.threshold ? 0 : Math.abs(value);
    const [r, g, b] = value >= 0 ? FOR : AGAINST;
    context.fillStyle = `rgb(${[r, g, b].map((one) => Math.round(40 + (one - 40) * strength)).join(",")})`;
    context.fillRect(left, top + (high * i) / steps, wide, high / steps + 1);
  }
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  write(overlay.ends[1], left + wide, top - 8 * ratio, "right");
  write(overlay.ends[0], left + wide, top + high + 8 * ratio, "right");
}

// Thin lines across the picture, open in the middle so that nothing lies under them.
function drawCross(context, [row, column], left, top, scale, down, w, h, ratio) {
  const [x, y, gap] = [left + (column + 0.5) * scale, top + (row + 0.5) * down, 9 * ratio];
  for (const [colour, width] of [["rgba(0,0,0,0.6)", 2.6], ["rgba(255,255,255,0.85)", 1]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * ratio;
    context.beginPath();
    for (const [fromX, fromY, toX, toY] of [[0, y, x - gap, y], [x + gap, y, w, y], [x, 0, x, y - gap], [x, y + gap, x, h]]) {
      context.moveTo(fromX, fromY);
      context.lineTo(toX, toY);
    }
    context.stroke();
  }
}

// A line between two places (rows and columns, not rounded) with its length.
function drawRuler(context, pane, left, top, scale, down, ratio) {
  const [[x0, y0], [x1, y1]] = [pane.ruler.from, pane.ruler.to].map(([row, column]) => [left + column * scale, top + row * down]);
  for (const [colour, width] of [["rgba(0,0,0,0.8)", 4], ["#ffd24d", 1.8]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * ratio;
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
  }
  context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
  context.textAlign = x1 < x0 ? "right" : "left";
  context.textBaseline = "middle";
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "rgba(0,0,0,0.8)";
  const x = x1 + (x1 < x0 ? -8 : 8) * ratio;
  context.strokeText(pane.ruler.words, x, y1);
  context.fillStyle = "#ffd24d";
  context.fillText(pane.ruler.words, x, y1);
}

// Levels of grey for each of the 256 values.
function grey(pane, index) {
  const key = `${index} ${pane.look.level} ${pane.look.contrast}`;
  const kept = texture(pane, "grey");
  if (kept.key === key) return kept.canvas;
  const width = 2 ** -pane.look.contrast, low = pane.look.level - width / 2;
  const look = new Uint8ClampedArray(256);
  for (let i = 0; i < 256; i++) {
    const value = pane.range[0] + ((pane.range[1] - pane.range[0]) * i) / 255;
    look[i] = (255 * (value - low)) / width;
  }
  const count = pane.rows * pane.columns, start = index * count, pixels = kept.pixels.data;
  for (let i = 0; i < count; i++) {
    const level = look[pane.image[start + i]];
    pixels[4 * i] = pixels[4 * i + 1] = pixels[4 * i + 2] = level;
    pixels[4 * i + 3] = 255;
  }
  return put(kept, key);
}

// Values run from 0 (-1) over 128 (0) to 255 (1); what is weaker than the threshold is clear.
function coloured(pane, index, threshold) {
  const key = `${index} ${threshold}`;
  const kept = texture(pane, "map");
  if (kept.key === key) return kept.canvas;
  const look = new Uint8Array(256 * 4);
  for (let i = 0; i < 256; i++) {
    const value = Math.max(-1, Math.min(1, (i - 128) / 127));
    look.set(value >= 0 ? FOR : AGAINST, 4 * i);
    look[4 * i + 3] = Math.abs(value) < threshold ? 0 : Math.round(255 * Math.abs(value) ** 0.8);
  }
  const from = new Uint32Array(look.buffer), to = new Uint32Array(kept.pixels.data.buffer);
  const count = pane.rows * pane.columns, start = index * count;
  for (let i = 0; i < count; i++) to[i] = from[pane.map[start + i]];
  return put(kept, key);
}

function texture(pane, name) {
  if (!pane.textures[name]) {
    const canvas = document.createElement("canvas");
    canvas.width = pane.columns;
    canvas.height = pane.rows;
    const context = canvas.getContext("2d");
    pane.textures[name] = { canvas, context, pixels: context.createImageData(pane.columns, pane.rows), key: null };
  }
  return pane.textures[name];
}

function put(kept, key) {
  kept.context.putImageData(kept.pixels, 0, 0);
  kept.key = key;
  return kept.canvas;
}

// Edges around the pixels of each label, as paths in pixels; made when first needed. They run through the middles of
// the pixels' sides, which cuts the corners of the stairs and is never more than half a pixel off.
function edges(pane, layer, index) {
  const key = `${layer} ${index}`;
  if (!pane.paths.has(key)) pane.paths.set(key, outlines(pane, pane[layer], index));
  return pane.paths.get(key);
}

function outlines(pane, labels, index) {
  const { rows, columns } = pane, start = index * rows * columns, wide = columns + 1;
  const at = (row, column) => (row < 0 || column < 0 || row >= rows || column >= columns ? 0 : labels[start + row * columns + column]);
  const sides = new Map(); // label -> corner -> the corners that the sides from there lead to, the label on their right
  const side = (label, from, to) => {
    if (!label) return;
    if (!sides.has(label)) sides.set(label, new Map());
    const leads = sides.get(label);
    if (leads.has(from)) leads.get(from).push(to);
    else leads.set(from, [to]);
  };
  for (let row = 0; row <= rows; row++) {
    for (let column = 0; column <= columns; column++) {
      const here = at(row, column), above = at(row - 1, column), before = at(row, column - 1), corner = row * wide + column;
      if (here !== above) { side(here, corner, corner + 1); side(above, corner + 1, corner); }
      if (here !== before) { side(here, corner + wide, corner); side(before, corner, corner + wide); }
    }
  }
  const paths = new Map();
  for (const [label, leads] of sides) {
    const path = new Path2D();
    for (const first of leads.keys()) {
      while (leads.get(first).length) {
        let corner = first, begun = false;
        while (leads.get(corner) && leads.get(corner).length) {
          const next = leads.get(corner).pop();
          const [x, y] = [((corner % wide) + (next % wide)) / 2, (Math.floor(corner / wide) + Math.floor(next / wide)) / 2];
          if (begun) path.lineTo(x, y);
          else path.moveTo(x, y);
          begun = true;
          corner = next;
        }
        path.closePath();
      }
    }
    paths.set(label, path);
  }
  return paths;
}

// The panes beside each other as one picture, with what they show and what this is not written below.
function picture(panes, words, ratio) {
  const gap = 6 * ratio, band = 44 * ratio;
  const canvas = document.createElement("canvas");
  canvas.width = panes.reduce((sum, one) => sum + one.canvas.width + gap, -gap);
  canvas.height = Math.max(...panes.map((one) => one.canvas.height)) + band;
  const context = canvas.getContext("2d");
  context.fillStyle = "#111";
  context.fillRect(0, 0, canvas.width, canvas.height);
  let left = 0;
  for (const pane of panes) {
    context.drawImage(pane.canvas, left, 0);
    left += pane.canvas.width + gap;
  }
  context.fillStyle = "#fff";
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  context.fillText(words, 8 * ratio, canvas.height - 26 * ratio, canvas.width - 16 * ratio);
  context.fillText("Research and education only. Not a medical device, no diagnosis.", 8 * ratio, canvas.height - 9 * ratio);
  return canvas;
}
