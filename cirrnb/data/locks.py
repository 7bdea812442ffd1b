"""A folder that one command at a time writes in, and temporary folders that do not outlive their process.

The locks are the system's own, taken by filelock: they end with their process, however that ends, also where process
numbers are reused or belong to another container. They hold on one machine, containers included, and on network file
systems that hand locks on.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from platform import node

from filelock import FileLock, Timeout

from cirrnb.data.atomic_files import move_into_place
from cirrnb.data.errors import InputError
from cirrnb.data.failure_kinds import is_full, printable

PATIENCE = 5.0
"""Seconds to wait for a run that is just ending."""

PREFIX = "cirrnb-"
FORGOTTEN = 24 * 3600
"""Seconds after which a temporary folder without an owner's file is taken for left behind."""

_OWNER = ".owner"


@contextmanager
def locked(folder: Path, patience: float = PATIENCE, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep other commands out of a folder until the block, or this process, ends. The folder is made if need be.

    The lock is held on the file `.lock`, which names the holder. The file alone, without the lock, holds nothing.

    Parameters
    ----------
    patience : seconds to wait for another command that holds the folder.
    waiting : called once when there is something to wait for.

    Raises InputError if another command holds the folder for longer, or the folder cannot be written.
    """
    with _telling(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / ".lock", folder, patience, waiting):
        yield


@contextmanager
def claimed(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Keep other commands from making `path` (a folder that does not exist yet) until the block ends.

    The lock is held on `.<name>.lock` in the same folder. Raises InputError as `locked`.
    """
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _held(claim_of(path), path, patience, lambda: None):
        yield


def claim_of(path: Path) -> Path:
    """The file that is locked while `path` is claimed."""
    # A name may have 255 bytes, and letters up to four.
    return path.with_name(f".{path.name.encode()[:100].decode(errors='ignore')}.lock")


@contextmanager
def at_work(lock: Path) -> Iterator[None]:
    """Hold a lock of this run's own, by which others see that it lives: see `is_held`.

    Where the folder cannot be written or its file system has no locks, nothing is held, and others judge by age.
    """
    held = _lock(lock)
    with suppress(OSError):
        held.acquire(timeout=0)
    try:
        yield
    finally:
        if held.is_locked:
            _release(held, lock)


def is_held(lock: Path) -> bool | None:
    """True while the process that holds a lock lives, on any machine; None if that is unknown."""
    if not lock.exists():
        return False
    probe = _lock(lock)
    try:
        probe.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return None
    probe.release()
    return False


@contextmanager
def scratch_folder(where: str | None = None) -> Iterator[Path]:
    """A new folder that only this user can enter, gone at the end; in `where`, or where temporary files go.

    While the process lives it holds a lock on a file in the folder, so that `sweep` knows what was left behind.
    """
    sweep(where)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
    try:
        with _lock(folder / f"{_OWNER}.new"):
            if sys.platform != "win32":  # there, an open file cannot be renamed; age decides
                move_into_place(folder / f"{_OWNER}.new", folder / _OWNER)  # never there without its lock
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(where: str | None = None) -> None:
    """Remove this user's folders whose processes were killed before they could."""
    for folder in Path(where or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
            owned = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            if owned and folder.is_dir() and not folder.is_symlink() and _left_behind(folder, status.st_mtime):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # gone meanwhile


def _left_behind(folder: Path, changed: float) -> bool:
    if (folder / _OWNER).exists():
        return is_held(folder / _OWNER) is False
    return time.time() - changed > FORGOTTEN


@contextmanager
def _held(lock: Path, where: Path, patience: float, waiting: Callable[[], None]) -> Iterator[None]:
    held = _lock(lock)
    try:
        with _telling(where):
            held.acquire(timeout=0)
    except Timeout:
        waiting()
        try:
            held.acquire(timeout=patience)
        except Timeout:
            problem = f"a folder that is being written: another run at work in it{_holder(lock)}"
            raise InputError(where, problem, "one at a time", "Wait for it to end.") from None
    try:
        with suppress(OSError):  # on Windows only the handle that holds the lock can write the file
            lock.write_text(f"process {os.getpid()} on {node()}, since {time.strftime('%H:%M on %d %B %Y')}")
        yield
    finally:
        _release(held, lock)


@contextmanager
def _telling(where: Path) -> Iterator[None]:
    """Raise InputError for a folder in which nothing can be written; a full disk stays the OSError that it is."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        if is_full(error):
            raise
        problem, expected = f"no way to write there ({error.strerror or error})", "a folder that can be written"
        raise InputError(where, problem, expected, "Choose another folder.") from error


def _lock(lock: Path) -> FileLock:
    return FileLock(lock, poll_interval=0.2, fallback_to_soft=False)  # a file's mere presence proves nothing


def _release(held: FileLock, lock: Path) -> None:
    with suppress(OSError):  # on Windows an open file cannot be removed; there filelock removes it
        lock.unlink()
    held.release()


def _holder(lock: Path) -> str:
    """The holder named in a lock file, in brackets; empty where it names none."""
    with suppress(OSError):
        shown = printable(lock.read_text(errors="replace")[:200])
        return f" ({shown})" if shown else ""
    return ""
