"""Rows and files of one patient in a cohort that DICOM studies were imported into."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from cirrnb.data.atomic_files import folder_name
from cirrnb.data.csv_file import read_rows, write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.layouts.folder import OTHERS, TABLE
from cirrnb.data.locks import locked


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a table; none where there is no such file. Raises InputError where it cannot be read."""
    if not path.exists():
        return []
    problems: list[InputError] = []
    rows = [dict(row.cells) for row in read_rows(path, problems)[1]]
    if problems:
        raise problems[0]
    return rows


def rows_of(cohort: Path, patient: str) -> list[Mapping[str, str]]:
    """The rows of a patient in the cohort's table, one a scan. Raises InputError where it cannot be read."""
    return [row for row in read_table(cohort / TABLE) if row.get("patient") == patient]


def remove_patient(cohort: Path, patient: str) -> list[Path]:
    """Remove a patient's rows, then the folder with the scans; what was removed or rewritten.

    Stopped between the two, the folder is left without a row, and the next call removes it.

    Raises InputError if another command is at work in the cohort, or a table cannot be read.
    """
    removed: list[Path] = []
    scans = cohort / folder_name(patient)
    tables = {name: read_table(cohort / name) for name in (TABLE, OTHERS)}
    named = [name for name, rows in tables.items() if any(row.get("patient") == patient for row in rows)]
    if not named and not scans.is_dir():
        return removed
    with locked(cohort):
        for name in named:
            rows = read_table(cohort / name)
            kept = [row for row in rows if row.get("patient") != patient]
            if kept:
                write_csv(cohort / name, kept, list(rows[0]))
            else:
                (cohort / name).unlink()
            removed.append(cohort / name)
        if scans.is_dir():
            shutil.rmtree(scans)
            removed.append(scans)
    return removed
