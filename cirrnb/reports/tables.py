"""summary.csv and failures.csv: what each column means, written whole and read back as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cirrnb.data.csv_file import read_csv, write_csv
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.data.status import reasons_text
from cirrnb.model.calibration import set_text
from cirrnb.reports.cohort_figures import uncertainty_of
from cirrnb.reports.patient_report import PatientReport

SUMMARY = {
    "subject": "source and id of the patient, unique in the cohort, as it stands there",
    "patient": "the id alone",
    "source": "the part of the cohort",
    "age": "years, empty where unknown",
    "sex": "female or male, empty where unknown",
    "stage": "the recorded stage, empty where nobody staged the patient",
    "predicted": "the most probable stage",
    "mild": "its probability, 0 to 1",
    "moderate": "its probability, 0 to 1",
    "severe": "its probability, 0 to 1",
    "set": "the stages that are possible, mildest first, joined by |; empty for a model that is not calibrated",
    "uncertainty": "one stage, two stages, ... or any stage: how many the set holds; or not calibrated",
    "status": "answered, or doubtful: checks doubt the scans, they look unlike the training scans, or force was given",
    "reasons": "why it is doubtful, joined by |",
    "hidden": "True where a scan is far from the usual ones: pages hide the stage until the reader asks for it",
    "sequences": "those that were used, joined by +",
    "flags": "what was missing or unusual, in words, joined by ;",
    "score": "the raw score for severity that the map explains, in log-odds",
    "T1W_share": "what T1W adds to the score, in log-odds; empty without it",
    "T2W_share": "what T2W adds to the score, in log-odds; empty without it",
    "method": "how the map was made",
    "deletion": "of the map: area under the score while the places it names are blurred, lower is better",
    "insertion": "of the map: the same while they are shown first, higher is better",
    "map": "beats its control maps in both, deletion, insertion or neither; undefined where the score hardly changes",
    "page": "of the patient, from this folder",
    "overlays": "files of the map on each scan's own grid, from this folder, joined by |",
    "model": "name of the run the stager comes from",
    "simulated": "True if the patient was simulated",
    "model_simulated": "True if what the model learnt from was simulated: it then means nothing for a patient",
    "finished": "when the page was made, UTC",
    "seconds": "how long that took",
}
"""Columns of summary.csv, a row a patient in the cohort's order, and what they mean. Behind them come, of a model whose
stage rests on measurements too, "adds NAME" (log-odds towards later stages); of one with sign outputs, "sign NAME"
(strength, 0 to 1; empty where no sequence shows it) and no_sign; then biomarkers, named with their unit."""


def summary_columns(stages: StageScale, sequences: Sequence[str]) -> list[str]:
    """Columns of summary.csv for a model's stages and a cohort's sequences."""
    first, *others = CIRRHOSIS
    instead = {first: tuple(stages), "T1W_share": tuple(f"{name}_share" for name in sequences)}
    instead |= dict.fromkeys((*others, "T2W_share"), ())
    return [column for name in SUMMARY for column in instead.get(name, (name,))]


FAILURES = {
    "subject": "source and id of the patient; empty where it cannot be told which patient a row of the cohort is about",
    "kind": "wrong input, refused (by checks), error, time limit, dead worker, disk full, changed while it was read "
    "or archive (it did not send a study or take a result)",
    "reason": "in words, without a folder of this machine",
    "tries": "how often it was tried",
    "log": "file with the whole story, from this folder",
    "finished": "when it was given up, UTC",
}
"""Columns of failures.csv, a row a patient without a page, and what they mean."""

TIMES = ("finished", "seconds")
"""Columns that differ between two runs that did the same."""

_NUMBERS = ("age", *CIRRHOSIS, "score", "T1W_share", "T2W_share", "deletion", "insertion", "seconds")
_TEXT = tuple(
    name for name in dict.fromkeys((*SUMMARY, *FAILURES)) if name not in (*_NUMBERS, "hidden", "simulated", "tries")
)


def summary_row(report: PatientReport, overlays: str) -> dict[str, Any]:
    """The patient's row of summary.csv, as `SUMMARY`, but for page and times. `overlays` is their folder."""
    prediction, possible = report.prediction, report.prediction.prediction_set
    areas = {test.measure: test.value for test in report.map_tests}
    row = {
        "subject": report.subject,
        "patient": report.patient,
        "source": report.source,
        "age": report.age,
        "sex": report.sex,
        "stage": report.recorded,
        "predicted": prediction.predicted,
        **prediction.probabilities,
        "set": set_text(possible or ()),
        "uncertainty": uncertainty_of(len(possible or ()), len(prediction.stages)),
        "status": prediction.status,
        "reasons": reasons_text(prediction.reasons),
        "hidden": prediction.hidden,
        "sequences": "+".join(prediction.sequence_weights),
        "flags": "; ".join(prediction.notes),
        "score": report.reasons.score,
        **{f"{scan.sequence}_share": report.reasons.shapley.sequences.get(scan.sequence) for scan in report.scans},
        "method": report.reasons.method,
        "deletion": areas.get("deletion"),
        "insertion": areas.get("insertion"),
        "map": report.verdict,
        "overlays": "|".join(f"{overlays}/{name}" for name in report.overlays),
        "model": prediction.model,
        "simulated": report.simulated,
        "model_simulated": report.model_simulated,
    }
    measured = {
        f"{row.name} ({', '.join(filter(None, (row.unit, sequence)))})": row.value
        for sequence, rows in report.measurements.items()
        for row in rows
    }
    signs: dict[str, Any] = {f"sign {sign.name}": sign.strength for sign in prediction.signs}
    if prediction.signs:
        signs["no_sign"] = prediction.no_sign
    adds = {f"adds {name}": value for name, value in prediction.adds.items()}
    return {**row, **adds, **signs, **{column: _number(value) for column, value in measured.items()}}


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV, whole or not at all: `columns` first, further ones behind in the order they come up.

    Text that a spreadsheet program would compute gets an apostrophe in front, which reading takes away again.
    """
    write_csv(path, rows, columns)


def read_summary(report: Path | str) -> pd.DataFrame:
    """The summary of a report's folder, one row a patient; ids are text. Raises InputError."""
    return _read(Path(report) / "summary.csv")


def read_failures(report: Path | str) -> pd.DataFrame:
    """The failures of a report's folder, one row a patient without a page. Raises InputError."""
    return _read(Path(report) / "failures.csv")


def _read(path: Path) -> pd.DataFrame:
    return read_csv(path, _TEXT, expected="the folder of a report", remedy="Make the report again.")
