"""What happens to the score as patches, or slices, are taken away in the order a map gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d, interpolate

from cirrnb.explanation.score import PatientScore
from cirrnb.model.torch_context import isolated_torch

STEPS = 20
COVERED = 0.05
"""Part of a patch that has to be body for the patch to be removed at all."""

LEAST_DIFFERENCE = 0.5
"""Log-odds between the whole patient and nothing of it, below which a curve between the two means nothing."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Scores (steps + 1,) as more and more is removed (or, for insertion, given back), and their two ends."""

    scores: NDArray[np.float64]
    whole: float
    empty: float

    @property
    def normalised(self) -> NDArray[np.float64]:
        """1 where the score is that of the whole patient, 0 where it is that of nothing; NaN where these are the
        same."""
        apart = self.whole - self.empty
        return (self.scores - self.empty) / apart if abs(apart) >= LEAST_DIFFERENCE else self.scores * np.nan

    @property
    def area(self) -> float:
        """Area under the normalised curve, over shares removed from 0 to 1."""
        return float(np.trapezoid(self.normalised, dx=1 / (len(self.scores) - 1)))


@dataclass(frozen=True, eq=False)
class Patches:
    """Fixed square patches over all slices of all sequences.

    Attributes
    ----------
    size : pixels along a side.
    used : (slices, patch rows, patch columns) which are removed at all: those that show some of the body.
    """

    size: int
    used: torch.Tensor

    @classmethod
    def of(cls, flesh: NDArray[np.bool_], size: int) -> Patches:
        """`flesh` (slices, rows, columns) is what is body."""
        return cls(size, _means(torch.from_numpy(flesh.astype(np.float32)), size) >= COVERED)

    def order(self, values: NDArray[np.float32]) -> torch.Tensor:
        """(patches,) flat places of the used patches, those with the largest mean of a map first; a map that says the
        same of all of them has no order: ValueError."""
        means = _means(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), self.size)
        patch_means = means[self.used]
        if float(patch_means.max() - patch_means.min()) < 1e-12:
            raise ValueError("a constant map ranks nothing")
        places = torch.nonzero(self.used.flatten())[:, 0]
        return places[torch.argsort(patch_means, descending=True, stable=True)]

    def spread(self, places: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """(slices, rows, columns) bool: the pixels of some patches."""
        chosen = torch.zeros(self.used.numel()).index_fill(0, places, 1.0).reshape(self.used.shape)
        return (interpolate(chosen[:, None], scale_factor=self.size)[:, 0] > 0.5)[:, : shape[0], : shape[1]]


def _means(values: torch.Tensor, size: int) -> torch.Tensor:
    return avg_pool2d(values[:, None], size, ceil_mode=True, count_include_pad=False)[:, 0]


@isolated_torch()
@torch.no_grad()
def deletion(
    score: PatientScore,
    empty: torch.Tensor,
    patches: Patches,
    order: torch.Tensor,
    steps: int = STEPS,
    like: Curve | None = None,
) -> Curve:
    """Replace patches by those of `empty` (slices, rows, columns), the first in `order` first.

    `like` is such a curve in another order of the same patches: the ends of both are the same and not computed again.
    """
    return _curve(score, score.slices[0], empty, patches, order, steps, like, inserting=False)


@isolated_torch()
@torch.no_grad()
def insertion(
    score: PatientScore,
    empty: torch.Tensor,
    patches: Patches,
    order: torch.Tensor,
    steps: int = STEPS,
    like: Curve | None = None,
) -> Curve:
    """Begin with `empty` and give patches of the patient back, the first in `order` first; `like` as there."""
    return _curve(score, empty, score.slices[0], patches, order, steps, like, inserting=True)


def _curve(
    score: PatientScore,
    start: torch.Tensor,
    end: torch.Tensor,
    patches: Patches,
    order: torch.Tensor,
    steps: int,
    like: Curve | None,
    inserting: bool,
) -> Curve:
    shape = (start.shape[1], start.shape[2])
    scores = []
    for step in range(steps + 1):
        if like is not None and step in (0, steps):
            scores.append(float(like.scores[0 if step == 0 else -1]))
            continue
        taken = patches.spread(order[: round(step * len(order) / steps)], shape)
        scores.append(float(score(torch.where(taken, end, start)[None])[0]))
    first, last = scores[0], scores[-1]
    return Curve(np.array(scores), *((last, first) if inserting else (first, last)))


@isolated_torch()
@torch.no_grad()
def slice_deletion(score: PatientScore, values: NDArray[np.float64], nothing: float, steps: int = STEPS) -> Curve:
    """Drop whole slices, those with the largest `values` (slices,) first, as if they had never been acquired."""
    order = np.argsort(-values, kind="stable")
    count = len(order)
    cuts = np.unique(np.round(np.linspace(0, count - 1, min(steps, count))).astype(int))
    place = np.empty(count, dtype=int)
    place[order] = np.arange(count)
    kept = torch.from_numpy(place[None] >= cuts[:, None])
    scores = np.concatenate([score.subset_scores(part).double().numpy() for part in kept.split(16)])
    # Evenly spaced shares, also where the counts of slices are not.
    shares = np.linspace(0, 1, steps + 1)
    known = np.concatenate([cuts / count, [1.0]])
    return Curve(np.interp(shares, known, np.append(scores, nothing)), float(scores[0]), nothing)
