"""How good a stager is: patients' predictions against the radiologist's stage, with intervals, chance and majority."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.atomic_files import write_whole
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.coverage import set_coverage
from cirrnb.evaluation.intervals import resample, weighted_bootstrap
from cirrnb.evaluation.metrics import confusion_matrix
from cirrnb.evaluation.reliability import error_by_chance_alone, reliability_table
from cirrnb.evaluation.scoring import answer_rows, probability_rows
from cirrnb.evaluation.tables import (
    SET,
    counted,
    has_probabilities,
    is_simulated,
    probabilities_of,
    stage_indices,
    training_shares,
)

COLUMNS = ("metric", "value", "low", "high", "method", "chance", "majority", "ceiling", "higher_is_better", "n")
"""Of `Evaluation.table`."""


@dataclass(frozen=True)
class Evaluation:
    """What the predictions for some patients are worth.

    Attributes
    ----------
    table : one row a metric: metric, value, low, high, method (of the interval), chance, majority, ceiling,
        higher_is_better, n (patients it is counted over).
    confusion : patients by the radiologist's stage (rows) and the predicted one (columns).
    n : patients counted.
    split : which patients; None for all.
    simulated : True if model or patients are simulated; every figure and report says so.
    notes : what a reader has to know about who was counted and what was compared, in words.
    confidence, resamples, seed : of the intervals.
    reliability : as `reliability_table`, or None if there are no probabilities.
    coverage : of the sets of stages, as `set_coverage`, or None if there are no sets.
    stages : the scale.
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
    reliability: pd.DataFrame | None = None
    coverage: pd.DataFrame | None = None
    stages: StageScale = CIRRHOSIS

    def save(self, run: Path | str) -> Path:
        """Write `metrics.json` into a run folder, or to a file whose name ends in .json."""
        path = Path(run)
        path = path if path.suffix == ".json" else path / "metrics.json"
        told = {name: getattr(self, name) for name in ("split", "n", "simulated", "notes", "confidence")}
        told |= {"resamples": self.resamples, "seed": self.seed, "stages": self.stages.names}
        told |= {"confusion": self.confusion.to_numpy().tolist(), "metrics": _without_nan(self.table)}
        for name, part in (("reliability", self.reliability), ("coverage", self.coverage)):
            told |= {} if part is None else {name: _without_nan(part)}
        write_whole(path, json.dumps(told, indent=2, allow_nan=False) + "\n")
        return path


def evaluate(
    predictions: pd.DataFrame,
    *,
    split: str | None = "test",
    ceiling: float | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    stages: StageScale = CIRRHOSIS,
) -> Evaluation:
    """Judge predictions by patient.

    Parameters
    ----------
    predictions : as `cirrnb.predict` returns and a run's predictions.csv holds: one row a patient with subject, split,
        stage and predicted, and simulated if it is known. With a column for each stage the probabilities are judged
        too, and with set ("mild|moderate") the sets of stages.
    split : whom to count; None counts every patient with a stage. Training patients are no test, so that None is
        for predictions that were made out of fold.
    ceiling : the best accuracy anybody could reach, 0 to 1, where it is known: for a simulated cohort from
        `cirrnb.simulation.ceiling`.
    confidence, resamples, seed : of the intervals: Wilson's for proportions, else a BCa bootstrap over patients
        stratified by stage.
    stages : the scale of the table; that of the model, `model.stages`, where one made it.

    Returns
    -------
    An `Evaluation`. Beside each value stand chance, what guessing every stage alike often is expected to score;
    majority, what the training patients' commonest stage scores when given to everybody, with the training patients'
    shares as probabilities; and for accuracy the ceiling.

    Raises
    ------
    InputError
        If columns are missing, a patient occurs twice, a stage or a set is unknown, probabilities are none, or fewer
        than two patients can be counted.
    ValueError
        If the ceiling is no share.
    """
    if ceiling is not None and not 0 <= ceiling <= 1:
        raise ValueError(f"ceiling is an accuracy from 0 to 1, not {ceiling}")
    patients, notes = counted(predictions, split, stages=stages)
    shares, majority = training_shares(predictions, patients, stages)
    truth, predicted = stage_indices(patients["stage"], stages), stage_indices(patients["predicted"], stages)
    names, sets = list(stages), None
    # The same draws serve every metric.
    bootstrap = partial(weighted_bootstrap, resampling=resample(truth, resamples, seed), confidence=confidence)
    rows = answer_rows(truth, predicted, shares, bootstrap, confidence, stages)
    if judged := has_probabilities(patients, stages):
        probabilities = probabilities_of(patients, stages=stages)
        rows += probability_rows(truth, probabilities, shares, bootstrap, stages)
        notes += (_calibration_floor(probabilities),)
    reliability = reliability_table(predictions, split=split, confidence=confidence, stages=stages) if judged else None
    if SET in predictions:
        sets = set_coverage(predictions, split=split, confidence=confidence, stages=stages)
    return Evaluation(
        table=_with_ceiling(pd.DataFrame(rows), ceiling),
        confusion=pd.DataFrame(confusion_matrix(truth, predicted, len(names)).astype(int), names, names),
        n=len(patients),
        split=split,
        simulated=is_simulated(patients),
        notes=(*notes, majority),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        reliability=reliability,
        coverage=sets,
        stages=stages,
    )


def _with_ceiling(table: pd.DataFrame, ceiling: float | None) -> pd.DataFrame:
    """The table with a column that tells the best accuracy there can be, and of the other metrics nothing."""
    known = (table["metric"] == "accuracy") & (ceiling is not None)
    values = np.where(known, np.nan if ceiling is None else ceiling, np.nan)
    return table.assign(ceiling=values)[list(COLUMNS)]


def _calibration_floor(probabilities: NDArray[np.float64]) -> str:
    floor = error_by_chance_alone(probabilities)
    return f"with these patients even a perfectly calibrated stager has an expected calibration error of {floor:.3f}"


def _without_nan(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON, which knows no NaN."""
    rows = table.to_dict(orient="records")
    return [
        {str(key): None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
        for row in rows
    ]
