"""Whether a liver mask would fit better somewhere else in the slice: a liver is the most even thing of its size.

Under a mask that fits lie parenchyma and a few vessels. Under one that is shifted lies some of what is around the liver
too, and the values spread wider than where the mask came from. That finds shifts within the body, which neither the
mask's place nor its share outside the body betrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DISTANCES = (15.0, 30.0, 45.0)
"""mm by which a mask is moved, in eight directions."""
LEAST_INSIDE = 0.97
"""Share of a moved mask that has to lie in the body: air is even too."""
LEAST_VOXELS, MOST_VOXELS = 50, 4000
"""Voxels of a mask below which nothing is said, and beyond which only some are looked at."""
_DIRECTIONS = [(np.cos(turn), np.sin(turn)) for turn in np.arange(8) * np.pi / 4]

Move = tuple[int, int, int]


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
    `DISTANCES`, at least 1, and that move in voxels along the axes. 1 and no move for masks too small to tell.
    """
    places = np.argwhere(liver)
    best, move = 1.0, (0, 0, 0)
    if len(places) < LEAST_VOXELS:
        return best, move
    places = places[:: -(-len(places) // MOST_VOXELS)]
    values, body = np.ascontiguousarray(values), np.ascontiguousarray(body)  # scans are stored the other way round
    here = _spread(values[tuple(places.T)])
    for shift in _moves(steps):
        there = places + shift
        there = there[((there >= 0) & (there < liver.shape)).all(axis=1)]
        flat = np.ravel_multi_index(tuple(there.T), liver.shape)
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
