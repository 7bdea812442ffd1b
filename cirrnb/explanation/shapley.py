"""What each sequence and each slice adds to the answer, by Shapley's rule, removed ones dropped and not blackened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray

from cirrnb.explanation.score import PatientScore
from cirrnb.model.torch_context import isolated_torch

PERMUTATIONS = 64
AT_ONCE = 256
"""Slices in one pass over cached embeddings. The attention between sequences is quadratic in them: with 1024 the same
shares take three to five times as long, and fewer gain nothing (tests/benchmarks/test_explanation_speed.py)."""


@dataclass(frozen=True, eq=False)
class ShapleyValues:
    """ShapleyValues of the score's difference to that of nothing at all, in units of the score.

    Attributes
    ----------
    sequences : sequence -> exact Shapley value; together they are score less `nothing`.
    slices : sequence -> (slices,) Shapley values from sampled orders; over all sequences they are the same sum.
    errors : sequence -> (slices,) standard errors of these.
    weights : sequence -> (slices,) the model's own attention, slice times sequence, for comparison; sums to one.
    nothing : the score that stands for no slice at all.
    """

    sequences: Mapping[str, float]
    slices: Mapping[str, NDArray[np.float64]]
    errors: Mapping[str, NDArray[np.float64]]
    weights: Mapping[str, NDArray[np.float64]]
    nothing: float


@isolated_torch()
def shapley_values(
    score: PatientScore,
    nothing: float,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ShapleyValues:
    """Shapley values of a patient's sequences and slices (Shapley 1953; sampled as Castro et al., Computers &
    Operations Research 2009;36:1726, each order followed by its reverse).

    Parameters
    ----------
    nothing : score without any slice: that of the baseline, since no network can compute it.
    permutations : orders in which slices are added, at least 4, rounded up to an even number.
    progress : called with the number of pairs of orders done and in all.
    """
    sequence, names = score.batch.sequence.numpy(), score.batch.sequences
    present = [index for index in range(len(names)) if (sequence == index).any()]
    values, errors = _of_slices(score, nothing, max(2, (permutations + 1) // 2), seed, progress)
    return ShapleyValues(
        sequences={names[index]: value for index, value in _of_sequences(score, nothing, sequence, present).items()},
        slices={names[index]: values[sequence == index] for index in present},
        errors={names[index]: errors[sequence == index] for index in present},
        weights={names[index]: _attention(score)[sequence == index] for index in present},
        nothing=nothing,
    )


def _of_sequences(score: PatientScore, nothing: float, sequence: NDArray, present: list[int]) -> dict[int, float]:
    if len(present) > 2:
        return _of_several(score, nothing, sequence, present)
    kept = torch.from_numpy(np.stack([sequence == index for index in present] + [np.ones_like(sequence, dtype=bool)]))
    *alone, both = score.subset_scores(kept).tolist()
    if len(present) == 1:
        return {present[0]: both - nothing}
    first, second = alone
    return {present[0]: (first - nothing + both - second) / 2, present[1]: (second - nothing + both - first) / 2}


def _of_several(score: PatientScore, nothing: float, sequence: NDArray, present: list[int]) -> dict[int, float]:
    """Shapley values of three or more sequences, over all their subsets."""
    values: dict[tuple[int, ...], float] = {(): nothing}
    for size in range(1, len(present) + 1):
        for some in combinations(present, size):
            values[some] = float(score.subset_scores(torch.from_numpy(np.isin(sequence, some)[None]))[0])
    count, shares = len(present), dict.fromkeys(present, 0.0)
    for some, value in values.items():
        for index in set(present) - set(some):
            weight = 1 / (count * comb(count - 1, len(some)))
            shares[index] += weight * (values[tuple(sorted((*some, index)))] - value)
    return shares


def _of_slices(
    score: PatientScore, nothing: float, pairs: int, seed: int, progress: Callable[[int, int], None]
) -> tuple[NDArray, NDArray]:
    random = np.random.default_rng(seed)
    count = len(score.batch.sequence)
    values = np.empty((pairs, count))
    for pair in range(pairs):
        order = random.permutation(count)
        values[pair] = (_added(score, nothing, order) + _added(score, nothing, order[::-1])) / 2
        progress(pair + 1, pairs)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(pairs)


def _added(score: PatientScore, nothing: float, order: NDArray[np.int64]) -> NDArray[np.float64]:
    """(slices,) what each slice changes when the slices come in this order."""
    count = len(order)
    place = np.empty(count, dtype=int)
    place[order] = np.arange(count)
    kept = torch.from_numpy(place[None] <= np.arange(count)[:, None])
    # Subsets with many slices are heavier than those with few; a block holds about AT_ONCE slices.
    blocks = np.split(np.arange(count), np.flatnonzero(np.diff(np.cumsum(np.arange(1, count + 1)) // AT_ONCE)) + 1)
    values = np.concatenate([score.subset_scores(kept[block]).double().numpy() for block in blocks])
    gained = np.diff(values, prepend=nothing)
    return gained[place]


@torch.no_grad()
def _attention(score: PatientScore) -> NDArray[np.float64]:
    weights = []
    for stager, embedded in zip(score.members, score.embeddings(), strict=True):
        staging = stager.stage_embedded(embedded, score.there)
        shares = staging.slice_weights * staging.sequence_weights[0, score.there.sequence]
        weights.append(shares.double().cpu().numpy())
    return np.mean(weights, axis=0)
