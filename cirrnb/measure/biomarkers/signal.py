"""How even the liver's signal is, and how bright it is beside other organs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cirrnb.data.grid import Grid
from cirrnb.measure.masks import FEWEST_VOXELS

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
