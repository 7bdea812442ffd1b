"""Paths as people type them: ~, separators of Windows, accents and cases that another system wrote otherwise."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from cirrnb.data.errors import InputError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""How a path begins that holds on Windows alone: C:\\ or \\\\server."""


_REMOTE = re.compile(r"(s3|gs|gcs|az|abfss?|wasbs?|hdfs|https?|ftp|sftp|ssh|file):/", re.IGNORECASE)
"""How an address begins; a Path has lost one of its two strokes."""


def typed_path(path: Path | str) -> Path:
    """The path with ~ in place of the home folder. A folder whose own name begins with ~ comes first.

    A home folder that is not known leaves the path as it is. Raises InputError for an address (s3://...): what is not
    in a file system is neither mapped into memory nor written atomically.
    """
    require_local(path)
    path = Path(path)
    if not str(path).startswith("~") or path.exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def require_local(path: Path | str) -> None:
    """Raise InputError for an address, unless a file or folder is called so."""
    if (match := _REMOTE.match(str(path))) and not Path(path).exists():
        remedy = "Copy it to this machine first (aws s3 sync, gsutil rsync, rclone), or mount it as a folder."
        raise InputError(path, f"an address ({match[1].lower()})", "a folder or file of this machine", remedy)


def is_of_windows(text: str) -> bool:
    """True for a path that begins with a drive or a server, as C:\\scans."""
    return bool(_DRIVE.match(text))


def find_typed(folder: Path, text: str) -> Path:
    """The file or folder that a text names, relative to `folder` unless absolute.

    As it is written, if it exists. Otherwise with / for \\, and with names that differ only in how accents are
    composed, or else in case, where exactly one does. The path as written where nothing is found.

    Raises ValueError, with the names, where several differ in this way only, and OSError or ValueError for a name that
    no file system takes.
    """
    exact = folder / typed_path(text)
    if exact.exists():
        return exact
    for written in dict.fromkeys((text, text.replace("\\", "/"))):
        if (path := _resembling(folder / typed_path(written))) is not None:
            return path
    return exact


def _resembling(path: Path) -> Path | None:
    here = Path(path.anchor) if path.anchor else Path()
    for name in path.parts[1 if path.anchor else 0 :]:
        if (here / name).exists():
            here = here / name
            continue
        if not here.is_dir():
            return None
        alike = _alike([entry.name for entry in here.iterdir()], name)
        if len(alike) > 1:
            raise ValueError(f"several names in question: {', '.join(sorted(alike))}")
        if not alike:
            return None
        here = here / alike[0]
    return here


def _alike(names: list[str], wanted: str) -> list[str]:
    """Names that are the same but for the composition of accents; if there is none, but for case too."""
    ways: tuple[Callable[[str], str], ...] = (_composed, lambda name: _composed(name).casefold())
    for way in ways:
        if alike := [name for name in names if way(name) == way(wanted)]:
            return alike
    return []


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
