"""Files that are whole or absent."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITING = ".writing-"
"""How the temporary names begin. What a killed run left under them may be removed once nobody writes there."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to `path` when the block ends and removed when it fails.

    Its name has a random token, so that two processes never share one, also on two machines; its ending is that of
    `path`, by which libraries choose a format. A kill leaves the old file or the new one, never half of one.
    """
    beside = _temporary(path)
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)  # on a full disk, what was begun would stay


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, renamed to `path` when the block ends and removed when it fails.

    Its name is as private as that of `replacing`. A folder that stands at `path` is moved aside first and then removed,
    so that a kill leaves the old folder, the new one or none, never a mixture. Parents are made if need be.
    """
    beside, old = _temporary(path), _temporary(path)
    try:
        beside.mkdir(parents=True)
        yield beside
        if path.exists():
            path.rename(old)
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{WRITING}{secrets.token_hex(8)}-{path.name[-100:]}")


def write_whole(path: Path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
