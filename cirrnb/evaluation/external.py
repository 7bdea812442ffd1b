"""External validation: a model on a cohort it has nothing to do with, by site and by what sequences a patient has; and
two models, or two reports, on the same patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.csv_file import read_csv
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Cohort
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale, stage_scale
from cirrnb.evaluation.bootstrap import Weighted, resample, weighted_bootstrap
from cirrnb.evaluation.comparison import compare
from cirrnb.evaluation.evaluation import COLUMNS, UNKNOWN, evaluate
from cirrnb.evaluation.metrics import probability_metrics_of
from cirrnb.evaluation.tables import counted, has_probabilities, probabilities_of, stage_indices

if TYPE_CHECKING:
    from cirrnb.model.trained_model import TrainedModel

SHOWN = ("quadratic weighted kappa", "accuracy")
EVERYBODY = "all patients"
SIGN = "sign "


def with_column(predictions: pd.DataFrame, cohort: Cohort, column: str) -> pd.DataFrame:
    """Predictions with a further column of the cohort's table, such as the site; one value per patient.

    Raises InputError if no scan has the column, or scans of a patient have different values.
    """
    values: dict[str, set[str]] = {}
    for scan in cohort.scans:
        if (value := scan.extra.get(column)) not in (None, ""):
            values.setdefault(scan.subject, set()).add(str(value))
    ambiguous = sorted(subject for subject, texts in values.items() if len(texts) > 1)
    if ambiguous or not values:
        known = ", ".join(sorted({name for scan in cohort.scans for name in scan.extra})) or "none"
        problem = (
            f"more than one {column} for {ambiguous[0]}" if ambiguous else f"no column {column}; there are: {known}"
        )
        raise InputError(cohort.name, problem, "one value a patient", "Name another column, or correct the table.")
    return predictions.assign(
        **{column: predictions["subject"].map({name: min(texts) for name, texts in values.items()})}
    )


def by_subgroup(
    predictions: pd.DataFrame,
    columns: Sequence[str] = ("sequences",),
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """Kappa, accuracy and the AUC of each stage, of all patients and of each value of some columns.

    Patients with one sequence stand in rows of their own (column "sequences"): a pooled figure would hide that a model
    asked without one of its sequences is another model.

    Returns
    -------
    One row a group and metric: group, and the columns of `Evaluation.table`. Groups of fewer than two patients, and
    metrics that cannot be computed for a group, are absent.

    Raises InputError as `evaluate`, or if there is no such column.
    """
    if missing := [name for name in columns if name not in predictions]:
        raise InputError("predictions", f"no column {missing[0]}", "the groups to tell apart", "Merge it in.")
    groups: dict[str, pd.DataFrame] = {EVERYBODY: predictions}
    for column in columns:
        values = predictions[column].astype(object).where(predictions[column].notna(), UNKNOWN).astype(str)
        groups |= {f"{column} {value}": predictions[values == value] for value in sorted(set(values))}
    shown = (*SHOWN, *(metric.name for metric in probability_metrics_of(stages) if metric.name.startswith("AUC")))
    tables = []
    for name, rows in groups.items():
        if int((rows["stage"].notna() & rows["predicted"].notna()).sum()) < 2:
            continue
        judged = evaluate(rows, split=None, confidence=confidence, resamples=resamples, seed=seed, stages=stages).table
        judged = judged[judged["metric"].isin(shown) & judged["value"].notna()]
        tables.append(judged.assign(group=name))
    return pd.concat(tables, ignore_index=True)[["group", *COLUMNS]]


def paired_differences(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    names: tuple[str, str] = ("a", "b"),
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """By how much a is better than b on the same patients: kappa, accuracy and the AUC of each stage.

    As `cirrnb.evaluation.comparison.compare`, with rows for the AUC where both tables have probabilities: their
    intervals come from the same bootstrap over patients; they have no p.
    Raises as `compare`.
    """
    table = compare(a, b, split=None, confidence=confidence, resamples=resamples, seed=seed, names=names, stages=stages)
    table = table[table["metric"].isin(SHOWN)]
    if not (has_probabilities(a, stages) and has_probabilities(b, stages)):
        return table
    first, _ = counted(a, None, names[0], stages)
    second, _ = counted(b, None, names[1], stages)
    both = sorted(set(first["subject"]) & set(second["subject"]))
    first, second = (answers.set_index("subject").loc[both].reset_index() for answers in (first, second))
    truth = stage_indices(first["stage"], stages)
    chances = [probabilities_of(answers, stages=stages) for answers in (first, second)]
    resampling = resample(truth, resamples, seed)
    rows: list[dict[str, Any]] = []
    for metric in (metric for metric in probability_metrics_of(stages) if metric.name.startswith("AUC")):
        values = [metric.value(probabilities, truth) for probabilities in chances]
        if not np.isfinite(values).all():
            continue
        difference = _less(*(metric.prepare(part, truth) for part in chances))
        interval = weighted_bootstrap(difference, resampling, confidence)
        row = {"metric": metric.name, "a": values[0], "b": values[1], "difference": values[0] - values[1]}
        rows.append(row | asdict(interval) | {"p": np.nan, "test": "", "n": len(both)})
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True) if rows else table


def _less(first: Weighted, second: Weighted) -> Weighted:
    return lambda weights: first(weights) - second(weights)


def interval_texts(table: pd.DataFrame) -> list[str]:
    """Differences of `paired_differences` with their intervals: "+0.031 (-0.012 to +0.074)"."""
    numbers = table[["difference", "low", "high"]].to_numpy(dtype=float)
    return [f"{value:+.3f} ({low:+.3f} to {high:+.3f})" for value, low, high in numbers]


def group_text(groups: pd.DataFrame) -> pd.DataFrame:
    """`by_subgroup` to read: one row a group, patients, and each metric as "0.71 (0.62 to 0.79)"; of the accuracy the
    majority beside it."""
    shown: dict[str, dict[str, Any]] = {}
    for row in groups.to_dict(orient="records"):
        line = shown.setdefault(str(row["group"]), {"patients": row["n"]})
        line[str(row["metric"])] = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        if row["metric"] == "accuracy":
            line["majority"] = f"{row['majority']:.3f}"
    return pd.DataFrame.from_dict(shown, orient="index").fillna("")


def asked_with_less(
    model: TrainedModel, scans: PreparedCohort, predictions: pd.DataFrame, device: str = "cpu"
) -> dict[str, pd.DataFrame]:
    """What a model of several sequences says with each of them alone of those patients who were staged with all; name
    ("T1W alone") -> predictions. Empty for a model of one sequence, or where nobody has all."""
    from cirrnb.model.prediction import predict  # loads torch

    whole = set(predictions.loc[predictions["sequences"] == "+".join(model.sequences), "subject"])
    bags = [bag for bag in scans.bags() if bag.subject in whole]
    if len(model.sequences) < 2 or len(bags) < 2:
        return {}
    parts = {name: [part for bag in bags if (part := bag.only([name]))] for name in model.sequences}
    return {f"{name} alone": predict(model, part, device=device) for name, part in parts.items()}


def difference_table(
    predictions: pd.DataFrame,
    others: Mapping[str, pd.DataFrame],
    resamples: int = 2000,
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """`paired_differences` of predictions from each of several others, formatted: one row per metric and other.
    Patients who are missing in one of the two are excluded."""
    tables = []
    for name, other in others.items():
        both = set(predictions["subject"]) & set(other["subject"])
        first, second = (answers[answers["subject"].isin(both)] for answers in (predictions, other))
        table = paired_differences(first, second, resamples=resamples, names=("this model", name), stages=stages)
        tables.append(table.assign(than=name))
    if not tables:
        return pd.DataFrame(columns=["metric", "difference", "p", "n"])
    table = pd.concat(tables, ignore_index=True)
    interval = interval_texts(table)
    shown = table[["than", "metric", "a", "b"]].round(3).rename(columns={"a": "this model", "b": "the other"})
    chances = ["" if np.isnan(p) else f"{p:.3f}" for p in table["p"].to_numpy(dtype=float)]
    return shown.assign(difference=interval, p=chances, n=table["n"]).set_index("than")


def changed_answers(a: pd.DataFrame, b: pd.DataFrame, stages: StageScale = CIRRHOSIS, most: int = 3) -> pd.DataFrame:
    """Patients whose predicted stage differs between a and b, and the signs that changed most.

    Returns
    -------
    One row per patient in both tables: subject, stage (recorded, or None), a, b (predicted), towards ("milder" or
    "later"), right ("a", "b", "neither"; empty without a recorded stage), signs (up to `most`, as "spleen 0.20 to
    0.61", the largest change first; empty if the tables have no signs), shift (of the expected stage, in stages).
    Sorted by the absolute shift.

    Raises InputError if no patient is in both.
    """
    first, second = (answers.drop_duplicates("subject").set_index("subject") for answers in (a, b))
    both = [subject for subject in first.index if subject in second.index]
    if not both:
        raise InputError("reports", "no patient in common", "two reports on the same patients", "Choose others.")
    signs = [name for name in first.columns if str(name).startswith(SIGN) and name in second.columns]
    rows = []
    for subject in both:
        row_a, row_b = first.loc[subject], second.loc[subject]
        predicted = (row_a["predicted"], row_b["predicted"])
        if pd.isna(predicted[0]) or pd.isna(predicted[1]) or predicted[0] == predicted[1]:
            continue
        stage = row_a.get("stage")
        stage = None if stage is None or pd.isna(stage) else stage
        later = stages.index(str(predicted[1])) > stages.index(str(predicted[0]))
        right = "" if stage is None else "a" if predicted[0] == stage else "b" if predicted[1] == stage else "neither"
        row = {
            "subject": subject,
            "stage": stage,
            "a": predicted[0],
            "b": predicted[1],
            "towards": "later" if later else "milder",
        }
        row |= {"right": right, "signs": _moved(row_a, row_b, signs, most), "shift": _severity(row_b, stages)}
        row["shift"] = float(row["shift"]) - _severity(row_a, stages)
        rows.append(row)
    columns = ["subject", "stage", "a", "b", "towards", "right", "signs", "shift"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("shift", key=lambda values: -values.abs(), kind="stable").reset_index(drop=True)


def _moved(row_a: Mapping[str, Any], row_b: Mapping[str, Any], signs: Sequence[str], most: int) -> str:
    pairs = [(name.removeprefix(SIGN), float(row_a[name]), float(row_b[name])) for name in signs]
    pairs = [pair for pair in pairs if np.isfinite(pair[1:]).all() and abs(pair[2] - pair[1]) >= 0.05]
    pairs.sort(key=lambda pair: -abs(pair[2] - pair[1]))
    return ", ".join(f"{name} {before:.2f} to {after:.2f}" for name, before, after in pairs[:most])


def _severity(row: Mapping[str, Any], stages: StageScale) -> float:
    """The mean stage by the probabilities, NaN without them."""
    if any(name not in row for name in stages):
        return float("nan")
    return float(sum(place * float(row[name]) for place, name in enumerate(stages)))


def read_answers(path: Path) -> pd.DataFrame:
    """Predictions of a report's folder (summary.csv), a run folder (predictions.csv) or a CSV file: subject, stage,
    predicted, probabilities, signs. Raises InputError where there are none."""
    places = [path / name for name in ("summary.csv", "predictions.csv")] if path.is_dir() else [path]
    place = next((candidate for candidate in places if candidate.is_file()), None)
    if place is None:
        expected = "a report, a run folder or a table of predictions"
        raise InputError(path, "no summary.csv and no predictions.csv", expected, "Name another folder.")
    text = ("subject", "patient", "stage", "predicted", "split", "sequences")
    table = read_csv(place, text, expected="a whole table", remedy="Make the report again.")
    if missing := [name for name in ("subject", "predicted") if name not in table]:
        raise InputError(place, f"no column {missing[0]}", "subject and predicted", "Name another table.")
    return table if "stage" in table else table.assign(stage=None)


def scale_of(tables: Sequence[pd.DataFrame]) -> StageScale:
    """The scale of tables of predictions: the usual one, or that of the columns between predicted and set."""
    if all(set(CIRRHOSIS) <= set(table) for table in tables):
        return CIRRHOSIS
    named = [_between(list(table.columns)) for table in tables]
    if not named[0] or named[0] != named[1]:
        raise InputError("reports", "tables of different stages", "two reports of one scale", "Choose others.")
    return stage_scale(named[0])


def _between(columns: list[str]) -> list[str]:
    ends = [columns.index(name) for name in ("set", "sequences") if name in columns]
    return columns[columns.index("predicted") + 1 : min(ends)] if ends else []
