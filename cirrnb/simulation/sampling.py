"""How scans lie over a patient: stored grid, acquired pixels, thick slices as true averages, breathing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft

from cirrnb.data.grid import Grid
from cirrnb.simulation.body import HALF_DEPTH, Body, Frame
from cirrnb.simulation.fields import Array, Points
from cirrnb.simulation.scene import paint
from cirrnb.simulation.tissue_shares import compose, largest, layers, organ_shares

SLAB_POINTS = 800_000


@dataclass(frozen=True)
class Sampling:
    """One scan's geometry.

    Attributes
    ----------
    matrix, spacing : of the stored file, along x, y, z; mm.
    acquired : pixels really acquired along x and y; scanners interpolate them to the matrix.
    origin : mm of the first stored voxel's centre, (left, back, head).
    thickness : of a slice in mm; less than its spacing where there is a gap.
    subslices : samples averaged for a slice.
    breath : mm by which the organs lie (back, head) of where they were.
    """

    matrix: tuple[int, int, int]
    spacing: tuple[float, float, float]
    acquired: tuple[int, int]
    origin: tuple[float, float, float]
    thickness: float
    subslices: int
    breath: tuple[float, float]

    @property
    def grid(self) -> Grid:
        """The stored file's grid: axes to the left, back and head."""
        affine = np.diag([-self.spacing[0], -self.spacing[1], self.spacing[2], 1.0])
        affine[:3, 3] = (-self.origin[0], -self.origin[1], self.origin[2])
        return Grid(self.matrix, affine)

    @property
    def pixel(self) -> tuple[float, float]:
        """Acquired pixel in mm."""
        x, y = (self.matrix[i] * self.spacing[i] / self.acquired[i] for i in range(2))
        return x, y

    def lines(self) -> tuple[Array, Array, NDArray[Any]]:
        """Acquired coordinates along x and y, and slice centres along z, in mm."""
        x, y = (self.origin[i] + self.pixel[i] * np.arange(self.acquired[i]) for i in range(2))
        z = self.origin[2] + self.spacing[2] * np.arange(self.matrix[2])
        return x.astype(np.float32), y.astype(np.float32), z


def place(
    random: np.random.Generator,
    body: Body,
    matrix: tuple[int, int, int],
    spacing: tuple[float, float, float],
    acquired: tuple[int, int],
    gap: float,
    coarse: float = 2.0,
) -> Sampling:
    """Centre a field of view on the trunk, the liver within its slices, as a radiographer would."""
    front = -(HALF_DEPTH * body.scale[1] + 9 * body.wall + 0.9 * body.fat)
    back = 1.13 * HALF_DEPTH * body.scale[1] + 0.9 * body.fat
    middle = (float(random.normal(0, 3)), (front + back) / 2 + float(random.normal(0, 3)))
    centre = (*middle, -13.0 * body.scale[2] + float(random.normal(0, 2)))
    origin = tuple(c - (n - 1) / 2 * s for c, n, s in zip(centre, matrix, spacing, strict=True))
    thickness = spacing[2] * (1 - gap)
    subslices = max(1, round(thickness / coarse))
    breath = (float(random.normal(0, 1.5)), float(random.normal(0, 5)))
    return Sampling(matrix, spacing, acquired, (origin[0], origin[1], origin[2]), thickness, subslices, breath)


@dataclass(frozen=True)
class Clean:
    """A scan without noise on its acquired pixels; fields as in `Slab`."""

    signal: Array
    counterfactual: Array
    liver: Array
    blame: Array
    label: NDArray[np.uint8]
    points: Points


def sample(
    body: Body, sampling: Sampling, signals: Mapping[str, float], sequence: str, with_counterfactual: bool = True
) -> Clean:
    """Average the anatomy over the sub-slices of every slice, a few slices at a time to stay within the cache."""
    shape, subslices = (*sampling.acquired, sampling.matrix[2]), sampling.subslices
    signal, twin, liver, blame = (np.empty(shape, np.float32) for _ in range(4))
    label = np.empty(shape, np.uint8)
    for here, frame in _frames(body, sampling):
        slab = paint(body, frame, signals, sequence, with_counterfactual)
        for target, part in ((signal, slab.real), (twin, slab.counterfactual), (liver, slab.liver)):
            target[..., here] = _slices(part, subslices)
        blame[..., here], label[..., here] = slab.blame[..., ::subslices], slab.label[..., ::subslices]
        for k in range(1, subslices):
            more = slab.blame[..., k::subslices] > blame[..., here]
            blame[..., here] = np.where(more, slab.blame[..., k::subslices], blame[..., here])
            label[..., here] = np.where(more, slab.label[..., k::subslices], label[..., here])
    x, y, centres = sampling.lines()
    return Clean(signal, twin, liver, blame, label, Points((x, y, centres.astype(np.float32))))


def organ_map(body: Body, sampling: Sampling) -> NDArray[np.uint8]:
    """(x, y, z) labels of the organs (see `cirrnb.simulation.tissue_shares.ORGANS`) on a scan's acquired pixels."""
    label = np.empty((*sampling.acquired, sampling.matrix[2]), np.uint8)
    for here, frame in _frames(body, sampling):
        shares = organ_shares(body, frame)
        label[..., here] = largest({name: _slices(share, sampling.subslices) for name, share in shares.items()})
    return label


def tissue_at(body: Body, sampling: Sampling, place: tuple[float, float, float], sequence: str) -> str:
    """Name of the tissue that has the largest share of a scan's voxel at a place (mm to the left, back and head)."""
    x, y, z = place
    width, depth = sampling.pixel
    voxel = replace(
        sampling, matrix=(1, 1, 1), acquired=(1, 1), spacing=(width, depth, sampling.spacing[2]), origin=(x, y, z)
    )
    total: dict[str, float] = {}
    for _, frame in _frames(body, voxel):
        tissues, _ = compose(list(layers(body, frame, sequence)), frame.still.shape)
        for name, share in tissues.items():
            total[name] = total.get(name, 0.0) + float(share.mean())
    best = max(total, key=lambda name: total[name], default="air")
    return best if total.get(best, 0.0) > 1 - sum(total.values()) else "air"


def _slices(part: Array, subslices: int) -> Array:
    """Mean over the sub-slices of each slice."""
    return np.asarray(sum(part[..., k::subslices] for k in range(subslices)) / np.float32(subslices))


def _frames(body: Body, sampling: Sampling) -> Iterator[tuple[slice, Frame]]:
    """A few slices at a time, with the frame of their sub-slices."""
    x, y, centres = sampling.lines()
    subslices = sampling.subslices
    offsets = (np.arange(subslices) - (subslices - 1) / 2) * sampling.thickness / subslices
    at_once = max(1, int(SLAB_POINTS // (x.size * y.size * subslices)))
    shift = (0.0, *sampling.breath)
    width = float(np.mean(sampling.pixel) / np.mean(body.scale[:2]))
    for start in range(0, centres.size, at_once):
        here = slice(start, start + at_once)
        z = (centres[here, None] + offsets).ravel().astype(np.float32)
        points = Points((x, y, z))
        yield here, Frame(points.moved(body.scale, (0, 0, 0)), points.moved(body.scale, shift), width)


def to_matrix(image: Array, matrix: tuple[int, int, int]) -> Array:
    """Bring acquired pixels to the stored matrix by filling k-space with zeros, as scanners do."""
    for axis in (0, 1):
        wanted, acquired = matrix[axis], image.shape[axis]
        if wanted != acquired:
            image = irfft(rfft(image, axis=axis), n=wanted, axis=axis) * np.float32(wanted / acquired)
    return image.astype(np.float32)


def nearest(labels: NDArray[np.uint8], matrix: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Labels of acquired pixels on the stored matrix."""
    for axis in (0, 1):
        share = labels.shape[axis] / matrix[axis]
        index = np.minimum(np.round(np.arange(matrix[axis]) * share).astype(int), labels.shape[axis] - 1)
        labels = np.take(labels, index, axis=axis)
    return labels
