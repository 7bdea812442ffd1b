"""How good a stager is: patients' predictions against the radiologist's stage, with intervals, chance and majority."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.scan import STAGES
from cirrnb.data.writing import write_whole
from cirrnb.evaluation.intervals import Interval, bootstrap, wilson
from cirrnb.evaluation.metrics import METRICS, Metric, confusion_matrix


@dataclass(frozen=True)
class Evaluation:
    """What the predictions for some patients are worth.

    Attributes
    ----------
    table : one row a metric: metric, value, low, high, method (of the interval), chance, majority, higher_is_better,
        n (patients it is counted over).
    confusion : patients by the radiologist's stage (rows) and the predicted one (columns), 3 x 3.
    n : patients counted.
    split : which patients; None for all.
    simulated : True if model or patients are simulated; every figure and report says so.
    notes : what a reader has to know about who was counted and what was compared, in words.
    confidence, resamples, seed : of the intervals.
    """

    table: pd.DataFrame
    confusion: pd.DataFrame
    n: int
    split: str | None
    simulated: bool
    notes: tuple[str, ...]
    confidence: float
    resamples: int
    seed: int

    def save(self, run: Path | str) -> Path:
        """Write `metrics.json` into a run folder, or to a file whose name ends in .json."""
        path = Path(run)
        path = path if path.suffix == ".json" else path / "metrics.json"
        told = {name: getattr(self, name) for name in ("split", "n", "simulated", "notes", "confidence")}
        told |= {"resamples": self.resamples, "seed": self.seed, "stages": STAGES}
        told |= {"confusion": self.confusion.to_numpy().tolist(), "metrics": _without_nan(self.table)}
        write_whole(path, json.dumps(told, indent=2, allow_nan=False) + "\n")
        return path


def evaluate(
    predictions: pd.DataFrame,
    *,
    split: str | None = "test",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Judge predictions by patient.

    Parameters
    ----------
    predictions : as `cirrnb.predict` returns and a run's predictions.csv holds: one row a patient with subject, split,
        stage and predicted, and simulated if it is known.
    split : whom to count; None counts every patient with a stage. Training patients are no test, so that None is
        for predictions that were made out of fold.
    confidence, resamples, seed : of the intervals: Wilson's for proportions, else a BCa bootstrap over patients
        stratified by stage.

    Returns
    -------
    An `Evaluation`. Beside each value stand chance, what guessing every stage alike often is expected to score, and
    majority, what the training patients' commonest stage scores when given to everybody.

    Raises
    ------
    InputError
        If columns are missing, a patient occurs twice, a stage is unknown, or fewer than two patients can be counted.
    """
    _require_table(predictions, split)
    chosen = predictions if split is None else predictions[predictions["split"] == split]
    staged = chosen[chosen["stage"].notna()]
    counted = staged[staged["predicted"].notna()]
    if len(counted) < 2:
        raise InputError(
            f"predictions of split {split}" if split else "predictions",
            f"{len(counted)} patients with a stage and a prediction among {len(chosen)}",
            "at least two",
            "Choose a split that holds patients with a stage, or split=None for all.",
        )
    notes = []
    if len(staged) > len(counted):
        notes.append(f"{len(staged) - len(counted)} patients could not be staged and are not counted")
    if len(chosen) > len(staged):
        notes.append(f"{len(chosen) - len(staged)} patients have no known stage and are not counted")
    majority, note = _majority(predictions, counted)
    truth, predicted = _indices(counted["stage"]), _indices(counted["predicted"])
    intervals = partial(_interval, truth, predicted, confidence=confidence, resamples=resamples, seed=seed)
    confusion = confusion_matrix(truth, predicted)
    return Evaluation(
        table=_table(confusion, majority, {metric.name: intervals(metric) for metric in METRICS}),
        confusion=pd.DataFrame(confusion.astype(int), index=list(STAGES), columns=list(STAGES)),
        n=len(counted),
        split=split,
        simulated=bool("simulated" in counted and counted["simulated"].any()),
        notes=(*notes, note),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def _table(confusion: NDArray[np.float64], majority: int, intervals: dict[str, Interval]) -> pd.DataFrame:
    totals = confusion.sum(axis=1, keepdims=True)
    guessed = np.repeat(totals / len(STAGES), len(STAGES), axis=1)
    constant = np.where(np.arange(len(STAGES)) == majority, totals, 0.0)
    rows = [
        {
            "metric": metric.name,
            "value": metric.value(confusion),
            **asdict(intervals[metric.name]),
            "chance": round(metric.value(guessed), 12) + 0.0,  # so that kappa's is 0 and not -2e-16
            "majority": metric.value(constant),
            "higher_is_better": metric.higher_is_better,
            "n": int(metric.counts(confusion)[1] if metric.counts else confusion.sum()),
        }
        for metric in METRICS
    ]
    return pd.DataFrame(rows)


def _interval(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    metric: Metric,
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> Interval:
    if metric.counts:
        return wilson(*metric.counts(confusion_matrix(truth, predicted)), confidence)
    return bootstrap(
        lambda chosen: metric.value(confusion_matrix(truth[chosen], predicted[chosen])),
        truth,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def _majority(predictions: pd.DataFrame, counted: pd.DataFrame) -> tuple[int, str]:
    """Index of the commonest stage of the training patients (the milder one if two are), and a note that tells it."""
    training = predictions[predictions["split"] == "train"] if "split" in predictions else predictions.iloc[:0]
    known = training["stage"].notna().any()
    counts = np.bincount(_indices((training if known else counted)["stage"].dropna()), minlength=len(STAGES))
    majority = int(counts.argmax())
    of = "training patients" if known else "very patients counted, as no training patients are in the table"
    return majority, f"majority is {STAGES[majority]}, the commonest stage of the {of}"


def _indices(stages: pd.Series) -> NDArray[np.int64]:
    return stages.map(STAGES.index).to_numpy(dtype=np.int64)


def _require_table(predictions: pd.DataFrame, split: str | None) -> None:
    needed = ["subject", "stage", "predicted", *(["split"] if split else [])]
    missing = [name for name in needed if name not in predictions]
    if missing:
        raise InputError("predictions", f"no column {', '.join(missing)}", f"columns {needed}", "Use cirrnb.predict.")
    for name in ("stage", "predicted"):
        unknown = sorted(set(predictions[name].dropna().astype(str)) - set(STAGES))
        if unknown:
            raise InputError("predictions", f"{name} {unknown}", f"{list(STAGES)} or nothing", "Correct the column.")
    twice = predictions["subject"][predictions["subject"].duplicated()].unique()
    if len(twice):
        raise InputError(
            "predictions",
            f"{len(twice)} patients more than once ({', '.join(map(str, twice[:5]))})",
            "one row a patient: counted twice, a patient makes the intervals too narrow",
            "Evaluate one set of predictions at a time.",
        )


def _without_nan(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON, which knows no NaN."""
    rows = table.to_dict(orient="records")
    return [
        {str(key): None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
        for row in rows
    ]
