"""What lies at a place that was clicked: an organ of the segmentation, a simulated patient's tissue, and the signal."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.numbers import figure
from cirrnb.data.prepared import PreparedScan
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.measure.organs import organ_numbers

Place = tuple[float, float, float]


def named_at(bag: Bag, sequence: str, place: Place, truth: SimulatedTruth | None = None) -> str | None:
    """In words what lies at a place (mm, RAS+) of a scan, and the file's own signal there; None beyond the scan, or
    where its file can no longer be read."""
    prepared = bag.scans.get(sequence)
    if prepared is None:
        return None
    voxel = tuple(int(index) for index in np.round(prepared.source_grid.to_index([place])[0]))
    if not all(0 <= index < size for index, size in zip(voxel, prepared.source_grid.shape, strict=True)):
        return None
    try:
        signal = float(_volume(prepared.scan.image, _changed(prepared.scan.image))[voxel])
        what = _tissue(bag, sequence, place, truth) or _organ(prepared, voxel)
    except (InputError, OSError):
        return None
    return f"{what}; signal {figure(signal)}"


def evidence_of(bag: Bag, truth: SimulatedTruth | None) -> dict[str, Any]:
    """Sequence -> where its signs were planted; nothing where that is not known."""
    if truth is None:
        return {}
    try:
        return {name: truth.evidence(scan) for name, scan in bag.scans.items()}
    except (InputError, OSError):
        return {}  # a cohort that was moved without its truth is still worth looking at


def _tissue(bag: Bag, sequence: str, place: Place, truth: SimulatedTruth | None) -> str:
    if truth is None:
        return ""
    try:
        return f"{truth.tissue_at(bag, sequence, place)} (simulated tissue)"
    except InputError:
        return ""  # a patient who was dropped in


def _organ(prepared: PreparedScan, voxel: tuple[int, ...]) -> str:
    scan = prepared.scan
    named = scan.extra.get("organs")
    if isinstance(named, str) and named:
        path = scan.image.parent / named
        if name := organ_numbers(path).get(int(_volume(path, _changed(path))[voxel])):
            return f"{name} (outlined by {scan.extra.get('mask_by') or 'a segmentation'})"
    if scan.mask is None:
        return "no organ is outlined in this scan"
    inside = bool(_mask(scan.mask, _changed(scan.mask), prepared.source_grid)[voxel])
    by = f"outlined by {scan.extra['mask_by']}" if scan.extra.get("mask_by") else "liver mask"
    return f"liver ({by})" if inside else "outside the liver mask"


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


@lru_cache(maxsize=4)
def _volume(path: Path, changed: int) -> NDArray:
    return read_volume(path)[0]


@lru_cache(maxsize=2)
def _mask(path: Path, changed: int, grid) -> NDArray[np.bool_]:  # type: ignore[no-untyped-def]
    return read_mask(path, grid)
