"""Reliability of a stager: accuracy against confidence, in bins of confidence.

Confidence is the probability of the most probable stage. The bins are ten of equal width from 0 to 1, closed above, as
in Guo et al., *On calibration of modern neural networks*, ICML 2017 (who take fifteen, for test sets of thousands);
with three stages the lowest three stay empty. Fixed bins keep the bins the same from one model to the next.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.bootstrap import Weighted, wilson
from cirrnb.evaluation.tables import counted, probabilities_of, stage_indices

BINS = 10
_EDGES = np.linspace(0, 1, BINS + 1)


def reliability_table(
    predictions: pd.DataFrame,
    *,
    split: str | None = "test",
    confidence: float = 0.95,
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """Mean confidence and accuracy in each bin of confidence.

    `predictions` and `stages` as for `evaluate`, with probabilities.

    Returns
    -------
    One row a bin: from, to (edges of the bin), n (patients in it), confidence (their mean), accuracy (share staged
    right), low, high (Wilson's interval). Empty bins have n = 0 and NaN.

    Raises
    ------
    InputError
        If the table is not as it should be.
    """
    patients, _ = counted(predictions, split, stages=stages)
    probabilities = probabilities_of(patients, stages=stages)
    confident, right = _top(probabilities, stage_indices(patients["stage"], stages))
    bins = bin_of(confident)
    rows = []
    for index in range(BINS):
        here = bins == index
        n, hits = int(here.sum()), float(right[here].sum())
        interval = wilson(hits, n, confidence)
        mean = float(confident[here].mean()) if n else np.nan
        accuracy = hits / n if n else np.nan
        rows.append((_EDGES[index], _EDGES[index + 1], n, mean, accuracy, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["from", "to", "n", "confidence", "accuracy", "low", "high"])


def calibration_error(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> Weighted:
    """Expected calibration error, 0 to 1: the gap between confidence and accuracy, averaged over patients by bin.

    Compare it with `error_by_chance_alone`. Near that value its interval is misleading: no sample has an error of zero,
    so that the interval of a perfectly calibrated stager excludes zero.

    From probabilities (patients, stages) and stage indices (patients,) to a function of weights (draws, patients).
    """
    confident, right = _top(probabilities, truth)
    gaps = _one_hot(bin_of(confident)) * (right - confident)[:, None]

    def weighted(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1))

    return weighted


def error_by_chance_alone(probabilities: NDArray[np.float64], draws: int = 2000, seed: int = 0) -> float:
    """Calibration error expected of a perfectly calibrated stager on this number of patients.

    The error is a mean of absolute gaps and therefore above zero for every stager; only an excess over this number is
    evidence of miscalibration. `probabilities` (patients, stages).
    """
    confident = probabilities.max(axis=1)
    right = np.random.default_rng(seed).random((draws, len(confident))) < confident
    gaps = (right - confident) @ _one_hot(bin_of(confident))
    return float(np.abs(gaps).sum(axis=1).mean() / len(confident))


def bin_of(confident: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index (patients,) of the bin that a confidence from 0 to 1 falls into."""
    return np.clip(np.searchsorted(_EDGES, confident, side="left") - 1, 0, BINS - 1)


def _one_hot(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.eye(BINS)[bins]


def _top(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return probabilities.max(axis=1), (probabilities.argmax(axis=1) == truth).astype(float)
