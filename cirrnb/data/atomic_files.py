"""Files that are complete or absent: atomic writes, and file names made from patients' ids.

Everything is written under a temporary name in the same folder and then renamed. No other module renames files.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITING = ".writing-"
"""Prefix of temporary names. Such files of a killed run may be removed when no process writes in the folder."""

_SUBJECT = re.compile(r"[a-z0-9]+/[a-z0-9]+(-[a-z0-9]+)*")  # up to the first hyphen is the source
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PART = re.compile(r"[A-Za-z0-9_. -]+")
_LONGEST = 60
_SHOWN = 40  # characters of an unusual id that stay readable before its hash
_DIGITS = 24  # of the hash, 96 bits: collisions cannot be constructed
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")  # devices on Windows
_HASHED = re.compile(rf"(.*-)?[0-9a-f]{{{_DIGITS}}}")


def atomic_write(path: Path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to `path` when the block ends and removed when it fails.

    Its name has a random token, so that two processes never share one, also on two machines; its ending is that of
    `path`, by which libraries choose a format. A kill leaves the old file or the new one, never half of one.
    """
    partial = _temporary(path)
    try:
        yield partial
        move_into_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # on a full disk, what was begun would stay


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder next to `path`, renamed to `path` when the block ends and removed when it fails.

    Its name is as private as that of `atomic_file`. A folder that stands at `path` is moved aside first and then
    removed, so that a kill leaves the old folder, the new one or none, never a mixture. Parents are made if need be.
    """
    partial, old = _temporary(path), _temporary(path)
    try:
        partial.mkdir(parents=True)
        yield partial
        if path.exists():
            move_into_place(path, old)
        move_into_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def move_into_place(partial: Path, path: Path) -> None:
    """Rename a file or folder that grew over several runs and is complete now. A file at `path` is replaced.

    Raises OSError if a folder that is not empty stands at `path`, or the two lie on different file systems.
    """
    partial.replace(path)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files and folders of killed runs directly in a folder. No other process may write in it."""
    for path in folder.glob(f"{WRITING}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{WRITING}{secrets.token_hex(8)}-{path.name[-100:]}")


def file_stem(subject: str, *parts: str) -> str:
    """A file name without its ending for a subject, such as cirrhotic-12_T1W_liver.

    `cirrhotic/12` becomes `cirrhotic-12`, and `imported/case-1` `imported-case-1`. An id that is longer or has other
    characters keeps the harmless ones and gets a hash, so that ids which differ in case, accents or punctuation alone
    have different names on a file system that ignores such differences.

    Parameters
    ----------
    subject : source and id as in `Scan.subject`; any text, also one that cannot be encoded.
    parts : what the file is, such as its sequence and its kind. Letters, digits, `_`, `-`, `.` and spaces, which become
        `-`; never an id.

    Returns at most 70 ASCII characters and the parts. The same words always give the same name, and different subjects
    different ones. Raises ValueError for a part with other characters.
    """
    odd = [part for part in parts if not _PART.fullmatch(part)]
    if odd:
        raise ValueError(f"a part of a file name is letters, digits, _ - . and spaces, not {odd[0]!r}")
    return "_".join([_safe(subject, _SUBJECT), *(part.replace(" ", "-") for part in parts)])


def folder_name(patient: str) -> str:
    """A folder's name for an id without its source: `case-1` as it is, an unusual one as `file_stem` has it."""
    return _safe(patient, _ID)


def _safe(text: str, plain: re.Pattern[str]) -> str:
    shown = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")
    # An id that looks like a name with a hash is hashed too, so that no id can take another's name.
    if (
        plain.fullmatch(text)
        and len(text) <= _LONGEST
        and not _HASHED.fullmatch(shown)
        and not _RESERVED.fullmatch(text)
    ):
        return shown
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{shown[:_SHOWN].strip('-') or 'patient'}-{digest}"
