"""The folder of prepared scans: keyed by content and settings, whole or absent, safe to share and to delete."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.atomic_files import WRITING, move_into_place
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.locks import at_work, is_held
from cirrnb.data.prepared import PreparationSettings, PreparedScan, read_description
from cirrnb.data.scan import Scan

VERSION = 1
"""Part of every key. Raise it when the same file and settings come out otherwise than before."""

JUDGED = 1
"""Part of each description. Raise it when more is judged or noted of the same files, so that scans of before are looked
at again; their keys, by which trainings and pages know them, stay."""

FORGOTTEN = 24 * 3600
"""Seconds after which what was half-written is taken for left behind where no lock can tell whether its run lives."""

_RUNNING = ".running-"


class StorageError(InputError):
    """The folder of prepared scans cannot be written: full, read-only or gone. Going on would not help."""


def content_key(
    image: str, mask: str | None, settings: PreparationSettings, view: Mapping[str, Any] | None = None
) -> str:
    """Name of a prepared scan's folder, from the hashes of its files and all that shapes the outcome."""
    content = {"version": VERSION, "image": image, "mask": mask, "settings": settings.stored()}
    if view is not None:
        content["view"] = view
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


class Store:
    """Prepared scans in a folder, one sub-folder each, named by its key.

    A sub-folder is written as `.writing-<key>-<run>-<token>`, then renamed. Several processes may do so at once:
    the first to finish wins, and what they wrote is the same. A run holds the lock `.running-<run>` while it lives, so
    that others see what was left behind; process numbers would not tell between containers.

    `run` is a token that the processes of one run share.
    """

    def __init__(self, folder: Path, run: str | None = None):
        self.folder, self.run = folder, run or secrets.token_hex(8)

    def at_work(self) -> AbstractContextManager[None]:
        """Shows others that this run lives."""
        return at_work(self.folder / f"{_RUNNING}{self.run}")

    def open(self, key: str, scan: Scan) -> PreparedScan | None:
        """The prepared scan of this key, or None where it is absent, half there or damaged."""
        try:
            return PreparedScan.open(self.folder / key, scan) if self.holds(key) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def holds(self, key: str) -> bool:
        """True if the prepared scan of this key is there and whole."""
        return _whole(self.folder / key)

    def write(self, key: str, description: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        """Write what `describe` says of a scan and its arrays (file stem -> array). An undamaged scan of this key
        that stands there already is left as it is.

        Raises
        ------
        StorageError
            If the folder cannot be written.
        """
        partial = self.folder / f"{WRITING}{key}-{self.run}-{secrets.token_hex(4)}"
        try:
            partial.mkdir(parents=True)
            files = {f"{name}.npy": _save(partial / f"{name}.npy", array) for name, array in arrays.items()}
            stored = {**description, "version": VERSION, "judged": JUDGED, "files": files}
            (partial / "prepared.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")
            self._place(partial, self.folder / key)
        except OSError as error:
            raise self._trouble(error, sum(array.nbytes for array in arrays.values())) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _place(self, partial: Path, target: Path) -> None:
        """Rename into place. A damaged folder there is moved away first; an undamaged one stays."""
        try:
            move_into_place(partial, target)
        except OSError:
            if not target.exists():
                raise
            if not _whole(target):
                damaged = partial.with_name(partial.name + "-damaged")
                move_into_place(target, damaged)
                move_into_place(partial, target)
                _remove(damaged)

    def _trouble(self, error: OSError, wanted: int) -> StorageError:
        try:
            free = f"{shutil.disk_usage(self.folder).free / 1e6:,.0f} MB free"
        except OSError:
            free = "no folder that can be looked into"
        return StorageError(
            self.folder,
            f"{error.strerror or error} ({free})",
            f"free space and the right to write prepared scans ({wanted / 1e6:,.0f} MB for this one)",
            "Free some space or choose another folder and call again: what is prepared already is kept.",
        )

    def make(self) -> None:
        """Make the folder. Raises StorageError if that cannot be done."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._trouble(error, 0) from error

    def clean(self) -> None:
        """Remove what runs that were killed left half-written; those at work are left alone."""
        for path in self.folder.glob(f"{WRITING}*"):
            if _left_behind(path):
                _remove(path)
        for lock in self.folder.glob(f"{_RUNNING}*"):
            if lock.name != f"{_RUNNING}{self.run}" and is_held(lock) is False:
                _remove(lock)

    def clean_own(self) -> None:
        """Remove what this run's workers left half-written when they ended."""
        for path in self.folder.glob(f"{WRITING}*-{self.run}-*"):
            _remove(path)


def _whole(folder: Path) -> bool:
    """True if the description can be read, tells all that is judged today, and every file has the size it names."""
    try:
        stored = read_object(folder / "prepared.json", "a whole file", "Prepare it again.")
        files, judged = stored["files"], int(stored.get("judged", 0))
        read_description(folder)
        return judged >= JUDGED and all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _save(path: Path, array: NDArray) -> int:
    """Write an array as .npy and return the file's size. Not `np.save`, whose error hides why a write failed."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data.cast("B"))
        return file.tell()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _left_behind(path: Path) -> bool:
    named = re.fullmatch(r"\.writing-\w+-([0-9a-f]{16})-[0-9a-f]+(-damaged)?", path.name)
    held = is_held(path.parent / f"{_RUNNING}{named[1]}") if named else None
    try:
        return not held if held is not None else time.time() - path.stat().st_mtime > FORGOTTEN
    except OSError:
        return False
