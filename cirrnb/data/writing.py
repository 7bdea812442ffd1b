"""Files that are whole or absent."""

from __future__ import annotations

import secrets
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
    beside = path.with_name(f"{WRITING}{secrets.token_hex(8)}-{path.name[-100:]}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)  # on a full disk, what was begun would stay


def write_whole(path: Path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
