"""Whether a liver mask can be one: its volume, its parts, where it ends, on which side it lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cirrnb.data.grid import Grid
from cirrnb.data.orientation import Orientation

VOLUME = (500.0, 2800.0)
"""mL: 99 of 100 livers of CirrMRI600+, cirrhotic and healthy, measure 526 to 2768 by their masks (738 scans)."""

LARGEST = 0.95
"""Share of the mask that its largest connected part has at least; a liver is one piece."""

RIGHT = 0.5
"""Share of the mask that lies to the right of the scan's middle at least."""

_EDGE = 0.02  # share of the liver's largest cross-section in the first or last slice from which it counts as cut off


def doubts(mask: NDArray[np.bool_], grid: Grid) -> tuple[str, ...]:
    """What speaks against a mask (the file's order of axes), in words; nothing for one that looks like a liver."""
    return (*shape_doubts(mask, grid), *(edge_doubts(mask, grid) if mask.any() else ()))


def shape_doubts(mask: NDArray[np.bool_], grid: Grid) -> tuple[str, ...]:
    """What of its volume, its parts and its side speaks against a mask (the file's order of axes), in words."""
    if not mask.any():
        return ("empty",)
    turned = Orientation.of(grid)
    mask, grid = turned.apply(mask), turned.grid(grid)
    found = []
    volume = np.count_nonzero(mask) * grid.voxel_volume / 1000
    if not VOLUME[0] <= volume <= VOLUME[1]:
        found.append(f"{volume:.0f} mL, where livers have {VOLUME[0]:.0f} to {VOLUME[1]:.0f}")
    box = tuple(slice(int(line[0]), int(line[-1]) + 1) for line in _extent(mask))
    labels, parts = ndimage.label(mask[box])
    largest = np.bincount(labels.ravel())[1:].max() / np.count_nonzero(mask)
    if largest < LARGEST:
        found.append(f"in {parts} parts, of which the largest has {largest:.0%}")
    right = np.count_nonzero(mask[:, :, : mask.shape[2] // 2]) / np.count_nonzero(mask)
    if right < RIGHT:
        found.append(f"{1 - right:.0%} of it lies on the patient's left")
    return tuple(found)


def edge_doubts(mask: NDArray[np.bool_], grid: Grid) -> tuple[str, ...]:
    """Where a mask (the file's order of axes) ends with the scan, in words; there the liver may be cut off."""
    mask, found = Orientation.of(grid).apply(mask), []
    per_slice = mask.sum(axis=(1, 2))
    for place, name in ((0, "lowest"), (-1, "highest")):
        if per_slice[place] > _EDGE * per_slice.max():
            found.append(f"it reaches the {name} slice: the liver is cut off")
    if mask[:, [0, -1]].any() or mask[:, :, [0, -1]].any():
        found.append("it reaches the edge of the picture")
    return tuple(found)


def _extent(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], ...]:
    """Indices of slices, rows and columns that hold any of a mask."""
    return tuple(np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
