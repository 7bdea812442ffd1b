"""Stage, age and sex of the published patients, from the CSV files beside the scans.

Column names, codes and the places where people's copies keep the files: Jha et al., Scientific Data 12, 896 (2025),
and data doi 10.17605/OSF.IO/CUK24.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cirrnb.data.errors import InputError, Remarks, listed
from cirrnb.data.layouts import fields
from cirrnb.data.layouts.tabular import Row, read_rows

_ID = ("patient id", "id")
_STAGE, _AGE, _SEX = "radiological evaluation", "age", "gender"
_CORRECT = "Correct the cell; if nobody knows, leave it empty."


@dataclass(frozen=True)
class Person:
    """What the tables tell of one patient."""

    stage: str | None = None
    age: float | None = None
    sex: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class People:
    """Patients of one source by id, and the ids that stand in the tables with something wrong."""

    known: dict[str, Person]
    spoiled: set[str]
    tables: tuple[Path, ...]


def read_people(root: Path, source: str, remarks: Remarks) -> People:
    """All tables of "cirrhotic" or "healthy" patients under root (at the root or in Metadata/), taken together.

    The complete table comes before the paired one and those of one sequence: where ages or sexes differ between
    tables the first is believed and a note tells it. Stages that differ are a problem.
    """
    entries: dict[str, list[tuple[Row, Person]]] = defaultdict(list)
    spoiled: set[str] = set()
    tables = _tables(root, source)
    for path in tables:
        try:
            columns, rows = read_rows(path, remarks.problems)
            id_column = _judge_columns(path, columns, source)
        except InputError as error:
            remarks.problems.append(error)
            continue
        for row in rows:
            patient, person = _read_row(row, id_column, source, remarks)
            if patient is not None and person is not None:
                entries[patient].append((row, person))
            elif patient is not None:
                spoiled.add(patient)
    known = {}
    for patient, told in entries.items():
        contradiction = _contradiction(patient, told)
        if contradiction is None:
            known[patient] = _combine([person for _, person in told])
        else:
            remarks.problems.append(contradiction)
            spoiled.add(patient)
    _note(entries, spoiled, remarks)
    return People(known, spoiled, tuple(tables))


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


def _read_row(row: Row, id_column: str, source: str, remarks: Remarks) -> tuple[str | None, Person | None]:
    """Id and person; None for what could not be understood, with every problem of the row told."""
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
            found = f"{row.cells.get(column)!r:.80} in the column {column}"
            remarks.problems.append(InputError(row.where + patient, found, str(error), _CORRECT))
    extra = {name: text for name, text in row.cells.items() if name not in parsers and text}
    whole = len(values) == len(parsers)
    person = Person(values[_STAGE], values[_AGE], values[_SEX], extra) if whole else None
    return values.get(id_column), person


def _contradiction(patient: str, told: list[tuple[Row, Person]]) -> InputError | None:
    """A problem if two rows name different stages, or two rows of one table differ in anything."""
    stages = {person.stage: row for row, person in told if person.stage}
    repeated: dict[Path, tuple[Row, Person]] = {}
    differing = [(repeated.setdefault(row.path, (row, person)), (row, person)) for row, person in told]
    pair = next((pair for pair in differing if pair[0][1] != pair[1][1]), None)
    if len(stages) > 1:
        found = "different stages: " + ", ".join(f"{stage} ({row.where})" for stage, row in stages.items())
        return InputError(f"patient {patient}", found, "one stage per patient", "Keep the row that is right.")
    if pair:
        return InputError(
            pair[1][0].where,
            f"patient {patient} again, otherwise than in line {pair[0][0].line}",
            "one row per patient",
            "Keep the row that is right.",
        )
    return None


def _combine(told: list[Person]) -> Person:
    """The first thing that any row tells of each field."""

    def first(name: str) -> Any:
        return next((value for value in (getattr(person, name) for person in told) if value is not None), None)

    extra = {name: value for person in reversed(told) for name, value in person.extra.items()}
    return Person(first("stage"), first("age"), first("sex"), extra)


def _note(entries: Mapping[str, list[tuple[Row, Person]]], spoiled: set[str], remarks: Remarks) -> None:
    kept = {patient: told for patient, told in entries.items() if patient not in spoiled}
    twice = [patient for patient, told in kept.items() if len({row.path for row, _ in told}) < len(told)]
    if twice:
        remarks.notes.append(f"rows that repeat an earlier one, word for word: patients {listed(twice)}")
    for name in ("age", "sex"):
        differing = [
            patient for patient, told in kept.items() if len({getattr(person, name) for _, person in told} - {None}) > 1
        ]
        if differing:
            remarks.notes.append(f"the tables differ in the {name} of patients {listed(differing)}; the first is taken")
