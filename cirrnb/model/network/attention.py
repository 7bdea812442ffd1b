"""Where on a slice to look, for each sequence: a channel gate and a spatial gate at one scale."""

from __future__ import annotations

import torch
from torch import nn


class SliceAttention(nn.Module):
    """Feature maps to one vector a slice: channels weighed by what the slice shows, places by what stands there.

    The channel gate follows Hu et al., *Squeeze-and-Excitation Networks*, CVPR 2018; the spatial gate is a softmax over
    the places of the map, as Woo et al. (CBAM, ECCV 2018) put one after the other. Every sequence has weights of its
    own. At the start both gates are open: the vector is the plain mean.
    """

    def __init__(self, channels: int, kinds: int):
        """`kinds` sets of weights; a slice names the one it uses."""
        super().__init__()
        hidden = max(channels // 8, 8)
        self.squeeze, self.relu = nn.Linear(channels, kinds * hidden), nn.ReLU()
        self.excite, self.sigmoid = nn.Parameter(torch.zeros(kinds, hidden, channels)), nn.Sigmoid()
        self.place, self.softmax = nn.Parameter(torch.zeros(kinds, channels)), nn.Softmax(dim=1)
        # All-zero weights would leave the hidden layer without a gradient.
        nn.init.normal_(self.excite, std=hidden**-0.5 / 10)

    def forward(self, features: torch.Tensor, kind: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pool `features` (slices, channels, rows, columns) with the weights `kind` (slices,) int64 names.

        Returns vectors (slices, channels) and the spatial maps (slices, rows, columns), non-negative and each summing
        to one.
        """
        slices, channels, rows, columns = features.shape
        every = torch.arange(slices, device=kind.device)
        flat = features.flatten(2)
        hidden = self.relu(self.squeeze(flat.mean(dim=2))).unflatten(1, (len(self.excite), -1))
        gate = 2 * self.sigmoid(torch.einsum("nkh,khc->nkc", hidden, self.excite)[every, kind])
        # The gates are folded into vectors, so that no second map of full size is ever written.
        weigh = (gate * self.place[kind])[:, None]
        maps = self.softmax(torch.bmm(weigh, flat)[:, 0] * channels**-0.5)
        pooled = torch.bmm(flat, maps[..., None])[..., 0] * gate
        return pooled, maps.unflatten(1, (rows, columns))
