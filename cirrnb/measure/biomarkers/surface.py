"""How uneven the edge of the liver is, slice by slice.

After Smith et al., *Liver surface nodularity quantification from routine CT images*, Radiology 2016;280:771: the mean
distance between the edge and a smooth curve drawn through it. There a reader chooses a stretch of the edge on CT; here
it is the whole outline of a mask on MR, so that values are of the same kind but not comparable with published ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter
from scipy.signal import savgol_filter

from cirrnb.data.grid import Grid

STEP = 0.5
"""mm between the points of an outline."""

STRETCH, DEGREE = 40.0, 3
"""The smooth curve follows the outline over so many mm as a polynomial of this degree: it follows the liver's own
shape and not the nodules, which are 3 to 15 mm wide."""

SHORTEST = 120.0
"""mm; shorter outlines, near the dome and the tip, are nearly all bend."""

NOTCH = 8.0
"""mm; what lies further from the smooth curve is a fissure, a fossa or a notch, and no nodule."""


def nodularity(mask: NDArray[np.bool_], grid: Grid) -> float | None:
    """Mean distance in mm between the outline of a mask (slices, rows, columns) and a smooth curve through it.

    Outlines of the axial slices, weighted by their length; None where none is longer than `SHORTEST`. Pixels alone
    make a smooth shape come out at about a tenth of their size.
    """
    distances = [part for one in mask for part in _distances(one, grid.spacing[1:])]
    if not distances:
        return None
    found = np.concatenate(distances)
    return float(found[found <= NOTCH].mean()) if (found <= NOTCH).any() else None


def _distances(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> Iterator[NDArray[np.float64]]:
    for outline in _outlines(mask, spacing):
        even = _evenly(outline)
        window = 2 * int(STRETCH / STEP / 2) + 1
        if len(even) * STEP < SHORTEST or len(even) <= window:
            continue
        smooth = savgol_filter(even, window, DEGREE, axis=0, mode="wrap")
        tangent = np.roll(smooth, -1, axis=0) - np.roll(smooth, 1, axis=0)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
        off = even - smooth
        yield np.abs(off[:, 0] * tangent[:, 1] - off[:, 1] * tangent[:, 0])


def _outlines(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> list[NDArray[np.float64]]:
    """Closed outer outlines (points, 2) in mm; holes are filled."""
    if not mask.any():
        return []
    soft = gaussian_filter(np.pad(binary_fill_holes(mask), 3).astype(np.float32), 0.7)  # takes the corners off pixels
    lines = [np.asarray(line, dtype=np.float64) for line in contourpy.contour_generator(z=soft).lines(0.5)]
    return [(line[:-1, ::-1] - 3) * spacing for line in lines if np.array_equal(line[0], line[-1])]


def _evenly(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """The closed line (points, 2) with a point every `STEP` mm."""
    closed = np.concatenate([line, line[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    places = np.linspace(0, along[-1], max(4, round(along[-1] / STEP)), endpoint=False)
    return np.column_stack([np.interp(places, along, closed[:, axis]) for axis in (0, 1)])
