"""`patient_report`: one call from a patient and a model to a `PatientReport`."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.given_masks import give_masks
from cirrnb.data.nifti.saving import description_of
from cirrnb.data.pictures import grey_picture, overlay_picture
from cirrnb.data.plugins import loaded_plugins
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.scan import Cohort
from cirrnb.data.status import reasons_text, status_of_scans
from cirrnb.explanation.control_maps import map_verdict
from cirrnb.explanation.explanation import Explanation
from cirrnb.explanation.sign_maps import own_sign_maps
from cirrnb.measure.biomarkers import measurements_of
from cirrnb.model.model_card import card
from cirrnb.model.prediction import Prediction, predict_patient
from cirrnb.model.run_folder import read_training_answers
from cirrnb.model.signs import SignReading
from cirrnb.model.trained_model import TrainedModel, load_model
from cirrnb.reports.patient_report import (
    ExplanationSummary,
    MapTest,
    PatientReport,
    ScanFacts,
    SequenceShapleyValues,
    SlicePicture,
    SliceRows,
    TrainingComparison,
)
from cirrnb.view.attribution import colours, slices_that_count
from cirrnb.view.slices import Slice
from cirrnb.viewer.contours import Outline, organs_on, outlines_at
from cirrnb.viewer.panes import white
from cirrnb.viewer.slice_browser import slice_content


def key_slices(bag: Bag, count: int = 3) -> SliceRows:
    """Slices at even heights through the liver (through the scan where it is not outlined), as acquired, from the head
    down, a row a sequence, with the outlines of organs."""
    windows = _windows(bag)
    rows = {}
    for name, prepared in bag.scans.items():
        organs = organs_on(prepared)
        rows[name] = tuple(
            _picture(_slice_at(prepared, index, windows[name]), outlines_at(prepared, organs, index))
            for index in _heights(prepared, count)
        )
    return rows


def slices_that_mattered(bag: Bag, explanation: Explanation, count: int = 3) -> SliceRows:
    """Those with the largest Shapley values, without and with the map."""
    return _pictures(slices_that_count(bag, explanation, count=count, windows=_windows(bag)))


def slices_with_signs(model: TrainedModel, bag: Bag, prediction: Prediction, count: int = 3) -> SliceRows:
    """The strongest signs that the model saw, at most `count`: of each, and of each sequence that shows it, the slice
    that holds most of it by the model's own map, with the map; no rows for a model without maps of signs."""
    seen = sorted((sign for sign in prediction.signs if sign.seen), key=lambda sign: -sign.strength)
    maps = own_sign_maps(model, bag) if seen else {}
    windows = _windows(bag)
    rows: dict[str, tuple[SlicePicture | None, ...]] = {}
    for sequence, by_sign in maps.items():
        pictures: list[SlicePicture | None] = []
        for sign in seen[:count]:
            if sign.name not in by_sign:
                pictures.append(None)
                continue
            sign_map = by_sign[sign.name]
            index = int(sign_map.sum(axis=(1, 2)).argmax())
            plain = _slice_at(bag.scans[sequence], index, windows[sequence])
            shown = sign_map[index] / max(float(sign_map[index].max()), 1e-6)
            caption = f"{sign.short}: {sign.strength:.2f}{_doubt(sign)}"
            pictures.append(_picture(replace(plain, overlay=shown, caption=caption)))
        rows[sequence] = tuple(pictures)
    return {sequence: pictures for sequence, pictures in rows.items() if any(pictures)}


def _doubt(sign: SignReading) -> str:
    """What a reader of a small picture must know of the sign on it; "" where there is nothing."""
    return ", hardly read" if sign.hardly_read else ", uncertain" if sign.degree == "uncertain" else ""


def _windows(bag: Bag) -> dict[str, tuple[float, float]]:
    """The explorer's first window: the liver is what is read."""
    windows = {}
    for name, prepared in bag.scans.items():
        mask = None if prepared.mask is None else np.asarray(prepared.mask, dtype=np.uint8)
        windows[name] = (0.0, white(np.nan_to_num(np.asarray(prepared.image, dtype=np.float32)), mask))
    return windows


def _heights(prepared: PreparedScan, count: int) -> list[int]:
    held = np.arange(prepared.grid.shape[0])
    if prepared.mask is not None:
        held = np.flatnonzero(np.asarray(prepared.mask).any(axis=(1, 2)))
    fractions = (np.arange(count) + 1) / (count + 1)
    return sorted({int(held[round(fraction * (len(held) - 1))]) for fraction in fractions}, reverse=True)


def _slice_at(prepared: PreparedScan, index: int, window: tuple[float, float]) -> Slice:
    image = np.asarray(prepared.image[index], dtype=np.float32)
    return Slice(np.nan_to_num(image), prepared.grid.spacing[1:], float(prepared.positions[index]), window=window)


def _pictures(rows: Mapping[str, Sequence[Slice | None]]) -> SliceRows:
    return {
        name: tuple(None if picture is None else _picture(picture) for picture in slices)
        for name, slices in rows.items()
    }


def _picture(shown: Slice, outlines: tuple[Outline, ...] = ()) -> SlicePicture:
    height, width = (size * step for size, step in zip(shown.pixels.shape, shown.spacing, strict=True))
    return SlicePicture(
        image=grey_picture(shown.pixels, shown.window),
        overlay="" if shown.overlay is None else overlay_picture(shown.overlay, 1.0),
        position=shown.position,
        width=width,
        height=height,
        caption=shown.caption,
        outlines=outlines,
        pixels=shown.pixels.shape,
    )


@dataclass(frozen=True)
class ReportSettings:
    """What shapes a page besides model and patient.

    Attributes
    ----------
    method : how the map is made. steps : points of a perturbation curve less one, by which the map is tested.
    permutations : orders in which slices are added for their Shapley values.
    """

    method: str = "grad_cam"
    steps: int = 8
    permutations: int = 24


@dataclass(frozen=True, eq=False)
class ReportModel:
    """A model with what its reports say of it: facts, and the expected stages of its training patients."""

    model: TrainedModel
    facts: Mapping[str, str]
    others: Mapping[str, tuple[float, ...]] | None
    how: str

    @classmethod
    def load(cls, run: str) -> ReportModel:
        """Read the model of a folder, or "shipped". Raises InputError."""
        model = load_model(run)
        answers, how = read_training_answers(model, run)
        return cls(model, card(model), _expected_stages(answers), how)


def patient_report(
    model: ReportModel,
    bag: Bag,
    settings: ReportSettings | None = None,
    *,
    simulated: bool,
    store: Path | str | None = None,
    overlays: Path | str | None = None,
) -> PatientReport:
    """Stage one patient, explain and test the answer, measure the scans, and say all of it as data.

    Parameters
    ----------
    simulated : whether the patient is.
    store : folder in which explanations are kept and found again.
    overlays : folder for the map on the grid of each scan's file; maps that an earlier report left there are
        removed. None writes nothing.

    Raises
    ------
    InputError, InputErrors
        If no sequence of the patient can be used, or the method does not exist.
    Refused
        If a check of the scans refused the patient.
    """
    settings = settings or ReportSettings()
    measurements = measurements_of(bag)
    prediction = predict_patient(model.model, bag, measurements=measurements)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what they say stands in the notes
        explanation = cirrnb.explain(model.model, bag, settings.method, permutations=settings.permutations, store=store)
    tests = cirrnb.faithfulness(model.model, bag, explanation, steps=settings.steps, samples=0, store=store)
    calibration = model.model.calibration
    return PatientReport(
        subject=bag.subject,
        patient=bag.patient,
        source=next(iter(bag.scans.values())).scan.source,
        age=bag.age,
        sex=bag.sex,
        recorded=bag.stage,
        simulated=simulated,
        model_simulated=model.model.simulated,
        scans=tuple(_scan_facts(name, bag) for name in bag.sequences),
        prediction=prediction,
        coverage=calibration.coverage if calibration else None,
        key_slices=key_slices(bag),
        slices_that_mattered=slices_that_mattered(bag, explanation),
        slices_with_signs=slices_with_signs(model.model, bag, prediction),
        reasons=_reasons(explanation),
        map_tests=tuple(_map_tests(tests)),
        verdict=map_verdict(tests.to_dict("records")),
        measurements=measurements,
        training=_compared(model, prediction, bag),
        model=model.facts,
        browser=slice_content(bag, explanation, simulated=simulated),
        settings={**vars(settings), "model": model.model.name},
        overlays=tuple(_write_overlays(explanation, overlays)),
        identity=identity(model.model, bag, simulated),
    )


def find_patient(people: Cohort, subject: str | None) -> Cohort:
    """The scans of one patient (None: the cohort's first), named as `Cohort.subject_named` understands it. Raises
    InputError where there is no such patient."""
    return people.select(keep=[people.subject_named(subject) if subject else people.scans[0].subject])


def prepare_patient(
    people: Cohort,
    subject: str | None,
    prepared: Path | str | None,
    model: TrainedModel,
    *,
    masks: Sequence[str] = (),
    force: bool = False,
) -> Bag:
    """The prepared scans of one patient; None for `prepared` takes prepared/ and the cohort's name.

    `masks` are files as `cirrnb.data.given_masks.give_masks` takes them. `force` has scans answered for that a check
    refuses; they are doubtful.

    Raises InputError where there is no such patient or a scan cannot be read.
    """
    scans = give_masks(find_patient(people, subject), masks)
    folder = prepared or Path("prepared") / people.name
    ready = cirrnb.prepare(scans, folder, model.preparation, workers=1, progress=False, force=force)
    if len(ready.failures):
        where = scans.scans[0].subject
        raise InputError(where, unreadable(ready.failures), "scans that can be read", "Restore or remove the file.")
    return ready.bags()[0]


def open_cohort(cohort: str | None, model: TrainedModel, sequences: str | None = None) -> Cohort:
    """The cohort of a folder or table, without the patients who cannot be read; None simulates a few patients.

    It is read in the model's stages and sequences, or the sequences that are named.
    """
    if not cohort:
        return cirrnb.simulate_cohort("cohorts/explained", patients=6, seed=11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # problems of other patients do not concern this one
        return cirrnb.read_cohort(cohort, on_problem="skip", **model.vocabulary(sequences))


def unreadable(failures: pd.DataFrame) -> str:
    """What is wrong with a patient's scans, without the names of files, which may be a person's."""
    return "; ".join(f"{row.sequence}: {str(row.reason).partition(': ')[2]}" for row in failures.itertuples())


def identity(model: TrainedModel, bag: Bag, simulated: bool, plugins: Mapping[str, str] | None = None) -> str:
    """SHA-256 over model, plug-ins (None: all that are loaded), and what a page shows of a patient: scans, what checks
    made of them, age, sex, stage."""
    scans = {name: scan.folder.name for name, scan in bag.scans.items()}
    used = sorted((loaded_plugins() if plugins is None else plugins).items())
    known = [bag.subject, bag.stage, bag.age, bag.sex]
    status, reasons = status_of_scans([scan.scan for scan in bag.scans.values()])
    parts = [model.fingerprint, *known, bag.sequences, scans, simulated, used, status, reasons_text(reasons)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def expected_stage(probabilities: Mapping[str, float]) -> float:
    """The stage to be expected: 0 for surely the first, and so on."""
    return float(sum(place * chance for place, chance in enumerate(probabilities.values())))


def _expected_stages(answers: pd.DataFrame | None) -> dict[str, tuple[float, ...]] | None:
    if answers is None or answers.empty:
        return None
    stages = [str(name) for name in answers if name != "stage"]
    severity = np.round(answers[stages].to_numpy(dtype=float) @ np.arange(len(stages)), 3)  # a thousand in each page
    return {stage: tuple(np.sort(severity[answers["stage"] == stage]).tolist()) for stage in stages}


def _compared(model: ReportModel, prediction: Prediction, bag: Bag) -> TrainingComparison:
    used = {name: bag.scans[name] for name in prediction.sequence_weights}
    distances = model.model.out_of_distribution.distances(used) if model.model.out_of_distribution else {}
    return TrainingComparison(expected_stage(prediction.probabilities), model.others, model.how, dict(distances))


def _scan_facts(name: str, bag: Bag) -> ScanFacts:
    prepared = bag.scans.get(name)
    if prepared is None:
        return ScanFacts(name)
    source = prepared.source_grid
    return ScanFacts(
        name,
        tuple(source.shape),
        prepared.grid.shape[0],
        max(source.spacing),
        prepared.mask is not None,
        str(prepared.scan.extra.get("chosen_because") or ""),
    )


def _reasons(explanation: Explanation) -> ExplanationSummary:
    return ExplanationSummary(
        method=explanation.method,
        label=explanation.label,
        target=explanation.target,
        colours=colours(explanation),
        score=explanation.score,
        shapley=SequenceShapleyValues(dict(explanation.shapley.sequences), explanation.shapley.nothing),
        relative_delta=explanation.relative_delta,
        notes=explanation.notes,
    )


def _map_tests(table: pd.DataFrame) -> Iterable[MapTest]:
    plain = table.astype(object).where(table.notna(), None)
    return (MapTest(**{str(name): value for name, value in row.items()}) for row in plain.to_dict("records"))


def remove_maps(folder: Path) -> None:
    """Remove maps that `Explanation.to_nifti` left in a folder: they may be of an older scan or another method.

    Scans and masks stay, whoever made them.
    """
    for path in folder.glob("*.nii.gz"):
        if _MAP.match(description_of(path) or ""):
            path.unlink()


_MAP = re.compile(r"[a-z0-9_]+: ")
"""How `Explanation.to_nifti` describes a map: its method, then its target. No mask is described like that."""


def _write_overlays(explanation: Explanation, folder: Path | str | None) -> list[str]:
    if folder is None:
        return []
    remove_maps(Path(folder))
    return [path.name for path in explanation.to_nifti(folder)]
