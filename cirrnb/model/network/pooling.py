"""From many slices to one vector a sequence."""

from __future__ import annotations

import torch
from torch import nn


class GatedAttentionPooling(nn.Module):
    """Weighted mean over the slices of each group, the weights made by a small gated network, or all alike.

    Ilse et al., *Attention-based Deep Multiple Instance Learning*, ICML 2018, equation 9:
    a = softmax(w (tanh(V h) * sigmoid(U h))).
    """

    def __init__(self, width: int, hidden: int, learned: bool = True):
        super().__init__()
        self.learned = learned
        if learned:
            self.content, self.tanh = nn.Linear(width, hidden), nn.Tanh()
            self.gate, self.sigmoid = nn.Linear(width, hidden), nn.Sigmoid()
            self.score = nn.Linear(hidden, 1)

    def forward(self, embedded: torch.Tensor, group: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pool `embedded` (slices, width) within each value of `group` (slices,) int64.

        Returns the pooled vectors (groups, width), the groups' values (groups,) in rising order, and the weight of
        each slice (slices,), which sum to one within a group.
        """
        scores = self._scores(embedded)
        groups, member = torch.unique(group, return_inverse=True)
        # A dense (groups, slices) table instead of scattered sums: small, and the same on every run.
        belongs = member[None] == torch.arange(len(groups), device=member.device)[:, None]
        weights = scores.expand(len(groups), -1).masked_fill(~belongs, -torch.inf).softmax(dim=1)
        return weights @ embedded, groups, weights.sum(dim=0)

    def _scores(self, embedded: torch.Tensor) -> torch.Tensor:
        if not self.learned:
            return embedded.new_zeros(len(embedded))
        return self.score(self.tanh(self.content(embedded)) * self.sigmoid(self.gate(embedded)))[:, 0]
