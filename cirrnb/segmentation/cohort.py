"""Masks and organs for the scans of a cohort that have none, and a table that says which were drawn by a program."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cirrnb.data.atomic_files import atomic_write, file_stem, folder_name
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.locks import claimed, locked
from cirrnb.data.mask_checks import doubts
from cirrnb.data.nifti.reading import read_header, read_volume
from cirrnb.data.nifti.saving import save_volume
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.status import DISTANCE_COLUMN, GRADE_COLUMN
from cirrnb.data.typed_paths import typed_path
from cirrnb.data.workers import Outcome, WorkerDied, in_parallel, processors
from cirrnb.segmentation import mrsegmentator
from cirrnb.segmentation.checks import Check
from cirrnb.segmentation.judging import (
    CHECKS_FILE,
    MASK_BY,
    Progress,
    checker_of,
    columns,
    drawn_by_person,
    judge,
    storable,
    unwatched,
)
from cirrnb.segmentation.mask_overlap import shared_of_files
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.segmentation.unusual import OutOfDistributionScore, read_score
from cirrnb.segmentation.weights import shipped_folder

BY, DOUBTS, ORGANS_COLUMN = MASK_BY, "mask_doubts", "organs"
"""Columns that mark a mask as a program's, say what speaks against it, and name the map of the organs."""

LABELS = "cirrnb"
"""Name in the JSON file of a map of organs that gives its labels a meaning (`cirrnb.measure.organs`)."""

_COLUMNS = ("patient", "sequence", "image", "mask", "stage", "split", "age", "sex", "source")
NO_LIVER = "no liver found in it"


@dataclass(frozen=True)
class Masked:
    """What was drawn: the table, the doubts about new masks by scan name, why other scans have none, and the checks of
    every scan that was looked at; empty where none were fitted for the network."""

    table: Path
    drawn: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, Sequence[Check]] = field(default_factory=dict)


@dataclass(frozen=True)
class Segmented:
    """A cohort with what was drawn; the other fields as in `Masked`."""

    cohort: Cohort
    drawn: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, Sequence[Check]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Drawn:
    """Files of one scan, and what they say; `mask` is None where somebody gave one."""

    mask: Path | None
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
    progress: Progress = unwatched,
) -> Masked:
    """Segment every scan without a mask or without organs, and write a table of the cohort with the new ones.

    The cohort's own files and table stay as they are; masks that somebody gave are kept and not marked, and such scans
    get organs alone. Every scan is checked (`cirrnb.segmentation.checks`). A scan is segmented once: files are named
    after its content and the network, and a call that was stopped resumes. A program other than the network draws
    livers alone, where there is none.

    Parameters
    ----------
    out : folder for the table (scans.csv), masks/ and organs/; the scans are named where they lie.
    network : folder of a segmenter, by default the shipped one.
    program, options : MRSegmentator's program and words for its command line, to have it draw the liver instead.
    workers : processes, by default one a processor.
    progress : wraps the iterator over finished scans and pairs, given their number and what is done to them.

    Raises
    ------
    InputError
        If the network or the program cannot be used, no scan lacks what it draws, or `out` holds a table already.
    """
    people, out = cohort if isinstance(cohort, Cohort) else read_cohort(cohort), typed_path(out)
    with claimed(out):
        return _add(people, out, network, program, options, workers, progress)


def _add(
    people: Cohort,
    out: Path,
    network: Path | str | None,
    program: Path | str | None,
    options: Sequence[str],
    workers: int | None,
    progress: Progress,
) -> Masked:
    """As `add_masks`; no other command writes into the folder meanwhile."""
    table = out / "scans.csv"
    if table.exists():
        raise InputError(
            table, "a table already", "a new folder", "Give another folder, so that nothing is overwritten."
        )
    bare = [scan for scan in people.scans if _lacks(scan, program)]
    if not bare:
        raise InputError(people.name, "a mask for every scan", "scans without one", "Nothing needs to be done.")
    if program is None:
        made = segment_cohort(people, out, network, workers=workers, progress=progress)
    else:
        drawn, failed = _by_program(bare, out, mrsegmentator.find_program(program), options)
        made = Segmented(_completed(people, drawn, {}), _doubts(drawn), failed)
    out.mkdir(parents=True, exist_ok=True)
    _write_table(table, made.cohort)
    if people.simulated:
        (out / "SIMULATED.txt").write_text("The scans of this table are simulated.\n", encoding="utf-8")
    return Masked(table, made.drawn, made.failed, made.checks)


def segment_cohort(
    people: Cohort,
    out: Path,
    network: Path | str | None = None,
    *,
    all_scans: bool = False,
    workers: int | None = None,
    progress: Progress = unwatched,
) -> Segmented:
    """The cohort with a mask, organs and checks for every scan that lacks mask or organs, or for `all_scans`; nothing
    but files in `out`.

    Parameters as for `add_masks`. A scan in which no liver is found keeps no mask, and its checks say so. Raises
    InputError if the network cannot be used.
    """
    bare = [scan for scan in people.scans if all_scans or _lacks(scan)]
    if not bare:
        return Segmented(people, {})
    folder = Path(network) if network else shipped_folder()
    outcomes = _by_network(bare, out, folder, workers, progress)
    drawn, failed = _sorted(bare, outcomes)
    weights = Segmenter.load(folder).fingerprint
    checker = checker_of(folder, weights)
    checks = judge(bare, outcomes, checker, out, workers=workers, progress=progress) if checker else {}
    made = _completed(people, drawn, checks)
    return Segmented(_graded(made, outcomes, read_score(folder, weights)), _doubts(drawn), failed, checks)


def has_checks(network: Path | str | None = None) -> bool:
    """Whether checks of scans were fitted for a segmenter, by default the shipped one."""
    return ((Path(network) if network else shipped_folder()) / CHECKS_FILE).is_file()


def _lacks(scan: Scan, program: Path | str | None = None) -> bool:
    """True for a scan without what is drawn: mask and organs, or with another program the mask alone."""
    return scan.mask is None or (program is None and not scan.extra.get(ORGANS_COLUMN))


def _doubts(drawn: Mapping[str, _Drawn]) -> dict[str, tuple[str, ...]]:
    return {name: scan.doubts for name, scan in drawn.items() if scan.mask}


def _completed(people: Cohort, drawn: Mapping[str, _Drawn], checks: Mapping[str, Sequence[Check]]) -> Cohort:
    """The cohort with new masks, and in the further columns who drew them, doubts, organs and checks."""
    scans = []
    for scan in people.scans:
        extra, mask, new = dict(scan.extra), scan.mask, drawn.get(scan.name)
        if new and new.mask:
            mask = new.mask
            extra |= {BY: new.by, DOUBTS: "; ".join(new.doubts) or None}
        if new and new.organs:
            # Organs are named from the scan's folder, as in tables that people write.
            extra[ORGANS_COLUMN] = os.path.relpath(new.organs, scan.image.parent)
        if scan.name in checks:
            extra |= columns(checks[scan.name])
        scans.append(replace(scan, mask=mask, extra=extra))
    return replace(people, scans=tuple(scans))


def _graded(
    people: Cohort, outcomes: Mapping[str, Mapping[str, Any]], score_model: OutOfDistributionScore | None
) -> Cohort:
    """The cohort with each scan's distance from simulated scans, if known."""
    if score_model is None:
        return people
    scans = []
    for scan in people.scans:
        features = outcomes.get(scan.name, {}).get("features")
        score = score_model.score(np.array(features) if features else None, scan.sequence)
        columns = {} if score is None else {DISTANCE_COLUMN: round(score[0], 3), GRADE_COLUMN: score[1]}
        scans.append(replace(scan, extra={**scan.extra, **columns}))
    return replace(people, scans=tuple(scans))


def _by_network(
    scans: Sequence[Scan], out: Path, network: Path, workers: int | None, progress: Progress
) -> dict[str, dict[str, Any]]:
    """What `run_job` returns, by scan name."""
    Segmenter.load(network)  # its faults are reported before any scan is opened
    count = min(workers or processors(), len(scans))
    jobs = [
        {
            "image": str(scan.image.absolute()),
            "stem": file_stem(scan.subject, scan.sequence),
            "out": str(out),
            "network": str(network.absolute()),
            "mask": str(scan.mask.absolute()) if scan.mask is not None and drawn_by_person(scan) else "",
        }
        for scan in scans
    ]
    outcomes: Iterator[tuple[int, Outcome | WorkerDied]]
    if count == 1:
        outcomes = ((place, run_job(job)) for place, job in enumerate(jobs))
    else:
        outcomes = in_parallel(jobs, count, __name__, threads=max(1, processors() // count))
    by_place: dict[int, Outcome | WorkerDied] = dict(progress(outcomes, len(jobs), "Segmenting"))
    named = {}
    for place, scan in enumerate(scans):
        outcome = by_place[place]
        named[scan.name] = {"failure": str(outcome)} if isinstance(outcome, WorkerDied) else dict(outcome)
    return named


def _sorted(
    scans: Sequence[Scan], outcomes: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, _Drawn], dict[str, str]]:
    """What was drawn, and why scans without a mask got none."""
    drawn, failed = {}, {}
    for scan in scans:
        outcome = outcomes[scan.name]
        if "failure" not in outcome:
            mask = Path(outcome["mask"]) if scan.mask is None else None
            drawn[scan.name] = _Drawn(mask, Path(outcome["organs"]), outcome["by"], tuple(outcome["doubts"]))
        elif scan.mask is None:
            failed[scan.name] = outcome["failure"]
    return drawn, failed


_LOADED: dict[str, Segmenter] = {}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Segment one scan, for `cirrnb.data.workers`; an error is returned as the text `failure`."""
    if job["network"] not in _LOADED:
        _LOADED[job["network"]] = Segmenter.load(job["network"])
    segmenter, image, out = _LOADED[job["network"]], Path(job["image"]), Path(job["out"])
    try:
        name = f"{job['stem']}_{content_key(image, segmenter)[:12]}"
        note = out / "organs" / f"{name}_organs.found.json"
        if not _is_whole(note, out):
            note.parent.mkdir(parents=True, exist_ok=True)
            entry = segment_file(segmenter, image, out, name)
            for kind in ("mask", "organs"):
                if kind in entry:
                    entry[kind] = Path(entry[kind]).relative_to(out).as_posix()
            atomic_write(note, json.dumps(entry))
        stored = read_object(note, "what was found in a scan", "Remove it; the scan is segmented again.")
        # Names are relative to `out` in the file, so that a folder may be moved and holds no path of the machine.
        paths: dict[str, str] = {kind: str(out / stored[kind]) for kind in ("mask", "organs") if kind in stored}
        if job["mask"] and "organs" in paths:
            return {**stored, **paths, "shared": shared_of_files(Path(job["mask"]), Path(paths["organs"]))}
    except InputError as error:
        return {"failure": error.found}
    except MemoryError:
        return {"failure": "too little memory for it"}
    return {**stored, **paths}


def _is_whole(note: Path, out: Path) -> bool:
    """True if a scan was segmented before and the files that its note names are still there."""
    if not note.is_file():
        return False
    stored = read_object(note, "what was found in a scan", "Remove it; the scan is segmented again.")
    whole = "features" in stored or "failure" in stored  # earlier versions kept none
    return whole and all((out / stored[kind]).is_file() for kind in ("mask", "organs") if kind in stored)


_TURN = 1800.0
"""Seconds in which other files may be segmented into the folder before one's own."""


def segment_one(image: Path, out: Path, network: Path | str | None = None) -> dict[str, Any]:
    """Segment one NIfTI file into a folder; returns what `segment_file` returns. Raises InputError for a bad file."""
    read_header(image)
    name = folder_name(image.name.removesuffix(".gz").removesuffix(".nii"))
    segmenter = Segmenter.load(network)
    with locked(out, _TURN):  # a file of the same name from another folder may be segmented at the same time
        return segment_file(segmenter, image, out, name)


def content_key(image: Path, segmenter: Segmenter) -> str:
    """SHA-256 of a file and the segmenter's fingerprint, 64 hex digits. Raises InputError for a file that is gone."""
    digest = hashlib.sha256(segmenter.fingerprint.encode())
    try:
        with image.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    except OSError as error:
        problem = f"a file that cannot be read ({error.strerror})"
        raise InputError(image, problem, "a NIfTI file", "Correct the path or restore it.") from error
    return digest.hexdigest()


def segment_file(segmenter: Segmenter, image: Path, out: Path, name: str) -> dict[str, Any]:
    """Segment a NIfTI file into out/masks/NAME_liver.nii.gz and out/organs/NAME_organs.nii.gz.

    Returns mask, organs (paths), by, doubts (words), volumes (mL by organ), observed (numbers by name, see
    `cirrnb.segmentation.observations`) and features (see `cirrnb.segmentation.surroundings`); or failure and observed,
    where there is no liver.
    """
    volume, grid = read_volume(image)
    segmentation = segmenter.segment(volume, grid)
    if not segmentation.liver.any():
        return {"failure": NO_LIVER, "observed": storable(segmentation.observed)}
    mask, organs = out / "masks" / f"{name}_liver.nii.gz", out / "organs" / f"{name}_organs.nii.gz"
    save_volume(mask, segmentation.liver, grid, scan=image, description=f"liver mask by {segmenter.drawn_by}")
    save_volume(organs, segmentation.labels, grid, scan=image, description=f"organs by {segmenter.drawn_by}")
    atomic_write(organs.with_name(organs.name.replace(".nii.gz", ".json")), json.dumps(LABELS))
    return {
        "mask": str(mask),
        "organs": str(organs),
        "by": segmenter.drawn_by,
        "doubts": list(doubts(segmentation.liver, grid)),
        "volumes": segmentation.volumes,
        "observed": storable(segmentation.observed),
        "features": None
        if segmentation.features is None
        else [float(f"{value:.5g}") for value in segmentation.features],
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


def _write_table(table: Path, people: Cohort) -> None:
    rows = []
    for scan in people.scans:
        row: dict[str, Any] = {**scan.extra, **{name: getattr(scan, name) for name in _COLUMNS}}
        row |= {name: os.path.relpath(row[name], table.parent) for name in ("image", "mask") if row[name]}
        rows.append(row)
    write_csv(table, rows, [*_COLUMNS, BY, DOUBTS])
