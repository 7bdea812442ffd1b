"""From a patient's vector to stages: ordered heads, one that knows no order, and the losses that train them.

Every head gives raw scores, which attribution explains, and turns them into log-probabilities of the stages. A plug-in
adds a head or a loss: `@HEADS.register("name")` above a subclass of `StageHead`, `@LOSSES.register("name")` above a
function like `likelihood`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, logsigmoid, softplus

from cirrnb.data.plugins import Registry

if TYPE_CHECKING:
    from cirrnb.model.settings import StagerSettings

SCALE = 10.0
SIGN_WIDTH = 32
"""Width of the layer between strengths of signs and the stage that rests on them alone."""
MAP_WIDTH = 48
"""Width to which feature maps are reduced before they are read place by place."""


class StageHead(nn.Module):
    """What the heads have in common. A subclass is made with (width, stages) and defines `forward` and
    `log_probabilities`.

    `ordered` is False for a head whose raw scores are one a stage, of which single ones and differences are explained.
    """

    ordered = True

    @staticmethod
    def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
        """(patients, stages) of what `forward` gave."""
        raise NotImplementedError

    @classmethod
    def log_odds_above(cls, scores: torch.Tensor) -> torch.Tensor:
        """(patients, stages - 1) log-odds of a later stage than the first, the second, ..., which attribution explains
        for ordered heads."""
        chances = cls.log_probabilities(scores)
        cuts = range(1, chances.shape[1])
        odds = [chances[:, cut:].logsumexp(dim=1) - chances[:, :cut].logsumexp(dim=1) for cut in cuts]
        return torch.stack(odds, dim=1)


HEADS: Registry[Callable[[int, int], StageHead]] = Registry("head")
"""name -> head, made with the width of a patient's vector and the number of stages."""


@HEADS.register("cumulative")
class CumulativeHead(StageHead):
    """Proportional odds: one severity, cut at learned thresholds; score k is the log-odds of a stage above k.

    McCullagh, *Regression models for ordinal data*, JRSS B 1980;42:109.
    """

    def __init__(self, width: int, stages: int):
        super().__init__()
        self.severity = nn.Linear(width, 1, bias=False)
        # At the start all stages are alike likely for severity 0. Kept at a scale at which AdamW moves them as fast as
        # severity, a sum over many weights; else the middle stages stay unlikely.
        self.first = nn.Parameter(torch.tensor(-math.log(stages - 1) / SCALE))
        rest = [(k + 2) * (stages - k - 1) / ((k + 1) * (stages - k - 2)) for k in range(stages - 2)]
        gaps = torch.tensor([math.log(ratio - 1) / SCALE for ratio in rest])
        # A scalar for three stages, as models of before have it.
        self.gap = nn.Parameter(gaps[0] if len(rest) == 1 else gaps)

    def forward(self, fused: torch.Tensor) -> torch.Tensor:
        """Scores (patients, stages - 1), falling from the first to the last, of vectors (patients, width)."""
        first = SCALE * self.first
        further = softplus(SCALE * self.gap).reshape(-1).cumsum(dim=0)
        return self.severity(fused) - torch.cat([first[None], first + further])

    @staticmethod
    def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
        """(patients, stages) of scores (patients, stages - 1)."""
        cuts = scores.unbind(dim=1)
        parts = [logsigmoid(-cuts[0])]
        for cut, next_cut in pairwise(cuts):
            # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a))
            parts.append(logsigmoid(cut) + logsigmoid(-next_cut) + torch.log(-torch.expm1(next_cut - cut)))
        return torch.stack([*parts, logsigmoid(cuts[-1])], dim=1)

    @classmethod
    def log_odds_above(cls, scores: torch.Tensor) -> torch.Tensor:
        """The raw scores themselves."""
        return scores


@HEADS.register("corn")
class CornHead(StageHead):
    """Conditional odds: score k is the log-odds of a stage above k among those that reach k.

    Shi, Cao and Raschka, *Deep neural networks for rank-consistent ordinal regression*, arXiv 2111.08851.
    """

    def __init__(self, width: int, stages: int):
        super().__init__()
        self.score = nn.Linear(width, stages - 1)

    def forward(self, fused: torch.Tensor) -> torch.Tensor:
        """Scores (patients, stages - 1) of vectors (patients, width)."""
        return self.score(fused)

    @staticmethod
    def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
        """(patients, stages) of scores (patients, stages - 1)."""
        first, *others = scores.unbind(dim=1)
        parts, reached = [logsigmoid(-first)], logsigmoid(first)
        for score in others:
            parts.append(reached + logsigmoid(-score))
            reached = reached + logsigmoid(score)
        return torch.stack([*parts, reached], dim=1)

    @classmethod
    def log_odds_above(cls, scores: torch.Tensor) -> torch.Tensor:
        """From each log-odds and the next one given it."""
        above, *others = scores.unbind(dim=1)
        log_odds = [above]
        for score in others:
            above = _both(above, score)
            log_odds.append(above)
        return torch.stack(log_odds, dim=1)


@HEADS.register("cross_entropy")
class CrossEntropyHead(StageHead):
    """A score for each stage; their softmax are the probabilities."""

    ordered = False

    def __init__(self, width: int, stages: int):
        super().__init__()
        self.score = nn.Linear(width, stages)

    def forward(self, fused: torch.Tensor) -> torch.Tensor:
        """Scores (patients, stages) of vectors (patients, width)."""
        return self.score(fused)

    @staticmethod
    def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
        """(patients, stages) of scores (patients, stages)."""
        return scores.log_softmax(dim=1)


class SignOutputs(nn.Module):
    """Strength of each sign from a patient's vector, what they add to the vector of the stage, and the stage from the
    strengths alone."""

    def __init__(self, width: int, settings: StagerSettings, stages: int):
        super().__init__()
        count = len(settings.signs)
        self.strength = nn.Linear(width, count)
        self.for_the_stage = nn.Linear(count, width, bias=False)
        self.hidden, self.relu = nn.Linear(count, SIGN_WIDTH), nn.ReLU()
        self.head: StageHead = HEADS[settings.head](SIGN_WIDTH, stages)

    def forward(self, fused: torch.Tensor) -> torch.Tensor:
        """(patients, signs) log-odds of the strengths from vectors (patients, width)."""
        return self.strength(fused)

    def stage_alone(self, strengths: torch.Tensor) -> torch.Tensor:
        """(patients, stages) log-probabilities from strengths (patients, signs), 0 to 1."""
        return self.head.log_probabilities(self.head(self.relu(self.hidden(strengths))))


class SignMaps(nn.Module):
    """Where each sign is: feature maps of every scale, brought to the finest one, summed, and read place by place."""

    def __init__(self, channels: Sequence[int], signs: int):
        """For scales of so many channels, the finest first."""
        super().__init__()
        self.levels = nn.ModuleList(nn.GroupNorm(1, count) for count in channels)
        self.reduce = nn.ModuleList(nn.Conv2d(count, MAP_WIDTH, 1) for count in channels)
        self.relu, self.place = nn.ReLU(), nn.Conv2d(MAP_WIDTH, signs, 1)
        assert self.place.bias is not None
        nn.init.constant_(self.place.bias, -4.0)  # signs take up few pixels

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """(slices, signs, rows, columns) log-odds at the finest scale, from maps of every scale."""
        size = features[0].shape[-2:]
        parts = zip(self.levels, self.reduce, features, strict=True)
        brought = [
            interpolate(reduce(level(feature_map)), size=size, mode="bilinear") for level, reduce, feature_map in parts
        ]
        return self.place(self.relu(torch.stack(brought).sum(dim=0)))


def sign_loss(log_odds: torch.Tensor, shown: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """(patients,) mean cross-entropy of strengths (patients, signs), 0 to 1, over the signs that are `known`."""
    values = binary_cross_entropy_with_logits(log_odds, shown, reduction="none") * known
    return values.sum(dim=1) / known.sum(dim=1).clamp_min(1)


def _both(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Log-odds that two things hold, from those of the first and of the second given the first."""
    return -torch.stack([-first, -second, -first - second]).logsumexp(dim=0)


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

LOSSES: Registry[Loss] = Registry("loss")
"""name -> function of log-probabilities (patients, stages) and true stages (patients,) int64 that gives (patients,)."""


@LOSSES.register("likelihood")
def likelihood(log_probabilities: torch.Tensor, stage: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood (patients,) of the true stages."""
    return -log_probabilities.gather(1, stage[:, None])[:, 0]


def stage_loss(
    log_probabilities: torch.Tensor,
    stage: torch.Tensor,
    weights: torch.Tensor | None = None,
    focus: float = 0.0,
    loss: str = "likelihood",
) -> torch.Tensor:
    """The registered loss (patients,) of the true stages (patients,) int64.

    `weights` (stages,) multiply by true stage; `focus` is the gamma of the focal loss (Lin et al., ICCV 2017), 0 for
    none, which multiplies by how unlikely the true stage was.
    """
    values = LOSSES[loss](log_probabilities, stage)
    if focus:
        values = values * (1 - log_probabilities.gather(1, stage[:, None])[:, 0].exp()) ** focus
    return values if weights is None else values * weights.to(values)[stage]
