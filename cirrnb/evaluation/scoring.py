"""The rows of an evaluation: each metric with its interval, and what chance and the majority would score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.intervals import Interval, Weighted, wilson
from cirrnb.evaluation.metrics import Metric, confusion_matrix, confusions, metrics_of
from cirrnb.evaluation.probabilities import probability_metrics_of

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
    """So that what is 0 is told as 0 and not as -2e-16."""
    return round(value, 12) + 0.0
