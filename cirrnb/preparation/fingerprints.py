"""Hashes of files' contents, remembered from call to call."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object


class Fingerprints:
    """Hashes of files' contents, remembered between calls as long as a file looks untouched.

    Files are known by a hash of their path, so that the folder of prepared scans names no patient. A file that was
    changed just before it was read is read again next time, since a second change could have the same time stamp.
    """

    _SETTLED = 2_000_000_000  # ns; the coarsest time stamps in use (FAT) are 2 s apart

    def __init__(self, path: Path):
        self._path = path
        self._new: dict[str, list[Any]] = {}

    @cached_property
    def _known(self) -> dict[str, list[Any]]:
        return self._load()

    def _load(self) -> dict[str, list[Any]]:
        try:
            known = read_object(self._path, "a whole file", "Delete it.", 2**28)
            return {name: entry for name, entry in known.items() if [type(part) for part in entry] == [list, int, str]}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def recall(self, path: Path) -> str | None:
        """The content hash of a file that has not changed since it was last hashed, or None."""
        try:
            status = path.stat()
        except OSError:
            return None
        seen, when, content = self._known.get(_name(path), ([], 0, ""))
        settled = max(status.st_mtime_ns, status.st_ctime_ns) < when - self._SETTLED
        return content if settled and seen == look(status) else None

    def learn(self, path: Path, entry: list[Any]) -> None:
        """Remember what `fingerprint` returned for a file."""
        self._new[_name(path)] = entry

    def save(self) -> None:
        """Write the new fingerprints atomically, together with those that other processes wrote meanwhile.

        It is a convenience: where it cannot be written, files are hashed again next time."""
        if not self._new:
            return
        with suppress(OSError):
            atomic_write(self._path, json.dumps({**self._load(), **self._new}))


def fingerprint(path: Path) -> list[Any]:
    """[what the file looks like (size, times, inode), when it was looked at (ns), SHA-256 of its bytes].

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        when, status = time.time_ns(), path.stat()
        with path.open("rb") as file:
            return [look(status), when, hashlib.file_digest(file, "sha256").hexdigest()]
    except OSError as error:
        raise InputError(
            path, f"a file that cannot be read ({error.strerror})", "a NIfTI file", "Correct the path or restore it."
        ) from error


def look(status: os.stat_result) -> list[int]:
    """What a file looks like without opening it: another look means that it was touched."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:24]
