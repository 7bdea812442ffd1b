"""The highest possible accuracy: Bayes accuracy given the latent signs, without images.

The posterior over severity is computed on a fine grid: a sign that shows gives its value, one that does not gives
only that it lies below its onset. The same is computed for the very patients of a cohort, and beside it what severity
alone, without any sign being read, would give for each sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, spearmanr
from sklearn.metrics import roc_auc_score

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.simulation.populations import BENCHMARK, Population
from cirrnb.simulation.signs import CHANNELS, NO_SIGN, SIGNS

BLOCK = 5000
SEVERITIES = np.linspace(-4.5, 4.5, 181)
PRESENT = 0.15
"""Strength from which a sign counts as present."""


def stage_given_severity(population: Population = BENCHMARK) -> NDArray[np.float64]:
    """(severities, 3) probability of each stage at each value of `SEVERITIES`."""
    cuts = norm.cdf((np.array(population.thresholds)[None, :] - SEVERITIES[:, None]) / population.reader_noise)
    return np.diff(np.column_stack([np.zeros(len(cuts)), cuts, np.ones(len(cuts))]), axis=1)


def channel_likelihoods(values: NDArray[np.float64], population: Population = BENCHMARK) -> NDArray[np.float32]:
    """(channels, patients, severities) log-likelihood of what each channel shows, from (patients, channels) values."""
    result = np.empty((len(population.channels), len(values), len(SEVERITIES)), dtype=np.float32)
    for index, channel in enumerate(population.channels):
        spread = np.sqrt(1 - channel.follows**2)
        expected = channel.follows * SEVERITIES
        density = norm.logpdf(values[:, index, None], expected, spread)
        absent = norm.logcdf(channel.onset, expected, spread)
        result[index] = np.where(values[:, index, None] > channel.onset, density, absent)
    return result


def stage_posteriors(
    values: NDArray[np.float64], channels: Iterable[int], population: Population = BENCHMARK
) -> NDArray[np.float64]:
    """(patients, 3) probability of each stage given some channels of (patients, channels) values."""
    return _posteriors(values, {"wanted": tuple(channels)}, population)["wanted"]


def _posteriors(
    values: NDArray[np.float64], subsets: Mapping[str, tuple[int, ...]], population: Population
) -> dict[str, NDArray[np.float64]]:
    """`stage_posteriors` of several sets of channels; the likelihoods, which cost most, are computed once for all."""
    weights, prior = stage_given_severity(population), norm.logpdf(SEVERITIES).astype(np.float32)
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in subsets}
    for start in range(0, len(values), BLOCK):
        likelihoods = channel_likelihoods(values[start : start + BLOCK], population)
        for name, channels in subsets.items():
            posterior = prior + sum((likelihoods[index] for index in channels), np.zeros((1, 1), np.float32))
            posterior = np.exp(posterior - posterior.max(axis=1, keepdims=True))
            stages = posterior @ weights.astype(np.float32)
            parts[name].append(stages / stages.sum(axis=1, keepdims=True))
    return {name: np.concatenate(blocks).astype(np.float64) for name, blocks in parts.items()}


def ceiling_table(draws: int = 100_000, seed: int = 0, population: Population = BENCHMARK) -> pd.DataFrame:
    """Bayes accuracy for every set of signs that matters.

    Accuracy is the mean of the largest stage probability: its Monte Carlo error is smaller than that of counting hits.

    Returns
    -------
    One row a set: what ("all", "T1W", "T2W", "only ...", "pair ...", "without ..."), accuracy, low, high (95 % Monte
    Carlo interval), kappa is not given since the Bayes rule here maximises accuracy; loss (points below "all").
    """
    random = np.random.default_rng(seed)
    values = np.concatenate(
        [
            population.draw_channels(random, random.standard_normal(min(BLOCK, draws - start)))
            for start in range(0, draws, BLOCK)
        ]
    )
    best = {name: chances.max(axis=1) for name, chances in _posteriors(values, _subsets(), population).items()}
    rows = []
    for name, chances in best.items():
        error = 1.96 * chances.std() / np.sqrt(draws)
        mean = chances.mean()
        rows.append((name, mean, mean - error, mean + error, best["all"].mean() - mean))
    return pd.DataFrame(rows, columns=["signs", "accuracy", "low", "high", "loss"])


def cohort_ceilings(latent: pd.DataFrame, population: Population = BENCHMARK) -> pd.DataFrame:
    """What Bayes' rule gets right among the very patients of a simulated cohort.

    Parameters
    ----------
    latent : the cohort's latent.csv; healthy subjects, who have no stage, are not counted.
    population : the one it was simulated with.

    Returns
    -------
    One row each for the signs of "all", "T1W" and "T2W", and for "severity" (known without error): signs, accuracy (the
    share of these patients whose most probable stage is theirs), low, high (Wilson, 95 %), expected (mean of the
    largest probability), n.

    Raises
    ------
    InputError
        If the table has no patient with a stage.
    """
    ill = latent[latent["stage"].isin(CIRRHOSIS)]
    if ill.empty:
        raise InputError("latent", "nobody with a stage", "latent.csv of a simulated cohort", "Simulate patients.")
    values = ill[[f"channel_{channel.name}" for channel in CHANNELS]].to_numpy(float)
    truth = ill["stage"].map(CIRRHOSIS.index).to_numpy()
    subsets = _subsets()
    posteriors = _posteriors(values, {name: subsets[name] for name in ("all", "T1W", "T2W")}, population)
    severity = ill["severity"].to_numpy(float)
    nearest = np.abs(severity[:, None] - SEVERITIES).argmin(axis=1)
    posteriors["severity"] = stage_given_severity(population)[nearest]
    rows = []
    for name, chances in posteriors.items():
        right = int((chances.argmax(axis=1) == truth).sum())
        interval = binomtest(right, len(ill)).proportion_ci(method="wilson")
        rows.append((name, right / len(ill), interval.low, interval.high, float(chances.max(axis=1).mean()), len(ill)))
    return pd.DataFrame(rows, columns=["signs", "accuracy", "low", "high", "expected", "n"])


def sign_floors(latent: pd.DataFrame) -> pd.DataFrame:
    """How well severity alone predicts each sign: what a model that reads no sign at all can reach on these patients.

    Returns
    -------
    One row a channel, and "no sign" (every channel below `NO_SIGN`): sign, auroc (presence, from severity; NaN where
    all or none have it), rank (Spearman's correlation of severity with the strength among those that show it),
    present (patients), n.
    """
    ill = latent[latent["stage"].isin(CIRRHOSIS)]
    severity = ill["severity"].to_numpy(float)
    shown = ill[[f"shown_{channel.name}" for channel in CHANNELS]].to_numpy(float)
    rows = []
    for channel, strength in zip(CHANNELS, shown.T, strict=True):
        has = strength > PRESENT
        rank = float(spearmanr(severity[has], strength[has]).statistic) if has.sum() > 2 else np.nan
        rows.append((channel.name, _auroc(has, severity), rank, int(has.sum()), len(ill)))
    none = np.asarray((shown < NO_SIGN).all(axis=1))
    rows.append(("no sign", _auroc(none, -severity), np.nan, int(none.sum()), len(ill)))
    return pd.DataFrame(rows, columns=["sign", "auroc", "rank", "present", "n"])


def _auroc(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    return float(roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else float("nan")


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
