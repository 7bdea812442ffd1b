// The viewer as a Jupyter widget. Pictures come by message and not as state: they are sent once, and no notebook file
// ever holds them.

const BESIDE = 325; // pixels of the window's height for the controls: they stay in sight with the pictures
const ABOVE = 200; // the same where the viewer's own controls stand beside a lone picture

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function unpackCase(content, buffers) {
  const panes = content.panes.map((pane) => {
    const parts = Object.fromEntries(Object.entries(pane.parts || {}).map(([name, index]) => [name, bytes(buffers[index])]));
    return { ...pane, ...parts };
  });
  return { ...content, panes };
}

function unpackOverlay(content, buffers) {
  if (!content.overlay) return null;
  const maps = Object.fromEntries(Object.entries(content.overlay.parts).map(([name, index]) => [name, bytes(buffers[index])]));
  return { ...content.overlay, maps };
}

function render({ model, el }) {
  const root = document.createElement("div");
  const notice = document.createElement("p");
  notice.className = "cn-notice";
  notice.hidden = true;
  el.append(root, notice);
  let later = null, caseKey = null, used = null;
  const self = crypto.getRandomValues(new Uint32Array(2)).join("-"); // one kernel may be looked at in several windows

  const kernel = watchKernel((words, seconds) => showAbsence(notice, words, seconds));
  const send = (content) => {
    model.send(content);
    kernel.asked();
  };

  const viewer = createViewer(root, {
    beside: BESIDE,
    above: ABOVE,
    keys: true,
    onPlace: (position) => {
      clearTimeout(later);
      later = setTimeout(() => send({ kind: "place", position, window: self }), 150);
    },
    onBox: (name, rows, columns) => send({ kind: "box", name, rows, columns }),
    onPick: (place) => send({ kind: "pick", ...place, window: self }),
  });
  root.viewer = viewer; // for those who look from the browser's console, and for the tests

  const use = () => {
    if (used === self) return;
    used = self;
    send({ kind: "used", window: self });
  };
  const gestures = ["pointerdown", "keydown"];
  for (const kind of gestures) document.addEventListener(kind, use, true);

  const receive = (content, buffers) => {
    kernel.answered();
    if (content.kind === "case" && content.key !== caseKey) {
      caseKey = content.key;
      viewer.setCase(unpackCase(content, buffers));
    } else if (content.kind === "overlay" && content.case === caseKey) {
      viewer.setOverlay(unpackOverlay(content, buffers));
    } else if (content.kind === "outline" && content.case === caseKey) {
      viewer.showProgramOutline();
    } else if (content.kind === "box" && content.case === caseKey) {
      viewer.setBox(content.name, content.box);
    } else if (content.kind === "named" && content.case === caseKey && (!content.window || content.window === self)) {
      viewer.setNamed(content.number, content.words);
    } else if (content.kind === "go" && content.by !== self) {
      if (content.by) viewer.follow(content.position);
      else viewer.show(content.position);
    } else if (content.kind === "used") {
      used = content.window;
    } else if (content.kind === "file" && (!content.window || content.window === self)) {
      download(new Blob([bytes(buffers[0])], { type: "application/gzip" }), content.name);
    }
  };
  model.on("msg:custom", receive);
  send({ kind: "ready" });

  return () => {
    kernel.stop();
    clearTimeout(later);
    for (const kind of gestures) document.removeEventListener(kind, use, true);
    model.off("msg:custom", receive);
    viewer.destroy();
  };
}

export default { render };
