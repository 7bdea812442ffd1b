"""Liver masks removed, shifted or smoothed, to measure how much a result depends on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.nifti.saving import save_volume
from cirrnb.data.scan import Cohort, Scan

SHIFT = 10.0
"""mm: about the distance between two readers' outlines where they disagree badly."""

ROUNDING = 4.0
"""mm: outlines drawn by hand omit details smaller than about twice this."""


def without_masks(cohort: Cohort) -> Cohort:
    """The same scans without liver masks."""
    return replace(cohort, scans=tuple(replace(scan, mask=None) for scan in cohort.scans))


def with_shifted_masks(cohort: Cohort, folder: Path | str, distance: float = SHIFT) -> Cohort:
    """The same scans, each liver mask moved within the axial plane.

    Parameters
    ----------
    folder : where the moved masks are written; those already there are kept.
    distance : mm. The direction is the scan's own, by a hash of its name, so that the same scan always moves alike.

    Scans without a mask stay without one. Raises what `read_mask` raises.
    """

    def shift(scan: Scan, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
        angle = 2 * np.pi * int(_hash(scan)[:8], 16) / 16**8
        return moved(mask, affine, distance * np.array([np.cos(angle), np.sin(angle), 0.0]))

    return _changed(cohort, Path(folder), f"{distance:g}mm", shift)


def with_rounded_masks(cohort: Cohort, folder: Path | str, distance: float = ROUNDING) -> Cohort:
    """The same scans, the outline of each liver mask rounded off within the axial plane.

    The mask is blurred with a standard deviation of `distance` mm and cut at one half. Rounded masks are written into
    `folder`; those already there are kept. Scans without a mask stay without one. Raises what `read_mask` raises.
    """
    return _changed(
        cohort, Path(folder), f"rounded-{distance:g}mm", lambda scan, mask, affine: rounded(mask, affine, distance)
    )


def moved(mask: NDArray[np.bool_], affine: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A mask, in any order of axes, moved by `offset` (3,) mm of the patient, to the nearest voxel; nothing comes in at
    the edge."""
    steps = np.rint(np.linalg.solve(affine[:3, :3], offset)).astype(int)
    result = np.zeros_like(mask)
    pairs = [
        (slice(max(step, 0), max(size + min(step, 0), 0)), slice(max(-step, 0), max(size - max(step, 0), 0)))
        for step, size in zip(steps, mask.shape, strict=True)
    ]
    result[tuple(to for to, _ in pairs)] = mask[tuple(since for _, since in pairs)]
    return result


def rounded(mask: NDArray[np.bool_], affine: NDArray[np.float64], distance: float) -> NDArray[np.bool_]:
    """A mask, in any order of axes, blurred by `distance` mm within the axial plane and cut at one half."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    sigma = distance / spacing
    sigma[int(np.abs(affine[2, :3] / spacing).argmax())] = 0
    return gaussian_filter(mask.astype(np.float32), sigma) > 0.5


def _changed(
    cohort: Cohort,
    folder: Path,
    suffix: str,
    change: Callable[[Scan, NDArray[np.bool_], NDArray[np.float64]], NDArray[np.bool_]],
) -> Cohort:
    """The cohort with each mask replaced by what `change` (scan, mask, affine) makes of it, kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    scans = []
    for scan in cohort.scans:
        if scan.mask is not None:
            # Several cohorts with patients of the same names may share the folder.
            digest = hashlib.sha256(scan.mask.read_bytes()).hexdigest()
            path = folder / f"{_hash(scan)[:16]}-{digest[:16]}-{suffix}.nii.gz"
            if not path.exists():
                _, grid = read_volume(scan.image)
                mask = change(scan, read_mask(scan.mask, grid), grid.affine)
                save_volume(path, mask, grid, scan=scan.image)
            scan = replace(scan, mask=path)
        scans.append(scan)
    return replace(cohort, scans=tuple(scans))


def _hash(scan: Scan) -> str:
    return hashlib.sha256(scan.name.encode()).hexdigest()
