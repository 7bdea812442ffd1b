"""A folder that one command at a time writes in, and temporary folders that do not outlive their process.

The locks are the system's own: they end with their process, however that ends.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
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
