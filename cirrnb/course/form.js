// A question, its choices, and the feedback to the answer. Everything is native HTML, so that keyboard and screen
// reader find what they know: radio buttons, a number field, buttons. `absence` comes before this file in one script.

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "cn-form";
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab has shortcuts of its own on digits and arrows
  root.innerHTML = `<form novalidate><fieldset><legend></legend><div class="cn-prompt"></div><div class="cn-choices"></div>
      <div class="cn-act"><button type="submit" class="cn-primary"></button><span class="cn-keys"></span></div></fieldset></form>
    <p class="cn-slip" role="alert"></p><p class="cn-absence" hidden></p>
    <div class="cn-reply" tabindex="-1" role="status"></div>`;
  el.append(root);
  const find = (selector) => root.querySelector(selector);
  const group = `cn-${Math.random().toString(36).slice(2)}`;
  const slip = find(".cn-slip");
  const kernel = watchKernel((words, seconds) => showAbsence(find(".cn-absence"), words, seconds), true);
  const warn = (words) => { slip.textContent = words; };
  const send = (content) => {
    model.send(content);
    kernel.asked();
  };

  const inputs = () => [...root.querySelectorAll(".cn-choices input")];
  const given = () => {
    const all = inputs();
    return all.length === 1 && all[0].type === "text" ? all[0].value.trim() : (all.find((one) => one.checked) || {}).value || "";
  };

  function showTask() {
    const { title = "", prompt = "", choices = [], unit = "", button = "Check" } = model.get("task");
    find("legend").textContent = title;
    find(".cn-prompt").innerHTML = prompt;
    const place = find(".cn-choices");
    place.replaceChildren();
    find("form").hidden = !choices.length && !unit;
    for (const [index, { value, words }] of choices.entries()) {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: group, value });
      label.append(input, words);
      input.setAttribute("aria-keyshortcuts", String(index + 1));
      place.append(label);
    }
    if (!choices.length && unit) {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "text", inputMode: "decimal", size: 8, autocomplete: "off" });
      label.append("Your number ", input, ` ${unit}`);
      place.append(label);
    }
    find(".cn-primary").textContent = button;
    find(".cn-keys").textContent = choices.length ? `Keys 1 ${choices.length > 2 ? "to" : "and"} ${choices.length} choose, Enter checks.` : "";
    warn("");
  }

  function showReply(byHand) {
    const { html = "", right = null, onward = "", again = false, answer = "" } = model.get("reply");
    const box = find(".cn-reply");
    byHand = byHand || (box.contains(document.activeElement) && Boolean(html));
    box.innerHTML = html;
    box.dataset.right = right === null ? "" : String(right);
    box.hidden = !html;
    if (answer) for (const one of inputs()) if (one.type === "radio") one.checked = one.value === answer;
    const closed = Boolean(html) && !again;
    for (const one of [...inputs(), find(".cn-primary")]) one.disabled = closed;
    find(".cn-act").hidden = closed;
    if (onward) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "cn-primary cn-onward" });
      button.textContent = onward;
      button.setAttribute("aria-keyshortcuts", "N");
      box.append(button);
    }
    if (html && byHand) box.focus({ preventScroll: false });
    if (html) outline();
  }

  // The planted signs of the case are outlined with the answer, by the same box that a reader may untick afterwards.
  function outline(left = 40) {
    const box = whole() && whole().querySelector('.cn-viewer input[data-set="evidence"]');
    if (!box) return;
    if (box.closest("label").hidden) {
      if (left) setTimeout(() => outline(left - 1), 50);
      return;
    }
    if (!box.checked) box.click();
  }

  const whole = () => root.closest(".cn-quiz");

  find("form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });

  function submit() {
    if (find(".cn-primary").disabled) return;
    const value = given();
    const typed = inputs().some((one) => one.type === "text");
    warn(value ? "" : typed ? "Type a number first." : "Choose an answer first.");
    if (!value) find(".cn-reply").hidden = true; // what was said to an earlier answer is none to this one
    if (value) {
      acted = true;
      send({ kind: "answer", value });
    }
  }

  let acted = false; // whether the reader just did something, so that focus may follow
  find(".cn-reply").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    acted = true;
    if (button.dataset.height !== undefined) {
      acted = false;
      send({ kind: "height", height: Number(button.dataset.height) });
    } else if (button.dataset.go !== undefined) send({ kind: "go", number: Number(button.dataset.go) });
    else if (button.classList.contains("cn-onward")) send({ kind: "next" });
  });

  // The same keys over the pictures, so that nobody has to leave them to answer.
  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.matches && event.target.matches('input[type="text"], textarea, select');
    const choice = inputs()[Number(event.key) - 1];
    if (!typing && choice && choice.type === "radio" && !choice.disabled) {
      choice.checked = true;
      warn("");
      event.preventDefault();
    } else if (event.key === "Enter" && !event.target.closest("button, summary, a") && !find(".cn-primary").disabled) {
      event.preventDefault();
      submit();
    } else if (!typing && event.key.toLowerCase() === "n") {
      const button = find(".cn-onward");
      if (button) button.click();
    }
  }
  let ground = null;
  requestAnimationFrame(() => {
    ground = whole() || root;
    ground.setAttribute("data-lm-suppress-shortcuts", "true");
    ground.addEventListener("keydown", keys);
    ground.classList.add("cn-asks");
    document.addEventListener("keydown", unfocused);
  });
  // Nobody has the focus: the keys are for the first question in sight.
  function unfocused(event) {
    if (event.target !== document.body && event.target !== document.documentElement) return;
    if ([...document.querySelectorAll(".cn-asks")].find(inSight) === ground) keys(event);
  }
  function inSight(place) {
    const { top, bottom, height } = place.getBoundingClientRect();
    return height > 0 && Math.min(bottom, innerHeight) - Math.max(top, 0) >= Math.min(height, innerHeight) / 2;
  }

  const onTask = () => {
    showTask();
    if (acted) focusCase();
    acted = false;
  };
  // The next case is read and answered with the same keys: the pictures have the focus, or the form where there are none.
  function focusCase(left = 40) {
    const pane = whole() && whole().querySelector(".cn-pane[tabindex]");
    if (pane) pane.focus({ preventScroll: true });
    else if (left && whole()) setTimeout(() => focusCase(left - 1), 50);
    else find(".cn-reply").focus();
    if (whole()) requestAnimationFrame(showWhole);
  }
  // What was said to the last case was long: without it the page has moved up, and the new case is out of sight.
  function showWhole() {
    const top = whole().getBoundingClientRect().top;
    if (top < 0 || top > innerHeight / 2) whole().scrollIntoView({ block: "start" });
  }
  // An emptied reply comes before another question, and says nothing of what the reader did.
  const onReply = () => {
    const said = Boolean(model.get("reply").html);
    showReply(acted && said);
    if (said) acted = false;
  };
  const onReceived = () => kernel.answered();
  model.on("change:task", onTask);
  model.on("change:reply", onReply);
  model.on("msg:custom", onReceived);
  showTask();
  showReply(false);

  return () => {
    kernel.stop();
    model.off("change:task", onTask);
    model.off("change:reply", onReply);
    model.off("msg:custom", onReceived);
    document.removeEventListener("keydown", unfocused);
    if (ground) ground.removeEventListener("keydown", keys);
  };
}

export default { render };
