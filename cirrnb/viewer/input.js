// Input on a pane: wheel, drag, touch and keys, passed to the viewer as `acts`.

const SWIPE = 14; // pixels of a finger's way for each slice

// `given` is the pane as it came; what is shown in its place may be another plane's view of it.
function listen(given, acts) {
  const { box } = given;
  let drag = null, turned = 0, swiped = 0;
  const touching = new Map();
  box.addEventListener("focus", () => acts.activate(acts.view(given)));
  box.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) return acts.zoom(Math.exp(-event.deltaY / 200));
    // A wheel's notch is about 100, a touchpad sends many small ones; at most one slice an event.
    turned += event.deltaMode ? 40 * event.deltaY : event.deltaY;
    if (Math.abs(turned) < 30) return undefined;
    acts.step(acts.view(given), turned < 0 ? 1 : -1);
    turned = 0;
    return undefined;
  }, { passive: false });
  box.addEventListener("contextmenu", (event) => event.preventDefault());
  box.addEventListener("pointerdown", (event) => {
    box.focus();
    swiped = 0;
    try { box.setPointerCapture(event.pointerId); } catch { /* a made-up pointer has no capture */ }
    touching.set(event.pointerId, [event.clientX, event.clientY]);
    const measuring = acts.measuring() && event.button === 0;
    drag = { x: event.clientX, y: event.clientY, button: event.button, moved: false, from: event.shiftKey || measuring ? event : null };
    drag.span = measuring ? acts.measure : acts.drawBox;
  });
  box.addEventListener("pointermove", (event) => {
    const pane = acts.view(given);
    if (!drag || !touching.has(event.pointerId)) return;
    const before = [...touching.values()];
    touching.set(event.pointerId, [event.clientX, event.clientY]);
    const after = [...touching.values()];
    if (after.length === 2) {
      drag.moved = true;
      acts.zoom(apart(after) / Math.max(apart(before), 1));
      return;
    }
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    Object.assign(drag, { moved: true, x: event.clientX, y: event.clientY });
    if (drag.from) {
      drag.span(pane, drag.from, event, false);
    } else if (drag.button === 2) {
      acts.setWindow(pane, pane.look.level - dy / 300, pane.look.contrast + dx / 150);
    } else if (event.pointerType === "touch" && !acts.zoomed()) {
      swiped -= dy; // the whole picture is in sight: nothing to move
      if (Math.abs(swiped) < SWIPE) return;
      acts.step(pane, Math.trunc(swiped / SWIPE));
      swiped %= SWIPE;
    } else {
      acts.move(dx / (pane.view.scale * pane.columns), dy / (pane.view.down * pane.rows));
    }
  });
  const release = (event) => {
    const pane = acts.view(given);
    touching.delete(event.pointerId);
    if (drag && drag.from && drag.moved && event.type === "pointerup") drag.span(pane, drag.from, event, true);
    if (drag && !drag.moved && drag.button === 0 && event.type === "pointerup") acts.pick(pane, event);
    if (!touching.size) drag = null;
  };
  box.addEventListener("pointerup", release);
  box.addEventListener("pointercancel", release);
  box.addEventListener("keydown", (event) => key(given, event, acts));
}

const apart = ([one, other]) => Math.hypot(one[0] - other[0], one[1] - other[1]);

// Keys while nobody has the focus, or a button of the same page has: they are for the first viewer in sight. What
// scrolls or presses in a browser is left to it.
function meant(event, root) {
  if (event.defaultPrevented || /^(Page|Home|End|Enter| )/.test(event.key)) return false;
  const { target } = event, home = root.closest(".cn-explorer, .cn-quiz");
  const nobody = target === document.body || target === document.documentElement;
  const button = target.closest && target.closest("button");
  if (!nobody && !(button && home && home.contains(button))) return false;
  return [...document.querySelectorAll(".cn-viewer")].find(inSight) === root;
}

// At least half of the pictures, or of the window, is seen.
function inSight(root) {
  const { top, bottom, height } = root.querySelector(".cn-panes").getBoundingClientRect();
  return height > 0 && Math.min(bottom, innerHeight) - Math.max(top, 0) >= Math.min(height, innerHeight) / 2;
}

function key(given, event, acts) {
  const pane = acts.view(given);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { step, zoom, setWindow, toggle } = acts;
  const known = {
    ArrowUp: () => step(pane, 1), ArrowDown: () => step(pane, -1),
    ArrowRight: () => step(pane, 1), ArrowLeft: () => step(pane, -1),
    PageUp: () => step(pane, 5), PageDown: () => step(pane, -5),
    Home: () => step(pane, -pane.slices), End: () => step(pane, pane.slices),
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
    b: () => setWindow(pane, pane.look.level - 0.05, pane.look.contrast), v: () => setWindow(pane, pane.look.level + 0.05, pane.look.contrast),
    c: () => setWindow(pane, pane.look.level, pane.look.contrast + 0.1), x: () => setWindow(pane, pane.look.level, pane.look.contrast - 0.1),
    " ": acts.play, r: acts.reset, d: () => toggle("ruler"), p: acts.nextPlane,
    m: () => toggle("overlayOn"), l: () => toggle("liver"), o: () => toggle("organs"), e: () => toggle("evidence"),
  };
  const act = known[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  // JupyterLab has shortcuts of its own on these keys.
  event.stopPropagation();
  act();
}
