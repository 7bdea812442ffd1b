"""Networks so small that their attributions can be worked out with paper and pencil."""

from __future__ import annotations

import torch
from torch import nn

from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.batch import Batch
from cirrnb.model.heads_and_losses import CumulativeHead
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Staging


class ToyStager(nn.Module):
    """Embeds a slice as it likes; `first` and `second` score are the same number, so that severity is twice it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = CumulativeHead(1, 3)
        self.settings, self.stages, self.sequences = StagerSettings(), CIRRHOSIS, T1W_T2W

    def stage_embedded(self, embedded: torch.Tensor, batch: Batch) -> Staging:
        belongs = batch.patient == torch.arange(len(batch))[:, None]
        weights = self.weigh(embedded).expand(len(batch), -1).masked_fill(~belongs, -torch.inf).softmax(dim=1)
        value = (weights @ embedded)[:, 0]
        scores = torch.stack([value, value], dim=1)
        shares = torch.full((len(batch), 2), 0.5)
        return Staging(scores, scores, weights.sum(dim=0), shares)

    def weigh(self, embedded: torch.Tensor) -> torch.Tensor:
        """(slices,) scores of the attention."""
        raise NotImplementedError


class Linear(ToyStager):
    """The mean over slices of a weighted sum of pixels."""

    def __init__(self, weights: torch.Tensor):
        super().__init__()
        self.weights = weights

    def embed(self, batch: Batch, chunk: int | None = None) -> torch.Tensor:
        return (batch.slices[:, 0] * self.weights).sum(dim=(1, 2))[:, None]

    def weigh(self, embedded: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(embedded))


class Attending(ToyStager):
    """Slices of one pixel x, weighed by softmax(x): (x1 exp x1 + x2 exp x2) / (exp x1 + exp x2)."""

    def embed(self, batch: Batch, chunk: int | None = None) -> torch.Tensor:
        return batch.slices[:, 0].sum(dim=(1, 2))[:, None]

    def weigh(self, embedded: torch.Tensor) -> torch.Tensor:
        return embedded[:, 0]


def batch_of(slices: torch.Tensor, sequence: list[int]) -> Batch:
    """One patient with `slices` (slices, rows, columns) of the sequences named."""
    count = len(sequence)
    return Batch(
        slices[:, None].float(),
        torch.tensor(sequence),
        torch.zeros(count, dtype=torch.long),
        torch.arange(count) * 5.0,
        torch.zeros(1, 4),
        torch.tensor([-100]),
    )
