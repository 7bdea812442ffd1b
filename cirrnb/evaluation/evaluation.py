"""Score predictions by patient against the radiologist's stage, with intervals, chance and majority."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.progress import Progress
from cirrnb.data.scan import Cohort
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.data.typed_paths import typed_path
from cirrnb.evaluation.bootstrap import Interval, Weighted, resample, weighted_bootstrap, wilson
from cirrnb.evaluation.coverage import set_coverage
from cirrnb.evaluation.metrics import Metric, confusion_matrix, confusions, metrics_of, probability_metrics_of
from cirrnb.evaluation.reliability import error_by_chance_alone, reliability_table
from cirrnb.evaluation.tables import (
    SET,
    counted,
    has_probabilities,
    is_simulated,
    probabilities_of,
    stage_indices,
    training_shares,
)

if TYPE_CHECKING:
    from cirrnb.model.checkpoint import TrainedStager
    from cirrnb.model.trained_model import TrainedModel

COLUMNS = ("metric", "value", "low", "high", "method", "chance", "majority", "ceiling", "higher_is_better", "n")
"""Of `Evaluation.table`."""


@dataclass(frozen=True)
class Evaluation:
    """How good the predictions for some patients are.

    Attributes
    ----------
    table : one row a metric: metric, value, low, high, method (of the interval), chance, majority, ceiling,
        higher_is_better, n (patients it is counted over).
    confusion : patients by the radiologist's stage (rows) and the predicted one (columns).
    n : patients counted.
    split : which patients; None for all.
    simulated : True if model or patients are simulated; every figure and report says so.
    notes : sentences on which patients were scored and what was compared.
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

    def __repr__(self) -> str:
        values = self.table.set_index("metric")
        shown = [name for name in ("quadratic weighted kappa", "accuracy") if name in values.index]
        figures = ", ".join(
            "{} {:.3f} ({:.3f} to {:.3f})".format(name, *values.loc[name, ["value", "low", "high"]]) for name in shown
        )
        whom = f"split {self.split!r}" if self.split else "all"
        return f"Evaluation({self.n} patients, {whom}{', simulated' * self.simulated}: {figures})"

    def _repr_html_(self) -> str:
        """Metrics with intervals, chance and majority, and the confusion as a shaded table."""
        from cirrnb.data.summary_html import summary, table_html

        facts = {"Patients": self.n, "Split": self.split or "all", "Notes": "; ".join(self.notes)}
        named = ["metric", "value", "low", "high", "chance", "majority", "ceiling"]
        metrics = self.table[[name for name in named if name in self.table]].set_index("metric").rename_axis(None)
        return summary(
            "Evaluation", facts, simulated=self.simulated, tables=[table_html(metrics), _shaded(self.confusion)]
        )

    def save(self, run: Path | str) -> Path:
        """Write `metrics.json` into a run folder, or to a file whose name ends in .json."""
        path = typed_path(run)
        path = path if path.suffix == ".json" else path / "metrics.json"
        stored = {name: getattr(self, name) for name in ("split", "n", "simulated", "notes", "confidence")}
        stored |= {"resamples": self.resamples, "seed": self.seed, "stages": self.stages.names}
        stored |= {"confusion": self.confusion.to_numpy().tolist(), "metrics": _without_nan(self.table)}
        for name, part in (("reliability", self.reliability), ("coverage", self.coverage)):
            stored |= {} if part is None else {name: _without_nan(part)}
        atomic_write(path, json.dumps(stored, indent=2, allow_nan=False) + "\n")
        return path


def _shaded(confusion: pd.DataFrame) -> str:
    """Patients by recorded (rows) and predicted stage as a table, the darker the larger the share of its row."""
    shares = confusion.div(confusion.sum(axis=1).replace(0, 1), axis=0).to_numpy()
    head = "".join(f"<th>{escape(str(name))}</th>" for name in confusion.columns)
    rows = ""
    for name, counts, parts in zip(confusion.index, confusion.to_numpy(), shares, strict=True):
        cells = "".join(
            f'<td style="background:rgba(51,101,138,{0.7 * part:.2f});padding:0.3em 0.8em">{count}</td>'
            for count, part in zip(counts, parts, strict=True)
        )
        rows += f"<tr><th>{escape(str(name))}</th>{cells}</tr>"
    return f"<table><tr><th>recorded \\ predicted</th>{head}</tr>{rows}</table>"


def evaluate(
    predictions: pd.DataFrame | TrainedModel | TrainedStager | Path | str,
    patients: PreparedCohort | Cohort | Path | str | Iterable[Bag] | None = None,
    *,
    prepared: Path | str | None = None,
    split: str | None = "test",
    ceiling: float | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    stages: StageScale | None = None,
    progress: Progress = None,
) -> Evaluation:
    """Score predictions, or a model on a cohort, by patient: `evaluate(predictions)` or `evaluate("shipped", cohort)`.

    Parameters
    ----------
    predictions : a table as `cirrnb.predict` returns or a run's predictions.csv holds: one row per patient with
        subject, split, stage and predicted, and simulated if it is known. With a column for each stage, the
        probabilities are scored too, and with set ("mild|moderate") the prediction sets. Or a model, as for
        `cirrnb.predict`.
    patients : if a model is given, its patients, as for `cirrnb.predict`.
    prepared : if a model is given, the folder for prepared scans, as for `cirrnb.predict`.
    split : patients to score; None scores all patients with a stage. Use None only if the model was trained on none of
        them, or the predictions are out of fold. If a model is given and no patient has a split, all are scored.
    ceiling : the best accuracy that anything could reach, 0 to 1, if it is known; for a simulated cohort see
        `cirrnb.simulation.ceiling`.
    confidence : confidence level of the intervals, above 0 and below 1. Intervals are Wilson's for proportions, else
        BCa bootstrap intervals over patients, stratified by stage.
    resamples : resamples of the bootstrap.
    seed : seed of the bootstrap.
    stages : stage scale of the table, by default mild, moderate, severe. A model's own scale takes precedence.
    progress : if a model is given, as for `cirrnb.predict`.

    Returns
    -------
    An `Evaluation`. Its table has one row per metric, with the interval and three comparisons: chance, the expected
    score of guessing each stage equally often; majority, the score of always answering the most frequent stage of the
    training patients; and for accuracy the ceiling.

    Raises
    ------
    InputError
        If columns are missing, a patient occurs twice, a stage or a set is unknown, probabilities do not sum to one, or
        fewer than two patients can be scored.
    ValueError
        If the ceiling is not between 0 and 1.

    Examples
    --------
    >>> result = cirrnb.evaluate("shipped", "cohorts/mine", split=None, resamples=100)
    >>> result.n
    12
    >>> list(result.table.columns)[:4]
    ['metric', 'value', 'low', 'high']
    """
    if ceiling is not None and not 0 <= ceiling <= 1:
        raise ValueError(f"ceiling is an accuracy from 0 to 1, not {ceiling}")
    if not isinstance(predictions, pd.DataFrame):
        predictions, stages = _predicted(predictions, patients, prepared, progress)
        split = None if predictions["split"].isna().all() else split
    elif patients is not None:
        raise InputError("patients", "a cohort beside a table", "a model and a cohort, or a table", "Hand in one.")
    stages = stages or CIRRHOSIS
    rows, notes = counted(predictions, split, stages=stages)
    shares, majority = training_shares(predictions, rows, stages)
    truth, predicted = stage_indices(rows["stage"], stages), stage_indices(rows["predicted"], stages)
    names, sets = list(stages), None
    # The same draws serve every metric.
    bootstrap = partial(weighted_bootstrap, resampling=resample(truth, resamples, seed), confidence=confidence)
    metrics = answer_rows(truth, predicted, shares, bootstrap, confidence, stages)
    if judged := has_probabilities(rows, stages):
        probabilities = probabilities_of(rows, stages=stages)
        metrics += probability_rows(truth, probabilities, shares, bootstrap, stages)
        notes += (_calibration_floor(probabilities),)
    reliability = reliability_table(predictions, split=split, confidence=confidence, stages=stages) if judged else None
    if SET in predictions:
        sets = set_coverage(predictions, split=split, confidence=confidence, stages=stages)
    return Evaluation(
        table=_with_ceiling(pd.DataFrame(metrics), ceiling),
        confusion=pd.DataFrame(confusion_matrix(truth, predicted, len(names)).astype(int), names, names),
        n=len(rows),
        split=split,
        simulated=is_simulated(rows),
        notes=(*notes, majority),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        reliability=reliability,
        coverage=sets,
        stages=stages,
    )


def _predicted(
    model: TrainedModel | TrainedStager | Path | str,
    patients: PreparedCohort | Cohort | Path | str | Iterable[Bag] | None,
    prepared: Path | str | None,
    progress: Progress,
) -> tuple[pd.DataFrame, StageScale]:
    """What a model predicts for patients, and its scale."""
    from cirrnb.model.prediction import predict
    from cirrnb.model.trained_model import as_model  # loads torch, which a table does not need

    if patients is None:
        raise InputError(
            "patients", "none", "a cohort to evaluate the model on", 'Call cirrnb.evaluate("shipped", cohort).'
        )
    trained = as_model(model)
    return predict(trained, patients, prepared=prepared, progress=progress), trained.stages


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


Bootstrap = Callable[[Weighted], Interval]


def answer_rows(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    shares: NDArray[np.float64],
    bootstrap: Bootstrap,
    confidence: float,
    stages: StageScale = CIRRHOSIS,
) -> list[dict[str, Any]]:
    """A row for each metric of the confusion matrix.

    Stages are indices (patients,); `shares` (stages,) of the stages among training patients, whose commonest one the
    majority is; `bootstrap` gives the interval where a metric is no proportion.
    """
    count = len(stages)
    confusion = confusion_matrix(truth, predicted, count)
    totals = confusion.sum(axis=1, keepdims=True)
    guessed = np.repeat(totals / count, count, axis=1)
    constant = np.where(np.arange(count) == shares.argmax(), totals, 0.0)

    def interval(metric: Metric) -> Interval:
        if metric.counts:
            return wilson(*metric.counts(confusion), confidence)
        return bootstrap(confusions(metric, truth, predicted, count))

    return [
        {
            "metric": metric.name,
            "value": metric.value(confusion),
            **asdict(interval(metric)),
            "chance": _rounded(metric.value(guessed)),
            "majority": metric.value(constant),
            "higher_is_better": metric.higher_is_better,
            "n": int(metric.counts(confusion)[1] if metric.counts else confusion.sum()),
        }
        for metric in metrics_of(stages)
    ]


def probability_rows(
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    shares: NDArray[np.float64],
    bootstrap: Bootstrap,
    stages: StageScale = CIRRHOSIS,
) -> list[dict[str, Any]]:
    """A row for each metric of the probabilities (patients, stages), as `answer_rows`.

    Chance gives every stage the same probability, the majority the training patients' shares to everybody.
    """
    equal = np.full(probabilities.shape, 1 / len(stages))
    constant = np.broadcast_to(shares, probabilities.shape)
    return [
        {
            "metric": metric.name,
            "value": metric.value(probabilities, truth),
            **asdict(bootstrap(metric.prepare(probabilities, truth))),
            "chance": metric.value(equal, truth) if metric.chance is None else metric.chance,
            "majority": _rounded(metric.value(constant, truth)),
            "higher_is_better": metric.higher_is_better,
            "n": len(truth),
        }
        for metric in probability_metrics_of(stages)
    ]


def _rounded(value: float) -> float:
    """Rounded, so that 0 is shown as 0 and not as -2e-16."""
    return round(value, 12) + 0.0


UNKNOWN = "unknown"


def by_group(
    predictions: pd.DataFrame,
    column: str,
    *,
    split: str | None = "test",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """Score each subgroup: `evaluate` for the patients of each value of a column.

    Small groups have wide intervals, and of many groups some score low by chance: a difference is a reason to look
    closer, and not yet a result. A column of the cohort must first be merged into the predictions by subject.

    Parameters
    ----------
    predictions : as for `evaluate`, with the column.
    column : whose values are the groups ("sequences", "scanner"); an empty cell is the group "unknown".
    split, confidence, resamples, seed, stages : as for `evaluate`.

    Returns
    -------
    The rows of `Evaluation.table` for each group that has at least two patients, with group in front; groups in the
    order of their size. `attrs["left_out"]` holds the names of smaller groups; with none but those no row is left.

    Raises
    ------
    InputError
        As `evaluate`, or if there is no such column.
    """
    if column not in predictions:
        raise InputError(
            "predictions", f"no column {column}", "the groups to tell apart", "Merge it in from the cohort's table."
        )
    patients, _ = counted(predictions, split, stages=stages)
    groups = predictions[column].astype(object).where(predictions[column].notna(), UNKNOWN).astype(str)
    sizes = groups.loc[patients.index].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    tables, small = [], []
    for name, size in sizes.items():
        if size < 2:
            small.append(str(name))
            continue
        # Training patients stay: the majority is theirs, whichever group is counted.
        others = predictions["split"] != split if split else pd.Series(False, index=predictions.index)
        rows = predictions[others | (groups == name)]
        table = evaluate(rows, split=split, confidence=confidence, resamples=resamples, seed=seed, stages=stages).table
        table.insert(0, "group", str(name))
        tables.append(table)
    result = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["group", *COLUMNS])
    result.attrs["left_out"] = small
    return result
