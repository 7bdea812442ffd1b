"""What a stager's probabilities are worth: does it rank patients rightly, and is it as sure as it ought to be.

Every metric here is prepared from probabilities (patients, stages) and the true stages' indices (patients,), and then
evaluated for many draws of the bootstrap at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.intervals import Weighted
from cirrnb.evaluation.reliability import calibration_error

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
