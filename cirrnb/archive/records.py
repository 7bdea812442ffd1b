"""What a cohort remembers of an archive, a file a study or patient: no name, no UID and no address, only hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError
from cirrnb.data.failure_kinds import is_full
from cirrnb.data.json_file import read_object

FOLDER = ".archive"


def read_record(cohort: Path, name: str) -> dict[str, Any]:
    """The record of this name; empty where there is none, or one that is not whole."""
    try:
        return dict(read_object(_path(cohort, name), "a whole record", "Delete it."))
    except (OSError, InputError):
        return {}


def write_record(cohort: Path, name: str, **facts: Any) -> None:
    """Add facts to the record of this name, atomically. On a full disk it stays as it was: the next run then asks the
    archive again. Raises OSError for other reasons."""
    path = _path(cohort, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(read_record(cohort, name) | facts, indent=1) + "\n")
    except OSError as error:
        if not is_full(error):
            raise


def records_of(cohort: Path, *names: str) -> list[Path]:
    """The files of these records that exist."""
    return [path for path in (_path(cohort, name) for name in names) if path.is_file()]


def _path(cohort: Path, name: str) -> Path:
    return cohort / FOLDER / f"{name}.json"
