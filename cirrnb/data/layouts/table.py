"""A CSV table of scans, one row a scan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cirrnb.data.csv_file import Row, read_rows
from cirrnb.data.errors import InputError, Remarks, listed
from cirrnb.data.layouts import fields
from cirrnb.data.scan import Scan
from cirrnb.data.sequences import T1W_T2W, other_sequence, parse_sequence
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.data.typed_paths import find_typed, is_of_windows

REQUIRED = ("patient", "sequence", "image")
OPTIONAL = ("mask", "stage", "split", "age", "sex", "source")

_CORRECT = "Correct the cell, or leave it empty if the value is unknown."
_REMEDIES = {
    "stage": f"{_CORRECT} Another scale is named by stages, as in F0, F1, F2, F3, F4.",
    "sequence": "Correct the cell. Other sequences are named by sequences, as in T1W, T2W, DWI.",
}
_Parsers = dict[str, Callable[[str | None], Any]]


@dataclass(frozen=True)
class _Entry:
    row: Row
    scan: Scan


def read_table(
    path: Path,
    remarks: Remarks,
    stages: StageScale = CIRRHOSIS,
    sequences: Sequence[str] = T1W_T2W,
    skip_others: bool = False,
) -> list[Scan]:
    """The scans that a CSV file lists; what is wrong or odd is added to `remarks`.

    Columns, in any order and case: patient, sequence (one of `sequences`; T1W and T2W spelt as people do), image, and
    optionally mask, stage (one of `stages`; mild, moderate, severe also as 1, 2, 3), split, age, sex (female, male, f,
    m) and source; any other column goes to `Scan.extra` under its name in lower case. Relative paths start at the
    table's folder. Without a source column the source is the table's name.

    A row of another sequence is a problem; with `skip_others` it is skipped and noted.

    Raises
    ------
    InputError
        If the file is not a CSV table or a required column is missing.
    """
    columns, rows = fields.named_columns(*read_rows(path, remarks.problems), (*REQUIRED, *OPTIONAL))
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise InputError(
            path,
            f"the columns {', '.join(filter(None, columns))}",
            f"the columns {', '.join(REQUIRED)} (and, if known, {', '.join(OPTIONAL)})",
            f"Add or rename: {', '.join(missing)}.",
        )
    unknown = [name for name in columns if name and name not in (*REQUIRED, *OPTIONAL)]
    if unknown:
        remarks.notes.append(f"further columns kept as they are: {listed(unknown)}")
    if "stage" not in columns:
        remarks.notes.append("no column named stage: all patients are unstaged")
    default = fields.source_of(path.stem, "table")
    parsers: _Parsers = {
        "patient": fields.patient_id,
        "sequence": partial(parse_sequence, sequences=sequences),
        "stage": partial(fields.stage, stages=stages),
        "split": fields.split,
        "age": fields.age,
        "sex": fields.sex,
        "source": lambda text: fields.patient_id(text) if fields.cell(text) else default,
    }
    if skip_others:
        others = [other_sequence(row.cells.get("sequence"), sequences) for row in rows]
        rows = [row for row, other in zip(rows, others, strict=True) if other is None]
        if skipped := [other for other in others if other is not None]:
            remarks.notes.append(f"scans of other sequences, not read: {len(skipped)} ({listed(sorted(set(skipped)))})")
    entries = [entry for row in rows if (entry := _read_row(row, parsers, remarks)) is not None]
    entries = _without_copies(entries, remarks)
    entries = _without_collisions(entries, remarks, lambda scan: scan.name, _same_scan)
    entries = _without_collisions(entries, remarks, lambda scan: file_identity(scan.image), _same_file)
    entries = _without_collisions(entries, remarks, lambda scan: scan.subject, _contradictions)
    return _completed([entry.scan for entry in entries])


def _read_row(row: Row, parsers: _Parsers, remarks: Remarks) -> _Entry | None:
    """The row's scan; None if anything in it is wrong, with every problem added to `remarks`."""
    values: dict[str, Any] = {}
    problems: list[InputError] = []
    for name, parse in parsers.items():
        try:
            values[name] = parse(row.cells.get(name))
        except ValueError as error:
            description = f"{row.cells.get(name)!r:.80} in the column {name}"
            problems.append(InputError(row.where, description, str(error), _REMEDIES.get(name, _CORRECT)))
    for name in ("image", "mask"):
        try:
            values[name] = _file(row, name)
        except InputError as error:
            problems.append(error)
    if "patient" in values and "source" in values:
        problems = [problem.about(f"{values['source']}/{values['patient']}") for problem in problems]
    remarks.problems.extend(problems)
    extra = {name: fields.cell(text) for name, text in row.cells.items() if name not in (*REQUIRED, *OPTIONAL)}
    return None if problems else _Entry(row, Scan(**values, extra=extra))


def _file(row: Row, column: str) -> Path | None:
    """The file that a cell names; None for a mask that is not named. Raises InputError for any other cell."""
    text = fields.cell(row.cells.get(column))
    if text is None:
        if column == "image":
            raise InputError(row.where, "no image", "the path of a NIfTI file", "Fill the cell or remove the row.")
        return None
    remedy = "Correct the path; relative paths start at the table's folder."
    try:
        path = find_typed(row.path.parent, text)
        if path.is_file():
            return path
        problem = f"a folder as {column}: {text!r}" if path.is_dir() else f"no such file as {column}: {text!r}"
        if is_of_windows(text):
            remedy = "Give a path of this computer, best one relative to the table's folder."
    except OSError:  # a name that no file system takes
        problem = f"an impossible file name as {column}: {text!r:.80}"
    except ValueError as error:  # likewise, or several files that may be meant
        problem = f"a file name as {column} that cannot be used ({error}): {text!r:.80}"
    raise InputError(row.where, problem, "a NIfTI file (.nii.gz or .nii)", remedy)


def _without_copies(entries: list[_Entry], remarks: Remarks) -> list[_Entry]:
    """The rows without those that repeat an earlier one word for word, which do no harm and are noted."""
    first: dict[tuple[tuple[str, str], ...], _Entry] = {}
    lines = []
    for entry in entries:
        cells = tuple(sorted(entry.row.cells.items()))
        if cells in first:
            lines.append(entry.row.line)
        first.setdefault(cells, entry)
    if lines:
        remarks.notes.append(f"rows that repeat an earlier one, word for word, skipped: lines {listed(lines)}")
    return list(first.values())


def _without_collisions(
    entries: list[_Entry],
    remarks: Remarks,
    key: Callable[[Scan], str],
    problems_of: Callable[[str, list[Scan]], list[InputError]],
) -> list[_Entry]:
    """The rows without all groups that share a key and in which `problems_of` (where, scans) finds a problem."""
    groups: dict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry.scan)].append(entry)
    refused: set[str] = set()
    for name, group in groups.items():
        scans = [entry.scan for entry in group]
        where = f"{group[0].row.path}, lines {listed(entry.row.line for entry in group)}"
        problems = problems_of(where, scans) if len(group) > 1 else []
        if problems:
            refused.add(name)
        subjects = dict.fromkeys(scan.subject for scan in scans)
        remarks.problems.extend(problem.about(*subjects) for problem in problems)
    return [entry for entry in entries if key(entry.scan) not in refused]


def _same_scan(where: str, scans: list[Scan]) -> list[InputError]:
    problem = f"the {scans[0].sequence} scan of patient {scans[0].patient} {len(scans)} times, differently"
    remedy = "Keep the row that is right, or give the patients ids of their own."
    return [InputError(where, problem, "one row for each patient and sequence", remedy)]


def _same_file(where: str, scans: list[Scan]) -> list[InputError]:
    return [shared_file(where, scans)]


def _contradictions(where: str, scans: list[Scan]) -> list[InputError]:
    """Different stages or sexes of one patient. Ages may differ between exams; `cirrnb.data.splits` judges splits."""
    problems = []
    for name in ("stage", "sex"):
        values = sorted({getattr(scan, name) for scan in scans} - {None})
        if len(values) > 1:
            problem = f"patient {scans[0].patient} with the {name}s {' and '.join(values)}"
            problems.append(InputError(where, problem, f"one {name} per patient", "Keep the one that is right."))
    return problems


def _completed(scans: list[Scan]) -> list[Scan]:
    """Stage and sex belong to the patient: a value in one row holds for the patient's other rows too."""
    known: dict[tuple[str, str], str] = {}
    for scan in scans:
        for name in ("stage", "sex"):
            if getattr(scan, name) is not None:
                known[scan.subject, name] = getattr(scan, name)
    return [
        replace(scan, stage=known.get((scan.subject, "stage")), sex=known.get((scan.subject, "sex"))) for scan in scans
    ]


def file_identity(path: Path) -> str:
    """An identifier of the file itself, equal for all its names, hard links included."""
    try:
        status = path.stat()
    except OSError:  # reported where the file is opened
        return str(path.resolve())
    return f"{status.st_dev} {status.st_ino}" if status.st_ino else str(path.resolve())


def shared_file(where: object, scans: Sequence[Scan]) -> InputError:
    """The problem of several scans that are one file."""
    return InputError(
        where,
        f"one file for {listed(scan.name for scan in scans)}: {scans[0].image}",
        "a file of its own for each patient and sequence",
        "Correct the paths; one scan under two names leaks from training to test.",
    )


def without_repeated(scans: Sequence[Scan], remarks: Remarks) -> list[Scan]:
    """The scans whose file no other scan has; those that share a file are problems and excluded."""
    groups: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        groups[file_identity(scan.image)].append(scan)
    for group in groups.values():
        if len(group) > 1:
            subjects = dict.fromkeys(scan.subject for scan in group)
            remarks.problems.append(shared_file(group[0].image, group).about(*subjects))
    return [scan for scan in scans if len(groups[file_identity(scan.image)]) == 1]
