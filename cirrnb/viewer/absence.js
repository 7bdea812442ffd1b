// What is said while the kernel has not answered: that it starts, that it is busy, and only after a real absence that it
// may have stopped.

const QUIET = { starting: 2, busy: 8 }; // seconds for which nothing is said
const ABSENT = { starting: 180, busy: 45 }; // seconds after which the kernel may have stopped

// `tell` is called with words, "" for none, and the seconds that have passed. `asked` is for each message that wants an
// answer, `answered` for whatever comes from the kernel. `heard` is true where it is known to have started.
function watchKernel(tell, heard = false) {
  let since = null, timer = null;

  const words = (seconds) => {
    const stage = heard ? "busy" : "starting";
    if (seconds < QUIET[stage]) return "";
    if (seconds >= ABSENT[stage]) return "The kernel does not answer: it is busy, or it has stopped. What is shown can still be used. For anything else reload the page, or restart the kernel.";
    return heard ? "The kernel is busy. What is shown can still be used." : "Starting. A busy computer needs a minute or two.";
  };
  const tick = () => {
    const seconds = Math.round((Date.now() - since) / 1000);
    tell(words(seconds), seconds);
  };
  const stop = () => {
    clearInterval(timer);
    timer = since = null;
  };
  return {
    asked() {
      if (timer) return;
      since = Date.now();
      timer = setInterval(tick, 1000);
    },
    answered() {
      heard = true;
      stop();
      tell("", 0);
    },
    stop,
  };
}

// The words are announced once; the seconds beside them change without a word to a screen reader.
function showAbsence(place, words, seconds) {
  if (place.dataset.words !== words) {
    place.dataset.words = words;
    const said = document.createElement("span"), passed = document.createElement("span");
    said.setAttribute("role", "status");
    said.textContent = words;
    passed.setAttribute("aria-hidden", "true");
    place.replaceChildren(said, " ", passed);
  }
  place.lastChild.textContent = words ? `(${seconds} s)` : "";
  place.hidden = !words;
}
