"""`SliceExplorer`: open a case, look, ask what the model says and why."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from IPython.display import HTML, display

import cirrnb
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.given_masks import Box
from cirrnb.data.scan import Cohort
from cirrnb.explanation.control_maps import map_verdict
from cirrnb.explanation.explanation import Explanation
from cirrnb.explanation.methods import method_named
from cirrnb.explanation.score import targets, targets_of
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.explorer import panel
from cirrnb.explorer.first_slice import strongest_height
from cirrnb.explorer.naming import evidence_of, named_at
from cirrnb.explorer.outline import OutlineTools, rejections, without_outline
from cirrnb.explorer.panel import FIRST, Panel
from cirrnb.explorer.upload import ScanUpload, is_dropped
from cirrnb.explorer.what_if import WhatIf
from cirrnb.measure.biomarkers import measurements_of
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.patients import prepared_for
from cirrnb.model.prediction import Prediction, predict_patient
from cirrnb.model.trained_model import TrainedModel, as_model
from cirrnb.model.usable_scans import refusal
from cirrnb.view import sentences
from cirrnb.view.measurements import folded_measurements_html
from cirrnb.view.page import about
from cirrnb.view.palette import LABELS
from cirrnb.viewer.acquired import as_acquired, explanation_as_acquired
from cirrnb.viewer.background import Task, Worker
from cirrnb.viewer.panes import Pane, first_height, panes, unopened
from cirrnb.viewer.slice_browser import SliceBrowser, slice_browser


class SliceExplorer(Panel):
    """One patient at a time: the images first; on request the stage, the map and the Shapley values of the slices.

    It is the same in JupyterLab and in the browser (Voila). Pictures are sent to the browser once. Computations run in
    the background, show their progress, can be cancelled, and are kept in `store`.

    Parameters
    ----------
    patients : a cohort or its path, which is prepared as the model needs it; a cohort that is prepared so; or bags.
    model : as for `cirrnb.predict`.
    patient : patient to show first, "cirrhotic/12", or "12" if no other has this id; by default the first.
    method : attribution method of the first map, as for `cirrnb.explain`.
    target : score that the first map explains, as for `cirrnb.explain`.
    store : folder in which explanations are kept; None keeps none. Explanations of files dropped into the explorer
        are deleted with it.
    simulated : whether the patients are simulated; None takes this from the cohort.
    truth : truth of a simulated cohort; its signs can then be shown as a layer.
    answer_first : show the stage together with the images. None repeats the reader's last choice; at first, the images
        are shown alone.

    Raises
    ------
    InputError
        If there is no patient, or a patient, method or target does not exist.

    Examples
    --------
    >>> explorer = cirrnb.SliceExplorer("cohorts/mine", "shipped", store=None)  # show it as the last line of a cell
    """

    def __init__(
        self,
        patients: PreparedCohort | Cohort | Path | str | Sequence[Bag],
        model: TrainedModel | TrainedStager | Path | str = "shipped",
        *,
        patient: str | None = None,
        method: str = FIRST,
        target: str | None = None,
        store: Path | str | None = "explanations",
        simulated: bool | None = None,
        truth: SimulatedTruth | None = None,
        answer_first: bool | None = None,
    ):
        self.model = as_model(model)
        if isinstance(patients, str | Path | Cohort):
            patients = prepared_for(self.model, patients)
        bags = patients.bags() if isinstance(patients, PreparedCohort) else list(patients)
        if not bags:
            raise InputError("patients", "nobody", "at least one prepared patient", "Prepare a cohort first.")
        self.simulated = bool(getattr(patients, "simulated", False)) if simulated is None else simulated
        self.truth, self.store = truth, store
        self._bags = {bag.subject: bag for bag in bags}
        self._sequences = tuple(dict.fromkeys(name for bag in bags for name in bag.sequences))
        self._whole: dict[str, Bag] = {}  # as they came, of those patients whose outlines were rejected
        self._bag: Bag | None = None
        self._acquired: Bag | None = None  # the patient on show in the whole field of view, where that was asked for
        self._gone = False  # whether the pictures went to the slice that counts most
        self._answer: Prediction | None = None
        self._explanation: Explanation | None = None
        first = self._known(patient)
        method, target = method_named(method).name, self._target(target)
        stager = self.model.members[0].stager
        super().__init__(list(self._bags), stager, subject=first, method=method, target=target, go=self._go)
        self.show_caveat(about(self.simulated, self.model.simulated))
        self._worker = Worker(self.show_progress, self._failed)
        self._measuring = Worker(lambda share: None, lambda line: self.show_measured(f"<p>{escape(line)}</p>"))
        self._asking = Worker(lambda share: None, self._failed)
        self._fetching = Worker(lambda share: None, self._field_failed)
        self.upload = ScanUpload(self.model.preparation, self._worker.start, self.add, self.say, self.model.sequences)
        self.own.children = (self.upload,)
        self.outlines = OutlineTools(self.canvas, self._reject, self._restore)
        self.outline_tools.children = (self.outlines,)
        self.what_if = WhatIf(self._what_if)
        self.changes.children = (self.what_if,)
        self.always.value = self.reveal.value = panel.answer_first() if answer_first is None else answer_first
        self.show_answer(self.reveal.value)
        self._listen()
        self._open(first)

    # ------------------------------------------------------------------ what others may ask

    @property
    def explanation(self) -> Explanation | None:
        """The explanation on show, or None."""
        return self._explanation

    @property
    def prediction(self) -> Prediction | None:
        """The answer on show, or None."""
        return self._answer

    def add(self, bag: Bag) -> None:
        """Take in one more patient, prepared as the model wants it, and open it."""
        self._bags[bag.subject] = bag
        self.say("")
        self.case.options = list(self._bags)
        self.case.value = bag.subject

    def wait(self, seconds: float | None = None) -> bool:
        """Until nothing is under way; False if that took longer than `seconds`."""
        return all(worker.wait(seconds) for worker in (self._worker, self._measuring, self._asking, self._fetching))

    def snapshot(self) -> SliceBrowser:
        """The patient on show without a kernel: what is left of the explorer in a page made from the notebook."""
        bag = self._bag or self._bags[self.case.value]
        return slice_browser(bag, self._explanation, simulated=self._simulated(bag))

    def _ipython_display_(self) -> None:
        """The explorer, and behind it what stands in for it where no kernel is: a page made by whatever tool."""
        display(self._repr_mimebundle_(), raw=True)
        with contextlib.suppress(OSError):  # the explorer itself reports what cannot be opened
            display(HTML(self.snapshot().stand_in))

    # ------------------------------------------------------------------ what is wished for

    def _listen(self) -> None:
        self.case.observe(lambda change: self._open(change["new"]), "value")
        self.reveal.observe(lambda change: self._revealed(), "value")
        self.measure.observe(lambda change: self._measure(), "value")
        self.whole_field.observe(lambda change: self._change_field(), "value")
        self.always.observe(lambda change: panel.remember_answer_first(change["new"]), "value")
        self.method.observe(lambda change: self._method_chosen(), "value")
        self.target.observe(lambda change: self._target_chosen(), "value")
        self.scale.observe(lambda change: self._explain(), "value")
        self.cancel.on_click(lambda button: self._cancelled())
        self.test.on_click(lambda button: self._test())
        self.export.on_click(lambda button: self._export())
        self.canvas.on_place = self.chart.mark
        self.canvas.on_pick = self._named

    def _known(self, patient: str | None) -> str:
        if patient is None:
            return next(iter(self._bags))
        return Cohort(
            tuple(prepared.scan for bag in self._bags.values() for prepared in bag.scans.values())
        ).subject_named(patient)

    def _target(self, target: str | None) -> str:
        stager = self.model.members[0].stager
        known = targets(stager)
        if target is not None and target not in known:
            raise InputError("target", repr(target), f"one of {known}", "Choose one of these.")
        return target or known[0]

    # ------------------------------------------------------------------ what happens

    def _open(self, subject: str) -> None:
        """Another patient: pictures first, and the rest where the reader always wants it.

        An answer that was open for the last patient says nothing of a wish for this one's: it is hidden again.
        """
        self._worker.cancel()  # what is under way speaks of the last patient
        self._measuring.cancel()
        self._asking.cancel()
        self._fetching.cancel()
        self.show_measured("")
        self.show_standing("")
        self.show_tools(False)
        self.outlines.show(None, frozenset())
        self._bag = self._acquired = self._answer = self._explanation = None
        self._gone = self.whole_field.value = False
        self.what_if.begin(None)
        self.reveal.disabled, self.reveal.value = False, self.always.value
        self._offer_scores(self._bags[subject])
        self.say("")
        self.brief.value = self.answer.value = self.why.value = self.faithfulness.value = ""
        self.show_map(False)
        bag = self._bags[subject]

        def pictures(task: Task) -> Any:
            return bag, panes(bag, evidence_of(bag, self.truth))

        def show(result: Any) -> None:
            self._bag = bag
            self._show_panes(bag, result[1], first_height(bag))
            self.show_caveat(about(self._simulated(bag), self.model.simulated))
            self.show_gaps(self._simulated(bag))
            refused = refusal(self.model, bag)
            self.show_standing(sentences.refusal_words(refused) or sentences.mask_words(bag), wrong=bool(refused))
            self.reveal.disabled = bool(refused)
            self.reveal.value = self.reveal.value and not refused
            self.outlines.show(bag, rejections(bag))
            self._measure()
            if self.reveal.value:
                self._answer_and_explain()

        self.show_task("Opening")
        self._worker.start(pictures, show)

    def _show_panes(self, bag: Bag, drawn_panes: list[Pane], start: float) -> None:
        signs = tuple(LABELS.values()) if self.truth else ()
        title, simulated = f"Patient {bag.subject}", self._simulated(bag)
        self.canvas.show(drawn_panes, title=title, simulated=simulated, signs=signs, start=start)

    def _change_field(self) -> None:
        """The whole field of view at the acquired resolution, or again what the model sees."""
        bag, wanted = self._bag, self.whole_field.value
        if bag is None:
            return

        def pictures(task: Task) -> tuple[Bag | None, list[Pane]]:
            shown = as_acquired(bag) if wanted else bag
            return (shown if wanted else None), panes(shown, evidence_of(shown, self.truth))

        def show(result: tuple[Bag | None, list[Pane]]) -> None:
            self._acquired, drawn_panes = result
            height = self.canvas.position
            self._show_panes(bag, drawn_panes, first_height(bag) if height is None else height)
            self._lay_over(self._explanation if self.reveal.value else None)

        self._fetching.start(pictures, show)

    def _field_failed(self, message: str) -> None:
        self.say(message, wrong=True)
        self.whole_field.value = False

    def _lay_over(self, explanation: Explanation | None) -> None:
        """A map on whatever field of view is on show, or none."""
        if explanation is not None and self._acquired is not None:
            explanation = explanation_as_acquired(explanation, self._acquired)
        self.canvas.lay_over(explanation)

    def _named(self, name: str, place: tuple[float, float, float]) -> str | None:
        bag = self._bag
        return None if bag is None else named_at(bag, name, place, self.truth if self._simulated(bag) else None)

    def _reject(self, name: str, box: Box | None) -> None:
        """Show the patient without the outline of a scan; the view is the box, or the middle of the body."""
        bag = self._bag
        if bag is None:
            return

        def show(without: Bag) -> None:
            self._whole.setdefault(bag.subject, bag)
            self._bags[bag.subject] = without
            self._open(bag.subject)

        self.show_task("Preparing without the outline")
        self._worker.start(lambda task: without_outline(bag, name, box, self.model.stages), show)

    def _restore(self, name: str) -> None:
        """Take back the rejections of the patient on show."""
        subject = self.case.value
        if subject in self._whole:
            self._bags[subject] = self._whole.pop(subject)
            self._open(subject)

    def _simulated(self, bag: Bag) -> bool:
        """Scans that a reader dropped in are theirs, whatever cohort was open."""
        return self.simulated and not is_dropped(bag)

    def _revealed(self) -> None:
        self.show_answer(self.reveal.value)
        if not self.reveal.value:
            self.canvas.lay_over(None)
        elif self._bag is not None and self._explanation is not None:
            self._lay_over(self._explanation)
        elif self._bag is not None:
            self._answer_and_explain()

    def _measure(self) -> None:
        """Measure the patient on show where the reader wants measurements; they need no answer."""
        bag = self._bag
        self._measuring.cancel()
        self.show_measured("<p>Measuring ...</p>" if self.measure.value and bag is not None else "")
        if self.measure.value and bag is not None:
            drawn = f"<p class='cn-small'>{escape(sentences.mask_words(bag))}</p>"
            self._measuring.start(
                lambda task: measurements_of(bag),
                lambda measurements: self.show_measured(
                    folded_measurements_html(measurements, drawn, simulated=self._simulated(bag))
                ),
            )

    def _answer_and_explain(self) -> None:
        bag = self._bag
        assert bag is not None

        def show(prediction: Prediction) -> None:
            self._answer = prediction
            self.show_tools(True)
            self.canvas.show_program_outline()
            self.brief.value = sentences.brief_html(prediction, bag.stage)
            self.answer.value = sentences.answer_html(prediction, bag, self.model, simulated=self._simulated(bag))
            self.what_if.begin(prediction)
            self._explain()

        self.show_task("Staging")
        self._worker.start(lambda task: predict_patient(self.model, bag), show)

    def _what_if(self, signs: dict[str, float]) -> None:
        """What the model would say if signs of the patient on show had other strengths."""
        bag = self._bag
        if bag is not None:
            self._asking.start(lambda task: predict_patient(self.model, bag, signs), self.what_if.show)

    def _offer_scores(self, bag: Bag) -> None:
        """Of a sign that only a missing sequence shows nothing is known: it is no score of this patient."""
        self.offer_scores(targets_of(self.model.members[0].stager, tuple(bag.scans)))
        if self.target.value not in self.model.signs and self.method.value == panel.OWN_MAP:
            self.method.value = FIRST

    def _method_chosen(self) -> None:
        """The model's own map is one of a sign: the strongest, unless one is chosen."""
        if self._bag is None:
            return
        signs = self.model.signs
        if self.method.value == panel.OWN_MAP and self.target.value not in signs:
            seen = self._answer.signs if self._answer else ()
            strongest = max(seen, key=lambda sign: sign.strength, default=None)
            self.target.value = strongest.name if strongest else signs[0]  # which draws the map
        else:
            self._explain()

    def _target_chosen(self) -> None:
        """Only signs have a map of the model's own; of another score, the first method's map is shown."""
        signs = self.model.signs
        if self._bag is not None and self.method.value == panel.OWN_MAP and self.target.value not in signs:
            self.method.value = FIRST  # which draws the map
        else:
            self._explain()

    def _explain(self) -> None:
        bag = self._bag
        by_scale = "scale" in method_named(self.method.value).settings
        self.show_scales(by_scale)
        if bag is None or not self.reveal.value:
            return
        self.say("")
        self._explanation = None  # the map of another choice shall not stand under this one's name
        self.canvas.lay_over(None)
        self.why.value = self.faithfulness.value = ""
        self.show_map(False)
        method, target = self.method.value, self.target.value
        settings, store = {"scale": self.scale.value} if by_scale else None, self.upload.store_of(bag, self.store)

        def work(task: Task) -> Explanation:
            # The calling off is told by `progress`, before each pass.
            return cirrnb.explain(
                self.model, bag, method, target, settings=settings, store=store, progress=task.progress
            )

        def show(explanation: Explanation) -> None:
            self._explanation = explanation
            self._lay_over(explanation)
            if not self._gone:  # once a patient: the reader who scrolls stays where they are
                self._gone = True
                self._go(strongest_height(bag, explanation))
            self._show_reasons(explanation)
            self.chart.show(bag, explanation, sentences.target_words(explanation.target, self.model.stages))
            self.show_map(True)

        self.show_task("Drawing the map")
        self._worker.start(work, show)

    def _show_reasons(self, explanation: Explanation, verdict: str = "") -> None:
        """What drove the answer; the verdict of a test that this map did not pass comes first."""
        why = sentences.reasons_html(explanation, self._answer, verdict)
        self.why.value = sentences.asked_html(why, self._answer, "what drove it") if self._answer else why

    def _test(self) -> None:
        bag, explanation = self._bag, self._explanation
        if bag is None or explanation is None:
            return

        def show(table: Any) -> None:
            verdict = map_verdict(table.to_dict("records"))
            self.faithfulness.value = sentences.tested_html(verdict, table)
            self._show_reasons(explanation, verdict)

        self.faithfulness.value = ""
        self.show_task("Testing the map", testing=True)
        test = partial(cirrnb.faithfulness, self.model, bag, explanation, steps=10)
        self._worker.start(lambda task: test(progress=task.progress), show)

    def _export(self) -> None:
        if self._explanation is None or self._bag is None:
            return
        try:
            with tempfile.TemporaryDirectory() as folder:
                for path in self._explanation.to_nifti(folder):
                    self.canvas.hand_over(path.name, path.read_bytes())
        except OSError as error:
            self._failed(f"The map could not be written ({error.strerror}).")

    def _go(self, position: float) -> None:
        self.canvas.go_to(position)
        self.chart.mark(position)

    def _cancelled(self) -> None:
        self._worker.cancel()
        self.say("Cancelled. Choose a map to begin anew.")

    def _failed(self, message: str) -> None:
        if self._bag is None:  # nobody's pictures shall stand under another one's name
            self.canvas.show(unopened(self._sequences), title=f"Patient {self.case.value}", simulated=self.simulated)
        elif self._explanation is None:
            self.canvas.lay_over(None)
        self.say(message, wrong=True)
