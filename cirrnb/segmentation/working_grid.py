"""From a volume's grid to the one the network works on, and back: 3 mm in plane, slices as acquired or averaged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cirrnb.data.grid import Grid
from cirrnb.data.resampling import Sampling
from cirrnb.simulation.rendering import PIXEL

THINNEST = 3.5
"""mm between slices that the network sees at least; thinner ones are averaged in groups."""
THICKEST = 14.0
"""mm between slices that the network sees at most; between thicker ones slices are interpolated."""


@dataclass(frozen=True)
class WorkingGrid:
    """How (slices, rows, columns), slices to the head, rows to the back and columns to the left, become the network's.

    One sampling for each axis. In plane every pixel of the volume counts; slices thinner than `THINNEST` are averaged.
    """

    slices: Sampling
    rows: Sampling
    columns: Sampling

    @classmethod
    def of(cls, oriented: Grid) -> WorkingGrid:
        """For a grid whose axes run that way."""
        between = oriented.spacing[0]
        step = float(np.ceil(THINNEST / between)) if between < THINNEST else 1.0
        if between > THICKEST:
            step = THICKEST / between
        steps = (step, PIXEL / oriented.spacing[1], PIXEL / oriented.spacing[2])
        slices, rows, columns = (_evenly(size, by) for size, by in zip(oriented.shape, steps, strict=True))
        return cls(slices, rows, columns)

    def spacing(self, oriented: Grid) -> tuple[float, float, float]:
        """mm along slices, rows and columns of the network's grid."""
        steps = (self.slices.step, self.rows.step, self.columns.step)
        first, second, third = (float(a * b) for a, b in zip(steps, oriented.spacing, strict=True))
        return first, second, third

    def reduce(self, volume: NDArray) -> Tensor:
        """(slices, rows, columns) float32 on the network's grid; the volume is read slice by slice."""
        rows, columns = torch.from_numpy(self.rows.matrix), torch.from_numpy(self.columns.matrix).T.contiguous()
        small = torch.empty((len(volume), self.rows.size, self.columns.size), dtype=torch.float32)
        for number, plane in enumerate(volume):
            small[number] = rows @ torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32)) @ columns
        if self.slices.step == 1:
            return small
        return torch.tensordot(torch.from_numpy(self.slices.matrix), small, dims=1)

    def enlarge(self, shares: Tensor) -> NDArray[np.uint8]:
        """The class of the largest interpolated share of each voxel: shares (classes, slices, rows, columns)."""
        occurs = [bool((share > 0.05).any()) for share in shares]
        classes = np.flatnonzero(occurs).astype(np.uint8)
        used = shares[torch.from_numpy(classes.astype(np.int64))].movedim(1, 0)
        slices, rows, columns = (
            torch.from_numpy(axis.inverse().matrix) for axis in (self.slices, self.rows, self.columns)
        )
        columns = columns.T.contiguous()
        shape = (self.slices.source_size, self.rows.source_size, self.columns.source_size)
        labels = np.zeros(shape, np.uint8)
        for number in range(shape[0]):
            near = torch.nonzero(slices[number])[:, 0]
            if len(near) == 0:  # beyond the centre of the outermost group of slices
                near = torch.tensor([0 if number < shape[0] / 2 else len(used) - 1])
                weights = torch.ones(1, dtype=torch.float32)
            else:
                weights = slices[number, near]
            here = torch.tensordot(weights / weights.sum(), used[near], dims=1)
            labels[number] = classes[(rows @ here @ columns).argmax(dim=0).numpy()]
        return labels


def _evenly(size: int, step: float) -> Sampling:
    """Samples `step` voxels apart, in the middle of an axis of `size` voxels."""
    count = max(1, round(size / step))
    return Sampling((size - 1) / 2 - step * (count - 1) / 2, step, count, size)
