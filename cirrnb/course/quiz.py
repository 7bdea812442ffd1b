"""`StagingQuiz`: stage simulated cases by scrolling, and compare each answer with the model's."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from IPython.display import HTML, display
from numpy.typing import NDArray

from cirrnb.course.feedback import SIGN_OF, feedback_html, result_html, t2w_words
from cirrnb.course.form import AnswerForm
from cirrnb.course.progress import Progress
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.explanation.sign_maps import own_sign_maps
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.prediction import Prediction, predict_patient
from cirrnb.model.trained_model import TrainedModel, as_model
from cirrnb.view.palette import LABELS
from cirrnb.viewer.background import Reported
from cirrnb.viewer.panes import first_height, panes
from cirrnb.viewer.slice_browser import SliceBrowser, slice_browser
from cirrnb.viewer.widget import SliceCanvas


@dataclass(frozen=True)
class ModelAnswer:
    """The model's answer for a patient.

    Attributes
    ----------
    prediction : None where the patient cannot be staged.
    heights : sign of `SIGNS` -> height in mm, in the frame of the first sequence, of the slice where the model's map of
        the sign is strongest; only of signs that it saw.
    """

    prediction: Prediction | None
    heights: Mapping[str, float]


class ModelAnswers:
    """A model's predictions for bags that are prepared for it, computed in a thread, in the order of the bags.

    `model` and `bags` may be functions that bring them: they are called in the thread. `arrived` is called with each
    subject, from the thread. The thread begins `after` seconds, or when somebody asks for an answer.
    """

    def __init__(
        self,
        model: Callable[[], TrainedModel] | TrainedModel | TrainedStager | Path | str,
        bags: Callable[[], Sequence[Bag]] | Sequence[Bag],
        arrived: Callable[[str], None] = lambda subject: None,
        after: float = 0.0,
    ):
        self._given, self._given_bags, self._arrived = model, bags, arrived
        self._answers: dict[str, ModelAnswer] = {}
        self._after, self._asked = after, threading.Event()
        self._thread = threading.Thread(target=self._all, daemon=True)
        self._thread.start()

    def known(self, subject: str) -> ModelAnswer | None:
        """The answer for a patient; None while there is none yet."""
        self._asked.set()
        unknown = ModelAnswer(None, {}) if not self._thread.is_alive() else None
        return self._answers.get(subject, unknown)

    def of(self, subject: str) -> Prediction | None:
        """The answer for a patient, waited for; None where the patient cannot be staged."""
        while (answer := self.known(subject)) is None:
            self._thread.join(0.2)
        return answer.prediction

    def wait(self) -> None:
        """Until all are answered."""
        self._asked.set()
        self._thread.join()

    def _all(self) -> None:
        self._asked.wait(self._after)
        try:
            model = self._given() if callable(self._given) else as_model(self._given)
            bags = self._given_bags() if callable(self._given_bags) else self._given_bags
        except (InputError, InputErrors, OSError, ValueError, RuntimeError):
            return  # every patient is one that the model could not stage
        for bag in bags:
            self._answers[bag.subject] = _asked(model, bag)
            self._arrived(bag.subject)


def _asked(model: TrainedModel, bag: Bag) -> ModelAnswer:
    try:
        prediction = predict_patient(model, bag)
        return ModelAnswer(prediction, heights_of_maps(bag, own_sign_maps(model, bag), prediction))
    except InputError:
        return ModelAnswer(None, {})  # no sequence that the model can use


def heights_of_maps(
    bag: Bag, maps: Mapping[str, Mapping[str, NDArray[np.float32]]], prediction: Prediction
) -> dict[str, float]:
    """Sign of `SIGNS` -> height of the slice in which its maps (sequence -> sign -> volume) amount to most; only of the
    signs that the model saw."""
    best: dict[str, tuple[float, float]] = {}
    seen = {sign.name for sign in prediction.signs if sign.seen}
    for sequence, by_sign in maps.items():
        for name in seen & set(by_sign):
            amounts = by_sign[name].sum(axis=(1, 2))
            place = int(amounts.argmax())
            height = float(bag.scans[sequence].positions[place] - bag.shifts[sequence])
            sign = SIGN_OF.get(name, name)
            if sign not in best or amounts[place] > best[sign][0]:
                best[sign] = float(amounts[place]), height
    return {sign: height for sign, (_, height) in best.items()}


def heights_of_signs(bag: Bag, evidence: Mapping[str, NDArray[np.uint8]]) -> dict[str, float]:
    """Sign of `SIGNS` -> height in mm of the slice with most of its planted pixels; none for a sign without any."""
    best: dict[str, tuple[float, float]] = {}
    for sequence, labels in evidence.items():
        scan = bag.scans[sequence]
        for number, sign in enumerate(LABELS, start=1):
            counts = (labels == number).sum(axis=(1, 2)) * float(np.prod(scan.grid.spacing[1:]))
            place = int(counts.argmax())
            if counts[place] > best.get(sign, (0.0, 0.0))[0]:
                best[sign] = float(counts[place]), float(scan.positions[place] - bag.shifts[sequence])
    return {sign: height for sign, (_, height) in best.items()}


PAUSE = 15.0
"""Seconds for which the model waits, so that it takes no time from the page that opens."""

PROMPT = (
    "<p>Scroll through both sequences, look for the signs, then say what stage a radiologist would have given. There "
    "is no limit of time. The first answer counts.</p>"
)


class StagingQuiz(widgets.VBox):
    """Cases one after the other: pictures, your stage, then the truth with the signs outlined and the model's answer.

    Planted signs and the model's answer come to the browser only after the student's own. What was answered is kept in
    `progress`, and the quiz goes on with the first case that is not.

    Parameters
    ----------
    cases : simulated patients with a stage, as they are shown.
    truth : of their cohort.
    model : as for `cirrnb.predict`, or a function that reads it.
    model_cases : the same patients prepared as the model wants them, or a function that prepares them; by default the
        cases themselves. Functions are called in the background; the quiz begins at once.
    progress : by default nothing is kept.

    Raises
    ------
    InputError
        If there are no cases, or one has no stage or is not of the cohort.
    """

    def __init__(
        self,
        cases: Sequence[Bag],
        *,
        truth: SimulatedTruth,
        model: Callable[[], TrainedModel] | TrainedModel | TrainedStager | Path | str = "shipped",
        model_cases: Callable[[], Sequence[Bag]] | Sequence[Bag] | None = None,
        progress: Progress | None = None,
    ):
        self._cases = list(cases)
        self._truth = truth
        self._latents = {bag.subject: truth.latent(bag) for bag in self._cases}
        if not self._cases or any(bag.stage is None or self._latents[bag.subject] is None for bag in self._cases):
            raise InputError(
                "cases", "nobody, or somebody without a stage", "staged patients", "Leave healthy ones out."
            )
        self._stages = {bag.subject: str(bag.stage) for bag in self._cases}
        self.progress = Progress(None) if progress is None else progress
        self.name = quiz_name(self._stages)
        self._shown = 0
        self._shown_without_model = ""  # subject whose feedback waits for the model
        self._height: float | None = None
        self.canvas, self.form = SliceCanvas(), AnswerForm()
        self.canvas.layout.flex, self.form.layout.flex = "3 1 560px", "1 1 340px"
        self.canvas.layout.min_width = self.form.layout.min_width = "0"
        self.canvas.on_place = self._placed
        self.form.on_answer, self.form.on_next, self.form.on_go = self._answered, self._go_on, self._go_to
        self.form.on_height = self.canvas.go_to
        self._model = ModelAnswers(model, self._cases if model_cases is None else model_cases, self._arrived, PAUSE)
        super().__init__([widgets.HBox([self.canvas, self.form], layout=_SIDE_BY_SIDE)])
        self.add_class("cn-quiz")
        self._go_on()

    @property
    def answers(self) -> dict[str, str]:
        """Subject -> stage, what was answered in this attempt."""
        return {
            subject: stage for subject, stage in self.progress.answers(self.name).items() if subject in self._stages
        }

    def still(self) -> SliceBrowser:
        """The first case without a kernel: what is left of the quiz in a page made from the notebook."""
        return slice_browser(self._cases[0], simulated=True)

    def _ipython_display_(self) -> None:
        display(self._repr_mimebundle_(), raw=True)
        with contextlib.suppress(OSError):  # the quiz itself reports what cannot be opened
            display(HTML(self.still().stand_in))

    # ------------------------------------------------------------------ what happens

    def _go_on(self) -> None:
        """The first case without an answer; where all have one the result, and from there the next attempt."""
        unanswered = [number for number, bag in enumerate(self._cases) if bag.subject not in self.answers]
        if unanswered:
            self._open(unanswered[0])
        elif self._shown < 0:
            self.progress.start_again(self.name)
            self._open(0)
        else:
            self._show_result()

    def _go_to(self, number: int) -> None:
        if 0 <= number < len(self._cases) and self._cases[number].subject in self.answers:
            self._open(number)

    def _open(self, number: int) -> None:
        self._shown, self._height = number, None
        bag = self._cases[number]
        answer = self.answers.get(bag.subject)
        self.canvas.layout.display = ""
        self._draw(with_signs=answer is not None)
        done = len(self.answers)
        title = f"Case {number + 1} of {len(self._cases)}"
        before = f"<p class='cn-small'>{done} answered so far, {self._right()} right.</p>" if done else ""
        self.form.ask(
            title, PROMPT + before + self._troubles(), [(stage, stage) for stage in CIRRHOSIS], button="Check my answer"
        )
        if answer is not None:
            self._show_feedback(bag, answer)

    def _draw(self, *, with_signs: bool) -> None:
        number, bag = self._shown, self._cases[self._shown]
        evidence = {name: self._truth.evidence(scan) for name, scan in bag.scans.items()} if with_signs else None
        self.canvas.show(
            panes(bag, evidence),
            title=f"Case {number + 1}",
            simulated=True,
            signs=tuple(LABELS.values()) if with_signs else (),
            start=first_height(bag) if self._height is None else self._height,
        )

    def _answered(self, stage: str) -> None:
        if self._shown < 0 or stage not in CIRRHOSIS:
            return
        bag = self._cases[self._shown]
        if bag.subject in self.answers:
            return  # answered twice, or in another window
        self.progress.answer(self.name, bag.subject, stage)
        # A callback of the kernel: nobody would see an error otherwise.
        with Reported(lambda message: self.form.say(f"<p>{escape(message)}</p>", onward="Go on")):
            self._draw(with_signs=True)
            self._show_feedback(bag, stage)

    def _show_feedback(self, bag: Bag, stage: str) -> None:
        latent = self._latents[bag.subject]
        assert latent is not None
        self._shown_without_model = bag.subject  # before asking: the answer may come in between
        answer = self._model.known(bag.subject)
        if answer is not None:
            self._shown_without_model = ""
        evidence = {name: self._truth.evidence(scan) for name, scan in bag.scans.items()}
        html = feedback_html(
            self._stages[bag.subject],
            stage,
            latent,
            answer.prediction if answer else None,
            waiting=answer is None,
            heights=heights_of_signs(bag, evidence),
            model_heights=answer.heights if answer else {},
            note=t2w_words(self._truth.protocol(bag, "T2W")) if "T2W" in bag.scans else "",
        )
        onward = "Next case" if len(self.answers) < len(self._cases) else "Your result"
        self.form.say(html + self._troubles(), right=stage == self._stages[bag.subject], onward=onward, answer=stage)

    def _arrived(self, subject: str) -> None:
        """The model's answer to a case whose feedback is on show already."""
        if self._shown >= 0 and subject == self._shown_without_model == self._cases[self._shown].subject:
            self._show_feedback(self._cases[self._shown], self.answers[subject])

    def _show_result(self) -> None:
        self._shown = -1
        self.canvas.layout.display = "none"
        self.form.ask("Your result", "")
        predictions = {subject: answer for subject in self._stages if (answer := self._model.of(subject)) is not None}
        html = result_html(
            self._stages, self.answers, {subject: answer.predicted for subject, answer in predictions.items()}
        )
        self.form.say(html + self._troubles(), onward="Stage all cases again")

    def _right(self) -> int:
        return sum(stage == self._stages[subject] for subject, stage in self.answers.items())

    def _troubles(self) -> str:
        return f"<p><b>{escape(self.progress.problem)}</b></p>" if self.progress.problem else ""

    def _placed(self, position: float) -> None:
        self._height = position


def quiz_name(stages: dict[str, str]) -> str:
    """Under which the answers to these very cases are kept."""
    digest = hashlib.sha256("".join(f"{subject}={stage};" for subject, stage in stages.items()).encode()).hexdigest()
    return f"{len(stages)} cases {digest[:12]}"


_SIDE_BY_SIDE = widgets.Layout(flex_flow="row wrap", align_items="flex-start", grid_gap="8px 12px")
