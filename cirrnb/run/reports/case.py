"""One patient in front of a model: what the notebook of a patient's report starts from."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.data.names import file_stem
from cirrnb.data.plugins import loaded_plugins
from cirrnb.data.prepared import Bag
from cirrnb.explanation.explanation import Explanation
from cirrnb.measure.measurement import Measurement
from cirrnb.model.certainty.calibration import set_text
from cirrnb.model.prediction import Prediction, predict_patient
from cirrnb.model.provenance import model_fingerprint
from cirrnb.model.trained import TrainedModel, load_model
from cirrnb.view.patient import beaten
from cirrnb.view.report import certainty_of


@dataclass(frozen=True, eq=False)
class PatientCase:
    """A patient, the model, and what it says.

    Attributes
    ----------
    simulated : True if the patient was. Of what the model learnt from, `model.simulated` tells.
    after : stands for the model and the patient's scans, so that a report knows when to make a page anew.
    """

    model: TrainedModel
    bag: Bag
    prediction: Prediction
    simulated: bool
    after: str


def open_case(
    run: str, cohort: str | None, prepared: str | None, patient: str | None, sequences: str | None = None
) -> PatientCase:
    """Read the patient's scans, prepare them if need be, and ask the model.

    Parameters
    ----------
    run : folder of a model, or "shipped".
    cohort : folder or table; None simulates a few patients.
    prepared : folder of prepared scans; None takes prepared/ and the cohort's name.
    patient : subject; None takes the cohort's first.
    sequences : names in the cohort's table; None takes the model's.

    Raises
    ------
    InputError, InputErrors
        If there is no such patient, or the model or one of the scans cannot be used.
    """
    model = load_model(run)
    if cohort:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with others is theirs
            people = cirrnb.read_cohort(cohort, on_problem="skip", **model.vocabulary(sequences))
    else:
        people = cirrnb.simulate_cohort("cohorts/explained", patients=6, seed=11)
    subject = patient or people.scans[0].subject
    own = people.select(keep=[subject])
    if not own.scans:
        raise InputError("patient", repr(subject), f"one of the {len(people.patients)} of the cohort", "Correct it.")
    ready = cirrnb.prepare(
        own, prepared or Path("prepared") / people.name, model.preparation, workers=1, progress=False
    )
    if len(ready.failures):
        raise InputError(subject, unreadable(ready.failures), "scans that can be read", "Restore or remove the file.")
    bag = ready.bags()[0]
    said = predict_patient(model, bag)
    return PatientCase(model, bag, said, people.simulated, identity(model, bag, people.simulated))


def unreadable(failures: pd.DataFrame) -> str:
    """What is wrong with a patient's scans, without the names of files, which may be a person's."""
    return "; ".join(f"{row.sequence}: {str(row.reason).partition(': ')[2]}" for row in failures.itertuples())


def identity(model: TrainedModel | str, bag: Bag, simulated: bool) -> str:
    """SHA-256 over the model (or its fingerprint) and all that a page shows of a patient: scans, age, sex, stage."""
    known = model if isinstance(model, str) else model_fingerprint(model)
    scans = {name: scan.folder.name for name, scan in bag.scans.items()}
    told = [known, bag.subject, bag.stage, bag.age, bag.sex, scans, simulated, *loaded_plugins().items()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def keep_overlays(explanation: Explanation, folder: Path | str | None) -> list[str]:
    """Write the map on each scan's own grid into the patient's folder; the files' names. Nothing where there is none.

    What an earlier page left there is removed: it may be of an older scan or another method.
    """
    for old in [] if folder is None else Path(folder).glob("*.nii.gz"):
        old.unlink()
    return [] if folder is None else [path.name for path in explanation.to_nifti(folder)]


def summary_row(
    case: PatientCase,
    explanation: Explanation,
    worth: pd.DataFrame,
    measured: Mapping[str, Sequence[Measurement]],
    overlays: Sequence[str],
) -> dict[str, Any]:
    """The patient's row of summary.csv, as `cirrnb.run.reports.tables.SUMMARY`, but for page and times; and `after`."""
    said, bag = case.prediction, case.bag
    area = worth.set_index("measure")["value"]
    source = next(iter(bag.scans.values())).scan.source
    row = {
        "subject": bag.subject,
        "patient": bag.patient,
        "source": source,
        "age": bag.age,
        "sex": bag.sex,
        "stage": bag.stage,
        "predicted": said.predicted,
        **said.probabilities,
        "set": set_text(said.prediction_set or ()),
        "certainty": certainty_of(len(said.prediction_set or ()), len(said.stages)),
        "sequences": "+".join(said.sequence_weights),
        "flags": "; ".join(said.notes),
        "score": explanation.score,
        **{f"{name}_share": explanation.shares.sequences.get(name) for name in bag.sequences},
        "method": explanation.method,
        **{name: _number(area.get(name)) for name in ("deletion", "insertion")},
        "map": beaten(worth),
        "overlays": "|".join(f"overlays/{file_stem(bag.subject)}/{name}" for name in overlays),
        "model": said.model,
        "simulated": case.simulated,
        "model_simulated": case.model.simulated,
        "after": case.after,
    }
    found = {
        f"{one.name} ({', '.join(filter(None, (one.unit, name)))})": one.value
        for name, many in measured.items()
        for one in many
    }
    return {**row, **{column: _number(value) for column, value in found.items()}}


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
