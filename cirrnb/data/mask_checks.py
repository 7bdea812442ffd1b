"""Whether a liver mask can be right: volume, parts, side, borders, and whether it would fit better elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cirrnb.data.grid import Grid, Orientation

VOLUME = (500.0, 2800.0)
"""mL: 99 of 100 livers of CirrMRI600+, cirrhotic and healthy, measure 526 to 2768 by their masks (738 scans)."""

LARGEST = 0.95
"""Share of the mask that its largest connected part has at least; a liver is one piece."""

RIGHT = 0.5
"""Share of the mask that lies to the right of the scan's middle at least."""

CUT_OFF = "the liver is cut off"
_EDGE = 0.02  # share of the liver's largest cross-section in the first or last slice from which it counts as cut off

DISTANCES = (15.0, 30.0, 45.0)
"""mm by which a mask is moved, in eight directions."""

LEAST_INSIDE = 0.97
"""Share of a moved mask that has to lie in the body: air is even too."""

LEAST_VOXELS, MOST_VOXELS = 50, 4000
"""Voxels of a mask below which it is not judged, and above which only a subset is used."""

_DIRECTIONS = [(np.cos(turn), np.sin(turn)) for turn in np.arange(8) * np.pi / 4]
Move = tuple[int, int, int]


def doubts(mask: NDArray[np.bool_], grid: Grid) -> tuple[str, ...]:
    """What speaks against a mask (the file's order of axes), in words; nothing for one that looks like a liver."""
    return (*shape_doubts(mask, grid), *(edge_doubts(mask, grid) if mask.any() else ()))


def shape_doubts(mask: NDArray[np.bool_], grid: Grid) -> tuple[str, ...]:
    """What of its volume, its parts and its side speaks against a mask (the file's order of axes), in words."""
    if not mask.any():
        return ("empty",)
    turned = Orientation.of(grid)
    mask, grid = turned.apply(mask), turned.grid(grid)
    reasons = []
    volume = np.count_nonzero(mask) * grid.voxel_volume / 1000
    if not VOLUME[0] <= volume <= VOLUME[1]:
        reasons.append(f"{volume:.0f} mL, where livers have {VOLUME[0]:.0f} to {VOLUME[1]:.0f}")
    box = tuple(slice(int(line[0]), int(line[-1]) + 1) for line in _extent(mask))
    labels, parts = ndimage.label(mask[box])
    largest = np.bincount(labels.ravel())[1:].max() / np.count_nonzero(mask)
    if largest < LARGEST:
        reasons.append(f"in {parts} parts, of which the largest has {largest:.0%}")
    right = np.count_nonzero(mask[:, :, : mask.shape[2] // 2]) / np.count_nonzero(mask)
    if right < RIGHT:
        reasons.append(f"{1 - right:.0%} of it lies on the patient's left")
    return tuple(reasons)


def edge_doubts(mask: NDArray[np.bool_], grid: Grid) -> tuple[str, ...]:
    """Where a mask (the file's order of axes) ends with the scan, in words; there the liver may be cut off."""
    mask, reasons = Orientation.of(grid).apply(mask), []
    per_slice = mask.sum(axis=(1, 2))
    places = ((0, "lowest"), (-1, "highest"))
    if cut := [name for place, name in places if per_slice[place] > _EDGE * per_slice.max()]:
        reasons.append(f"it reaches the {' and the '.join(cut)} slice: {CUT_OFF}")
    if mask[:, [0, -1]].any() or mask[:, :, [0, -1]].any():
        reasons.append("it reaches the edge of the picture")
    return tuple(reasons)


def _extent(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], ...]:
    """Indices of slices, rows and columns that hold any of a mask."""
    return tuple(np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))


def better_place(
    values: NDArray, body: NDArray[np.bool_], liver: NDArray[np.bool_], steps: tuple[float, float, float]
) -> tuple[float, Move]:
    """How many times less the values would spread under the mask elsewhere, and by what move of it.

    Parameters
    ----------
    values, body, liver : arrays of one shape.
    steps : mm between their voxels along the axes, infinite along that of the slices: nothing is moved along it.

    Returns
    -------
    The spread (10th to 90th percentile) under the mask as it lies over the smallest spread under the mask moved by
    `DISTANCES`, at least 1, and that move in voxels along the axes. 1 and no move for masks too small to judge.
    """
    places = np.argwhere(liver)
    best, move = 1.0, (0, 0, 0)
    if len(places) < LEAST_VOXELS:
        return best, move
    places = places[:: -(-len(places) // MOST_VOXELS)]
    values, body = np.ascontiguousarray(values), np.ascontiguousarray(body)  # scans are stored the other way round
    here = _spread(values[tuple(places.T)])
    for shift in _moves(steps):
        moved = places + shift
        moved = moved[((moved >= 0) & (moved < liver.shape)).all(axis=1)]
        flat = np.ravel_multi_index(tuple(moved.T), liver.shape)
        if np.count_nonzero(body.take(flat)) < LEAST_INSIDE * len(places):
            continue
        ratio = here / max(_spread(values.take(flat)), 1e-9)
        if ratio > best:
            best, move = ratio, shift
    return best, move


def _moves(steps: tuple[float, float, float]) -> list[Move]:
    """All moves to be tried, in voxels; on coarse grids some fall together."""
    first, second = (axis for axis in range(3) if np.isfinite(steps[axis]))
    moves: dict[Move, None] = {}
    for distance in DISTANCES:
        for along, across in _DIRECTIONS:
            move = [0, 0, 0]
            move[first], move[second] = round(distance * along / steps[first]), round(distance * across / steps[second])
            moves[move[0], move[1], move[2]] = None
    moves.pop((0, 0, 0), None)
    return list(moves)


def _spread(values: NDArray) -> float:
    """10th to 90th percentile, to the nearest value."""
    low, high = round(0.1 * (values.size - 1)), round(0.9 * (values.size - 1))
    ordered = np.partition(values, (low, high))
    return float(ordered[high]) - float(ordered[low])
