"""Compare two stagers by paired differences on the same patients.

Overlapping intervals do not show that two stagers are equal, since both fail on the same difficult patients. In the
paired difference these cancel: each bootstrap resample draws patients, with the answers of both stagers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from cirrnb.data.errors import InputError, listed
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.bootstrap import Weighted, resample, weighted_bootstrap
from cirrnb.evaluation.metrics import Metric, confusion_matrix, confusions, metrics_of
from cirrnb.evaluation.tables import counted, require_table, stage_indices

COMPARED = ("quadratic weighted kappa", "accuracy", "balanced accuracy")
Stages = NDArray[np.int64]


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    split: str | None = "test",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    names: tuple[str, str] = ("a", "b"),
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """Paired difference between stagers a and b, for each metric.

    Parameters
    ----------
    a, b : predictions of the same patients, as for `evaluate`, in any order.
    split : whom to count; None counts every patient with a stage.
    confidence, resamples, seed : of the intervals, a BCa bootstrap over patients stratified by stage.
    names : what messages call the two.
    stages : the scale of the tables.

    Returns
    -------
    One row for each of `COMPARED`: metric, a, b (its values), difference (a less b), low, high, method (of the
    interval), p (of no difference, two-sided), test, only_a, only_b (patients whom that one alone staged right),
    n (patients), left_out (whom one of the two could not stage). For accuracy p is McNemar's, exact (Psychometrika
    1947;12:153); for the others it comes from exchanging the two answers of patients at random (Fisher's
    randomisation test), as often as there are resamples.

    Raises
    ------
    InputError
        If a table is not as it should be, or patients or their stages differ; they are named.
    """
    truth, predicted_a, predicted_b, excluded = _paired(a, b, split, names, stages)
    count = len(stages)
    resampling = resample(truth, resamples, seed)
    right_a, right_b = predicted_a == truth, predicted_b == truth
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    rows = []
    for metric in (metric for metric in metrics_of(stages) if metric.name in COMPARED):
        values = [metric.value(confusion_matrix(truth, predicted, count)) for predicted in (predicted_a, predicted_b)]
        both = (metric, truth, predicted_a, predicted_b, count)
        interval = weighted_bootstrap(_difference(*both), resampling, confidence)
        exact = metric.name == "accuracy"
        p = mcnemar(only_a, only_b) if exact else _exchanged(*both, resamples, seed)
        row: dict[str, Any] = {"metric": metric.name, "a": values[0], "b": values[1]}
        row |= {"difference": values[0] - values[1], **asdict(interval), "p": p}
        rows.append(row | {"test": "McNemar, exact" if exact else "randomisation"})
    return pd.DataFrame(rows).assign(only_a=only_a, only_b=only_b, n=len(truth), left_out=excluded)


def compare_all(
    predictions_by_name: Mapping[str, pd.DataFrame],
    reference: str,
    *,
    split: str | None = "test",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """Paired differences between one stager and each of several others, with p values corrected by Holm.

    Parameters
    ----------
    predictions_by_name : name -> predictions, all of the same patients.
    reference : the name of the one that the others are compared with.
    split, confidence, resamples, seed, stages : as for `compare`.

    Returns
    -------
    The rows of `compare` for every baseline, with baseline in front and p_holm, p corrected for the number of baselines
    within each metric. Differences above zero speak for the reference. The intervals are not corrected.

    Raises
    ------
    InputError
        As `compare`, or if there is no such reference or nobody to compare it with.
    """
    if reference not in predictions_by_name or len(predictions_by_name) < 2:
        raise InputError(
            "predictions_by_name",
            f"{listed(predictions_by_name) or 'nothing'}",
            f"{reference} and at least one other",
            "Hand in the predictions of the reference and of its baselines by name.",
        )
    against = partial(
        compare,
        predictions_by_name[reference],
        split=split,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        stages=stages,
    )
    tables = []
    for name, predictions in predictions_by_name.items():
        if name != reference:
            table = against(predictions, names=(reference, name))
            table.insert(0, "baseline", name)
            tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    corrected = result.groupby("metric")["p"].transform(lambda ps: holm(ps.to_numpy()))
    result.insert(list(result).index("p") + 1, "p_holm", corrected)
    return result


def mcnemar(only_a: int, only_b: int) -> float:
    """P value of McNemar's exact test, from the numbers of patients that only one of the stagers staged correctly."""
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def holm(ps: ArrayLike) -> NDArray[np.float64]:
    """P values (tests,) corrected by Holm's method. A NaN, a test that could not be made, is not counted.

    Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian J. of Statistics 1979;6:65.
    """
    given = np.asarray(ps, dtype=float)
    made = np.flatnonzero(~np.isnan(given))
    order = made[np.argsort(given[made], kind="stable")]
    result = np.full(given.shape, np.nan)
    raised = given[order] * np.arange(len(order), 0, -1)
    result[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return result


def _difference(metric: Metric, truth: Stages, predicted_a: Stages, predicted_b: Stages, count: int) -> Weighted:
    of_a, of_b = confusions(metric, truth, predicted_a, count), confusions(metric, truth, predicted_b, count)
    return lambda weights: of_a(weights) - of_b(weights)


def _exchanged(
    metric: Metric, truth: Stages, predicted_a: Stages, predicted_b: Stages, count: int, times: int, seed: int
) -> float:
    """Two-sided p value of a permutation test that exchanges the two predictions of each patient at random."""
    both = np.stack([predicted_a, predicted_b])
    doubled, answers = np.concatenate([truth, truth]), both.reshape(-1)
    value = confusions(metric, doubled, answers, count)
    keep = np.random.default_rng(seed).integers(0, 2, (times, len(truth))).astype(float)
    # The two predictions of a patient are concatenated, and weights of 1 and 0 select one of them.
    differences = value(np.hstack([keep, 1 - keep])) - value(np.hstack([1 - keep, keep]))
    difference = metric.value(confusion_matrix(truth, predicted_a, count)) - metric.value(
        confusion_matrix(truth, predicted_b, count)
    )
    if not np.isfinite(difference) or not np.isfinite(differences).all():
        return float("nan")
    return float((1 + (np.abs(differences) >= abs(difference) - 1e-12).sum()) / (1 + times))


def _paired(
    a: pd.DataFrame, b: pd.DataFrame, split: str | None, names: tuple[str, str], stages: StageScale
) -> tuple[Stages, Stages, Stages, int]:
    """Truth and both answers (patients,) of those whom both staged, and how many one of them could not stage."""
    staged = []
    for table, name in zip((a, b), names, strict=True):
        require_table(table, ["split"] if split else [], name, stages)
        chosen = table if split is None else table[table["split"] == split]
        staged.append(chosen[chosen["stage"].notna()].set_index("subject"))
    first, other = staged
    odd = sorted(set(first.index) ^ set(other.index))
    if odd:
        raise InputError(
            " and ".join(names),
            f"{len(odd)} patients who are in one table only ({listed(odd, 5)})",
            "the same patients in both",
            "Predict the same cohort with both stagers, and name the same split.",
        )
    other = other.loc[first.index]
    wrong = first.index[first["stage"] != other["stage"]]
    if len(wrong):
        raise InputError(
            " and ".join(names),
            f"two different stages for {len(wrong)} patients ({listed(wrong, 5)})",
            "one truth for each patient",
            "Predict the same cohort with both stagers.",
        )
    known = (first["predicted"].notna() & other["predicted"].notna()).to_numpy()
    first, _ = counted(first[known].reset_index(), None, names[0], stages)
    truth, predicted_a = stage_indices(first["stage"], stages), stage_indices(first["predicted"], stages)
    return truth, predicted_a, stage_indices(other.loc[known, "predicted"], stages), int((~known).sum())


def spread(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean and spread of each metric over trainings that differ only in their seed.

    Parameters
    ----------
    tables : `Evaluation.table` of each run, all for the same patients.

    Returns
    -------
    One row a metric, in the order of the first table: metric, mean, seed_sd (standard deviation over seeds, n - 1 in
    the denominator; NaN for one seed), seed_low, seed_high (least and greatest value), seeds (runs), patient_low,
    patient_high (the runs' interval limits, averaged: how far other patients might shift the figure), chance,
    majority, higher_is_better, n.

    Raises
    ------
    InputError
        If there is no table, or the tables hold other metrics or other numbers of patients.
    """
    if not tables:
        raise InputError("tables", "none", "at least one evaluation", "Hand in Evaluation.table of each run.")
    first = tables[0].set_index("metric")
    for number, table in enumerate(tables[1:], start=2):
        other = table.set_index("metric")
        if set(other.index) != set(first.index) or (other.loc[first.index, "n"] != first["n"]).any():
            raise InputError(
                f"table {number}",
                "other metrics or numbers of patients than the first",
                "the same patients and metrics in each",
                "Evaluate the runs on the same split of the same cohort.",
            )
    runs = pd.concat([table.set_index("metric") for table in tables]).groupby(level=0, sort=False)
    result = pd.DataFrame(
        {
            "mean": runs["value"].mean(),
            "seed_sd": runs["value"].std(ddof=1),
            "seed_low": runs["value"].min(),
            "seed_high": runs["value"].max(),
            "seeds": len(tables),
            "patient_low": runs["low"].mean(),
            "patient_high": runs["high"].mean(),
        }
    )
    return result.join(first[["chance", "majority", "higher_is_better", "n"]]).reset_index()
