"""The published layout of CirrMRI600+: train, valid and test folders of scans and masks, and healthy subjects.

Source: Jha et al., Scientific Data 12, 896 (2025), doi 10.1038/s41597-025-05201-7; data doi 10.17605/OSF.IO/CUK24.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cirrnb.data.csv_file import Row, read_rows
from cirrnb.data.errors import InputError, Remarks, listed
from cirrnb.data.layouts import fields
from cirrnb.data.scan import SPLITS, Scan

CIRRHOTIC_FOLDERS = {"T1W": "Cirrhosis_T1_3D", "T2W": "Cirrhosis_T2_3D"}
HEALTHY_FOLDER = "Healthy_subjects"
SLICE_FOLDERS = ("Cirrhosis_T1_2D", "Cirrhosis_T2_2D")
"""Published PNG slices; they are not read."""
SOURCES = ("cirrhotic", "healthy")
_NIFTI = re.compile(r"(.*)\.nii(\.gz)?", re.IGNORECASE | re.DOTALL)
_ID = ("patient id", "id")

_STAGE, _AGE, _SEX = "radiological evaluation", "age", "gender"

_CORRECT = "Correct the cell, or leave it empty if the value is unknown."


@dataclass(frozen=True)
class _Place:
    """One pair of folders with scans and their masks."""

    source: str
    sequence: str
    split: str | None
    images: Path
    masks: Path


def looks_published(root: Path) -> bool:
    """True if root holds one of the published folders of 3D scans."""
    return any((root / name).is_dir() for name in (*CIRRHOTIC_FOLDERS.values(), HEALTHY_FOLDER))


def nested(folder: Path, name: str) -> Path:
    """The folder of that name in `folder`, or in itself again, as some systems unzip it."""
    inner = folder / name
    while (inner / name).is_dir():
        inner = inner / name
    return inner


def read_published(root: Path, remarks: Remarks) -> list[Scan]:
    """All scans of the published 3D layout under root; what is wrong or odd is added to `remarks`.

    A scan without mask keeps `mask=None`, one whose patient stands in no table `stage=None`; both are noted. Scans of
    a patient whose row cannot be understood, and a patient's scans of one sequence that lie in two places, are
    problems and excluded.
    """
    groups: dict[tuple[str, str, str], list[tuple[_Place, Path, Path | None]]] = defaultdict(list)
    for place in _places(root):
        for patient, image, mask in _pairs(place, remarks):
            groups[place.source, patient, place.sequence].append((place, image, mask))
    tables = {source: read_patient_tables(root, source, remarks) for source in SOURCES}
    scans = []
    for (source, patient, sequence), copies in groups.items():
        place, image, mask = copies[0]
        if len(copies) > 1:
            remarks.problems.append(_twice(source, patient, sequence, [image for _, image, _ in copies]))
        elif patient not in tables[source].refused:
            record = tables[source].records.get(patient, PatientRecord())
            scan = Scan(patient, sequence, image, mask, record.stage, place.split, source)
            scans.append(replace(scan, age=record.age, sex=record.sex, extra=record.extra))
    _note_gaps(scans, tables, {(source, patient) for source, patient, _ in groups}, remarks)
    return scans


def _places(root: Path) -> Iterator[_Place]:
    for sequence, name in CIRRHOTIC_FOLDERS.items():
        folder = nested(root, name)
        for split in SPLITS:
            images, masks = f"{split}_images", f"{split}_masks"
            yield _Place("cirrhotic", sequence, split, nested(folder, images), nested(folder, masks))
    for sequence, short in (("T1W", "T1"), ("T2W", "T2")):
        folder = nested(nested(root, HEALTHY_FOLDER), f"{short}_W_Healthy")
        images, masks = f"{short}_images", f"{short}_masks"
        yield _Place("healthy", sequence, None, nested(folder, images), nested(folder, masks))


def _pairs(place: _Place, remarks: Remarks) -> Iterator[tuple[str, Path, Path | None]]:
    """Patient, image and mask (or None) of every scan in a place; a mask without its scan is a problem."""
    images, masks = _files(place.images, remarks), _files(place.masks, remarks)
    for patient, path in images:
        matching = [mask for other, mask in masks if other == patient]
        if len(matching) > 1:
            remarks.problems.append(_twice(place.source, patient, f"{place.sequence} mask", matching))
        yield patient, path, matching[0] if len(matching) == 1 else None
    known = {patient for patient, _ in images}
    for patient, path in masks:
        if patient not in known:
            remarks.problems.append(
                InputError(
                    path,
                    "a mask without its scan",
                    f"{path.name} in {place.images}",
                    "Restore the scan (was the archive unpacked to the end?) or take the mask away.",
                ).about(f"{place.source}/{patient}")
            )


def _files(folder: Path, remarks: Remarks) -> list[tuple[str, Path]]:
    """Patient ids and NIfTI files of a folder; hidden files are what systems leave behind."""
    if not folder.is_dir():
        return []
    files, others = [], []
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        problem = f"a folder that cannot be read ({error.strerror or error})"
        remarks.problems.append(InputError(folder, problem, "a readable folder", "Check its rights and the disk."))
        return []
    for path in paths:
        name = _NIFTI.fullmatch(path.name)
        if path.name.startswith("."):
            continue
        if name is not None and path.is_symlink() and not path.exists():
            remarks.problems.append(
                InputError(path, "a link to a file that is not there", "a scan", "Fetch the file, or remove the link.")
            )
            continue
        if name is None or not path.is_file():
            others.append(path.name)
            continue
        try:
            files.append((fields.whole_number_id(name[1]), path))
        except ValueError as error:
            remarks.problems.append(
                InputError(folder, f"a file named {path.name!r:.120}", str(error), "Rename the file after its patient.")
            )
    if others:
        remarks.notes.append(f"{folder}: skipped files that are not NIfTI: {listed(map(repr, others))}")
    return files


def _twice(source: str, patient: str, what: str, paths: list[Path]) -> InputError:
    return InputError(
        f"patient {patient} {what}",
        f"{len(paths)} files: {listed(paths)}",
        "one file",
        "Keep the one that is right; a patient in two splits is tested on what was trained.",
    ).about(f"{source}/{patient}")


def _note_gaps(
    scans: list[Scan], tables: dict[str, PatientTables], scanned: set[tuple[str, str]], remarks: Remarks
) -> None:
    """Note scans without a mask, patients without a row or a stage, and rows without a scan."""
    scans = sorted(scans, key=lambda scan: fields.natural_order(scan.name))
    for source, table in tables.items():
        group = [scan for scan in scans if scan.source == source]
        unmasked = [scan.name for scan in group if scan.mask is None]
        unlisted = dict.fromkeys(scan.patient for scan in group if scan.patient not in table.records)
        staged = {patient for patient, record in table.records.items() if record.stage or source == "healthy"}
        unstaged = dict.fromkeys(scan.patient for scan in group if scan.patient in set(table.records) - staged)
        absent = [patient for patient in table.records if (source, patient) not in scanned]
        for names, words in (
            (unmasked, "scans without a liver mask"),
            (unlisted, f"{source} patients that stand in no table" if table.paths else f"{source} patients, no table"),
            (unstaged, "patients whose table names no stage"),
            (absent if group else (), f"{source} patients of the tables without a scan here"),
        ):
            if names:
                remarks.notes.append(f"{words}: {len(names)} ({listed(names)})")


@dataclass(frozen=True)
class PatientRecord:
    """What the tables hold of one patient."""

    stage: str | None = None
    age: float | None = None
    sex: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PatientTables:
    """Patients of one source by id, the ids whose rows are wrong, and the files that were read."""

    records: dict[str, PatientRecord]
    refused: set[str]
    paths: tuple[Path, ...]


def read_patient_tables(root: Path, source: str, remarks: Remarks) -> PatientTables:
    """All tables of "cirrhotic" or "healthy" patients under root (at the root or in Metadata/), taken together.

    The complete table comes before the paired one and those of one sequence: where ages or sexes differ between
    tables the first is believed and a note tells it. Stages that differ are a problem.
    """
    entries: dict[str, list[tuple[Row, PatientRecord]]] = defaultdict(list)
    refused: set[str] = set()
    tables = _tables(root, source)
    for path in tables:
        try:
            columns, rows = read_rows(path, remarks.problems)
            id_column = _judge_columns(path, columns, source)
        except InputError as error:
            remarks.problems.append(error)
            continue
        for row in rows:
            patient, record = _read_row(row, id_column, source, remarks)
            if patient is not None and record is not None:
                entries[patient].append((row, record))
            elif patient is not None:
                refused.add(patient)
    records = {}
    for patient, rows_of in entries.items():
        contradiction = _contradiction(patient, rows_of)
        if contradiction is None:
            records[patient] = _combine([record for _, record in rows_of])
        else:
            remarks.problems.append(contradiction)
            refused.add(patient)
    _note_differences(entries, refused, remarks)
    return PatientTables(records, refused, tuple(tables))


def _tables(root: Path, source: str) -> list[Path]:
    def fits(path: Path) -> bool:
        name = path.name.lower()
        if name.startswith(".") or not name.endswith(".csv"):
            return False
        return "healthy" in name if source == "healthy" else "age_gender_evaluation" in name

    def rank(path: Path) -> tuple[bool, bool, str]:
        name = path.name.lower()
        return "complete" not in name, "paired" not in name, str(path)

    places = (root, root / "Metadata", root / "Metadata" / "Metadata")
    return sorted((path for place in places if place.is_dir() for path in place.iterdir() if fits(path)), key=rank)


def _judge_columns(path: Path, columns: list[str], source: str) -> str:
    """The name of the id column; InputError if one that is needed is missing."""
    id_column = next((name for name in _ID if name in columns), None)
    needed = () if source == "healthy" else (_STAGE,)
    if id_column is None or not set(needed) <= set(columns):
        raise InputError(
            path,
            f"the columns {', '.join(columns)}",
            " and ".join(("Patient ID (or ID)", *(name.title() for name in needed))),
            "Restore the published file, or rename its columns.",
        )
    return id_column


def _read_row(row: Row, id_column: str, source: str, remarks: Remarks) -> tuple[str | None, PatientRecord | None]:
    """Id and record; None for what could not be understood, with every problem of the row added to `remarks`."""
    parsers: dict[str, Callable[[str | None], Any]] = {
        id_column: fields.whole_number_id,
        _STAGE: (lambda text: None) if source == "healthy" else fields.stage,
        _AGE: fields.age,
        _SEX: lambda text: fields.sex(text, fields.PUBLISHED_SEX),
    }
    values: dict[str, Any] = {}
    for column, parse in parsers.items():
        try:
            values[column] = parse(row.cells.get(column))
        except ValueError as error:
            patient = "" if column == id_column else f", patient {row.cells[id_column]!r:.80}"
            problem = f"{row.cells.get(column)!r:.80} in the column {column}"
            remarks.problems.append(InputError(row.where + patient, problem, str(error), _CORRECT))
    extra = {name: text for name, text in row.cells.items() if name not in parsers and text}
    whole = len(values) == len(parsers)
    record = PatientRecord(values[_STAGE], values[_AGE], values[_SEX], extra) if whole else None
    return values.get(id_column), record


def _contradiction(patient: str, entries: list[tuple[Row, PatientRecord]]) -> InputError | None:
    """A problem if two rows name different stages, or two rows of one table differ in anything."""
    remedy = "Keep the row that is right."
    stages = {record.stage: row for row, record in entries if record.stage}
    if len(stages) > 1:
        problem = "different stages: " + ", ".join(f"{stage} ({row.where})" for stage, row in stages.items())
        return InputError(f"patient {patient}", problem, "one stage per patient", remedy)
    first: dict[Path, tuple[Row, PatientRecord]] = {}
    for row, record in entries:
        earlier, other = first.setdefault(row.path, (row, record))
        if record != other:
            problem = f"patient {patient} again, otherwise than in line {earlier.line}"
            return InputError(row.where, problem, "one row per patient", remedy)
    return None


def _combine(records: list[PatientRecord]) -> PatientRecord:
    """Each field from the first record that has it."""

    def first(name: str) -> Any:
        return next((value for value in (getattr(record, name) for record in records) if value is not None), None)

    extra = {name: value for record in reversed(records) for name, value in record.extra.items()}
    return PatientRecord(first("stage"), first("age"), first("sex"), extra)


def _note_differences(
    entries: Mapping[str, list[tuple[Row, PatientRecord]]], refused: set[str], remarks: Remarks
) -> None:
    kept = {patient: rows for patient, rows in entries.items() if patient not in refused}
    twice = [patient for patient, rows in kept.items() if len({row.path for row, _ in rows}) < len(rows)]
    if twice:
        remarks.notes.append(f"rows that repeat an earlier one, word for word: patients {listed(twice)}")
    for name in ("age", "sex"):
        values = {patient: {getattr(record, name) for _, record in rows} - {None} for patient, rows in kept.items()}
        if differing := [patient for patient in kept if len(values[patient]) > 1]:
            remarks.notes.append(f"the tables differ in the {name} of patients {listed(differing)}; the first is taken")
