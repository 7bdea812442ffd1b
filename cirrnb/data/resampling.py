"""Resampling within a slice, with anti-aliasing, as one small matrix for each of its two axes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_BLOCK = 32  # samples taken together; each block multiplies only the part of the source that it sees


@dataclass(frozen=True)
class Sampling:
    """Evenly spaced samples along one axis of a source.

    Attributes
    ----------
    start : position of the first sample, in source voxels (centres at whole numbers).
    step : distance between samples, in source voxels; above 1 shrinks, below 1 enlarges.
    size : number of samples.
    source_size : number of source voxels.
    antialias : whether a sample covers all of the source between it and the next where the source shrinks; without,
        it is interpolated at one point.
    """

    start: float
    step: float
    size: int
    source_size: int
    antialias: bool = True

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """(size,) where the samples lie, in source voxels."""
        return self.start + self.step * np.arange(self.size, dtype=np.float64)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """(size,) True for samples within the source, whose outer voxels reach half a voxel beyond their centres."""
        edge = 0.5 + 1e-6
        return (self.positions >= -edge) & (self.positions <= self.source_size - 1 + edge)

    @cached_property
    def matrix(self) -> NDArray[np.float32]:
        """(size, source_size) weights: a triangle that reaches one voxel, or to the next sample if that is farther.

        Rows sum to 1, over what the source has at its borders; rows of samples outside are 0. The same weights as
        Pillow's bilinear reduction and `torch.nn.functional.interpolate(mode="bilinear", antialias=True)`.
        """
        distance = np.abs(self.positions[:, None] - np.arange(self.source_size))
        weights = np.maximum(0.0, 1.0 - distance / (max(1.0, self.step) if self.antialias else 1.0))
        weights[weights < 1e-6] = 0.0
        weights[~self.inside] = 0.0
        return (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)

    @cached_property
    def blocks(self) -> tuple[tuple[slice, slice, NDArray[np.float32]], ...]:
        """The matrix cut into blocks of samples: (samples, source voxels they see, weights). It is a band along
        the diagonal, so that this saves most of the work; samples outside the source are omitted."""
        blocks = []
        for begin in range(0, self.size, _BLOCK):
            weights = self.matrix[begin : begin + _BLOCK]
            used = np.flatnonzero(weights.any(axis=0))
            if used.size:
                seen = slice(int(used[0]), int(used[-1]) + 1)
                blocks.append((slice(begin, begin + len(weights)), seen, np.ascontiguousarray(weights[:, seen])))
        return tuple(blocks)

    def nearest(self) -> NDArray[np.intp]:
        """(size,) index of the source voxel nearest to each sample; meaningful where `inside`."""
        return np.clip(np.rint(self.positions), 0, self.source_size - 1).astype(np.intp)

    def inverse(self) -> Sampling:
        """The source's own voxels, interpolated between this sampling's samples."""
        return Sampling(-self.start / self.step, 1 / self.step, self.source_size, self.size, antialias=False)


def resample(volume: NDArray, rows: Sampling, columns: Sampling) -> NDArray[np.float32]:
    """Resample every slice of `volume` (slices, source rows, source columns) to (slices, rows, columns) float32.

    0 outside the source. Nothing is resampled from slice to slice.
    """
    source = np.ascontiguousarray(volume, dtype=np.float32)
    half = np.zeros((len(source), rows.size, columns.source_size), dtype=np.float32)
    whole = np.zeros((len(source), rows.size, columns.size), dtype=np.float32)
    if not columns.blocks:
        return whole
    needed = slice(columns.blocks[0][1].start, columns.blocks[-1][1].stop)
    for samples, seen, weights in rows.blocks:
        np.matmul(weights, source[:, seen, needed], out=half[:, samples, needed])
    for samples, seen, weights in columns.blocks:
        np.matmul(half[:, :, seen], weights.T, out=whole[:, :, samples])
    return whole


def resample_nearest(volume: NDArray, rows: Sampling, columns: Sampling) -> NDArray:
    """Take from every slice of `volume` the nearest voxel to each sample; 0 (False) outside the source."""
    taken = volume[:, rows.nearest()][:, :, columns.nearest()]
    taken[:, ~rows.inside] = 0
    taken[:, :, ~columns.inside] = 0
    return taken
