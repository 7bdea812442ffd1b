"""The metrics of a stager: of its confusion matrix, one patient one vote, and of its probabilities.

A confusion matrix is (stages, stages) with the radiologist's stage in rows and the predicted one in columns, both in
the order of the stage scale. Entries may be fractions, so that what guessing is expected to score comes from the same
functions. Metrics of probabilities are prepared from probabilities (patients, stages) and the true stages' indices
(patients,), and then evaluated for many draws of the bootstrap at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.bootstrap import Weighted
from cirrnb.evaluation.reliability import calibration_error

Confusion = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A number to judge by.

    Attributes
    ----------
    name : in words, as tables and figures show it.
    value : of a confusion matrix; NaN where it is not defined.
    higher_is_better : which way is up.
    counts : successes and trials, where the metric is a proportion of patients.
    """

    name: str
    value: Callable[[Confusion], float]
    higher_is_better: bool = True
    counts: Callable[[Confusion], tuple[float, float]] | None = None


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, stages: int = len(CIRRHOSIS)) -> Confusion:
    """Counts (stages, stages) of stage indices from 0, (patients,) each; rows are the truth."""
    pairs = np.asarray(truth) * stages + np.asarray(predicted)
    return np.bincount(pairs, minlength=stages**2).reshape(stages, stages).astype(float)


def confusions(metric: Metric, truth: ArrayLike, predicted: ArrayLike, stages: int = len(CIRRHOSIS)) -> Weighted:
    """A metric of stage indices (patients,) as a function of how often each patient counts, for the bootstrap."""
    pairs = np.asarray(truth) * stages + np.asarray(predicted)
    cells = np.eye(stages**2)[pairs]

    def weighted(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        matrices = (weights @ cells).reshape(-1, stages, stages)
        return np.array([metric.value(matrix) for matrix in matrices])

    return weighted


def quadratic_weighted_kappa(confusion: Confusion) -> float:
    """Agreement beyond chance, a miss by two stages counting four times a miss by one; 1 is perfect, 0 is chance.

    Cohen, *Weighted kappa*, Psychological Bulletin 1968;70:213.
    """
    expected = np.outer(confusion.sum(axis=1), confusion.sum(axis=0)) / confusion.sum()
    squared = _distance(confusion) ** 2
    return 1 - _ratio((squared * confusion).sum(), (squared * expected).sum())


def balanced_accuracy(confusion: Confusion) -> float:
    """Mean sensitivity of the stages that occur."""
    totals = confusion.sum(axis=1)
    return float((confusion.diagonal()[totals > 0] / totals[totals > 0]).mean())


def macro_f1(confusion: Confusion) -> float:
    """Mean over the stages that occur or are predicted of the harmonic mean of sensitivity and precision."""
    both = confusion.sum(axis=1) + confusion.sum(axis=0)
    return float((2 * confusion.diagonal()[both > 0] / both[both > 0]).mean())


def mean_absolute_stage_error(confusion: Confusion) -> float:
    """Stages by which a patient is missed on average, 0 to one less than there are."""
    return float((_distance(confusion) * confusion).sum() / confusion.sum())


def correct(confusion: Confusion) -> tuple[float, float]:
    """Patients given the right stage, and all patients."""
    return float(confusion.trace()), float(confusion.sum())


def found(stage: int, confusion: Confusion) -> tuple[float, float]:
    """Patients of a stage who were given it, and all patients of the stage: its sensitivity."""
    return float(confusion[stage, stage]), float(confusion[stage].sum())


def ruled_out(stage: int, confusion: Confusion) -> tuple[float, float]:
    """Patients of other stages who were given another stage than this, and all of those: its specificity."""
    others = np.arange(len(confusion)) != stage
    return float(confusion[np.ix_(others, others)].sum()), float(confusion[others].sum())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _proportion(name: str, counts: Callable[[Confusion], tuple[float, float]]) -> Metric:
    return Metric(name, value=lambda confusion: _ratio(*counts(confusion)), counts=counts)


def _distance(confusion: Confusion) -> NDArray[np.float64]:
    """How many stages lie between the truth and the prediction of each cell."""
    return np.abs(np.subtract.outer(np.arange(len(confusion)), np.arange(len(confusion)))).astype(float)


def metrics_of(stages: StageScale = CIRRHOSIS) -> tuple[Metric, ...]:
    """All metrics, the headline first."""
    return (
        Metric("quadratic weighted kappa", quadratic_weighted_kappa),
        _proportion("accuracy", correct),
        Metric("balanced accuracy", balanced_accuracy),
        Metric("macro F1", macro_f1),
        Metric("mean absolute stage error", mean_absolute_stage_error, higher_is_better=False),
        *(_proportion(f"sensitivity {name}", partial(found, stage)) for stage, name in enumerate(stages)),
        *(_proportion(f"specificity {name}", partial(ruled_out, stage)) for stage, name in enumerate(stages)),
    )


Probabilities = NDArray[np.float64]
Truth = NDArray[np.int64]


@dataclass(frozen=True)
class ProbabilityMetric:
    """A number to judge probabilities by.

    Attributes
    ----------
    name : in words, as tables and figures show it.
    prepare : takes probabilities (patients, stages) and truth (patients,), returns a function of weights (draws,
        patients) that gives a number for each draw; NaN where it is not defined.
    higher_is_better : which way is up.
    chance : what equal probabilities for every stage score; None where that follows from the formula.
    """

    name: str
    prepare: Callable[[Probabilities, Truth], Weighted]
    higher_is_better: bool = False
    chance: float | None = None

    def value(self, probabilities: Probabilities, truth: Truth) -> float:
        """The metric of the patients as they are."""
        return float(self.prepare(probabilities, truth)(np.ones((1, len(truth))))[0])


def area_under_curve(stage: int, probabilities: Probabilities, truth: Truth) -> Weighted:
    """Area under the ROC curve of one stage against the rest, 0 to 1: the chance that a patient of the stage gets a
    higher probability of it than one of another stage, ties counting half.

    Hanley and McNeil, *The meaning and use of the area under a receiver operating characteristic curve*, Radiology
    1982;143:29. By rank sums, so that thousands of draws cost no more than one matrix product.
    """
    order = np.argsort(probabilities[:, stage], kind="stable")
    scores, positive = probabilities[order, stage], truth[order] == stage
    # Patients of like score stand together: the first of each such group.
    starts = np.flatnonzero(np.concatenate([[True], np.diff(scores) > 0]))

    def weighted(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = np.add.reduceat(weights[:, order] * positive, starts, axis=1)
        outside = np.add.reduceat(weights[:, order] * ~positive, starts, axis=1)
        below = np.cumsum(outside, axis=1) - outside / 2
        pairs = inside.sum(axis=1) * outside.sum(axis=1)
        won = (inside * below).sum(axis=1)
        return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)

    return weighted


def brier_score(probabilities: Probabilities, truth: Truth) -> Weighted:
    """Squared distance between probabilities and what was the case, summed over stages: 0 is perfect, 2 is worst.

    Brier, *Verification of forecasts expressed in terms of probability*, Monthly Weather Review 1950;78:1.
    """
    return _mean(((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1))


def ranked_probability_score(probabilities: Probabilities, truth: Truth) -> Weighted:
    """As Brier's, but of cumulative probabilities, so that missing by two stages costs more; 0 is perfect, 1 is worst.

    Epstein, *A scoring system for probability forecasts of ranked categories*, J. Applied Meteorology 1969;8:985.
    """
    gaps = np.cumsum(probabilities - np.eye(probabilities.shape[1])[truth], axis=1)[:, :-1]
    return _mean((gaps**2).sum(axis=1) / (probabilities.shape[1] - 1))


def _mean(each: NDArray[np.float64]) -> Weighted:
    """Mean over patients of what each of them scores."""
    return lambda weights: np.asarray(weights @ each / weights.sum(axis=1))


def probability_metrics_of(stages: StageScale = CIRRHOSIS) -> tuple[ProbabilityMetric, ...]:
    """All metrics of probabilities, in the order of a table."""
    return (
        *(
            ProbabilityMetric(f"AUC {name}", partial(area_under_curve, stage), higher_is_better=True)
            for stage, name in enumerate(stages)
        ),
        ProbabilityMetric("Brier score", brier_score),
        ProbabilityMetric("ranked probability score", ranked_probability_score),
        # Equal probabilities have no most probable stage; whichever is guessed is right as often as promised.
        ProbabilityMetric("expected calibration error", calibration_error, chance=0.0),
    )
