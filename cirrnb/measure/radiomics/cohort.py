"""The radiomic features of a whole cohort: in parallel, kept in a folder, and never stopped by one scan."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cirrnb.data.atomic_files import write_whole
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.mask_perturbation import moved
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.workers import Job, Outcome
from cirrnb.measure.kept import file_of, kept, measure_all
from cirrnb.measure.radiomics.features import RadiomicsSettings, available, how_to_install, radiomics, recorded

CHANGES = ("none", "larger", "smaller", "moved")
"""What can be done to a mask to see which features it upsets: one pixel more or less all around within the slice, or
moved by one pixel to the left and back."""


def cohort_radiomics(
    prepared: PreparedCohort,
    out: Path | str,
    settings: RadiomicsSettings | None = None,
    *,
    change: str = "none",
    workers: int | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Radiomic features of every prepared scan.

    Parameters
    ----------
    out : folder where each scan's features are kept, by what the scan, the settings and MIRP's version are. Safe to
        delete; a call that was stopped is continued by the next.
    change : one of `CHANGES`, made to the mask first.
    workers : processes at work; None takes one a processor, 1 works in this process.

    Returns
    -------
    features : one row a scan: subject, sequence, then one column a feature; NaN where the scan has none.
    reasons : subject, sequence, part ("shape", "intensity and texture"), reason; one row for each gap.

    Raises
    ------
    InputError
        If MIRP is missing.
    ValueError
        If there is no such change.
    """
    if not available():
        raise InputError("radiomics", "no MIRP", "the package mirp", how_to_install())
    if change not in CHANGES:
        raise ValueError(f"change is one of {CHANGES}, not {change!r}")
    folder = Path(out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    settings = settings or RadiomicsSettings()
    jobs = [_job(one, settings, change, folder) for one in prepared.scans]
    measure_all(jobs, run_job, workers, progress, "Radiomics")
    rows, gaps = [], []
    for one, job in zip(prepared.scans, jobs, strict=True):
        found = kept(job) or {"reasons": dict.fromkeys(("shape", "intensity and texture"), "could not be computed")}
        named = {"subject": one.scan.subject, "sequence": one.scan.sequence}
        rows.append({**named, **found.get("values", {})})
        gaps += [{**named, "part": part, "reason": reason} for part, reason in found["reasons"].items()]
    return pd.DataFrame(rows), pd.DataFrame(gaps, columns=["subject", "sequence", "part", "reason"])


def run_job(job: Job) -> Outcome:
    """The features of one scan into its file: what a worker does."""
    folder = Path(job["scan"])
    if not (folder / "mask.npy").exists():
        told: dict[str, Any] = {"reasons": dict.fromkeys(("shape", "intensity and texture"), "no liver mask")}
    else:
        image, mask = np.load(folder / "image.npy"), np.load(folder / "mask.npy").astype(bool)
        mask = _changed(mask, job["change"])
        try:
            told = asdict(radiomics(image, mask, job["spacing"], RadiomicsSettings(**job["settings"])))
        except (OSError, ArithmeticError, IndexError, RuntimeError, ValueError) as error:  # a mask that MIRP cannot use
            reason = f"MIRP stopped: {type(error).__name__}: {error}"
            told = {"reasons": dict.fromkeys(("shape", "intensity and texture"), reason)}
    write_whole(Path(job["file"]), json.dumps(told))
    return {}


def _changed(mask: np.ndarray, change: str) -> np.ndarray:
    from scipy.ndimage import binary_dilation, binary_erosion, generate_binary_structure

    within = generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
    if change == "larger":
        return binary_dilation(mask, within)
    if change == "smaller":
        return binary_erosion(mask, within)
    return moved(mask, np.eye(4), np.array([0.0, 1.0, 1.0])) if change == "moved" else mask


def _job(one: PreparedScan, settings: RadiomicsSettings, change: str, folder: Path) -> Job:
    said = {"scan": one.folder.name, "settings": recorded(settings), "change": change}
    return {
        "scan": str(one.folder),
        "spacing": list(one.grid.spacing),
        "settings": asdict(settings),
        "change": change,
        "file": file_of(folder, said),
    }
