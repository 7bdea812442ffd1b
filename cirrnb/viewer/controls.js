// The buttons, sliders and words around the pictures, and how they keep up with what is shown.

const CONTROLS = `
  <div class="cn-whole"><div class="cn-panes"></div>
  <div class="cn-side">
  <p class="cn-missing" hidden></p>
  <p class="cn-readout" aria-live="polite"></p>
  <div class="cn-tools">
    <div class="cn-row">
      <button type="button" data-do="play" aria-pressed="false" title="Space">&#9654; Play</button>
      <label class="cn-wide"><span data-output="axis">Height</span> <input type="range" data-set="place" min="0" max="0" step="1" value="0">
        <output data-output="place"></output></label>
      <label data-part="shift"><input type="checkbox" data-set="shiftOn" checked> follow breathing
        <span data-output="shift"></span></label>
    </div>
    <div class="cn-row">
      <span class="cn-group" role="group" aria-label="Plane">
        <button type="button" data-do="axial" aria-pressed="true" title="P">Axial</button>
        <button type="button" data-do="coronal" aria-pressed="false" title="P">Coronal</button>
        <button type="button" data-do="sagittal" aria-pressed="false" title="P">Sagittal</button></span>
      <label>Level <input type="number" data-set="level" step="any"></label>
      <label>Width <input type="number" data-set="width" step="any" min="0"></label>
      <label data-part="presets"><select data-set="preset" aria-label="Window"></select></label>
      <span class="cn-faint" data-output="windowed"></span>
      <button type="button" data-do="ruler" aria-pressed="false" title="D">Ruler</button>
      <span class="cn-group" role="group" aria-label="Zoom">
        <button type="button" data-do="out" aria-label="Zoom out" title="-">&minus;</button>
        <output data-output="zoom">100 %</output>
        <button type="button" data-do="in" aria-label="Zoom in" title="+">+</button></span>
      <button type="button" data-do="reset" title="R">Reset view</button>
      <button type="button" data-do="save" disabled>Save picture</button>
      <label data-part="liver"><input type="checkbox" data-set="liver"> liver edge <kbd>L</kbd></label>
      <label data-part="organs"><input type="checkbox" data-set="organs"> organs <kbd>O</kbd></label>
      <label data-part="evidence"><input type="checkbox" data-set="evidence"> planted signs <kbd>E</kbd></label>
    </div>
    <div class="cn-row" data-part="overlay">
      <label><input type="checkbox" data-set="overlayOn" checked> map <kbd>M</kbd></label>
      <label>Opacity <input type="range" data-set="opacity" min="0" max="1" step="0.05" value="0.7"></label>
      <label>Hide below <input type="range" data-set="threshold" min="0" max="0.9" step="0.05" value="0.1">
        <output data-output="threshold"></output></label>
    </div>
    <p class="cn-signs" data-part="contours"></p>
    <p class="cn-signs" data-part="signs"></p>
    <details class="cn-help"><summary>Keys, mouse and touch</summary>
      <p>Touch: swipe up or down on a picture for the next slice, or move the slider. Two fingers zoom; one finger then
      moves the picture. Tap: what lies there.</p>
      <p>Keys and mouse, while the pictures are in sight (after a click on them, all keys). Wheel or <kbd>&uarr;</kbd> <kbd>&darr;</kbd>: next slice towards head or feet;
      <kbd>Page up</kbd> <kbd>Page down</kbd>: five; <kbd>Home</kbd> <kbd>End</kbd>: lowest, highest. <kbd>+</kbd>
      <kbd>&minus;</kbd>, pinch, or wheel with <kbd>Ctrl</kbd>: zoom; drag: move. Right button and drag: level and
      width of that picture, as <kbd>B</kbd> <kbd>V</kbd> (brighter, darker) and <kbd>C</kbd> <kbd>X</kbd> (narrower, wider) do. <kbd>Space</kbd>:
      play. <kbd>P</kbd>: next plane. <kbd>D</kbd>: ruler; drag to measure. <kbd>M</kbd>: map, <kbd>L</kbd>: liver edge, <kbd>O</kbd>: other organs, <kbd>E</kbd>: planted signs, <kbd>R</kbd>: reset.
      Click: what lies there, and cross-hairs at the same place of the other sequences and planes.</p>
    </details>
  </div></div></div>`;

// `acts` are what buttons do; `settings` is called with the name and the value of a slider or a box that was changed.
function createControls(root, acts, settings) {
  root.innerHTML = CONTROLS;
  const find = (selector) => root.querySelector(selector);
  let announced = null;

  root.addEventListener("input", (event) => {
    const name = event.target.dataset && event.target.dataset.set;
    if (name && /range|checkbox/.test(event.target.type)) settings(name, event.target.type === "checkbox" ? event.target.checked : Number(event.target.value));
  });
  // Numbers once they are typed, not after each digit.
  root.addEventListener("change", (event) => {
    const { dataset, type, value } = event.target;
    if (!dataset || !dataset.set) return;
    if (type === "number" && value !== "" && Number.isFinite(Number(value))) settings(dataset.set, Number(value));
    if (type === "select-one") settings(dataset.set, value);
  });
  root.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("[data-do]");
    if (button) acts[button.dataset.do]();
  });

  // What there is to switch in this case.
  function offer(data, panes) {
    const shifts = panes.map((one) => Math.abs((one.image && one.shift) || 0));
    find('[data-part="shift"]').hidden = !Math.max(...shifts);
    find('[data-output="shift"]').textContent = `(${Math.max(...shifts).toFixed(0)} mm)`;
    find('[data-part="liver"]').hidden = !panes.some((one) => one.mask);
    find('[data-part="organs"]').hidden = !panes.some((one) => one.organs);
    find('[data-part="evidence"]').hidden = !panes.some((one) => one.evidence);
    find('[data-do="save"]').disabled = !panes.some((one) => one.image);
  }

  // Whether a box of this name is there to be ticked.
  const offered = (name) => !find(`[data-set="${name}"]`).closest("[data-part]").hidden;

  // `pane` is the one that brightness and contrast belong to, or none.
  function showSettings(shown, pane, overlay) {
    for (const input of root.querySelectorAll("input[type=checkbox][data-set]")) input.checked = Boolean(shown[input.dataset.set]);
    if (pane) showWindow(pane);
    for (const plane of Object.keys(PLANES)) find(`[data-do="${plane}"]`).setAttribute("aria-pressed", String(plane === shown.plane));
    find('[data-do="ruler"]').setAttribute("aria-pressed", String(shown.ruler));
    find('[data-set="opacity"]').value = shown.opacity;
    find('[data-set="threshold"]').value = shown.threshold;
    find('[data-output="threshold"]').textContent = `${Math.round(100 * shown.threshold)} %`;
    find('[data-output="zoom"]').textContent = `${Math.round(100 * shown.zoom)} %`;
    find('[data-part="overlay"]').hidden = !overlay;
  }

  // Level and width in the scan's own signal, where it is known, and the preset that they are.
  function showWindow(pane) {
    const width = 2 ** -pane.look.contrast, unit = pane.signal ? pane.signal[1] : 1;
    const digits = Math.max(0, 2 - Math.floor(Math.log10(unit)));
    find('[data-set="level"]').value = Number(signalOf(pane, pane.look.level).toFixed(digits));
    find('[data-set="width"]').value = Number((width * unit).toFixed(digits));
    find('[data-output="windowed"]').textContent = pane.signal ? `of ${pane.name}` : `of ${pane.name}, 0 to 1`;
    const presets = Object.entries(pane.presets || {}), select = find('[data-set="preset"]');
    find('[data-part="presets"]').hidden = !presets.length;
    const key = presets.map(([name]) => name).join();
    if (select.dataset.key !== key) {
      select.dataset.key = key;
      select.replaceChildren(...[...presets.map(([name]) => name), "own window"].map((name) => new Option(name, name)));
      select.lastChild && (select.lastChild.disabled = true);
    }
    const same = presets.find(([, [low, high]]) => Math.abs(high - low - width) < 0.005 && Math.abs((low + high) / 2 - pane.look.level) < 0.005);
    select.value = same ? same[0] : "own window";
  }

  function showPlace(heights, position, plane) {
    let best = 0;
    heights.forEach((one, i) => { if (Math.abs(one - position) < Math.abs(heights[best] - position)) best = i; });
    const slider = find('[data-set="place"]');
    slider.max = Math.max(heights.length - 1, 0);
    slider.disabled = heights.length < 2;
    find('[data-do="play"]').disabled = heights.length < 2;
    slider.value = best;
    const words = placeWords(plane, position);
    find('[data-output="axis"]').textContent = { axial: "Height", coronal: "Front to back", sagittal: "Side to side" }[plane];
    if (announced !== words) {
      announced = words;
      find('[data-output="place"]').textContent = words;
      slider.setAttribute("aria-valuetext", words);
    }
  }

  // Outlines in the slices on show: {name, colour, dashed} each; null where none are to be shown.
  function showContours(here) {
    const words = here && here.some((one) => one.dashed) ? "Outlines (dashed: drawn by a program): " : "Outlines: ";
    chips("contours", here, words, "No outlined organ in these slices.");
  }

  // Planted signs in the slices on show; null where they are not to be shown.
  function showSigns(here) {
    chips("signs", here, "Planted in these slices: ", "No sign is planted in these slices.");
  }

  function chips(part, here, words, nothing) {
    const legend = find(`[data-part="${part}"]`);
    legend.hidden = !here;
    const key = here ? here.map((one) => one.name + (one.dashed ? " dashed" : "")).join() : null;
    if (legend.dataset.key === String(key)) return;
    legend.dataset.key = key;
    legend.replaceChildren(here ? (here.length ? words : nothing) : "");
    if (!here) return;
    for (const { name, colour } of here) {
      const chip = document.createElement("span");
      chip.className = "cn-chip";
      chip.style.setProperty("--colour", colour);
      chip.textContent = name;
      legend.append(chip);
    }
  }

  function showPlaying(playing) {
    const button = find('[data-do="play"]');
    button.setAttribute("aria-pressed", String(playing));
    button.innerHTML = playing ? "&#10073;&#10073; Pause" : "&#9654; Play";
  }

  const showReadout = (words) => { find(".cn-readout").textContent = words || "Click or tap a place to read what lies there."; };

  return { offer, offered, showSettings, showPlace, showContours, showSigns, showPlaying, showReadout };
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
