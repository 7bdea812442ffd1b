"""Stage probabilities for patients, from all their slices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.cohort_reading import as_cohort
from cirrnb.data.dataset import draw
from cirrnb.data.errors import InputError, InputErrors, raise_if_any
from cirrnb.data.given_masks import give_masks
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.progress import Progress, watched
from cirrnb.data.scan import Cohort
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.data.status import (
    ANSWERED,
    DOUBTFUL,
    FAR,
    REFUSED,
    Reason,
    reasons_text,
    status_of_scans,
)
from cirrnb.measure.biomarkers import measurements_of
from cirrnb.measure.measurement import Measurement
from cirrnb.model.adaptation import severity_of
from cirrnb.model.batch import Batch, collate
from cirrnb.model.calibration import logits_of, set_text
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.measured_stage import NETWORK, measured_values
from cirrnb.model.patients import bags_of, prepared_for
from cirrnb.model.sign_answers import changed_strengths, own_strengths, summarise_signs
from cirrnb.model.signs import SignReading, no_sign
from cirrnb.model.stager import Staging
from cirrnb.model.torch_context import isolated_torch
from cirrnb.model.trained_model import TrainedModel, as_model, names_model, on_device
from cirrnb.model.usable_scans import incomplete, prepared_otherwise, unusual, usable

CHUNK = 32
"""Slices encoded at a time: 400 slices need no more memory than these."""


def columns(stages: StageScale) -> tuple[str, ...]:
    """Columns of a table of predictions, without the sets of a calibrated model."""
    names = ("subject", "patient", "source", "split", "stage", "predicted", *stages)
    return *names, "sequences", "status", "reasons", "hidden", "notes", "simulated"


@dataclass(frozen=True)
class Prediction:
    """The answer of a model for one patient.

    Attributes
    ----------
    subject : source and id of the patient.
    probabilities : stage -> probability, in the order of the scale, summing to one.
    predicted : the most probable stage.
    prediction_set : the stages that are possible, neighbours, mildest first; None for a model that is not calibrated.
    slice_weights : sequence -> (slices,) share of each slice, summing to one.
    sequence_weights : sequence -> share in the patient, summing to one over those used.
    notes : what was missing or unusual, as sentences.
    model : name of the run the stager comes from.
    simulated : True if the stager was trained on simulated images, or these are.
    in_distribution : False if a scan looks unlike those the stager was trained on: what holds of these need not hold
        here.
    stages : the model's scale.
    status : "answered", or "doubtful" where a check of the scans doubts them, a refusal was overruled, or they look
        unlike the training scans. Scans that a check refuses are not staged (`cirrnb.data.status.Refused`).
    reasons : why it is doubtful.
    signs, signs_unknown : what the stager saw, in the order of its outputs; names that only a missing sequence shows.
    stage_by_signs : stage -> probability from these strengths alone, not calibrated; None for a stager without signs.
    terms : what the stage rests on, the network's severity and measurements, as `MeasuredStage` takes them; empty where
        it is the network's alone.
    adds : term -> log-odds that it adds towards later stages, after adaptation to a site.
    """

    subject: str
    probabilities: Mapping[str, float]
    predicted: str
    prediction_set: tuple[str, ...] | None
    slice_weights: Mapping[str, np.ndarray]
    sequence_weights: Mapping[str, float]
    notes: tuple[str, ...]
    model: str
    simulated: bool
    in_distribution: bool = True
    stages: StageScale = CIRRHOSIS
    status: str = ANSWERED
    reasons: tuple[Reason, ...] = ()
    signs: tuple[SignReading, ...] = ()
    signs_unknown: tuple[str, ...] = ()
    stage_by_signs: Mapping[str, float] | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    adds: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        chances = ", ".join(f"{name} {chance:.2f}" for name, chance in self.probabilities.items())
        answer = "stage hidden: far from the usual scans" if self.hidden else f"{self.predicted}; {chances}"
        return f"Prediction({self.subject!r}, {self.status}: {answer}; by {self.model!r})"

    def _repr_html_(self) -> str:
        """The stages as bars; behind a fold where the stage is hidden."""
        from cirrnb.data.summary_html import bars, summary

        possible = ", ".join(self.prediction_set) if self.prediction_set is not None else "not calibrated"
        facts = {
            "Status": self.status,
            "Reasons": "; ".join(reason.text for reason in self.reasons),
            "Sequences": ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.sequence_weights.items()),
            "Notes": "; ".join(self.notes),
            "Model": self.model,
        }
        answer = summary(
            "",
            {"Most likely": self.predicted, "Prediction set": possible},
            tables=[bars(self.probabilities, self.stages.colour)],
        )
        if self.hidden:
            answer = (
                f"<details><summary>Show the stage: these scans are far from the usual ones</summary>{answer}</details>"
            )
        return summary(f"Prediction for {self.subject}", facts, simulated=self.simulated, tables=[answer])

    @property
    def no_sign(self) -> bool | None:
        """True if every sign shows less than 0.1; None for a stager without signs."""
        return no_sign(self.signs)

    @property
    def hidden(self) -> bool:
        """True where a scan is far from the usual ones: a screen hides the stage until the reader asks for it."""
        return any(reason.code == FAR for reason in self.reasons)


@isolated_torch()
def predict(
    model: TrainedModel | TrainedStager | Path | str,
    patients: PreparedCohort | Cohort | Path | str | Bag | Iterable[Bag],
    *,
    prepared: Path | str | None = None,
    masks: Sequence[str | Path] | str | Path = (),
    force: bool = False,
    device: torch.device | str | None = None,
    progress: Progress = None,
) -> pd.DataFrame:
    """Stage every patient with all slices of every usable sequence.

    Parameters
    ----------
    model : "shipped" for the model of the package, a run folder, the folder of a cross-validation (the mean of its
        stagers), or what `load_model` or `load_stager` returned.
    patients : a cohort or its path, which is prepared as the model needs it; a prepared cohort; or bags of patients.
    prepared : folder for the scans that are prepared here, by default prepared/ and the cohort's name.
    masks : liver masks for the only patient of a cohort, as for `cirrnb.data.given_masks.give_masks`.
    force : also stage patients whose scans a check refuses here; their answers are doubtful.
    device : "cpu" or "cuda", where the networks compute; None leaves the networks where they are.
    progress : True shows progress bars, False none; None shows them in a terminal and in a notebook. A function is
        called with lines instead.

    Returns
    -------
    A table with one row per patient. Columns:

    - subject, patient, source, split, and stage (the recorded stage, or None);
    - status (answered, doubtful or refused) and reasons;
    - predicted (None if refused), and the probability of each stage (mild, moderate, severe), calibrated if possible;
    - set, the prediction set of a calibrated model ("mild|moderate");
    - sequences ("T1W+T2W"), notes, and simulated (True if the training patients or these patients are simulated);
    - of a stager with sign outputs, "sign NAME" (strength, 0 to 1) and no_sign (True if all are below 0.1);
    - of a model that also uses measurements, "adds NAME" (what each adds to the severity, in log-odds);
    - hidden (True if a screen shows the stage only on request, see `Prediction.hidden`).

    Notes
    -----
    Torch's gradient mode, autocast, default dtype and default device are set here and restored. After torch has
    computed with several threads, a forked process hangs at its first convolution. Start processes with "spawn"
    (`multiprocessing.get_context("spawn")`), or call `torch.set_num_threads(1)` before the first computation.

    Raises
    ------
    InputError
        If `patients` is of another type, a bag is empty, or two bags are of one patient.
    InputErrors
        If scans were prepared with other settings than the model's, or no patient can be staged.

    Examples
    --------
    >>> answers = cirrnb.predict("shipped", "cohorts/mine")
    >>> len(answers), set(answers["predicted"].dropna()) <= {"mild", "moderate", "severe"}
    (12, True)
    """
    if isinstance(model, str | Path) and _exchanged(model, patients):
        problem, expected = f"{str(model)!r} as the model, {str(patients)!r} as the patients", "the model first"
        raise InputError("predict", problem, expected, f'Exchange them: cirrnb.predict("{patients}", "{model}").')
    trained = as_model(model)
    if isinstance(patients, str | Path):
        patients = as_cohort(patients, **trained.vocabulary())
    if masks:
        if not isinstance(patients, Cohort):
            raise InputError(
                "masks",
                "scans that are prepared already",
                "a cohort",
                "Hand in the cohort as cirrnb.read_cohort returned it.",
            )
        patients = give_masks(patients, masks)
    if isinstance(patients, Cohort | PreparedCohort):
        patients = prepared_for(trained, patients, prepared, force=force, progress=progress)
    bags, computed = bags_of(patients)
    simulated = trained.simulated or computed
    raise_if_any(error for bag in bags for error in prepared_otherwise(bag, trained))
    on_device(trained, device)
    return _table(trained, bags, simulated, progress)[0]


@isolated_torch()
def predict_own_cohort(
    model: TrainedStager, prepared: PreparedCohort, slices: int | None = None, device: torch.device | str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """What a training leaves of its patients: the tables of `predict` and, of a stager of single slices, of
    `predict_slices` (otherwise None). Every slice is encoded once.

    `slices` evenly spaced ones of each scan are looked at; None for all. Raises as `predict`.
    """
    trained = on_device(as_model(model), device)
    bags, computed = bags_of(prepared)
    return _table(trained, bags, trained.simulated or computed, False, slices)


def _table(
    trained: TrainedModel, bags: Sequence[Bag], simulated: bool, progress: Progress, slices: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The table of `predict`, and that of `predict_slices` where each slice is staged by itself."""
    rows, failures, by_slice = [], [], []
    for bag in watched(bags, total=len(bags), desc="Staging", unit="patient", progress=progress):
        row: dict[str, Any] = {"subject": bag.subject, "patient": bag.patient, "source": _source(bag)}
        row |= {"split": bag.split, "stage": bag.stage, "simulated": simulated}
        try:
            prediction, batch, answers = _stage_patient(trained, bag, slices=slices)
            rows.append(row | _answer_row(prediction))
            by_slice += [_by_slice(trained, bag, batch, answers[0])] if _stages_slices(trained) else []
        except InputError as error:
            failures.append(error)
            nothing = {"predicted": None, "sequences": "", "status": REFUSED, "reasons": error.found, "hidden": False}
            rows.append(row | nothing | {"notes": f"not staged: {error.found}"})
    if failures and len(failures) == len(bags):
        raise InputErrors(failures)
    signs = trained.signs
    further = [*(["set"] if trained.calibration else []), *(f"sign {name}" for name in signs)]
    adds = [f"adds {name}" for name in trained.measured.names] if trained.measured else []
    names = [*columns(trained.stages), *further, *(["no_sign"] if signs else []), *adds]
    return pd.DataFrame(rows, columns=names), pd.concat(by_slice, ignore_index=True) if by_slice else None


@isolated_torch()
def predict_patient(
    model: TrainedModel | TrainedStager | Path | str,
    bag: Bag,
    signs: Mapping[str, float] | None = None,
    measurements: Mapping[str, Sequence[Measurement]] | None = None,
) -> Prediction:
    """Stage one patient on the device where the stager is; deterministic.

    `signs` answers "what if": the stage as it would be if these signs had these strengths, 0 (absent) to 1, everything
    else as seen. `measurements`, by sequence, are what `cirrnb.measure.biomarkers.measurements_of` gave where somebody
    has measured these scans already; a model that rests on measurements takes them from there.

    Raises InputError if no sequence of the patient can be used, and Refused, which is one, if a check refused a scan;
    for a sign that the model does not have, or a strength out of range.
    """
    return _stage_patient(as_model(model), bag, signs, measurements)[0]


def _stage_patient(
    trained: TrainedModel,
    bag: Bag,
    signs: Mapping[str, float] | None = None,
    measurements: Mapping[str, Sequence[Measurement]] | None = None,
    slices: int | None = None,
) -> tuple[Prediction, Batch, list[Staging]]:
    """As `predict_patient`; also returns the slices that were read and the output of each stager for them.

    `slices` evenly spaced slices of each sequence are read; None reads all.
    """
    used, notes = usable(trained, bag)
    unlike = unusual(trained, used)
    status, reasons = status_of_scans([scan.scan for scan in used.values()])
    reasons += (*unlike, *incomplete(used))
    stages, batch = trained.stages, patient_batch(trained, used, slices)
    sign_fields, answers = _signs_and_answers(trained, used, batch, signs or {})
    # Normalised again, since float32 probabilities only nearly sum to one.
    members = np.stack([answer.log_probabilities[0].double().softmax(dim=0).numpy() for answer in answers])
    chances, possible = members.mean(axis=0), None
    terms, adds = _terms(trained, used, chances, measurements), {}
    if trained.measured:
        site, home = trained.adaptation, trained.measured
        adds = site.severity_terms(terms, home) if site else home.contributions(terms)
        chances = home.of_severity(sum(adds.values()))
        members = chances[None]
    if trained.calibration:
        chances = trained.calibration.apply(logits_of(chances))
        possible = trained.calibration.agreed_sets(members[:, None])[0]
    if trained.adaptation:
        chances = trained.adaptation.apply(chances)[0]
        possible = trained.calibration.prediction_set(chances) if trained.calibration else None
        notes = [*notes, trained.adaptation.sentence]
    weights = np.mean([answer.slice_weights.numpy() for answer in answers], axis=0)
    sequences = np.mean([answer.sequence_weights[0].numpy() for answer in answers], axis=0)
    prediction = Prediction(
        subject=bag.subject,
        probabilities=dict(zip(stages, chances.tolist(), strict=True)),
        predicted=stages[int(np.argmax(chances))],
        prediction_set=possible,
        slice_weights={name: weights[batch.sequence.numpy() == batch.sequences.index(name)] for name in used},
        sequence_weights={name: float(sequences[batch.sequences.index(name)]) for name in used},
        notes=(*notes, *(reason.text for reason in unlike)),
        model=trained.name,
        simulated=trained.simulated,
        in_distribution=not unlike,
        stages=stages,
        status=DOUBTFUL if reasons else status,
        reasons=reasons,
        terms=terms,
        adds=adds,
        **sign_fields,
    )
    return prediction, batch, answers


def _signs_and_answers(
    trained: TrainedModel, used: Mapping[str, PreparedScan], batch: Batch, signs: Mapping[str, float]
) -> tuple[dict[str, Any], list[Staging]]:
    """Fields of the prediction that describe the signs, and the output of each stager.

    Signs come from the stagers or from a separate network, whose strengths are replaced by measured ones. `signs` are
    strengths to try. If a separate network reads the signs, the stagers' strengths change by the same amount.
    """
    changed, reader = changed_strengths(trained, signs), trained.sign_reader
    if reader is None:
        answers = [_ask(member, batch, changed) for member in trained.members]
        return summarise_signs(trained, answers, tuple(used)), answers
    measured = trained.measured_signs.strengths(used) if trained.measured_signs else {}
    ruled = set(trained.measured_signs.signs) if trained.measured_signs else set()
    answers = [_ask(member, batch) for member in trained.members]
    given = {**own_strengths(trained, answers), **measured}
    staging = _ask(reader, batch, changed_strengths(trained, {**given, **signs}))
    unchanged, not_measured = set(measured) - set(signs), ruled - set(measured) - set(signs)
    sign_fields = summarise_signs(trained, [staging], tuple(used), unchanged, not_measured)
    if changed is not None:
        before = _ask(reader, batch, changed_strengths(trained, given)).signs
        assert before is not None
        answers = [
            _ask(member, batch, answer.signs + (changed - before))
            for member, answer in zip(trained.members, answers, strict=True)
            if answer.signs is not None
        ]
    return sign_fields, answers


def _terms(
    trained: TrainedModel,
    used: Mapping[str, PreparedScan],
    chances: NDArray[np.float64],
    measurements: Mapping[str, Sequence[Measurement]] | None,
) -> dict[str, float]:
    """Terms of the stage of a model with measurements; empty for other models, for which nothing is measured."""
    if trained.measured is None:
        return {}
    by_sequence = measurements_of(Bag(used)) if measurements is None else measurements
    seen = {name: by_sequence[name] for name in used if name in by_sequence}
    return {NETWORK: float(severity_of(chances)[0]), **measured_values(seen)}


@isolated_torch()
def predict_slices(trained: TrainedStager, bags: Sequence[Bag]) -> pd.DataFrame:
    """What a stager of single slices says about each: one row a slice with subject, split, stage, sequence, position
    (mm, RAS+ z), predicted, and the probability of each stage. Patients without a usable sequence are left out.

    Raises ValueError for a stager that does not stage slice by slice.
    """
    model = as_model(trained)
    if not _stages_slices(model):
        raise ValueError("this stager sees all slices of a patient together")
    table = _table(model, bags, simulated=False, progress=False)[1]
    return pd.DataFrame() if table is None else table


def _stages_slices(trained: TrainedModel) -> bool:
    """Whether it is one stager that stages every slice by itself."""
    return len(trained.members) == 1 and trained.members[0].stager.settings.pooling == "slice"


def _by_slice(trained: TrainedModel, bag: Bag, batch: Batch, answer: Staging) -> pd.DataFrame:
    """A patient's rows of `predict_slices`."""
    stages, log_probabilities = trained.stages, answer.slice_log_probabilities
    assert log_probabilities is not None
    table = pd.DataFrame(log_probabilities.double().softmax(dim=1).numpy(), columns=list(stages))
    table.insert(0, "predicted", [stages[index] for index in log_probabilities.argmax(dim=1)])
    table.insert(0, "position", batch.position.numpy())
    table.insert(0, "sequence", [batch.sequences[index] for index in batch.sequence])
    patient = pd.DataFrame({"subject": bag.subject, "split": bag.split, "stage": bag.stage}, index=table.index)
    return pd.concat([patient, table], axis=1)


def _exchanged(model: Path | str, patients: object) -> bool:
    """Whether a model was handed in as the patients, and what is no model as the model."""
    if isinstance(patients, TrainedModel | TrainedStager):
        return True
    return isinstance(patients, str | Path) and names_model(patients) and not names_model(model)


def patient_batch(trained: TrainedModel, used: Mapping[str, PreparedScan], slices: int | None = None) -> Batch:
    """All slices of one patient's usable scans, or so many of each, numbered as the model numbers its sequences."""
    return collate([draw(Bag(used), slices, sequences=trained.members[0].stager.sequences, stages=trained.stages)])


@torch.inference_mode()
def _ask(member: TrainedStager, batch: Batch, strengths: torch.Tensor | None = None) -> Staging:
    stager = member.stager.eval()
    device = next(stager.parameters()).device
    given = None if strengths is None else strengths.to(device)
    return stager.stage(batch.to(device), chunk=CHUNK, strengths=given).cpu()


def _answer_row(prediction: Prediction) -> dict[str, Any]:
    row: dict[str, Any] = {
        "predicted": prediction.predicted,
        **prediction.probabilities,
        "notes": "; ".join(prediction.notes),
    }
    row |= {"status": prediction.status, "reasons": reasons_text(prediction.reasons)}
    row |= {"hidden": prediction.hidden}
    row |= {f"adds {name}": value for name, value in prediction.adds.items()}
    row |= {f"sign {sign.name}": sign.strength for sign in prediction.signs} | {"no_sign": prediction.no_sign}
    return row | {"sequences": "+".join(prediction.slice_weights), "set": set_text(prediction.prediction_set or ())}


def _source(bag: Bag) -> str:
    return next(iter(bag.scans.values())).scan.source
