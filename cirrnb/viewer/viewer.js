// The slices of one patient, drawn and scrolled in the browser: the explorer and the pages of reports share this.
//
// createViewer(root, hooks) builds it inside an element. It is given a case (the pictures, 8 bits a pixel), an overlay
// (a map, 8 bits a pixel) and where to go; it calls `hooks.onPlace` with the height the reader went to. Pictures
// leave `hooks.beside` pixels of the window's height to what stands above and below them, `hooks.above` where the tools are at their side. `hooks.onPick` is called with
// the place that was clicked, and `setNamed` says what lies there. `geometry`, `painting`, `input` and `controls` come before
// this file in one script.

const LOWEST = 320; // pixels that a picture is high at least, however low the window
const BESIDE_FROM = 900; // width from which the tools of a lone sequence stand beside it, as in viewer.css
const WIDEST = 4; // the narrowest window is 1/2^4 of the body's range
const USUAL = { zoom: 1, across: 0.5, down: 0.5, opacity: 0.7, threshold: 0.1, overlayOn: true };

function createViewer(root, hooks = {}) {
  root.classList.add("cn-viewer");
  // `places`: where each plane stands, in mm along its axis; heights are those of the first sequence.
  const shown = { plane: "axial", places: { axial: 0, coronal: 0, sagittal: 0 }, shiftOn: true, liver: false, organs: false, evidence: false, ruler: false, ...USUAL };
  // `sources` are the panes as they came, `panes` what is shown of them: in another plane their volumes are turned.
  let data = null, overlay = null, sources = [], panes = [], active = 0, picked = null, scheduled = false, playing = null, heights = [];
  let sharp = false, wanted = false, rest = null;
  const acts = { step, zoom, move, setWindow, pick, toggle, play, reset, activate, drawBox, measure, nextPlane, measuring: () => shown.ruler, zoomed: () => shown.zoom > 1, view: (given) => panes[given.index] };
  const buttons = { play, reset, save, ruler: () => toggle("ruler"), in: () => zoom(1.25), out: () => zoom(0.8) };
  for (const plane of Object.keys(PLANES)) buttons[plane] = () => setPlane(plane);
  const controls = createControls(root, buttons, changed);
  const resized = new ResizeObserver(() => draw());
  window.addEventListener("resize", draw); // a window that is only lower now
  const onKey = (event) => {
    const pane = windowed();
    if (pane && meant(event, root)) key(sources[pane.index], event, acts);
  };
  if (hooks.keys) document.addEventListener("keydown", onKey);

  // ---------------------------------------------------------------- the case

  function setCase(given) {
    stop();
    data = given;
    overlay = null;
    picked = null;
    active = 0;
    Object.assign(shown, { plane: "axial", zoom: 1, across: 0.5, down: 0.5 });
    resized.disconnect();
    const place = root.querySelector(".cn-panes"), focused = place.contains(document.activeElement);
    place.replaceChildren();
    sources = data.panes.map(makePane);
    showMissing();
    panes = sources;
    setHeights();
    shown.places = { axial: data.start ?? heights[Math.floor(heights.length / 2)] ?? 0, ...middles() };
    controls.offer(data, sources);
    controls.showReadout("");
    showSettings();
    draw();
    // Who was at the pictures stays there: a case that follows another is read with the same keys.
    if (focused) focusPictures();
  }

  // Where the other planes stand at first: through the middle of the liver, or of the pictures.
  function middles() {
    const lead = leading();
    if (!lead) return { coronal: 0, sagittal: 0 };
    const { index } = nearest(lead);
    let [rows, columns, count] = [0, 0, 0];
    if (lead.mask) {
      for (let row = 0, i = index * lead.rows * lead.columns; row < lead.rows; row++) {
        for (let column = 0; column < lead.columns; column++, i++) if (lead.mask[i]) { rows += row; columns += column; count += 1; }
      }
    }
    const [row, column] = count ? [rows / count, columns / count] : [(lead.rows - 1) / 2, (lead.columns - 1) / 2];
    const [x, y] = toPatient(lead, index, row, column);
    return { coronal: y, sagittal: x };
  }

  function focusPictures() {
    const first = root.querySelector(".cn-pane[tabindex]");
    if (first) first.focus({ preventScroll: true });
  }

  function makePane(given, index) {
    const box = document.createElement("div");
    box.className = "cn-pane";
    const pane = { ...given, index, box, paths: new Map(), textures: {}, look: {}, views: {} };
    usualWindow(pane);
    if (!given.image) return pane; // `showMissing` names it
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

  // A sequence that is missing is named in a line and takes no picture's space; a lone one has its tools beside it.
  function showMissing() {
    const there = sources.filter((one) => one.image).length, note = root.querySelector(".cn-missing");
    note.textContent = sources.filter((one) => !one.image).map((one) => `${one.name}: ${one.reason || "no such scan"}`).join("; ");
    note.hidden = there === sources.length;
    root.querySelector(".cn-panes").hidden = !there;
    root.classList.toggle("cn-single", there === 1);
  }

  function setOverlay(given) {
    overlay = given;
    for (const pane of sources) {
      pane.map = given && given.maps[pane.name] ? given.maps[pane.name] : null;
      for (const view of [pane, ...Object.values(pane.views)]) view.textures.map = null;
      for (const [plane, view] of Object.entries(pane.views)) view.map = pane.map && reformatted(pane.map, pane, plane);
    }
    showPicked();
    showSettings();
    draw();
  }

  // ---------------------------------------------------------------- planes

  // A pane as it looks in a plane; made when first asked for.
  function viewOf(pane, plane) {
    if (plane === "axial" || !pane.image) return pane;
    if (!pane.views[plane]) {
      const view = { ...pane, ...turned(pane, plane), paths: new Map(), textures: {}, drawnBox: null, ruler: null };
      for (const layer of ["image", "mask", "organs", "evidence", "map"]) if (pane[layer]) view[layer] = reformatted(pane[layer], pane, plane);
      pane.views[plane] = view;
    }
    return pane.views[plane];
  }

  function setPlane(plane) {
    if (!data || plane === shown.plane) return;
    stop();
    shown.plane = plane;
    Object.assign(shown, { zoom: 1, across: 0.5, down: 0.5 });
    panes = sources.map((pane) => viewOf(pane, plane));
    setHeights();
    showPicked();
    showSettings();
    draw();
  }

  function nextPlane() {
    const names = Object.keys(PLANES);
    setPlane(names[(names.indexOf(shown.plane) + 1) % names.length]);
  }

  // ---------------------------------------------------------------- where

  const leading = () => panes.filter((one) => one.image).sort((a, b) => b.slices - a.slices)[0];
  // Organs lie `shift` mm further to the head there than in the first sequence.
  const breath = (pane) => (shown.shiftOn ? pane.shift || 0 : 0);
  const offset = (pane) => (shown.plane === "axial" ? breath(pane) : 0);
  const nearest = (pane) => sliceAt(pane, shown.places[shown.plane] + offset(pane));
  // The same place in the breath of a pane's scan, and in that of the first sequence.
  const inBreath = (pane, [x, y, z]) => [x, y, z + breath(pane)];
  const outOfBreath = (pane, [x, y, z]) => [x, y, z - breath(pane)];

  function setHeights() {
    const lead = leading();
    heights = lead ? lead.positions.map((z) => z - offset(lead)) : [];
  }

  function step(pane, by) {
    const to = Math.min(pane.slices - 1, Math.max(0, nearest(pane).index + by));
    goTo(pane.positions[to] - offset(pane));
  }

  // To a place in the plane on show.
  function goTo(place) {
    if (!data || place === shown.places[shown.plane]) return;
    shown.places[shown.plane] = place;
    draw();
    if (hooks.onPlace && shown.plane === "axial") hooks.onPlace(place);
  }

  // To a height, where another window went or the kernel points, which need not be notified.
  function follow(height) {
    if (!data || height === shown.places.axial) return;
    shown.places.axial = height;
    draw();
  }

  // To a height that somebody else names: it is shown whatever plane was.
  function show(height) {
    setPlane("axial");
    follow(height);
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
    const own = toPatient(pane, at.index, row, column), mm = outOfBreath(pane, own);
    picked = { pane: pane.index, plane: shown.plane, slice: at.index, row, column, own, mm, named: "", number: (picked ? picked.number : 0) + 1 };
    // The other planes go to the place as well: whoever changes to them sees it.
    const { axial } = shown.places;
    shown.places = { sagittal: mm[0], coronal: mm[1], axial: mm[2], [shown.plane]: shown.places[shown.plane] };
    if (hooks.onPlace && shown.places.axial !== axial) hooks.onPlace(shown.places.axial);
    if (hooks.onPick) hooks.onPick({ name: pane.name, mm: own, number: picked.number });
    showPicked();
    draw();
  }

  // What lies at the place that was clicked, by somebody who knows more than the pictures.
  function setNamed(number, words) {
    if (!picked || picked.number !== number) return;
    picked.named = words;
    showPicked();
  }

  // A line between two places of a pane, which stays on its slice until another is drawn or the view is reset.
  function measure(pane, from, to) {
    const ends = [placeOf(pane, from), placeOf(pane, to)];
    const at = nearest(pane);
    if (at.outside) return;
    const [one, other] = ends.map(([row, column]) => toPatient(pane, at.index, row - 0.5, column - 0.5));
    const length = Math.hypot(...one.map((value, axis) => value - other[axis]));
    pane.ruler = { plane: shown.plane, slice: at.index, from: ends[0], to: ends[1], words: `${length.toFixed(length < 20 ? 1 : 0)} mm` };
    controls.showReadout(`Ruler: ${pane.ruler.words} on ${pane.name} slice ${at.index + 1}`);
    draw();
  }

  // A box that the reader draws, where somebody wants one: rows and columns from and to, at all heights.
  function drawBox(pane, from, to, done) {
    if (!hooks.onBox || shown.plane !== "axial") return;
    const ends = [placeOf(pane, from), placeOf(pane, to)];
    const [rows, columns] = [pane.rows, pane.columns].map((size, axis) => ends.map((one) => Math.min(size, Math.max(0, one[axis]))).sort((a, b) => a - b));
    setBox(pane.name, { rows, columns, slices: pane.drawnBox ? pane.drawnBox.slices : [0, pane.slices] });
    if (done) hooks.onBox(pane.name, rows, columns);
  }

  // Show a box on a pane, or take all boxes away (none).
  function setBox(name, box) {
    for (const pane of sources) pane.drawnBox = pane.name === name ? box : null;
    draw();
  }

  // What lies at the place that was clicked, in the map that is on show now.
  function showPicked() {
    if (!picked) return;
    const pane = viewOf(sources[picked.pane], picked.plane);
    const sign = shown.evidence && pane.evidence ? pane.evidence[(picked.slice * pane.rows + picked.row) * pane.columns + picked.column] : 0;
    controls.showReadout(described(pane, { ...picked, mm: picked.own }, overlay, sign ? data.signs[sign - 1] : "", picked.named));
  }

  // ---------------------------------------------------------------- how

  function changed(name, value) {
    if (!data) return;
    const pane = windowed();
    if (name === "place") goTo(heights[value]);
    else if (name === "level" && pane) setWindow(pane, intensityOf(pane, value), pane.look.contrast);
    else if (name === "width" && pane) setWindow(pane, pane.look.level, -Math.log2(Math.max(value / (pane.signal ? pane.signal[1] : 1), 2 ** -WIDEST)));
    else if (name === "preset" && pane) usualWindow(pane, pane.presets && pane.presets[value]);
    else if (name in shown) shown[name] = value;
    if (name === "shiftOn") setHeights();
    showSettings();
    draw();
  }

  function toggle(name) {
    if (data && name !== "ruler" && !controls.offered(name)) return;
    shown[name] = !shown[name];
    showSettings();
    draw();
  }

  // A liver that a program drew shall be looked at where an answer rests on it.
  function showProgramOutline() {
    if (!sources.some((pane) => pane.mask && pane.drawn_by_program)) return;
    shown.liver = true;
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
    pane.look.level = Math.min(2, Math.max(-0.5, level));
    pane.look.contrast = Math.min(WIDEST, Math.max(-2, contrast));
    activate(pane);
    draw();
  }

  function usualWindow(pane, wanted) {
    const [low, high] = wanted || pane.window || [0, 1];
    Object.assign(pane.look, { level: (low + high) / 2, contrast: -Math.log2(high - low) });
  }

  function reset() {
    Object.assign(shown, USUAL);
    sources.forEach((pane) => usualWindow(pane));
    for (const pane of [...sources, ...panes]) pane.ruler = null;
    picked = null;
    shown.ruler = false;
    controls.showReadout("");
    showSettings();
    draw();
  }

  // Level and width belong to the picture that was used last.
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
      controls.showPlace(heights, shown.places[shown.plane], shown.plane);
      controls.showContours(shown.organs || shown.liver ? contoursHere() : null);
      controls.showSigns(shown.evidence ? signsHere() : null);
    });
  }

  function drawPane(pane) {
    if (!pane.box.clientWidth) return;
    const shape = (pane.rows * pane.spacing[1]) / (pane.columns * pane.spacing[2]);
    // Tools that stand beside the picture leave it their height.
    const above = root.clientWidth >= BESIDE_FROM && root.classList.contains("cn-single") ? hooks.above : hooks.beside;
    const room = above ? Math.max(LOWEST, window.innerHeight - above) : Infinity;
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
    paint(context, pane, { shown, overlay, picked, mm: (place) => inBreath(pane, place), at, sharp, barred, title: data.title, simulated: data.simulated }, w, h, ratio);
    const side = shown.plane === "sagittal" ? "the patient's front is on the left" : "the patient's right is on the left";
    const named = shown.plane === "axial" ? "" : `${shown.plane} `;
    const words = at.outside ? `no ${pane.name} slice ${named ? "here" : "at this height"}` : `${pane.name}, ${named}slice ${at.index + 1} of ${pane.slices}, ${pane.positions[at.index].toFixed(0)} mm; ${side}`;
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
    setCase, setOverlay, setBox, setNamed, showProgramOutline, goTo, follow, show, focusPictures, showReadout: controls.showReadout,
    get state() { return { ...shown, position: shown.places.axial, looks: sources.map((one) => one.look), rulers: panes.map((one) => one.ruler && one.ruler.words), active, picked, sharp, playing: Boolean(playing), overlay: Boolean(overlay) }; },
    destroy() { stop(); clearTimeout(rest); resized.disconnect(); window.removeEventListener("resize", draw); document.removeEventListener("keydown", onKey); },
  };
}
