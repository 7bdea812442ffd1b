"""Points of a sampling grid, distances to simple bodies, and smooth noise, all in mm.

A distance is negative inside a body. Coordinates grow towards the patient's left (x), back (y) and head (z), the
order in which the published scans are stored. Grids run along these axes, so that whatever depends on one
coordinate is computed on a line and noise is a product of three small matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

Array: TypeAlias = NDArray[np.floating[Any]]
"""float32 wherever it is as large as a slab."""
Vector: TypeAlias = tuple[float, float, float]
Window: TypeAlias = tuple[slice, slice, slice]

NODES = 32
CELLS = 8
CELL_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class Points:
    """The three axes of a grid, each a rising float32 line of coordinates in mm; `kept` is noise already computed."""

    axes: tuple[Array, Array, Array]
    kept: dict[Noise, Array] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.axes[0].size, self.axes[1].size, self.axes[2].size

    @property
    def x(self) -> Array:
        return self.axes[0][:, None, None]

    @property
    def y(self) -> Array:
        return self.axes[1][None, :, None]

    @property
    def z(self) -> Array:
        return self.axes[2][None, None, :]

    def window(self, low: Vector, high: Vector) -> tuple[Window, Points] | None:
        """The part of the grid within a box in mm, or None where they do not meet."""
        slices = []
        for axis, below, above in zip(self.axes, low, high, strict=True):
            start, stop = int(axis.searchsorted(np.float32(below))), int(axis.searchsorted(np.float32(above)))
            if start >= stop:
                return None
            slices.append(slice(start, stop))
        window = (slices[0], slices[1], slices[2])
        return window, Points((self.axes[0][window[0]], self.axes[1][window[1]], self.axes[2][window[2]]))

    def moved(self, scale: Vector, shift: Vector) -> Points:
        """The same points seen from a body scaled by `scale` and shifted by `shift` mm."""
        axes = [((a - t) / s).astype(np.float32) for a, s, t in zip(self.axes, scale, shift, strict=True)]
        return Points((axes[0], axes[1], axes[2]))


def coverage(distance: Array, width: float) -> Array:
    """Share of a voxel of `width` mm that lies within a body, from the distance of the voxel's centre; 0 to 1."""
    share = distance * np.float32(-1 / width)
    share += np.float32(0.5)
    return np.minimum(np.maximum(share, 0, out=share), 1, out=share)


def smooth_max(a: Array, b: Array, radius: float) -> Array:
    """Intersection of two bodies whose edge is rounded by about `radius` mm."""
    result = np.maximum(a, b)
    overlap = np.abs(a - b)
    np.subtract(np.float32(radius), overlap, out=overlap)
    np.maximum(overlap, 0, out=overlap)
    overlap *= overlap
    overlap *= np.float32(0.25 / radius)
    result += overlap
    return result


def smooth_min(a: Array, b: Array, radius: float) -> Array:
    """Union of two bodies with a fillet of about `radius` mm."""
    return -smooth_max(-a, -b, radius)


def ellipsoid(points: Points, centre: Vector, radii: Vector, tilt: float = 0.0) -> Array:
    """Distance to an ellipsoid, turned by `tilt` radians in the axial plane; exact at its surface to first order."""
    x, y, z = points.x - centre[0], points.y - centre[1], (points.z - centre[2]) / radii[2]
    if tilt:
        cosine, sine = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        x, y = cosine * x + sine * y, cosine * y - sine * x
    x, y = x / np.float32(radii[0]), y / np.float32(radii[1])
    square = (x * x + y * y) + z * z
    slope = ((x / radii[0]) ** 2 + (y / radii[1]) ** 2) + (z / radii[2]) ** 2
    np.sqrt(np.maximum(slope, np.float32(1e-8), out=slope), out=slope)
    # reach (reach - 1) / slope, where reach is the square's root.
    square -= np.sqrt(square)
    square /= slope
    return np.asarray(square, dtype=np.float32)


def capsule(points: Points, start: Vector, end: Vector, radius: float, tip: float | None = None) -> Array:
    """Distance to a tube from `start` to `end` whose radius goes from `radius` to `tip`."""
    tip = radius if tip is None else tip
    along = np.subtract(end, start).astype(np.float32)
    length = float(along @ along) or 1.0
    x, y, z = points.x - start[0], points.y - start[1], points.z - start[2]
    ahead = (x * along[0] + y * along[1]) + z * along[2]
    share = ahead * np.float32(1 / length)
    np.minimum(np.maximum(share, 0, out=share), 1, out=share)
    # Squared distance to the axis: |p|² - t (2 p.d - t |d|²), where t is the place along it.
    ahead *= 2
    ahead -= share * np.float32(length)
    ahead *= share
    square = ((x * x + y * y) + z * z) - ahead
    distance = np.sqrt(np.maximum(square, 0, out=square), out=square)
    distance -= radius
    if tip != radius:
        distance -= share * np.float32(tip - radius)
    return np.asarray(distance, dtype=np.float32)


@dataclass(frozen=True)
class Noise:
    """Smooth noise of unit variance whose humps are about `scale` mm apart along each axis."""

    scale: Vector
    offset: Vector

    @classmethod
    def draw(cls, random: np.random.Generator, *scale: float) -> Noise:
        x, y, z = scale if len(scale) == 3 else (scale[0], scale[0], scale[0])
        a, b, c = random.uniform(0, NODES, 3)
        return cls((x, y, z), (float(a), float(b), float(c)))

    def __call__(self, points: Points) -> Array:
        values = _nodes()
        for axis, scale, offset in zip(points.axes, self.scale, self.offset, strict=True):
            # Contracts the first axis and appends the sampled one, so that three rounds restore the order.
            nodes, weights = _splines(axis / np.float32(scale / 2) + np.float32(offset))
            values = np.tensordot(values[nodes], weights, axes=(0, 0))
        return np.asarray(values, dtype=np.float32)

    def kept(self, points: Points) -> Array:
        """The same, computed once as long as these very points live: patient and twin share it. Not to be changed."""
        if self not in points.kept:
            points.kept[self] = self(points)
        return points.kept[self]


@cache
def _nodes() -> Array:
    values = np.random.default_rng(2718).standard_normal((NODES, NODES, NODES))
    # A cubic B-spline passes 0.4794 of the variance of white nodes along each axis, on average.
    return (values / 0.4794**1.5).astype(np.float32)


def _splines(position: Array) -> tuple[NDArray[np.int64], Array]:
    """The nodes that some points touch, and their (nodes, points) weights of periodic cubic B-splines."""
    whole = np.floor(position).astype(np.int64)
    t = (position - whole).astype(np.float32)
    first = int(whole[0]) - 1
    nodes = np.arange(first, int(whole[-1]) + 3)
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = np.zeros((nodes.size, position.size), dtype=np.float32)
    for step, tap in enumerate(taps):
        weights[whole + step - 1 - first, np.arange(position.size)] = tap / np.float32(6)
    return nodes % NODES, weights


@dataclass(frozen=True)
class Cells:
    """A packing of irregular cells about `size` mm across, as nodules pack a cirrhotic liver."""

    size: float
    offset: Vector
    order: tuple[int, int, int]
    warp: Noise

    @classmethod
    def draw(cls, random: np.random.Generator, size: float) -> Cells:
        a, b, c = random.uniform(0, CELLS, 3)
        i, j, k = random.permutation(3)
        return cls(size, (float(a), float(b), float(c)), (int(i), int(j), int(k)), Noise.draw(random, 5 * size))

    def centres(self, points: Points, chosen: NDArray[np.bool_]) -> Array:
        """For the chosen points: distance to the cell's centre, in sizes."""
        return np.asarray(map_coordinates(_tile()[0], self._samples(points, chosen), order=1, mode="grid-wrap"))

    def at(self, points: Points, chosen: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
        """For the chosen points: distance to the cell's centre, to its wall (in sizes), and a number 0 to 1 a cell."""
        samples = self._samples(points, chosen)
        centre, wall, name = _tile()
        smooth = [map_coordinates(tile, samples, order=1, mode="grid-wrap") for tile in (centre, wall)]
        return smooth[0], smooth[1], map_coordinates(name, samples, order=0, mode="grid-wrap")

    def _samples(self, points: Points, chosen: NDArray[np.bool_]) -> Array:
        bend = self.warp(points)[chosen] * np.float32(0.45)
        lines = [axis / np.float32(self.size) + np.float32(o) for axis, o in zip(points.axes, self.offset, strict=True)]
        x, y, z = (line[index] for line, index in zip(lines, np.nonzero(chosen), strict=True))
        where = (x + bend, y - bend, z + bend)
        return np.stack([where[i] for i in self.order]) * np.float32(CELL_SAMPLES)


@cache
def _tile() -> tuple[Array, Array, Array]:
    """One periodic block of cells: every patient sees it from another place, stretched and bent otherwise."""
    random = np.random.default_rng(31415)
    corners = np.stack(np.meshgrid(*(np.arange(CELLS),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    seeds = corners + random.uniform(0.0, 1.0, corners.shape)
    names = random.uniform(0, 1, len(seeds))
    side = CELLS * CELL_SAMPLES
    grid = np.stack(np.meshgrid(*(np.arange(side) / CELL_SAMPLES,) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    distances, nearest = cKDTree(seeds % CELLS, boxsize=CELLS).query(grid, k=2)
    shape = (side, side, side)
    wall = (distances[:, 1] - distances[:, 0]) / 2
    parts = (distances[:, 0], wall, names[nearest[:, 0]])
    first, second, third = (np.asarray(part, dtype=np.float32).reshape(shape) for part in parts)
    return first, second, third
