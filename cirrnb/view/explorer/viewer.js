// The slices of one patient, drawn and scrolled in the browser: the explorer and the pages of reports share this file.
//
// createViewer(root, hooks) builds it inside an element. It is given a case (the pictures, 8 bits a pixel), an overlay
// (a map, 8 bits a pixel) and where to go; it tells through `hooks` where the reader went and what was clicked.

const FOR = [230, 97, 0];
const AGAINST = [93, 58, 155];
const LIVER = "#56B4E9";
// Okabe and Ito's colours, told apart with any colour vision, less the liver's own.
const SIGN_COLOURS = ["#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#FFFFFF", "#999999"];
const SCALE_BAR = 50; // mm

const CONTROLS = `
  <div class="cn-panes"></div>
  <p class="cn-readout" aria-live="polite"></p>
  <div class="cn-tools">
    <div class="cn-row">
      <button type="button" data-do="play" aria-pressed="false" title="Space">&#9654; Play</button>
      <label class="cn-wide">Height <input type="range" data-set="place" min="0" max="0" step="1" value="0">
        <output data-told="place"></output></label>
      <label data-part="shift"><input type="checkbox" data-set="shiftOn" checked> follow breathing
        <span data-told="shift"></span></label>
    </div>
    <div class="cn-row">
      <label>Brightness <input type="range" data-set="level" min="0" max="1.5" step="0.01" value="0.5"></label>
      <label>Contrast <input type="range" data-set="contrast" min="-2" max="2.5" step="0.05" value="0"></label>
      <span class="cn-group" role="group" aria-label="Zoom">
        <button type="button" data-do="out" aria-label="Zoom out" title="-">&minus;</button>
        <output data-told="zoom">100 %</output>
        <button type="button" data-do="in" aria-label="Zoom in" title="+">+</button></span>
      <button type="button" data-do="reset" title="R">Reset view</button>
      <button type="button" data-do="save">Save picture</button>
      <label data-part="liver"><input type="checkbox" data-set="liver"> liver edge <kbd>L</kbd></label>
      <label data-part="evidence"><input type="checkbox" data-set="evidence"> planted signs <kbd>E</kbd></label>
    </div>
    <div class="cn-row" data-part="overlay">
      <label><input type="checkbox" data-set="overlayOn" checked> map <kbd>M</kbd></label>
      <label>Opacity <input type="range" data-set="opacity" min="0" max="1" step="0.05" value="0.7"></label>
      <label>Hide below <input type="range" data-set="threshold" min="0" max="0.9" step="0.05" value="0.1">
        <output data-told="threshold"></output></label>
    </div>
    <p class="cn-signs" data-part="signs"></p>
    <details class="cn-help"><summary>Keys and mouse</summary>
      <p>Click the pictures first. Wheel or <kbd>&uarr;</kbd> <kbd>&darr;</kbd>: next slice towards head or feet;
      <kbd>Page up</kbd> <kbd>Page down</kbd>: five; <kbd>Home</kbd> <kbd>End</kbd>: lowest, highest. <kbd>+</kbd>
      <kbd>&minus;</kbd>, pinch, or wheel with <kbd>Ctrl</kbd>: zoom; drag: move. Right button and drag: brightness and
      contrast of that picture, as <kbd>B</kbd> <kbd>V</kbd> (brightness) and <kbd>C</kbd> <kbd>X</kbd> (contrast) do. <kbd>Space</kbd>:
      play. <kbd>M</kbd>: map, <kbd>L</kbd>: liver edge, <kbd>E</kbd>: planted signs, <kbd>R</kbd>: reset. Click: what lies there.</p>
    </details>
  </div>`;

function createViewer(root, hooks = {}) {
  root.classList.add("cn-viewer");
  root.innerHTML = CONTROLS;
  const find = (selector) => root.querySelector(selector);
  const shown = { position: 0, shiftOn: true, liver: false, evidence: false, overlayOn: true, opacity: 0.7, threshold: 0.1,
    zoom: 1, across: 0.5, down: 0.5 };
  let data = null, overlay = null, panes = [], active = 0, picked = null, asked = false, playing = null, heights = [];
  let announced = null, sharp = false, rest = null;

  // ---------------------------------------------------------------- what is shown

  function setCase(given) {
    stop();
    data = given;
    overlay = null;
    picked = null;
    active = 0;
    Object.assign(shown, { zoom: 1, across: 0.5, down: 0.5 });
    find(".cn-panes").replaceChildren();
    panes = data.panes.map(makePane);
    const lead = leading();
    heights = lead ? lead.positions.map((z) => z - offset(lead)) : [];
    shown.position = data.start ?? heights[Math.floor(heights.length / 2)] ?? 0;
    find('[data-part="shift"]').hidden = panes.filter((one) => one.image).length < 2 || !data.shift;
    find('[data-told="shift"]').textContent = `(${Math.abs(data.shift || 0).toFixed(0)} mm)`;
    find('[data-part="liver"]').hidden = !panes.some((one) => one.mask);
    find('[data-part="evidence"]').hidden = !panes.some((one) => one.evidence);
    tell("");
    showControls();
    draw();
  }

  function makePane(given, index) {
    const box = document.createElement("div");
    box.className = "cn-pane";
    const pane = { ...given, index, box, paths: new Map(), textures: {} };
    usualWindow(pane);
    if (!given.image) {
      box.innerHTML = `<p class="cn-missing"></p>`;
      box.firstChild.textContent = `${given.name}: ${given.reason || "no such scan"}`;
      find(".cn-panes").append(box);
      return pane;
    }
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${given.name} slices. Arrow keys change the slice.`);
    pane.canvas = document.createElement("canvas");
    pane.canvas.setAttribute("role", "img");
    box.append(pane.canvas);
    find(".cn-panes").append(box);
    listen(pane);
    resized.observe(box);
    return pane;
  }

  function setOverlay(given) {
    overlay = given;
    for (const pane of panes) {
      pane.map = given && given.maps[pane.name] ? given.maps[pane.name] : null;
      pane.textures.map = null;
    }
    showControls();
    draw();
  }

  const leading = () => panes.filter((one) => one.image).sort((a, b) => b.slices - a.slices)[0];
  // Organs lie `shift` mm further to the head in the second sequence.
  const offset = (pane) => (shown.shiftOn && pane.name === "T2W" ? data.shift || 0 : 0);

  function nearest(pane) {
    const wanted = shown.position + offset(pane);
    let best = 0;
    for (let i = 1; i < pane.slices; i++) {
      if (Math.abs(pane.positions[i] - wanted) < Math.abs(pane.positions[best] - wanted)) best = i;
    }
    const away = Math.abs(pane.positions[best] - wanted);
    return { index: best, outside: away > pane.spacing[0] / 2 + 0.6 }; // 0.6 mm: a shift is no better known than that
  }

  function step(pane, by) {
    const at = nearest(pane).index;
    const to = Math.min(pane.slices - 1, Math.max(0, at + by));
    goTo(pane.positions[to] - offset(pane));
  }

  function goTo(position) {
    if (position === shown.position) return;
    shown.position = position;
    draw();
    if (hooks.onPlace) hooks.onPlace(position);
  }

  // ---------------------------------------------------------------- drawing

  const resized = new ResizeObserver(() => draw());

  // Rough while the hand moves, smooth once it rests: without a graphics card the smooth way takes four times as long.
  function draw() {
    clearTimeout(rest);
    sharp = false;
    rest = setTimeout(() => drawNext(true), 180);
    drawNext(false);
  }

  function drawNext(smoothly) {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      if (!data) return;
      sharp = smoothly;
      for (const pane of panes) if (pane.image) drawPane(pane);
      showPlace();
    });
  }

  function drawPane(pane) {
    const width = pane.box.clientWidth;
    if (!width) return;
    const height = Math.round(width * (pane.rows * pane.spacing[1]) / (pane.columns * pane.spacing[2]));
    const ratio = window.devicePixelRatio || 1;
    const canvas = pane.canvas;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    paint(context, pane, w, h, ratio);
    const at = nearest(pane);
    const words = `${pane.name}, slice ${at.index + 1} of ${pane.slices}, ${pane.positions[at.index].toFixed(0)} mm; the patient's right is on the left`;
    if (canvas.getAttribute("aria-label") !== words) canvas.setAttribute("aria-label", words);
  }

  function paint(context, pane, w, h, ratio) {
    context.fillStyle = "#000";
    context.fillRect(0, 0, w, h);
    const at = nearest(pane);
    const scale = (w / pane.columns) * shown.zoom;
    const down = (h / pane.rows) * shown.zoom;
    const left = w / 2 - shown.across * pane.columns * scale;
    const top = h / 2 - shown.down * pane.rows * down;
    pane.view = { scale: scale / ratio, down: down / ratio, left: left / ratio, top: top / ratio };
    if (!at.outside) {
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = sharp ? "high" : "low";
      context.drawImage(grey(pane, at.index), left, top, pane.columns * scale, pane.rows * down);
      if (pane.map && shown.overlayOn && shown.opacity > 0) {
        context.globalAlpha = shown.opacity;
        context.drawImage(coloured(pane, at.index), left, top, pane.columns * scale, pane.rows * down);
        context.globalAlpha = 1;
      }
      context.save();
      context.translate(left, top);
      context.scale(scale, down);
      if (pane.evidence && shown.evidence) {
        for (const [number, path] of edges(pane, "evidence", at.index)) {
          context.lineWidth = (1.6 * ratio) / scale;
          context.strokeStyle = SIGN_COLOURS[(number - 1) % SIGN_COLOURS.length];
          context.stroke(path);
        }
      }
      if (pane.mask && shown.liver) {
        context.lineWidth = (1.5 * ratio) / scale;
        context.strokeStyle = LIVER;
        if (pane.drawn_by_program) context.setLineDash([(5 * ratio) / scale, (4 * ratio) / scale]);
        for (const [, path] of edges(pane, "mask", at.index)) context.stroke(path);
      }
      context.restore();
      if (picked) drawCross(context, pane, left, top, scale, down, ratio);
    }
    letters(context, pane, at, w, h, ratio, scale);
  }

  function letters(context, pane, at, w, h, ratio, scale) {
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
    write("R", edge, h / 2, "left");
    write("L", w - edge, h / 2, "right");
    write(pane.name, edge, edge + size / 2, "left");
    const mm = pane.positions[at.index];
    write(`${at.index + 1} / ${pane.slices}   ${mm >= 0 ? "+" : "−"}${Math.abs(mm).toFixed(0)} mm`, w - edge, edge + size / 2, "right");
    if (at.outside) {
      context.font = `${size}px system-ui, sans-serif`;
      write(`no ${pane.name} slice at this height`, w / 2, h / 2, "center");
    }
    if (overlay && !pane.map) write("no map: the model does not use this scan", edge, edge + 2 * size, "left");
    if (data.simulated) {
      context.font = `${11 * ratio}px system-ui, sans-serif`;
      write("simulated", w - edge, h - edge - 6 * ratio, "right");
    }
    const bar = (SCALE_BAR / pane.spacing[2]) * scale;
    if (bar < w * 0.7) {
      context.fillStyle = "#fff";
      context.fillRect(edge, h - edge - 2 * ratio, bar, 2 * ratio);
      context.font = `${11 * ratio}px system-ui, sans-serif`;
      write("5 cm", edge, h - edge - 11 * ratio, "left");
    }
    if (pane.map && shown.overlayOn && pane === panes.filter((one) => one.map).at(-1)) colourBar(context, w, h, ratio, write);
  }

  function colourBar(context, w, h, ratio, write) {
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

  function drawCross(context, pane, left, top, scale, down, ratio) {
    const [row, column] = fromPatient(pane, picked.mm);
    const [x, y, arm] = [left + (column + 0.5) * scale, top + (row + 0.5) * down, 9 * ratio];
    for (const [colour, width] of [["rgba(0,0,0,0.8)", 3], ["#fff", 1.2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * ratio;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * 4 * ratio, y + dy * 4 * ratio);
        context.lineTo(x + dx * arm, y + dy * arm);
      }
      context.stroke();
    }
  }

  // Levels of grey for each of the 256 values; the contrast slider halves and doubles the width of the window.
  function grey(pane, index) {
    const key = `${index} ${pane.level} ${pane.contrast}`;
    const kept = texture(pane, "grey");
    if (kept.key === key) return kept.canvas;
    const width = 2 ** -pane.contrast, low = pane.level - width / 2;
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
  function coloured(pane, index) {
    const key = `${index} ${shown.threshold}`;
    const kept = texture(pane, "map");
    if (kept.key === key) return kept.canvas;
    const look = new Uint8Array(256 * 4);
    for (let i = 0; i < 256; i++) {
      const value = Math.max(-1, Math.min(1, (i - 128) / 127));
      look.set(value >= 0 ? FOR : AGAINST, 4 * i);
      look[4 * i + 3] = Math.abs(value) < shown.threshold ? 0 : Math.round(255 * Math.abs(value) ** 0.8);
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

  // ---------------------------------------------------------------- places in the patient

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

  function pick(pane, event) {
    const at = nearest(pane);
    const box = pane.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - pane.view.left) / pane.view.scale);
    const row = Math.floor((event.clientY - box.top - pane.view.top) / pane.view.down);
    if (at.outside || row < 0 || column < 0 || row >= pane.rows || column >= pane.columns) return;
    picked = { pane: pane.index, slice: at.index, row, column, mm: toPatient(pane, at.index, row, column) };
    tell(describe(pane));
    draw();
    if (hooks.onPick) hooks.onPick({ sequence: pane.name, slice: at.index, row, column });
  }

  function describe(pane) {
    const { slice, row, column, mm } = picked;
    const place = (slice * pane.rows + row) * pane.columns + column;
    const value = pane.range[0] + ((pane.range[1] - pane.range[0]) * pane.image[place]) / 255;
    const sides = [["R", "L"], ["A", "P"], ["S", "I"]];
    const where = mm.map((one, axis) => `${sides[axis][one >= 0 ? 0 : 1]} ${Math.abs(one).toFixed(0)}`).join("  ");
    const words = [`${pane.name} slice ${slice + 1}: ${where} mm; signal ${value.toFixed(2)} (0 is the body's darkest, 1 its brightest hundredth)`];
    if (pane.mask) words.push(pane.mask[place] ? "inside the liver mask" : "outside the liver mask");
    if (pane.map) {
      const share = (pane.map[place] - 128) / 127;
      words.push(`map ${share >= 0 ? "+" : "−"}${Math.abs(100 * share).toFixed(0)} % of its strongest${overlay.unit ? `, about ${(share * overlay.limit).toPrecision(2).replace("-", "−")} ${overlay.unit}` : ""}`);
    }
    if (pane.evidence && shown.evidence && pane.evidence[place]) words.push(`planted: ${data.signs[pane.evidence[place] - 1]}`);
    return words.join("; ");
  }

  const tell = (words) => { find(".cn-readout").textContent = words || "Click a place to read what lies there."; };

  // ---------------------------------------------------------------- hands

  function listen(pane) {
    const { box } = pane;
    let drag = null, turned = 0;
    const touching = new Map();
    box.addEventListener("focus", () => { active = pane.index; showControls(); });
    box.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey) return zoom(Math.exp(-event.deltaY / 200));
      // A wheel's notch is about 100, a touchpad sends many small ones; at most one slice an event.
      turned += event.deltaMode ? 40 * event.deltaY : event.deltaY;
      if (Math.abs(turned) < 30) return undefined;
      step(pane, turned < 0 ? 1 : -1);
      turned = 0;
      return undefined;
    }, { passive: false });
    box.addEventListener("contextmenu", (event) => event.preventDefault());
    box.addEventListener("pointerdown", (event) => {
      box.focus();
      try { box.setPointerCapture(event.pointerId); } catch { /* a made-up pointer has no capture */ }
      touching.set(event.pointerId, [event.clientX, event.clientY]);
      drag = { x: event.clientX, y: event.clientY, button: event.button, moved: false };
    });
    box.addEventListener("pointermove", (event) => {
      if (!drag || !touching.has(event.pointerId)) return;
      const before = [...touching.values()];
      touching.set(event.pointerId, [event.clientX, event.clientY]);
      const after = [...touching.values()];
      if (after.length === 2) {
        drag.moved = true;
        zoom(apart(after) / Math.max(apart(before), 1));
        return;
      }
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (!drag.moved && Math.hypot(dx, dy) < 4) return;
      Object.assign(drag, { moved: true, x: event.clientX, y: event.clientY });
      if (drag.button === 2) {
        setWindow(pane, pane.level - dy / 300, pane.contrast + dx / 150);
      } else {
        move(dx / (pane.view.scale * pane.columns), dy / (pane.view.down * pane.rows));
      }
    });
    const release = (event) => {
      touching.delete(event.pointerId);
      if (drag && !drag.moved && drag.button === 0 && event.type === "pointerup") pick(pane, event);
      if (!touching.size) drag = null;
    };
    box.addEventListener("pointerup", release);
    box.addEventListener("pointercancel", release);
    box.addEventListener("keydown", (event) => key(pane, event));
  }

  const apart = ([one, other]) => Math.hypot(one[0] - other[0], one[1] - other[1]);

  function key(pane, event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = {
      ArrowUp: () => step(pane, 1), ArrowDown: () => step(pane, -1),
      ArrowRight: () => step(pane, 1), ArrowLeft: () => step(pane, -1),
      PageUp: () => step(pane, 5), PageDown: () => step(pane, -5),
      Home: () => step(pane, -pane.slices), End: () => step(pane, pane.slices),
      "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
      b: () => setWindow(pane, pane.level - 0.05, pane.contrast), v: () => setWindow(pane, pane.level + 0.05, pane.contrast),
      c: () => setWindow(pane, pane.level, pane.contrast + 0.1), x: () => setWindow(pane, pane.level, pane.contrast - 0.1),
      " ": play, r: reset,
      m: () => toggle("overlayOn"), l: () => toggle("liver"), e: () => toggle("evidence"),
    };
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    // JupyterLab has shortcuts of its own on these keys.
    event.stopPropagation();
    act();
  }

  function toggle(name) {
    shown[name] = !shown[name];
    showControls();
    draw();
  }

  function zoom(by) {
    shown.zoom = Math.min(12, Math.max(1, shown.zoom * by));
    move(0, 0);
  }

  function move(across, down) {
    const half = 0.5 / shown.zoom; // the picture fills its pane at every zoom
    shown.across = Math.min(1 - half, Math.max(half, shown.across - across));
    shown.down = Math.min(1 - half, Math.max(half, shown.down - down));
    showControls();
    draw();
  }

  function setWindow(pane, level, contrast) {
    pane.level = Math.min(1.5, Math.max(0, level));
    pane.contrast = Math.min(2.5, Math.max(-2, contrast));
    active = pane.index;
    showControls();
    draw();
  }

  function usualWindow(pane) {
    const [low, high] = pane.window || [0, 1];
    Object.assign(pane, { level: (low + high) / 2, contrast: -Math.log2(high - low) });
  }

  function reset() {
    Object.assign(shown, { zoom: 1, across: 0.5, down: 0.5, opacity: 0.7, threshold: 0.1, overlayOn: true });
    panes.forEach(usualWindow);
    picked = null;
    tell("");
    showControls();
    draw();
  }

  function play() {
    if (playing) return stop();
    const lead = leading();
    if (!lead) return undefined;
    playing = setInterval(() => {
      const at = nearest(lead).index;
      goTo(lead.positions[(at + 1) % lead.slices] - offset(lead));
    }, 160);
    return showPlaying();
  }

  function stop() {
    if (playing) clearInterval(playing);
    playing = null;
    showPlaying();
  }

  function showPlaying() {
    const button = find('[data-do="play"]');
    button.setAttribute("aria-pressed", String(Boolean(playing)));
    button.innerHTML = playing ? "&#10073;&#10073; Pause" : "&#9654; Play";
  }

  // ---------------------------------------------------------------- controls

  root.addEventListener("input", (event) => {
    const name = event.target.dataset && event.target.dataset.set;
    if (!name || !data) return;
    const value = event.target.type === "checkbox" ? event.target.checked : Number(event.target.value);
    const pane = panes[active] && panes[active].image ? panes[active] : leading();
    if (name === "place") goTo(heights[value]);
    else if (name === "level" && pane) setWindow(pane, value, pane.contrast);
    else if (name === "contrast" && pane) setWindow(pane, pane.level, value);
    else if (name in shown) shown[name] = value;
    if (name === "shiftOn") {
      const lead = leading();
      heights = lead.positions.map((z) => z - offset(lead));
    }
    showControls();
    draw();
  });

  root.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("[data-do]");
    if (!button || !data) return;
    ({ play, reset, save, in: () => zoom(1.25), out: () => zoom(0.8) })[button.dataset.do]();
  });

  function showControls() {
    for (const input of root.querySelectorAll("input[type=checkbox][data-set]")) input.checked = Boolean(shown[input.dataset.set]);
    const pane = panes[active] && panes[active].image ? panes[active] : leading();
    if (pane) {
      find('[data-set="level"]').value = pane.level;
      find('[data-set="contrast"]').value = pane.contrast;
    }
    find('[data-set="opacity"]').value = shown.opacity;
    find('[data-set="threshold"]').value = shown.threshold;
    find('[data-told="threshold"]').textContent = `${Math.round(100 * shown.threshold)} %`;
    find('[data-told="zoom"]').textContent = `${Math.round(100 * shown.zoom)} %`;
    find('[data-part="overlay"]').hidden = !overlay;
    for (const one of panes) one.box.classList.toggle("cn-active", one.index === active && panes.filter((p) => p.image).length > 1);
  }

  function showPlace() {
    let best = 0;
    heights.forEach((one, i) => { if (Math.abs(one - shown.position) < Math.abs(heights[best] - shown.position)) best = i; });
    const slider = find('[data-set="place"]');
    slider.max = Math.max(heights.length - 1, 0);
    slider.disabled = heights.length < 2;
    find('[data-do="play"]').disabled = heights.length < 2;
    slider.value = best;
    const words = `${shown.position >= 0 ? "+" : "−"}${Math.abs(shown.position).toFixed(0)} mm`;
    if (announced !== words) {
      announced = words;
      find('[data-told="place"]').textContent = words;
      slider.setAttribute("aria-valuetext", words);
    }
    const legend = find('[data-part="signs"]');
    legend.hidden = !shown.evidence;
    if (!shown.evidence) return;
    const here = new Set();
    for (const pane of panes) {
      if (!pane.evidence || nearest(pane).outside) continue;
      for (const number of edges(pane, "evidence", nearest(pane).index).keys()) here.add(number);
    }
    const key = [...here].sort().join();
    if (legend.dataset.key === key) return;
    legend.dataset.key = key;
    legend.replaceChildren(here.size ? "Planted in these slices: " : "No sign is planted in these slices.");
    for (const number of [...here].sort()) {
      const chip = document.createElement("span");
      chip.className = "cn-chip";
      chip.style.setProperty("--colour", SIGN_COLOURS[(number - 1) % SIGN_COLOURS.length]);
      chip.textContent = data.signs[number - 1];
      legend.append(chip);
    }
  }

  // ---------------------------------------------------------------- taking along

  function picture() {
    const drawn = panes.filter((one) => one.image);
    const ratio = window.devicePixelRatio || 1, gap = 6 * ratio, band = 44 * ratio;
    const canvas = document.createElement("canvas");
    canvas.width = drawn.reduce((sum, one) => sum + one.canvas.width + gap, -gap);
    canvas.height = Math.max(...drawn.map((one) => one.canvas.height)) + band;
    const context = canvas.getContext("2d");
    context.fillStyle = "#111";
    context.fillRect(0, 0, canvas.width, canvas.height);
    let left = 0;
    for (const pane of drawn) {
      context.drawImage(pane.canvas, left, 0);
      left += pane.canvas.width + gap;
    }
    context.fillStyle = "#fff";
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    const told = [`${data.title}${data.simulated ? ", simulated" : ""}`, overlay && shown.overlayOn ? overlay.label : ""].filter(Boolean).join("; ");
    context.fillText(told, 8 * ratio, canvas.height - 26 * ratio, canvas.width - 16 * ratio);
    context.fillText("Research and education only. Not a medical device, no diagnosis.", 8 * ratio, canvas.height - 9 * ratio);
    return canvas;
  }

  function save() {
    picture().toBlob((blob) => download(blob, `${data.title.replace(/[^A-Za-z0-9._-]+/g, "-")}.png`), "image/png");
  }

  return {
    setCase, setOverlay, goTo, tell,
    get state() { return { ...shown, active, picked, sharp, playing: Boolean(playing), overlay: Boolean(overlay) }; },
    destroy() { stop(); clearTimeout(rest); resized.disconnect(); },
  };
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
