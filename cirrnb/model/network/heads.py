"""From a patient's vector to stages: ordered heads, and one that knows no order.

Every head gives raw scores, which attribution explains, and turns them into log-probabilities of the three stages; all
are trained by the likelihood of the true stage.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import logsigmoid, softplus

from cirrnb.data.scan import STAGES

SCALE = 10.0


class StageHead(nn.Module):
    """What the heads have in common."""

    @staticmethod
    def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
        """(patients, 3) of what `forward` gave."""
        raise NotImplementedError


class CrossEntropyHead(StageHead):
    """A score for each stage; their softmax are the probabilities."""

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Linear(width, len(STAGES))

    def forward(self, fused: torch.Tensor) -> torch.Tensor:
        """Scores (patients, 3) of vectors (patients, width)."""
        return self.score(fused)

    @staticmethod
    def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
        """(patients, 3) of scores (patients, 3)."""
        return scores.log_softmax(dim=1)


class CumulativeHead(StageHead):
    """Proportional odds: one severity, cut at two learned thresholds; score k is the log-odds of a stage above k.

    McCullagh, *Regression models for ordinal data*, JRSS B 1980;42:109.
    """

    def __init__(self, width: int):
        super().__init__()
        self.severity = nn.Linear(width, 1, bias=False)
        # At the start all three stages are alike likely for severity 0: odds of 2 to 1, and 1 to 2. Kept at a scale at
        # which AdamW moves them as fast as severity, a sum over many weights; else the middle stage stays unlikely.
        self.first = nn.Parameter(torch.tensor(-math.log(2) / SCALE))
        self.gap = nn.Parameter(torch.tensor(math.log(3) / SCALE))

    def forward(self, fused: torch.Tensor) -> torch.Tensor:
        """Scores (patients, 2), falling from the first to the second."""
        first = SCALE * self.first
        cuts = torch.stack([first, first + softplus(SCALE * self.gap)])
        return self.severity(fused) - cuts

    @staticmethod
    def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
        """(patients, 3) of scores (patients, 2)."""
        first, second = scores.unbind(dim=1)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a))
        between = logsigmoid(first) + logsigmoid(-second) + torch.log(-torch.expm1(second - first))
        return torch.stack([logsigmoid(-first), between, logsigmoid(second)], dim=1)


class CornHead(StageHead):
    """Conditional odds: score k is the log-odds of a stage above k among those that reach k.

    Shi, Cao and Raschka, *Deep neural networks for rank-consistent ordinal regression*, arXiv 2111.08851.
    """

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Linear(width, len(STAGES) - 1)

    def forward(self, fused: torch.Tensor) -> torch.Tensor:
        """Scores (patients, 2)."""
        return self.score(fused)

    @staticmethod
    def log_probabilities(scores: torch.Tensor) -> torch.Tensor:
        """(patients, 3) of scores (patients, 2)."""
        first, second = scores.unbind(dim=1)
        above = logsigmoid(first)
        return torch.stack([logsigmoid(-first), above + logsigmoid(-second), above + logsigmoid(second)], dim=1)


HEADS: dict[str, type[CumulativeHead | CornHead | CrossEntropyHead]] = {
    "cumulative": CumulativeHead,
    "corn": CornHead,
    "cross_entropy": CrossEntropyHead,
}


def stage_loss(
    log_probabilities: torch.Tensor, stage: torch.Tensor, weights: torch.Tensor | None = None, focus: float = 0.0
) -> torch.Tensor:
    """Negative log-likelihood (patients,) of the true stages (patients,) int64.

    `weights` (3,) multiply by true stage; `focus` is the gamma of the focal loss (Lin et al., ICCV 2017), 0 for none.
    """
    said = log_probabilities.gather(1, stage[:, None])[:, 0]
    loss = -said if not focus else -said * (1 - said.exp()) ** focus
    return loss if weights is None else loss * weights.to(loss)[stage]
