"""Private temporary folders that do not outlive the process that made them, or not for long."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "cirrnb-"
FORGOTTEN = 24 * 3600
"""Seconds after which a folder without an owner's file is taken for left behind."""

_OWNER = ".owner"


@contextmanager
def scratch_folder(where: str | None = None) -> Iterator[Path]:
    """A new folder that only this user can enter, gone at the end; in `where`, or where temporary files go.

    While the process lives it holds a lock on a file in the folder. The system lets go of it however the process ends,
    so that `sweep` knows what was left behind, also where process numbers are used anew or belong to another container.
    """
    sweep(where)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
    try:
        with (folder / f"{_OWNER}.new").open("wb") as owner:
            _lock(owner.fileno())
            if sys.platform != "win32":
                (folder / f"{_OWNER}.new").rename(folder / _OWNER)  # never there without its lock
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(where: str | None = None) -> None:
    """Remove this user's folders whose processes were killed before they could."""
    for folder in Path(where or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
            mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            if mine and folder.is_dir() and not folder.is_symlink() and _left_behind(folder, status.st_mtime):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # gone meanwhile


def _left_behind(folder: Path, changed: float) -> bool:
    owner = folder / _OWNER
    if sys.platform == "win32" or not owner.exists():
        return time.time() - changed > FORGOTTEN
    with owner.open("rb") as file:
        return _lock(file.fileno())


def _lock(descriptor: int) -> bool:
    """Take the lock; False where another process has it."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
