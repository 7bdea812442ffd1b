"""Masks and organs for the scans of a cohort that have none, and a table that says which were drawn by a program."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.locking import claimed
from cirrnb.data.names import file_stem, folder_name
from cirrnb.data.nifti.saving import save_volume
from cirrnb.data.nifti.volume import read_header, read_volume
from cirrnb.data.plausibility import doubts
from cirrnb.data.reading import read_cohort
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.spreadsheet import write_csv
from cirrnb.data.workers import Outcome, WorkerDied, in_parallel, processors
from cirrnb.data.writing import write_whole
from cirrnb.segmentation import mrsegmentator
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.segmentation.weights import shipped_folder

BY, DOUBTS, ORGANS_COLUMN = "mask_by", "mask_doubts", "organs"
"""Columns that mark a mask as a program's, say what speaks against it, and name the map of the organs."""

LABELS = "cirrnb"
"""Name in the JSON file of a map of organs that gives its labels a meaning (`cirrnb.measure.biomarkers.organs`)."""

_COLUMNS = ("patient", "sequence", "image", "mask", "stage", "split", "age", "sex", "source")
NO_LIVER = "no liver found in it"


@dataclass(frozen=True)
class Masked:
    """What was drawn: the table, the doubts about new masks by scan name, and why other scans have none."""

    table: Path
    drawn: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Drawn:
    """Files of one scan, and what they say."""

    mask: Path
    organs: Path | None
    by: str
    doubts: tuple[str, ...]


def add_masks(
    cohort: Cohort | Path | str,
    out: Path | str,
    *,
    network: Path | str | None = None,
    program: Path | str | None = None,
    options: Sequence[str] = (),
    workers: int | None = None,
    progress: Callable[[Iterator[Any], int], Iterator[Any]] = lambda items, total: items,
) -> Masked:
    """Segment every scan without a mask, and write a table of the cohort with the new masks and organs.

    The cohort's own files and table stay as they are; masks that somebody gave are kept and not marked. A scan is
    segmented once: files are named after its content and the network, and a call that was stopped resumes.

    Parameters
    ----------
    out : folder for the table (scans.csv), masks/ and organs/; the scans are named where they lie.
    network : folder of a segmenter, by default the shipped one.
    program, options : MRSegmentator's program and words for its command line, to have it draw the liver instead.
    workers : processes, by default one a processor.
    progress : wraps the iterator over finished scans, given their number.

    Raises
    ------
    InputError
        If the network or the program cannot be used, every scan has a mask already, or `out` holds a table already.
    """
    people, out = cohort if isinstance(cohort, Cohort) else read_cohort(cohort), Path(out)
    with claimed(out):
        return _add(people, out, network, program, options, workers, progress)


def _add(
    people: Cohort,
    out: Path,
    network: Path | str | None,
    program: Path | str | None,
    options: Sequence[str],
    workers: int | None,
    progress: Callable[..., Iterator[Any]],
) -> Masked:
    """As `add_masks`; no other command writes into the folder meanwhile."""
    table = out / "scans.csv"
    if table.exists():
        raise InputError(
            table, "a table already", "a new folder", "Give another folder, so that nothing is overwritten."
        )
    bare = [scan for scan in people.scans if scan.mask is None]
    if not bare:
        raise InputError(people.name, "a mask for every scan", "scans without one", "Nothing needs to be done.")
    if program is None:
        drawn, failed = _by_network(bare, out, Path(network) if network else shipped_folder(), workers, progress)
    else:
        drawn, failed = _by_program(bare, out, mrsegmentator.find_program(program), options)
    out.mkdir(parents=True, exist_ok=True)
    _write_table(table, people, drawn)
    if people.simulated:
        (out / "SIMULATED.txt").write_text("The scans of this table are simulated.\n", encoding="utf-8")
    return Masked(table, {name: one.doubts for name, one in drawn.items()}, failed)


def _by_network(
    scans: Sequence[Scan], out: Path, network: Path, workers: int | None, progress: Callable[..., Iterator[Any]]
) -> tuple[dict[str, _Drawn], dict[str, str]]:
    Segmenter.load(network)  # its faults are reported before any scan is opened
    count = min(workers or processors(), len(scans))
    jobs = [
        {
            "image": str(scan.image.absolute()),
            "stem": file_stem(scan.subject, scan.sequence),
            "out": str(out),
            "network": str(network.absolute()),
        }
        for scan in scans
    ]
    outcomes: Iterator[tuple[int, Outcome | WorkerDied]]
    if count == 1:
        outcomes = ((place, run_job(job)) for place, job in enumerate(jobs))
    else:
        outcomes = in_parallel(jobs, count, __name__, threads=max(1, processors() // count))
    found: dict[int, Outcome | WorkerDied] = dict(progress(outcomes, len(jobs)))
    drawn, failed = {}, {}
    for place, scan in enumerate(scans):
        outcome = found[place]
        if isinstance(outcome, WorkerDied):
            failed[scan.name] = str(outcome)
        elif "failure" in outcome:
            failed[scan.name] = outcome["failure"]
        else:
            mask, organs = Path(outcome["mask"]), Path(outcome["organs"])
            drawn[scan.name] = _Drawn(mask, organs, outcome["by"], tuple(outcome["doubts"]))
    return drawn, failed


_LOADED: dict[str, Segmenter] = {}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Segment one scan, for `cirrnb.data.workers`; what goes wrong comes back in words as `failure`."""
    if job["network"] not in _LOADED:
        _LOADED[job["network"]] = Segmenter.load(job["network"])
    segmenter, image, out = _LOADED[job["network"]], Path(job["image"]), Path(job["out"])
    try:
        name = f"{job['stem']}_{content_key(image, segmenter)[:12]}"
        note = out / "organs" / f"{name}_organs.found.json"
        if not _is_whole(note, out):
            note.parent.mkdir(parents=True, exist_ok=True)
            found = segment_file(segmenter, image, out, name)
            for kind in ("mask", "organs"):
                if kind in found:
                    found[kind] = Path(found[kind]).relative_to(out).as_posix()
            write_whole(note, json.dumps(found))
        stored = read_object(note, "what was found in a scan", "Remove it; the scan is segmented again.")
    except InputError as error:
        return {"failure": error.found}
    except MemoryError:
        return {"failure": "too little memory for it"}
    # Names are relative to `out` in the file, so that a folder may be moved and holds no path of the machine.
    return {**stored, **{kind: str(out / stored[kind]) for kind in ("mask", "organs") if kind in stored}}


def _is_whole(note: Path, out: Path) -> bool:
    """True if a scan was segmented before and the files that its note names are still there."""
    if not note.is_file():
        return False
    stored = read_object(note, "what was found in a scan", "Remove it; the scan is segmented again.")
    return all((out / stored[kind]).is_file() for kind in ("mask", "organs") if kind in stored)


def segment_one(image: Path, out: Path, network: Path | str | None = None) -> dict[str, Any]:
    """Segment one NIfTI file into a folder; returns what `segment_file` returns. Raises InputError for a bad file."""
    read_header(image)
    name = folder_name(image.name.removesuffix(".gz").removesuffix(".nii"))
    return segment_file(Segmenter.load(network), image, out, name)


def content_key(image: Path, segmenter: Segmenter) -> str:
    """SHA-256 of a file's bytes and the segmenter's fingerprint, 64 hex digits."""
    digest = hashlib.sha256(segmenter.fingerprint.encode())
    with image.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def segment_file(segmenter: Segmenter, image: Path, out: Path, name: str) -> dict[str, Any]:
    """Segment a NIfTI file into out/masks/NAME_liver.nii.gz and out/organs/NAME_organs.nii.gz.

    Returns mask, organs (paths), by, doubts (words), volumes (mL by organ); or failure alone, where there is no liver.
    """
    volume, grid = read_volume(image)
    found = segmenter.segment(volume, grid)
    if not found.liver.any():
        return {"failure": NO_LIVER}
    mask, organs = out / "masks" / f"{name}_liver.nii.gz", out / "organs" / f"{name}_organs.nii.gz"
    save_volume(mask, found.liver, grid, scan=image, description=f"liver mask by {segmenter.drawn_by}")
    save_volume(organs, found.labels, grid, scan=image, description=f"organs by {segmenter.drawn_by}")
    write_whole(organs.with_name(organs.name.replace(".nii.gz", ".json")), json.dumps(LABELS))
    return {
        "mask": str(mask),
        "organs": str(organs),
        "by": segmenter.drawn_by,
        "doubts": list(doubts(found.liver, grid)),
        "volumes": found.volumes,
    }


def _by_program(
    scans: Sequence[Scan], out: Path, program: str, options: Sequence[str]
) -> tuple[dict[str, _Drawn], dict[str, str]]:
    made = mrsegmentator.segment({scan.name: scan.image for scan in scans}, program, options)
    named = {scan.name: scan for scan in scans}
    drawn = {}
    for name, mask in made.masks.items():
        scan = named[name]
        path = out / "masks" / f"{file_stem(scan.subject, scan.sequence)}_liver.nii.gz"
        grid = read_header(scan.image).grid
        save_volume(path, mask, grid, scan=scan.image, description=f"liver mask by {mrsegmentator.NAME}")
        drawn[name] = _Drawn(path, None, mrsegmentator.NAME, doubts(mask, grid))
    return drawn, dict(made.failed)


def _write_table(table: Path, people: Cohort, drawn: Mapping[str, _Drawn]) -> None:
    rows = []
    for scan in people.scans:
        row: dict[str, Any] = {**scan.extra, **{name: getattr(scan, name) for name in _COLUMNS}}
        if scan.name in drawn:
            one = drawn[scan.name]
            row |= {"mask": one.mask, BY: one.by, DOUBTS: "; ".join(one.doubts)}
            if one.organs:
                # Organs are named from the scan's folder, as in tables that people write.
                row[ORGANS_COLUMN] = os.path.relpath(one.organs, scan.image.parent)
        row |= {name: os.path.relpath(row[name], table.parent) for name in ("image", "mask") if row[name]}
        rows.append(row)
    write_csv(table, rows, [*_COLUMNS, BY, DOUBTS])
