// The slices of one patient, drawn and scrolled in the browser: the explorer and the pages of reports share this.
//
// createViewer(root, hooks) builds it inside an element. It is given a case (the pictures, 8 bits a pixel), an overlay
// (a map, 8 bits a pixel) and where to go; it calls `hooks.onPlace` with the height the reader went to. Pictures
// leave `hooks.beside` pixels of the window's height to what stands above and below them. `geometry`, `painting`, `input`
// and `controls` come before this file in one script.

const LOWEST = 320; // pixels that a picture is high at least, however low the window
const USUAL = { zoom: 1, across: 0.5, down: 0.5, opacity: 0.7, threshold: 0.1, overlayOn: true };

function createViewer(root, hooks = {}) {
  root.classList.add("cn-viewer");
  const shown = { position: 0, shiftOn: true, liver: false, organs: false, evidence: false, ...USUAL };
  let data = null, overlay = null, panes = [], active = 0, picked = null, scheduled = false, playing = null, heights = [];
  let sharp = false, wanted = false, rest = null;
  const acts = { step, zoom, move, setWindow, pick, toggle, play, reset, activate, drawBox };
  const controls = createControls(root, { play, reset, save, in: () => zoom(1.25), out: () => zoom(0.8) }, changed);
  const resized = new ResizeObserver(() => draw());
  window.addEventListener("resize", draw); // a window that is only lower now

  // ---------------------------------------------------------------- the case

  function setCase(given) {
    stop();
    data = given;
    overlay = null;
    picked = null;
    active = 0;
    Object.assign(shown, { zoom: 1, across: 0.5, down: 0.5 });
    resized.disconnect();
    root.querySelector(".cn-panes").replaceChildren();
    panes = data.panes.map(makePane);
    setHeights();
    shown.position = data.start ?? heights[Math.floor(heights.length / 2)] ?? 0;
    controls.offer(data, panes);
    controls.showReadout("");
    showSettings();
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
      root.querySelector(".cn-panes").append(box);
      return pane;
    }
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${given.name} slices. Arrow keys change the slice.`);
    pane.canvas = document.createElement("canvas");
    pane.canvas.setAttribute("role", "img");
    box.append(pane.canvas);
    root.querySelector(".cn-panes").append(box);
    listen(pane, acts);
    resized.observe(box);
    return pane;
  }

  function setOverlay(given) {
    overlay = given;
    for (const pane of panes) {
      pane.map = given && given.maps[pane.name] ? given.maps[pane.name] : null;
      pane.textures.map = null;
    }
    showPicked();
    showSettings();
    draw();
  }

  // ---------------------------------------------------------------- where

  const leading = () => panes.filter((one) => one.image).sort((a, b) => b.slices - a.slices)[0];
  // Organs lie `shift` mm further to the head there than in the first sequence.
  const offset = (pane) => (shown.shiftOn ? pane.shift || 0 : 0);
  const nearest = (pane) => sliceAt(pane, shown.position + offset(pane));

  function setHeights() {
    const lead = leading();
    heights = lead ? lead.positions.map((z) => z - offset(lead)) : [];
  }

  function step(pane, by) {
    const to = Math.min(pane.slices - 1, Math.max(0, nearest(pane).index + by));
    goTo(pane.positions[to] - offset(pane));
  }

  function goTo(position) {
    if (!data || position === shown.position) return;
    follow(position);
    if (hooks.onPlace) hooks.onPlace(position);
  }

  // The same where another window went, which need not be notified.
  function follow(position) {
    if (!data || position === shown.position) return;
    shown.position = position;
    draw();
  }

  function play() {
    if (playing) return stop();
    const lead = leading();
    if (!lead) return undefined;
    playing = setInterval(() => {
      goTo(lead.positions[(nearest(lead).index + 1) % lead.slices] - offset(lead));
    }, 160);
    return controls.showPlaying(true);
  }

  function stop() {
    if (playing) clearInterval(playing);
    playing = null;
    controls.showPlaying(false);
  }

  // Row and column of a pane, not rounded, at which an event lies.
  function placeOf(pane, event) {
    const box = pane.canvas.getBoundingClientRect();
    return [(event.clientY - box.top - pane.view.top) / pane.view.down, (event.clientX - box.left - pane.view.left) / pane.view.scale];
  }

  function pick(pane, event) {
    const at = nearest(pane);
    const [row, column] = placeOf(pane, event).map(Math.floor);
    if (at.outside || row < 0 || column < 0 || row >= pane.rows || column >= pane.columns) return;
    picked = { pane: pane.index, slice: at.index, row, column, mm: toPatient(pane, at.index, row, column) };
    showPicked();
    draw();
  }

  // A box that the reader draws, where somebody wants one: rows and columns from and to, at all heights.
  function drawBox(pane, from, to, done) {
    if (!hooks.onBox) return;
    const ends = [placeOf(pane, from), placeOf(pane, to)];
    const [rows, columns] = [pane.rows, pane.columns].map((size, axis) => ends.map((one) => Math.min(size, Math.max(0, one[axis]))).sort((a, b) => a - b));
    setBox(pane.name, { rows, columns, slices: pane.drawnBox ? pane.drawnBox.slices : [0, pane.slices] });
    if (done) hooks.onBox(pane.name, rows, columns);
  }

  // Show a box on a pane, or take all boxes away (none).
  function setBox(name, box) {
    for (const pane of panes) pane.drawnBox = pane.name === name ? box : null;
    draw();
  }

  // What lies at the place that was clicked, in the map that is on show now.
  function showPicked() {
    if (!picked) return;
    const pane = panes[picked.pane];
    const sign = shown.evidence && pane.evidence ? pane.evidence[(picked.slice * pane.rows + picked.row) * pane.columns + picked.column] : 0;
    controls.showReadout(described(pane, picked, overlay, sign ? data.signs[sign - 1] : ""));
  }

  // ---------------------------------------------------------------- how

  function changed(name, value) {
    if (!data) return;
    const pane = windowed();
    if (name === "place") goTo(heights[value]);
    else if (name === "level" && pane) setWindow(pane, value, pane.contrast);
    else if (name === "contrast" && pane) setWindow(pane, pane.level, value);
    else if (name in shown) shown[name] = value;
    if (name === "shiftOn") setHeights();
    showSettings();
    draw();
  }

  function toggle(name) {
    if (data && !controls.offered(name)) return;
    shown[name] = !shown[name];
    showSettings();
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
    showSettings();
    draw();
  }

  function setWindow(pane, level, contrast) {
    pane.level = Math.min(1.5, Math.max(0, level));
    pane.contrast = Math.min(2.5, Math.max(-2, contrast));
    activate(pane);
    draw();
  }

  function usualWindow(pane) {
    const [low, high] = pane.window || [0, 1];
    Object.assign(pane, { level: (low + high) / 2, contrast: -Math.log2(high - low) });
  }

  function reset() {
    Object.assign(shown, USUAL);
    panes.forEach(usualWindow);
    picked = null;
    controls.showReadout("");
    showSettings();
    draw();
  }

  // Brightness and contrast belong to the picture that was used last.
  const windowed = () => (panes[active] && panes[active].image ? panes[active] : leading());

  function activate(pane) {
    active = pane.index;
    showSettings();
  }

  function showSettings() {
    controls.showSettings(shown, windowed(), overlay);
    const several = panes.filter((one) => one.image).length > 1;
    for (const one of panes) one.box.classList.toggle("cn-active", several && one.index === active);
  }

  // ---------------------------------------------------------------- drawing

  // Rough while the hand moves, smooth once it rests: without a graphics card the smooth way takes four times as long.
  function draw() {
    clearTimeout(rest);
    sharp = false;
    rest = setTimeout(() => drawNext(true), 180);
    drawNext(false);
  }

  function drawNext(smoothly) {
    wanted = smoothly; // a page behind another draws nothing until it is seen again
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      if (!data) return;
      sharp = wanted;
      for (const pane of panes) if (pane.image) drawPane(pane);
      controls.showPlace(heights, shown.position);
      controls.showContours(shown.organs || shown.liver ? contoursHere() : null);
      controls.showSigns(shown.evidence ? signsHere() : null);
    });
  }

  function drawPane(pane) {
    if (!pane.box.clientWidth) return;
    const shape = (pane.rows * pane.spacing[1]) / (pane.columns * pane.spacing[2]);
    const room = hooks.beside ? Math.max(LOWEST, window.innerHeight - hooks.beside) : Infinity;
    const width = Math.min(pane.box.clientWidth, Math.floor(room / shape));
    const height = Math.round(width * shape);
    const ratio = window.devicePixelRatio || 1;
    const canvas = pane.canvas;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    const at = nearest(pane);
    const barred = shown.overlayOn && pane.map && pane === panes.filter((one) => one.map).at(-1);
    paint(context, pane, { shown, overlay, picked, at, sharp, barred, title: data.title, simulated: data.simulated }, w, h, ratio);
    const words = at.outside ? `no ${pane.name} slice at this height` : `${pane.name}, slice ${at.index + 1} of ${pane.slices}, ${pane.positions[at.index].toFixed(0)} mm; the patient's right is on the left`;
    if (canvas.getAttribute("aria-label") !== words) canvas.setAttribute("aria-label", words);
  }

  // Numbers of the labels of a layer in the slices on show, with the pane that has them.
  function* labelsHere(layer) {
    for (const pane of panes) {
      if (!pane[layer] || nearest(pane).outside) continue;
      for (const number of edges(pane, layer, nearest(pane).index).keys()) yield [number, pane];
    }
  }

  function contoursHere() {
    const here = new Map();
    const add = (name, colour, dashed) => here.set(name, { name, colour, dashed: dashed || (here.get(name) || {}).dashed });
    if (shown.liver) for (const [, pane] of labelsHere("mask")) add("liver", LIVER, pane.drawn_by_program);
    if (shown.organs) {
      for (const [number, pane] of labelsHere("organs")) add(pane.organ_names[number - 1], pane.organ_colours[number - 1], pane.organs_by_program);
    }
    return [...here.values()];
  }

  function signsHere() {
    const numbers = new Set([...labelsHere("evidence")].map(([number]) => number));
    return [...numbers].sort().map((number) => ({ name: data.signs[number - 1], colour: SIGN_COLOURS[(number - 1) % SIGN_COLOURS.length] }));
  }

  function save() {
    const caption = [`${data.title}${data.simulated ? ", simulated" : ""}`, overlay && shown.overlayOn ? overlay.label : ""];
    const drawn = picture(panes.filter((one) => one.image), caption.filter(Boolean).join("; "), window.devicePixelRatio || 1);
    drawn.toBlob((blob) => download(blob, `${data.title.replace(/[^A-Za-z0-9._-]+/g, "-")}.png`), "image/png");
  }

  return {
    setCase, setOverlay, setBox, goTo, follow, showReadout: controls.showReadout,
    get state() { return { ...shown, active, picked, sharp, playing: Boolean(playing), overlay: Boolean(overlay) }; },
    destroy() { stop(); clearTimeout(rest); resized.disconnect(); window.removeEventListener("resize", draw); },
  };
}
