"""Masks for the scans of a cohort that have none, and a table that says which were drawn by a program."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cirrnb.data.errors import InputError
from cirrnb.data.locking import claimed
from cirrnb.data.masks.mrsegmentator import NAME, find_program, segment
from cirrnb.data.masks.plausibility import doubts
from cirrnb.data.names import file_stem
from cirrnb.data.nifti.saving import save_volume
from cirrnb.data.nifti.volume import read_header
from cirrnb.data.reading import read_cohort
from cirrnb.data.scan import Cohort
from cirrnb.data.spreadsheet import write_csv

BY, DOUBTS = "mask_by", "mask_doubts"
"""Columns that mark a mask as a program's, and say what speaks against it."""

_COLUMNS = ("patient", "sequence", "image", "mask", "stage", "split", "age", "sex", "source")


@dataclass(frozen=True)
class Masked:
    """What was drawn: the table, the new masks' doubts by scan name, and why others have none."""

    table: Path
    drawn: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str]


def add_masks(
    cohort: Path | str, out: Path | str, *, program: Path | str | None = None, options: Sequence[str] = ()
) -> Masked:
    """Have MRSegmentator draw the liver of every scan without a mask, and write a table of the cohort with them.

    The cohort's own files and table stay as they are. Masks that somebody gave are kept and not marked.

    Parameters
    ----------
    out : folder for the table (scans.csv) and the masks; the scans are named where they lie.
    program, options : as for `cirrnb.data.masks.mrsegmentator`.

    Raises
    ------
    InputError
        If the program is missing or draws nothing, every scan has a mask already, or `out` holds a table already.
    """
    people, out = read_cohort(cohort), Path(out)
    with claimed(out):
        return _add(people, out, program, options)


def _add(people: Cohort, out: Path, program: Path | str | None, options: Sequence[str]) -> Masked:
    """As `add_masks`; nobody else writes into `out` meanwhile."""
    table = out / "scans.csv"
    if table.exists():
        raise InputError(
            table, "a table already", "a new folder", "Give another folder, so that nothing is overwritten."
        )
    bare = {scan.name: scan for scan in people.scans if scan.mask is None}
    if not bare:
        raise InputError(people.name, "a mask for every scan", "scans without one", "Nothing needs to be done.")
    made = segment({name: scan.image for name, scan in bare.items()}, find_program(program), options)
    out.mkdir(parents=True, exist_ok=True)
    paths, drawn = {}, {}
    for name, mask in made.masks.items():
        scan = bare[name]
        stem = file_stem(scan.subject, scan.sequence, "liver")
        path, grid = out / "masks" / f"{stem}.nii.gz", read_header(scan.image).grid
        paths[name] = save_volume(path, mask, grid, scan=scan.image, description=f"liver mask by {NAME}")
        drawn[name] = doubts(mask, grid)
    _write_table(table, people, paths, drawn)
    if people.simulated:
        (out / "SIMULATED.txt").write_text("The scans of this table are simulated.\n", encoding="utf-8")
    return Masked(table, drawn, made.failed)


def _write_table(table: Path, people: Cohort, paths: Mapping[str, Path], drawn: Mapping[str, tuple[str, ...]]) -> None:
    rows = []
    for scan in people.scans:
        row = {**scan.extra, **{name: getattr(scan, name) for name in _COLUMNS}}
        if scan.name in paths:
            row |= {"mask": paths[scan.name], BY: NAME, DOUBTS: "; ".join(drawn[scan.name])}
        row |= {name: os.path.relpath(row[name], table.parent) for name in ("image", "mask") if row[name]}
        rows.append(row)
    write_csv(table, rows, [*_COLUMNS, BY, DOUBTS])
