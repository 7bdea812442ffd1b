"""How sure a number is: Wilson's interval for proportions, a stratified bootstrap over patients for all else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

Statistic = Callable[[NDArray[np.int64]], float]
"""Takes indices of patients, repeats allowed, and returns a number."""

Weighted = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Takes how often each patient counts, (draws, patients), and returns a number for each draw, (draws,)."""

_BLOCK = 4_000_000
"""Weights in memory at a time: 32 MB, however many patients."""


@dataclass(frozen=True)
class Interval:
    """Two limits and the method that gave them; NaN where there is no interval, with the reason as method."""

    low: float
    high: float
    method: str


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion: never outside 0 to 1, of use even where all or none succeed.

    Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 1927;22:209.
    """
    if trials == 0:
        return Interval(math.nan, math.nan, "none: nobody to count")
    z = ndtri((1 + confidence) / 2)
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if successes == 0 else max(centre - half, 0.0)
    high = 1.0 if successes == trials else min(centre + half, 1.0)
    return Interval(low, high, "Wilson")


@dataclass(frozen=True)
class Resampling:
    """Patients resampled within their stratum, many times; all statistics may share the same draws.

    Attributes
    ----------
    counts : (draws, patients) how often each patient was drawn.
    groups : for each stratum the indices of its patients.
    """

    counts: NDArray[np.int32]
    groups: tuple[NDArray[np.int64], ...]


def resample(strata: ArrayLike, resamples: int = 2000, seed: int = 0) -> Resampling:
    """Draw patients with replacement, `resamples` times, as many of each stratum as there are.

    `strata` (patients,) are labels. Raises ValueError for fewer than one draw.
    """
    if resamples < 1:
        raise ValueError(f"resamples is at least 1, not {resamples}; confidence lies between 0 and 1")
    labels = np.asarray(strata)
    groups = tuple(np.flatnonzero(labels == label) for label in np.unique(labels))
    generator = np.random.default_rng(seed)
    counts = np.empty((resamples, len(labels)), dtype=np.int32)
    for row in counts:
        drawn = np.concatenate([generator.choice(group, len(group)) for group in groups])
        row[:] = np.bincount(drawn, minlength=len(labels))
    return Resampling(counts, groups)


def bootstrap(
    statistic: Statistic,
    strata: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """`weighted_bootstrap` of a statistic that knows indices of patients, (patients,), and nothing of weights."""
    patients = np.arange(len(np.asarray(strata)))

    def weighted(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([statistic(np.repeat(patients, row.astype(int))) for row in weights])

    return weighted_bootstrap(weighted, resample(strata, resamples, seed), confidence)


def weighted_bootstrap(statistic: Weighted, resampling: Resampling, confidence: float = 0.95) -> Interval:
    """Bias-corrected and accelerated interval; patients are resampled within their stratum.

    Efron, *Better bootstrap confidence intervals*, JASA 1987;82:171; acceleration for several samples after Davison
    and Hinkley, *Bootstrap Methods and their Application*, 1997, section 5.3. With the true stage as stratum every
    resample holds as many patients of each stage as there are, and no stage is ever absent.

    Parameters
    ----------
    statistic : called with weights (draws, patients), whole numbers.
    resampling : the draws; with fewer than 1000 the limits jump with the seed.
    confidence : share of intervals that hold the truth, between 0 and 1.

    Returns
    -------
    Interval by "BCa bootstrap"; by "percentile bootstrap" where every resample lies on one side of the value; without
    limits where all resamples agree (all patients right, say), since the bootstrap then knows nothing of what other
    patients would show.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not {confidence}")
    patients = resampling.counts.shape[1]
    value = float(statistic(np.ones((1, patients)))[0])
    size = max(1, _BLOCK // patients)
    blocks = [resampling.counts[start : start + size] for start in range(0, len(resampling.counts), size)]
    drawn = np.concatenate([statistic(block.astype(float)) for block in blocks])
    if not np.isfinite(value) or not np.isfinite(drawn).all():
        return Interval(math.nan, math.nan, "none: undefined for some resamples")
    if np.ptp(drawn) < 1e-12:
        return Interval(math.nan, math.nan, "none: every resample alike")
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    # A draw that differs from the value by rounding alone is as large as it.
    drawn[np.abs(drawn - value) < 1e-12] = value
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    if not 0 < below < 1:
        low, high = np.quantile(drawn, tails)
        return Interval(float(low), float(high), "percentile bootstrap")
    bias = ndtri(below)
    moved = bias + ndtri(tails)
    acceleration = _acceleration(statistic, resampling.groups, patients)
    low, high = np.quantile(drawn, ndtr(bias + moved / (1 - acceleration * moved)))
    return Interval(float(low), float(high), "BCa bootstrap")


def _acceleration(statistic: Weighted, groups: tuple[NDArray[np.int64], ...], patients: int) -> float:
    """Skewness of the influence of single patients, each left out in turn within its stratum."""
    cubes, squares = 0.0, 0.0
    for group in groups:
        if len(group) == 1:
            continue  # whom nothing can replace has no influence that could be seen
        without = []
        for part in np.array_split(group, math.ceil(len(group) * patients / _BLOCK)):
            weights = np.ones((len(part), patients))
            weights[np.arange(len(part)), part] = 0
            without.append(statistic(weights))
        left_out = np.concatenate(without)
        influence = (len(group) - 1) * (left_out.mean() - left_out)
        cubes += float((influence**3).sum()) / len(group) ** 3
        squares += float((influence**2).sum()) / len(group) ** 2
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0
