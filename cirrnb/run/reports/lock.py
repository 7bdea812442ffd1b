"""A folder that one run at a time works in. The lock is the system's own, so that it ends with its process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cirrnb.data.errors import InputError

PATIENCE = 5.0
"""Seconds to wait for a run that is just ending."""


@contextmanager
def locked(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Keep other runs out of a folder until the block, or this process, ends.

    The file `.lock` stays behind and says nothing by itself. It holds on one machine, and on network file systems that
    hand locks on.

    Raises InputError if another run holds the folder for longer than `patience` seconds.
    """
    with (folder / ".lock").open("a+b") as file:
        until = time.monotonic() + patience
        while not _take(file.fileno()):
            if time.monotonic() > until:
                raise InputError(
                    folder, "another run at work in it", "a folder of its own for each run", "Wait for it to end."
                )
            time.sleep(0.2)
        yield


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
