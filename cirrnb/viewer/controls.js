// The buttons, sliders and words around the pictures, and how they keep up with what is shown.

const CONTROLS = `
  <div class="cn-panes"></div>
  <p class="cn-readout" aria-live="polite"></p>
  <div class="cn-tools">
    <div class="cn-row">
      <button type="button" data-do="play" aria-pressed="false" title="Space">&#9654; Play</button>
      <label class="cn-wide">Height <input type="range" data-set="place" min="0" max="0" step="1" value="0">
        <output data-output="place"></output></label>
      <label data-part="shift"><input type="checkbox" data-set="shiftOn" checked> follow breathing
        <span data-output="shift"></span></label>
    </div>
    <div class="cn-row">
      <label>Brightness <input type="range" data-set="level" min="0" max="1.5" step="0.01" value="0.5"></label>
      <label>Contrast <input type="range" data-set="contrast" min="-2" max="2.5" step="0.05" value="0"></label>
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
    <details class="cn-help"><summary>Keys and mouse</summary>
      <p>Click the pictures first. Wheel or <kbd>&uarr;</kbd> <kbd>&darr;</kbd>: next slice towards head or feet;
      <kbd>Page up</kbd> <kbd>Page down</kbd>: five; <kbd>Home</kbd> <kbd>End</kbd>: lowest, highest. <kbd>+</kbd>
      <kbd>&minus;</kbd>, pinch, or wheel with <kbd>Ctrl</kbd>: zoom; drag: move. Right button and drag: brightness and
      contrast of that picture, as <kbd>B</kbd> <kbd>V</kbd> (brightness) and <kbd>C</kbd> <kbd>X</kbd> (contrast) do. <kbd>Space</kbd>:
      play. <kbd>M</kbd>: map, <kbd>L</kbd>: liver edge, <kbd>O</kbd>: other organs, <kbd>E</kbd>: planted signs, <kbd>R</kbd>: reset. Click: what lies there.</p>
    </details>
  </div>`;

// `acts` are what buttons do; `settings` is called with the name and the value of a slider or a box that was changed.
function createControls(root, acts, settings) {
  root.innerHTML = CONTROLS;
  const find = (selector) => root.querySelector(selector);
  let announced = null;

  root.addEventListener("input", (event) => {
    const name = event.target.dataset && event.target.dataset.set;
    if (name) settings(name, event.target.type === "checkbox" ? event.target.checked : Number(event.target.value));
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
    if (pane) {
      find('[data-set="level"]').value = pane.level;
      find('[data-set="contrast"]').value = pane.contrast;
    }
    find('[data-set="opacity"]').value = shown.opacity;
    find('[data-set="threshold"]').value = shown.threshold;
    find('[data-output="threshold"]').textContent = `${Math.round(100 * shown.threshold)} %`;
    find('[data-output="zoom"]').textContent = `${Math.round(100 * shown.zoom)} %`;
    find('[data-part="overlay"]').hidden = !overlay;
  }

  function showPlace(heights, position) {
    let best = 0;
    heights.forEach((one, i) => { if (Math.abs(one - position) < Math.abs(heights[best] - position)) best = i; });
    const slider = find('[data-set="place"]');
    slider.max = Math.max(heights.length - 1, 0);
    slider.disabled = heights.length < 2;
    find('[data-do="play"]').disabled = heights.length < 2;
    slider.value = best;
    const words = inMm(position);
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

  const showReadout = (words) => { find(".cn-readout").textContent = words || "Click a place to read what lies there."; };

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
