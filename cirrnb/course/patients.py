"""The patients of the quiz: simulated and prepared in the background while the lesson is read."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from IPython.display import display

import cirrnb
from cirrnb.course.figures import SwitchFigure
from cirrnb.course.progress import Progress
from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.prepared import PreparationSettings

if TYPE_CHECKING:
    from cirrnb.course.quiz import StagingQuiz
    from cirrnb.data.bag import Bag
    from cirrnb.data.scan import Cohort
    from cirrnb.explanation.simulated_truth import SimulatedTruth
    from cirrnb.model.trained_model import TrainedModel

AS_READ = PreparationSettings(view="abdomen", margin=15.0)
"""How the scans of the quiz are shown: more than the model sees."""

POLLED = 1.0  # s between two looks at how far a simulation is


class QuizPatients:
    """The patients of the quiz; what asks for them waits, and nothing else does.

    Parameters
    ----------
    cohort : folder of the simulated patients, made where it is not there. cases, seed, scale : of them.
    run : the model that the student is compared with.
    wait : make all of it before going on; otherwise in a thread.
    prepared : folder of prepared scans and of figures that were drawn; None takes prepared/ and the cohort's name.
    """

    def __init__(
        self,
        cohort: Path | str,
        *,
        cases: int = 20,
        seed: int = 142,
        scale: str = "small",
        run: str = "shipped",
        wait: bool = True,
        prepared: Path | str | None = None,
    ):
        self._folder, self._run = Path(cohort), run
        self._asked: dict[str, Any] = {"patients": cases, "seed": seed, "scale": scale, "healthy": 0}
        self.prepared = Path(prepared) if prepared is not None else Path("prepared") / self._folder.name
        self.wait = wait
        self.words, self.problem = "The patients of the quiz are being looked for.", ""
        self._ready, self._lock = threading.Event(), threading.Lock()
        self._waiting: list[Callable[[], None]] = []
        self._listening: list[Callable[[str], None]] = []
        self._model: TrainedModel | None = None
        self._loading = threading.Lock()
        if wait:
            self._make()
        else:
            threading.Thread(target=self._make_beside, daemon=True).start()

    # ------------------------------------------------------------------ what there is once they are ready

    people: Cohort
    bags: list[Bag]
    truth: SimulatedTruth

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    @property
    def model(self) -> TrainedModel:
        """The model, read when first asked for."""
        from cirrnb.model.trained_model import load_model

        with self._loading:
            if self._model is None:
                self._model = load_model(self._run)
            return self._model

    def model_cases(self) -> list[Bag]:
        """The patients as the model wants them."""
        return cirrnb.prepare(self.people, self.prepared, self.model.preparation, progress=False).bags()

    def when_ready(self, act: Callable[[], None]) -> None:
        """Call `act` once the patients are there: now, or later from another thread."""
        with self._lock:
            if not self.ready:
                self._waiting.append(act)
                return
        act()

    def follow(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with what is under way, now and whenever that changes."""
        self._listening.append(tell)
        tell(self.problem or self.words)

    # ------------------------------------------------------------------ what shows them

    def quiz(self, progress: Progress | None = None) -> StagingQuiz | QuizPlace:
        """The quiz, or the place where it opens."""
        if self.wait:
            return self._quiz(progress)
        return QuizPlace(self, lambda: self._quiz(progress))  # it loads torch, which the page does not wait for

    def figure(self, name: str, draw: Callable[[QuizPatients], SwitchFigure]) -> SwitchFigure | FigurePlace:
        """A figure of these patients, drawn once and kept; or the place where it appears."""
        kept = self.prepared / "figures" / f"{name}-{self._key()}.html"
        if kept.is_file():
            return SwitchFigure(kept.read_text(encoding="utf-8"))

        def drawn() -> SwitchFigure:
            figure = draw(self)
            kept.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(kept, figure.html)
            return figure

        return drawn() if self.ready else FigurePlace(self, drawn)

    def _quiz(self, progress: Progress | None) -> StagingQuiz:
        from cirrnb.course.quiz import StagingQuiz

        model, cases = (lambda: self.model), self.model_cases
        return StagingQuiz(self.bags, truth=self.truth, model=model, model_cases=cases, progress=progress)

    def _key(self) -> str:
        identity = f"{cirrnb.__version__} {self._folder.absolute()} {sorted(self._asked.items())} {self._run}"
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    # ------------------------------------------------------------------ making them

    def _make(self) -> None:
        self._simulate()
        self._say("The scans are being prepared for reading.")
        self.bags = cirrnb.prepare(self.people, self.prepared, AS_READ, progress=False).bags()
        from cirrnb.explanation.simulated_truth import SimulatedTruth

        self.truth = SimulatedTruth(self._folder)
        with self._lock:
            self._ready.set()
            waiting, self._waiting = self._waiting, []
        for act in waiting:
            act()

    def _simulate(self) -> None:
        done = threading.Event()
        if not self.wait:
            threading.Thread(target=self._watch, args=(done,), daemon=True).start()
        try:
            while True:
                try:
                    self.people = cirrnb.simulate_cohort(self._folder, **self._asked, progress=False)
                    return
                except InputError as error:
                    if self.wait or "being written" not in error.found:
                        raise
                    time.sleep(POLLED)  # another window makes the same patients
        finally:
            done.set()

    def _watch(self, done: threading.Event) -> None:
        """Tell how many patients there are, and how long the rest takes."""
        from cirrnb.simulation.cohort import simulated_so_far

        began, first = time.monotonic(), simulated_so_far(self._folder)
        while not done.wait(POLLED):
            count = simulated_so_far(self._folder)
            if count is None or first is None:
                first = count
                continue
            elapsed, made = time.monotonic() - began, count - first
            remaining = ""
            if made >= 2:
                seconds = elapsed / made * (self._asked["patients"] - count)
                remaining = (
                    f", about {max(1, round(seconds / 60))} min left" if seconds > 45 else ", less than a minute left"
                )
            self._say(f"The patients of the quiz are being simulated: {count} of {self._asked['patients']}{remaining}.")

    def _make_beside(self) -> None:
        try:
            self._make()
        except (InputError, InputErrors, OSError, ValueError, RuntimeError) as error:
            self.problem = str(error)
            self._say(self.problem)

    def _say(self, words: str) -> None:
        self.words = words
        for tell in self._listening:
            tell(words)


class QuizPlace(widgets.VBox):
    """What is under way, until the quiz takes its place."""

    def __init__(self, patients: QuizPatients, made: Callable[[], widgets.Widget]):
        self._note = widgets.HTML("")
        super().__init__([self._note])
        self.add_class("cn-place")
        patients.follow(self._tell)
        patients.when_ready(lambda: threading.Thread(target=self._open, args=(made,), daemon=True).start())

    def _tell(self, words: str) -> None:
        self._note.value = f'<p role="status" class="cn-waiting">{escape(words)} You can read on meanwhile.</p>'

    def _open(self, made: Callable[[], widgets.Widget]) -> None:
        self._tell("The quiz is being opened.")
        try:
            self.children = (made(),)
        except (InputError, InputErrors, OSError, ValueError, RuntimeError) as error:
            self._note.value = f'<p role="status" class="cn-waiting">{escape(str(error))}</p>'


class FigurePlace:
    """The place of a figure that is drawn once the patients are there."""

    def __init__(self, patients: QuizPatients, drawn: Callable[[], SwitchFigure]):
        self.widget = widgets.HTML(
            '<p role="status" class="cn-waiting">This figure appears when the patients of the quiz are ready.</p>'
        )
        self._drawn = drawn
        patients.when_ready(lambda: threading.Thread(target=self._draw, daemon=True).start())

    def _draw(self) -> None:
        try:
            self.widget.value = self._drawn().html
        except (InputError, InputErrors, OSError, ValueError, RuntimeError) as error:
            self.widget.value = f"<p>{escape(str(error))}</p>"

    def _ipython_display_(self) -> None:
        display(self.widget)
