"""Organs of one volume: brought to the network's grid in pieces, and back to the volume's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cirrnb.data.grid import Grid
from cirrnb.data.orientation import Orientation
from cirrnb.data.resampling import Sampling
from cirrnb.segmentation.inputs import channels
from cirrnb.segmentation.network import OrganNetwork
from cirrnb.simulation.anatomy import LIVER
from cirrnb.simulation.rendering import PIXEL

THINNEST = 3.5
"""mm between slices that the network sees at least; thinner ones are averaged in groups."""
PIECE = 16
CONTEXT = 4
"""Slices given to the network at once, and slices of it that only lend their surroundings."""


@dataclass(frozen=True)
class Working:
    """How a volume (slices, rows, columns) is brought to the network's grid: one sampling for each axis."""

    slices: Sampling
    rows: Sampling
    columns: Sampling

    @classmethod
    def of(cls, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Working:
        group = max(1, int(np.ceil(THINNEST / spacing[0]))) if spacing[0] < THINNEST else 1
        return cls(
            _evenly(shape[0], float(group)),
            *(_evenly(n, PIXEL / s) for n, s in zip(shape[1:], spacing[1:], strict=True)),
        )

    def apply(self, volume: NDArray) -> Tensor:
        result = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))
        rows, columns = torch.from_numpy(self.rows.matrix), torch.from_numpy(self.columns.matrix)
        small = torch.stack([rows @ one @ columns.T for one in result])
        if self.slices.step == 1:
            return small
        return torch.tensordot(torch.from_numpy(self.slices.matrix), small, dims=1)


def _evenly(size: int, step: float) -> Sampling:
    count = max(1, round(size / step))
    return Sampling((size - 1) / 2 - step * (count - 1) / 2, step, count, size)


def probabilities(network: OrganNetwork, image: Tensor, device: str = "cpu") -> Tensor:
    """(classes, slices, rows, columns) probabilities of a volume on the network's grid."""
    inputs = channels(image)
    multiple = network.settings.multiple
    rows, columns = (-(-n // multiple) * multiple for n in image.shape[1:])
    pad = (0, columns - image.shape[2], 0, rows - image.shape[1])
    inputs = torch.nn.functional.pad(inputs, pad)
    found = []
    with torch.inference_mode():
        for start in range(0, len(inputs), PIECE):
            low, high = max(0, start - CONTEXT), min(len(inputs), start + PIECE + CONTEXT)
            logits = network(inputs[None, low:high].to(device))[0, start - low : start - low + PIECE]
            found.append(logits[..., : image.shape[1], : image.shape[2]].softmax(dim=1).float().cpu())
    return torch.cat(found).movedim(1, 0)


def segment_volume(network: OrganNetwork, volume: NDArray, grid: Grid) -> NDArray[np.uint8]:
    """Labels of a volume, in the file's own order of axes."""
    turned = Orientation.of(grid)
    oriented = turned.apply(volume)
    spacing = turned.grid(grid).spacing
    working = Working.of(oriented.shape, spacing)
    found = probabilities(network, working.apply(oriented))
    labels = _to_volume(found, working)
    labels = clean(labels)
    return np.ascontiguousarray(turned.undo(labels))


def _to_volume(found: Tensor, working: Working) -> NDArray[np.uint8]:
    rows, columns, slices = (
        torch.from_numpy(s.inverse().matrix) for s in (working.rows, working.columns, working.slices)
    )
    labels = np.zeros((working.slices.source_size, working.rows.source_size, working.columns.source_size), np.uint8)
    for number in range(len(labels)):
        weights = slices[number]
        used = torch.nonzero(weights)[:, 0]
        here = (
            torch.tensordot(weights[used], found[:, used].movedim(1, 0), dims=1)
            if len(used)
            else found[:, min(number, found.shape[1] - 1)]
        )
        labels[number] = (rows @ here @ columns.T).argmax(dim=0).numpy()
    return labels


def clean(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the largest piece of liver and of spleen; smaller pieces become body."""
    labels = labels.copy()
    for organ in (np.isin(labels, LIVER), labels == 4):
        parts, count = ndimage.label(organ)
        if count > 1:
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            labels[organ & (parts != sizes.argmax())] = 12
    return labels
