"""Size, roundness and surface nodularity of a mask, and the signal inside it.

Nodularity is after Smith et al., *Liver surface nodularity quantification from routine CT images*, Radiology
2016;280:771: the mean distance between the edge and a smooth curve drawn through it. There a reader chooses a stretch
of the edge on CT; here it is the whole outline of a mask on MR, so that values are of the same kind but not comparable
with published ones."""

from __future__ import annotations

from collections.abc import Iterator

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, binary_fill_holes, distance_transform_edt, gaussian_filter
from scipy.signal import savgol_filter

from cirrnb.data.grid import Grid
from cirrnb.measure.masks import FEWEST_VOXELS

BLUR = 0.8
"""Standard deviation, in voxels of the coarsest axis, of the blur that takes the steps of the voxels off a surface."""


def volume(mask: NDArray[np.bool_], grid: Grid) -> float:
    """Volume of a mask in mL."""
    return float(np.count_nonzero(mask) * grid.voxel_volume / 1000)


def length(mask: NDArray[np.bool_], grid: Grid) -> float:
    """Longest distance in mm between two voxels of a mask (slices, rows, columns), their own size included.

    Of all directions on a grid of about 3 degrees the one along which the mask is longest; at most 0.2 % too short.
    """
    surface = mask & ~binary_erosion(mask)
    places = np.argwhere(surface) * np.array(grid.spacing)
    polar, around = np.meshgrid(np.linspace(0, np.pi / 2, 31), np.linspace(0, 2 * np.pi, 120, endpoint=False))
    directions = np.stack(
        [np.cos(polar), np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around)], axis=-1
    ).reshape(-1, 3)
    along = places @ directions.T
    reach = along.max(axis=0) - along.min(axis=0)
    best = directions[int(reach.argmax())]
    return float(reach.max() + np.abs(best) @ np.array(grid.spacing))


def surface_area(mask: NDArray[np.bool_], grid: Grid) -> float:
    """Area of a mask's surface in cm².

    The mask is blurred by the same length along every axis, and its gradient summed over the volume: by the co-area
    formula that is the mean area of its level surfaces, which do not have the steps that voxels have. Details smaller
    than the coarsest spacing are lost. What touches the edge of the array counts as surface too.
    """
    spacing = np.array(grid.spacing)
    sigma = BLUR * spacing.max() / spacing
    margin = np.ceil(4 * sigma).astype(int) + 1
    padded = np.pad(mask.astype(np.float32), [(int(side), int(side)) for side in margin])
    soft = gaussian_filter(padded, sigma, truncate=4.0)
    steps = np.gradient(soft, *spacing)
    return float(np.sqrt(sum(step**2 for step in steps)).sum(dtype=np.float64) * grid.voxel_volume / 100)


def sphericity(mask: NDArray[np.bool_], grid: Grid) -> float:
    """Area of the ball of the same volume over the mask's own area: 1 for a ball, less for anything else.

    Wadell, *Volume, shape, and roundness of quartz particles*, J. of Geology 1935;43:250.
    """
    ball = np.pi ** (1 / 3) * (6 * volume(mask, grid)) ** (2 / 3)
    return float(ball / surface_area(mask, grid))


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
    distances = [part for slice_ in mask for part in _distances(slice_, grid.spacing[1:])]
    if not distances:
        return None
    residuals = np.concatenate(distances)
    return float(residuals[residuals <= NOTCH].mean()) if (residuals <= NOTCH).any() else None


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


RIM = 5.0
"""mm within the slice left out along the edge, where other tissue shares the voxel."""


def heterogeneity(image: NDArray, mask: NDArray[np.bool_], grid: Grid) -> float | None:
    """Robust coefficient of variation of the signal inside the liver, in per cent.

    The signal is divided by what the coils make of it, a polynomial of the second degree in space fitted to its
    logarithm; 1.4826 times the median absolute deviation of that from its median is given, which vessels, being few,
    hardly move. It grows with nodules and septa, and with the noise of the scan. None if nothing is left within the rim
    or the signal there is not above zero.
    """
    places = np.argwhere(inner(mask, grid))
    values = image[tuple(places.T)].astype(np.float64)
    if len(values) < FEWEST_VOXELS or not (values > 0).all():
        return None
    logarithm = np.log(values)
    spread = np.maximum(places.std(axis=0), 1e-9)
    z, y, x = ((places - places.mean(axis=0)) / spread).T
    terms = np.column_stack([np.ones(len(z)), z, y, x, z * z, y * y, x * x, z * y, z * x, y * x])
    rest = np.exp(logarithm - terms @ np.linalg.lstsq(terms, logarithm, rcond=None)[0])
    return float(148.26 * np.median(np.abs(rest - np.median(rest))) / np.median(rest))


def inner(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """The mask without its rim of `RIM` mm within each slice."""
    result = np.zeros_like(mask)
    for place in np.flatnonzero(mask.any(axis=(1, 2))):
        padded = np.pad(mask[place], 1)
        result[place] = distance_transform_edt(padded, sampling=grid.spacing[1:])[1:-1, 1:-1] > RIM
    return result


def signal_ratio(image: NDArray, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    """Median signal in the first mask over that in the second; None if one is empty or the second has no signal."""
    if not first.any() or not second.any():
        return None
    below = float(np.median(image[second]))
    return float(np.median(image[first])) / below if below > 0 else None
