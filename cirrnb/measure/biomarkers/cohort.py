"""The biomarkers of a whole cohort, kept in a folder and never stopped by one scan."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cirrnb.data.atomic_files import write_whole
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.scan import Scan
from cirrnb.data.workers import Job, Outcome
from cirrnb.measure.biomarkers.scan import UNITS, biomarkers_or_reasons
from cirrnb.measure.kept import file_of, kept, measure_all

VERSION = 2
"""Raise it when the same scan comes out otherwise than before."""


def cohort_biomarkers(
    prepared: PreparedCohort, out: Path | str, *, workers: int | None = None, progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Biomarkers of every prepared scan, measured on the file it was prepared from.

    Parameters
    ----------
    out : folder where each scan's biomarkers are kept; safe to delete. A call that was stopped is continued by the
        next.
    workers : processes at work; None takes one a processor, 1 works in this process.

    Returns
    -------
    values : one row a scan: subject, sequence, then one column for each of `UNITS`; NaN where there is none.
    reasons : subject, sequence, part (the biomarker), reason; one row for each gap.
    """
    folder = Path(out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [_job(one, folder) for one in prepared.scans]
    measure_all(jobs, run_job, workers, progress, "Biomarkers")
    rows, gaps = [], []
    for one, job in zip(prepared.scans, jobs, strict=True):
        named = {"subject": one.scan.subject, "sequence": one.scan.sequence}
        found = (kept(job) or {}).get("found") or _none("could not be measured")
        rows.append({**named, **{each["name"]: each["value"] for each in found}})
        gaps += [{**named, "part": each["name"], "reason": each["note"]} for each in found if each["value"] is None]
    values = pd.DataFrame(rows, columns=["subject", "sequence", *UNITS])
    return values.astype(dict.fromkeys(UNITS, float)), pd.DataFrame(
        gaps, columns=["subject", "sequence", "part", "reason"]
    )


def run_job(job: Job) -> Outcome:
    """The biomarkers of one scan into its file: what a worker does."""
    mask = Path(job["mask"]) if job["mask"] else None
    scan = Scan(patient="one", sequence="T1W", image=Path(job["image"]), mask=mask, extra={"organs": job["organs"]})
    try:
        rows: list[dict[str, Any]] = [asdict(one) for one in biomarkers_or_reasons(scan)]
    except MemoryError:
        rows = _none("too little memory for it")
    write_whole(Path(job["file"]), json.dumps({"found": rows}))
    return {}


def _none(reason: str) -> list[dict[str, Any]]:
    return [{"name": name, "value": None, "note": reason} for name in UNITS]


def _job(one: PreparedScan, folder: Path) -> Job:
    organs = one.scan.extra.get("organs")
    organs = organs if isinstance(organs, str) and organs else None
    said: dict[str, Any] = {"scan": one.folder.name, "version": VERSION, "organs": organs}
    if organs:
        path = one.scan.image.parent / organs  # an absolute path stays as it is
        organs = str(path)
        said["look"] = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None
    return {
        "image": str(one.scan.image.absolute()),
        "mask": str(one.scan.mask.absolute()) if one.scan.mask else None,
        "organs": organs,
        "file": file_of(folder, said),
    }
