"""A folder that one command at a time writes in. The lock is the system's own, so that it ends with its process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cirrnb.data.errors import InputError

PATIENCE = 5.0
"""Seconds to wait for a run that is just ending."""

_LOOK = 0.2  # seconds between two tries


@contextmanager
def locked(folder: Path, patience: float = PATIENCE, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep other commands out of a folder until the block, or this process, ends. The folder is made if need be.

    The lock is held on the file `.lock`, which says nothing by itself. It holds on one machine, containers included,
    and on network file systems that hand locks on.

    Parameters
    ----------
    patience : seconds to wait for another command that holds the folder.
    waiting : called once when there is something to wait for.

    Raises InputError if another command holds the folder for longer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / ".lock", folder, patience, waiting):
        yield


@contextmanager
def claimed(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Keep other commands from making `path` (a folder that does not exist yet) until the block ends.

    The lock is held on `.<name>.lock` beside it. Raises InputError as `locked`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name may have 255 bytes, and letters up to four.
    lock = path.with_name(f".{path.name.encode()[:100].decode(errors='ignore')}.lock")
    with _held(lock, path, patience, lambda: None):
        yield


@contextmanager
def at_work(lock: Path) -> Iterator[None]:
    """Hold a lock of this run's own, by which others see that it lives: see `is_held`.

    Where the folder cannot be written or its file system knows no locks, nothing is held; then age has to tell.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            file = stack.enter_context(lock.open("a+b"))
            stack.callback(_remove, lock)
            _take(file.fileno())
        yield


def _remove(lock: Path) -> None:
    with suppress(OSError):  # on Windows an open file cannot be removed
        lock.unlink()


def is_held(lock: Path) -> bool | None:
    """True while the process that holds a lock lives, on whichever machine; None where that cannot be told."""
    try:
        with lock.open("r+b") as file:
            return not _take(file.fileno())
    except FileNotFoundError:
        return False
    except OSError:
        return None


@contextmanager
def _held(lock: Path, where: Path, patience: float, waiting: Callable[[], None]) -> Iterator[None]:
    until, told = time.monotonic() + patience, False
    while True:
        with lock.open("a+b") as file:
            # Whoever held it may have removed it meanwhile: then the lock of a file that is gone keeps nobody out.
            if _take(file.fileno()) and _is_there(lock, file.fileno()):
                try:
                    yield
                finally:
                    _remove(lock)
                return
        if time.monotonic() > until:
            raise InputError(where, "another run at work in it", "one at a time", "Wait for it to end.")
        if not told:
            waiting()
            told = True
        time.sleep(_LOOK)


def _is_there(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _take(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except PermissionError:  # how Windows says it
        return False
    return True
