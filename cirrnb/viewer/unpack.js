// Pictures in a page: tiles of one compressed image, brought back to 8 bits a pixel before the viewer gets them.

async function tiles(packed, pane) {
  const image = new Image();
  image.src = packed.picture;
  await image.decode();
  const { rows, columns, slices } = pane;
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = rows;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const values = new Uint8Array(slices * rows * columns);
  for (let first = 0; first < slices; first += packed.across) {
    const line = first / packed.across;
    context.drawImage(image, 0, -line * rows);
    const pixels = context.getImageData(0, 0, image.width, rows).data;
    for (let tile = 0; tile < packed.across && first + tile < slices; tile++) {
      let to = (first + tile) * rows * columns;
      for (let row = 0; row < rows; row++) {
        let from = 4 * (row * image.width + tile * columns);
        for (let column = 0; column < columns; column++, from += 4) values[to++] = pixels[from];
      }
    }
  }
  return values;
}

async function unpack(name) {
  const root = document.getElementById(name);
  // Live notebooks carry their settings in this element, pages made from them do not.
  const figure = root.closest("figure");
  if ("standsIn" in figure.dataset && document.getElementById("jupyter-config-data")) {
    figure.hidden = true;
    return;
  }
  const { case: given, overlay } = JSON.parse(document.getElementById(`${name}-data`).textContent);
  for (const pane of given.panes) {
    for (const [part, packed] of Object.entries(pane.packed || {})) pane[part] = await tiles(packed, pane);
    delete pane.packed;
  }
  const viewer = createViewer(root);
  root.viewer = viewer;
  viewer.setCase(given);
  if (overlay) {
    const maps = {};
    for (const pane of given.panes) {
      if (overlay.packed[pane.name]) maps[pane.name] = await tiles(overlay.packed[pane.name], pane);
    }
    delete overlay.packed;
    viewer.setOverlay({ ...overlay, maps });
  }
  root.dataset.ready = "yes";
}
