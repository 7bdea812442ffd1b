"""Liver masks taken away or put in the wrong place, to see how much a stager leans on them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.nifti.volume import read_mask, read_volume
from cirrnb.data.scan import Cohort, Scan

SHIFT = 10.0
"""mm: about what two readers' outlines of a liver lie apart where they disagree badly."""


def without_masks(cohort: Cohort) -> Cohort:
    """The same scans as if nobody had outlined a liver."""
    return replace(cohort, scans=tuple(replace(scan, mask=None) for scan in cohort.scans))


def with_shifted_masks(cohort: Cohort, folder: Path | str, distance: float = SHIFT) -> Cohort:
    """The same scans, each liver mask moved within the axial plane.

    Parameters
    ----------
    folder : where the moved masks are written; those already there are kept.
    distance : mm. The direction is the scan's own, by a hash of its name, so that the same scan always moves alike.

    Scans without a mask stay without one. Raises what `read_mask` raises.
    """
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    return replace(cohort, scans=tuple(_shifted(scan, home, distance) for scan in cohort.scans))


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


def _shifted(scan: Scan, home: Path, distance: float) -> Scan:
    if scan.mask is None:
        return scan
    name = hashlib.sha256(scan.name.encode()).hexdigest()
    path = home / f"{name[:16]}-{distance:g}mm.nii.gz"
    if not path.exists():
        angle = 2 * np.pi * int(name[:8], 16) / 16**8
        _write(scan, path, distance * np.array([np.cos(angle), np.sin(angle), 0.0]))
    return replace(scan, mask=path)


def _write(scan: Scan, path: Path, offset: NDArray[np.float64]) -> None:
    import nibabel as nib

    assert scan.mask is not None
    _, grid = read_volume(scan.image)
    mask = moved(read_mask(scan.mask, grid), grid.affine, offset)
    # Named by the process, since several trainings may write the same mask at a time.
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), grid.affine), beside)
    beside.replace(path)
