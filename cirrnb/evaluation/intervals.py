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


@dataclass(frozen=True)
class Interval:
    """Two limits and how they were found; NaN limits where no interval can be given, and the method says why."""

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


def bootstrap(
    statistic: Statistic,
    strata: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated interval, patients drawn anew within their stratum.

    Efron, *Better bootstrap confidence intervals*, JASA 1987;82:171; acceleration for several samples after Davison
    and Hinkley, *Bootstrap Methods and their Application*, 1997, section 5.3. With the true stage as stratum every
    resample holds as many patients of each stage as there are, and no stage is ever absent.

    Parameters
    ----------
    statistic : called with index arrays (patients,).
    strata : (patients,) labels of the groups to draw within.
    confidence : share of intervals that hold the truth, between 0 and 1.
    resamples : how often patients are drawn; below 1000 the limits jump with the seed.

    Returns
    -------
    Interval by "BCa bootstrap"; by "percentile bootstrap" where every resample lies on one side of the value; without
    limits where all resamples agree (all patients right, say), since the bootstrap then knows nothing of what other
    patients would show.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence lies between 0 and 1 and resamples is at least 1, not {confidence}, {resamples}")
    groups = [np.flatnonzero(np.asarray(strata) == label) for label in np.unique(np.asarray(strata))]
    value = statistic(np.concatenate(groups))
    generator = np.random.default_rng(seed)
    drawn = np.array(
        [statistic(np.concatenate([generator.choice(group, len(group)) for group in groups])) for _ in range(resamples)]
    )
    if not np.isfinite(value) or not np.isfinite(drawn).all():
        return Interval(math.nan, math.nan, "none: undefined for some resamples")
    if np.ptp(drawn) < 1e-12:
        return Interval(math.nan, math.nan, "none: every resample alike")
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    if not 0 < below < 1:
        low, high = np.quantile(drawn, tails)
        return Interval(float(low), float(high), "percentile bootstrap")
    bias = ndtri(below)
    moved = bias + ndtri(tails)
    low, high = np.quantile(drawn, ndtr(bias + moved / (1 - _acceleration(statistic, groups) * moved)))
    return Interval(float(low), float(high), "BCa bootstrap")


def _acceleration(statistic: Statistic, groups: list[NDArray[np.int64]]) -> float:
    """Skewness of the influence of single patients, each left out in turn within its stratum."""
    cubes, squares = 0.0, 0.0
    for position, group in enumerate(groups):
        if len(group) == 1:
            continue  # whom nothing can replace has no influence that could be seen
        rest = groups[:position] + groups[position + 1 :]
        without = np.array([statistic(np.concatenate([*rest, np.delete(group, i)])) for i in range(len(group))])
        influence = (len(group) - 1) * (without.mean() - without)
        cubes += (influence**3).sum() / len(group) ** 3
        squares += (influence**2).sum() / len(group) ** 2
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0
