"""How large a mask is, and how far from a ball."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cirrnb.data.grid import Grid

BLUR = 0.8
"""Standard deviation, in voxels of the coarsest axis, of the blur that takes the steps of the voxels off a surface."""


def volume(mask: NDArray[np.bool_], grid: Grid) -> float:
    """Volume of a mask in mL."""
    return float(np.count_nonzero(mask) * grid.voxel_volume / 1000)


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
