"""Whether two scans show the same patient: what their livers and bodies share after breathing is taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.grid import Grid
from cirrnb.simulation.tissue_shares import LIVER

STEP = 6.0
"""mm between the points at which two scans are compared."""
REACH = 42.0
"""Largest shift along the body in mm between two breath holds that is looked for."""
PAIR = ("overlap of the livers", "overlap of the bodies", "difference of volume", "shift", "likeness of the images")

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """A volume, its organs and their grid, all in the file's own order of axes."""

    volume: NDArray
    labels: NDArray[np.uint8]
    grid: Grid


def compare(first: Labelled, second: Labelled) -> dict[str, float]:
    """Similarities of two scans, by the names in `PAIR`; NaN if one of them has no liver.

    Overlaps are Dice coefficients, 0 to 1, at the shift along the body (mm) that lets the livers overlap most;
    the difference of volume is the absolute logarithm of the livers' ratio; the likeness is -log(1 - r²) of the rank
    correlation r of both images within both bodies, without a shift, at most 14: two different sequences of one
    patient reach about 1, one image twice 14.
    """
    livers = [_liver(scan) for scan in (first, second)]
    if not all(liver.any() for liver in livers):
        return dict.fromkeys(PAIR, float("nan"))
    points = _lattice(first, livers[0])
    here = _sample(livers[0], first.grid, points)
    bodies = [(scan.labels > 0) for scan in (first, second)]
    shared = {}
    steps = np.arange(-REACH, REACH + STEP / 2, STEP)
    steps = steps[np.argsort(np.abs(steps), kind="stable")]  # of equal overlaps the smallest shift counts
    overlaps = [_dice(here, _sample(livers[1], second.grid, points + np.array([0, 0, shift]))) for shift in steps]
    best = overlaps.index(max(overlaps))
    shift = float(steps[best])
    shared["overlap of the livers"] = overlaps[best]
    shared["overlap of the bodies"] = _dice(
        _sample(bodies[0], first.grid, points), _sample(bodies[1], second.grid, points + np.array([0, 0, shift]))
    )
    volumes = [
        np.count_nonzero(liver) * scan.grid.voxel_volume for liver, scan in zip(livers, (first, second), strict=True)
    ]
    shared["difference of volume"] = float(abs(np.log(volumes[0] / volumes[1])))
    shared["shift"] = abs(shift)
    both = _sample(bodies[0], first.grid, points) & _sample(bodies[1], second.grid, points)
    shared["likeness of the images"] = _likeness(first, second, points[both])
    return shared


def _liver(scan: Labelled) -> NDArray[np.bool_]:
    return (scan.labels >= LIVER[0]) & (scan.labels <= LIVER[-1])


def _lattice(scan: Labelled, liver: NDArray[np.bool_]) -> Points:
    """(points, 3) patient coordinates in mm around a liver, with a margin."""
    corners = np.array(
        [
            (line[0], line[-1])
            for line in (np.flatnonzero(liver.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
        ]
    )
    box = np.array([[corners[axis, bit] for axis, bit in enumerate(bits)] for bits in np.ndindex(2, 2, 2)], float)
    places = scan.grid.to_patient(box)
    margin = np.array([40, 40, 20])
    low, high = places.min(axis=0) - margin, places.max(axis=0) + margin
    axes = [np.arange(a, b, STEP) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _sample(volume: NDArray, grid: Grid, points: Points) -> NDArray:
    """Values at patient coordinates by nearest neighbour, 0 (False) outside the volume."""
    inverse = np.linalg.inv(grid.affine)
    places = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int64)
    inside = np.all((places >= 0) & (places < volume.shape), axis=1)
    values = np.zeros(len(points), volume.dtype)
    values[inside] = volume[tuple(places[inside].T)]
    return values


def _dice(a: NDArray, b: NDArray) -> float:
    both, sizes = int(np.count_nonzero(a & b)), int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * both / max(1, sizes)


def _likeness(first: Labelled, second: Labelled, points: Points) -> float:
    if len(points) < 50:
        return float("nan")
    ranks = [_ranks(_sample(scan.volume, scan.grid, points)) for scan in (first, second)]
    if min(rank.std() for rank in ranks) == 0:
        return float("nan")
    r = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return float(-np.log(max(1 - r * r, np.exp(-14))))


def _ranks(values: NDArray) -> NDArray[np.float64]:
    """Ranks of values, equal ones with their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[inverse]
