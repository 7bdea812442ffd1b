"""From many slices to one vector a sequence, and from the sequences that exist to one vector a patient."""

from __future__ import annotations

import torch
from torch import nn

from cirrnb.data.scan import SEQUENCES


class GatedAttentionPooling(nn.Module):
    """Weighted mean over the slices of each group, the weights made by a small gated network.

    Ilse et al., *Attention-based Deep Multiple Instance Learning*, ICML 2018, equation 9:
    a = softmax(w (tanh(V h) * sigmoid(U h))).
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.content, self.tanh = nn.Linear(width, hidden), nn.Tanh()
        self.gate, self.sigmoid = nn.Linear(width, hidden), nn.Sigmoid()
        self.score = nn.Linear(hidden, 1)

    def forward(self, embedded: torch.Tensor, group: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pool `embedded` (slices, width) within each value of `group` (slices,) int64.

        Returns the pooled vectors (groups, width), the groups' values (groups,) in rising order, and the weight of
        each slice (slices,), which sum to one within a group.
        """
        scores = self.score(self.tanh(self.content(embedded)) * self.sigmoid(self.gate(embedded)))[:, 0]
        groups, member = torch.unique(group, return_inverse=True)
        # A dense (groups, slices) table instead of scattered sums: small, and the same on every run.
        belongs = member[None] == torch.arange(len(groups), device=member.device)[:, None]
        weights = scores.expand(len(groups), -1).masked_fill(~belongs, -torch.inf).softmax(dim=1)
        return weights @ embedded, groups, weights.sum(dim=0)


class SequenceFusion(nn.Module):
    """Weighted mean over the sequences that a patient has; with `learned` the weights follow the embeddings."""

    def __init__(self, width: int, learned: bool):
        super().__init__()
        self.score = nn.Linear(width, 1) if learned else None

    def forward(self, pooled: torch.Tensor, groups: torch.Tensor, patients: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse `pooled` (groups, width), where group = patient * len(SEQUENCES) + sequence.

        Returns the fused vectors (patients, width) and the sequences' weights (patients, len(SEQUENCES)).
        Raises ValueError if a patient has no slice at all: there is nothing to say about nothing.
        """
        size = patients * len(SEQUENCES)
        present = torch.zeros(size, dtype=torch.bool, device=pooled.device).index_fill(0, groups, True)
        present = present.reshape(patients, len(SEQUENCES))
        if not present.any(dim=1).all():
            raise ValueError("every patient of a batch needs at least one slice")
        scores = pooled.new_zeros(len(groups)) if self.score is None else self.score(pooled)[:, 0]
        scores = pooled.new_zeros(size).index_copy(0, groups, scores.to(pooled.dtype)).reshape(present.shape)
        weights = scores.masked_fill(~present, -torch.inf).softmax(dim=1)
        vectors = pooled.new_zeros(size, pooled.shape[1]).index_copy(0, groups, pooled)
        return (weights[..., None] * vectors.reshape(*present.shape, -1)).sum(dim=1), weights
