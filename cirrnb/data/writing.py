"""Files that are whole or absent, and a plain word where they cannot be written."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside and rename it, so that a kill leaves the old file or the new one and never half."""
    beside = path.with_name(f".{path.name[:100]}.{os.getpid()}.writing")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)  # on a full disk, what was begun would stay
        raise
