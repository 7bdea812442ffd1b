"""How well the stage can be told at all: Bayes accuracy given the latent signs, without any image.

The posterior over severity is computed on a fine grid: a sign that shows gives its value, one that does not gives
only that it lies below its onset. Accuracy is the mean of the largest stage probability, whose Monte Carlo error is
smaller than that of counting hits.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from cirrnb.simulation.signs import CHANNELS, READER_NOISE, SIGNS, draw_channels, thresholds

BLOCK = 5000
SEVERITIES = np.linspace(-4.5, 4.5, 181)


def stage_given_severity() -> NDArray[np.float64]:
    """(severities, 3) probability of each stage at each value of `SEVERITIES`."""
    cuts = norm.cdf((np.array(thresholds())[None, :] - SEVERITIES[:, None]) / READER_NOISE)
    return np.diff(np.column_stack([np.zeros(len(cuts)), cuts, np.ones(len(cuts))]), axis=1)


def channel_likelihoods(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """(channels, patients, severities) log-likelihood of what each channel shows, from (patients, channels) values."""
    result = np.empty((len(CHANNELS), len(values), len(SEVERITIES)), dtype=np.float32)
    for index, channel in enumerate(CHANNELS):
        spread = np.sqrt(1 - channel.follows**2)
        expected = channel.follows * SEVERITIES
        density = norm.logpdf(values[:, index, None], expected, spread)
        absent = norm.logcdf(channel.onset, expected, spread)
        result[index] = np.where(values[:, index, None] > channel.onset, density, absent)
    return result


def ceiling_table(draws: int = 100_000, seed: int = 0) -> pd.DataFrame:
    """Bayes accuracy for every set of signs that matters.

    Returns
    -------
    One row a set: what ("all", "T1W", "T2W", "only ...", "pair ...", "without ..."), accuracy, low, high (95 % Monte
    Carlo interval), kappa is not given since the Bayes rule here maximises accuracy; loss (points below "all").
    """
    subsets = _subsets()
    weights = stage_given_severity()
    prior = norm.logpdf(SEVERITIES).astype(np.float32)
    random = np.random.default_rng(seed)
    best = {name: np.empty(draws) for name in subsets}
    for start in range(0, draws, BLOCK):
        count = min(BLOCK, draws - start)
        likelihoods = channel_likelihoods(draw_channels(random, random.standard_normal(count)))
        for name, channels in subsets.items():
            posterior = prior + sum((likelihoods[index] for index in channels), np.zeros((1, 1), np.float32))
            posterior = np.exp(posterior - posterior.max(axis=1, keepdims=True))
            stages = posterior @ weights.astype(np.float32)
            best[name][start : start + count] = (stages / stages.sum(axis=1, keepdims=True)).max(axis=1)
    rows = []
    for name, chances in best.items():
        error = 1.96 * chances.std() / np.sqrt(draws)
        mean = chances.mean()
        rows.append((name, mean, mean - error, mean + error, best["all"].mean() - mean))
    return pd.DataFrame(rows, columns=["signs", "accuracy", "low", "high", "loss"])


def _subsets() -> dict[str, tuple[int, ...]]:
    def having(signs: Iterable[str]) -> tuple[int, ...]:
        wanted = set(signs)
        return tuple(index for index, channel in enumerate(CHANNELS) if channel.sign in wanted)

    subsets = {"all": having(SIGNS)}
    for sequence in ("T1W", "T2W"):
        subsets[sequence] = tuple(i for i, channel in enumerate(CHANNELS) if sequence in channel.sequences)
    subsets |= {f"without {sign}": having(set(SIGNS) - {sign}) for sign in SIGNS}
    subsets |= {f"only {sign}": having([sign]) for sign in SIGNS}
    subsets |= {f"pair {a} + {b}": having([a, b]) for a, b in combinations(SIGNS, 2)}
    return subsets
