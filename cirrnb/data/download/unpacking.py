"""Unpacking an archive from the net: nothing outside its folder, no links, no more than it says, whole or absent."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from cirrnb.data.errors import InputError

MOST_FILES = 200_000
MOST_TIMES = 30
"""Times its own size to which an archive may unpack: scans are packed already, so that they hardly grow."""

SLACK = 2**20
"""Bytes to which anything may unpack."""

_BLOCK = 2**20
_LEFT_OUT = ("__MACOSX/", ".DS_Store")


def judge_zip(path: Path) -> tuple[list[zipfile.ZipInfo], int]:
    """The files of an archive and the bytes that they unpack to, once every one is known to be harmless.

    Raises
    ------
    InputError
        If it is no ZIP file, is cut short, is encrypted, names a place outside, holds a link or a device, or claims to
        unpack to far more than its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _refused(path, f"no whole ZIP file ({error})") from error
    wanted = [one for one in entries if not one.is_dir() and not one.filename.startswith(_LEFT_OUT[0])]
    wanted = [one for one in wanted if PurePosixPath(one.filename).name != _LEFT_OUT[1]]
    for one in entries:
        if reason := _harmful(one):
            raise _refused(path, f"{one.filename!r:.120}, {reason}")
    total = sum(one.file_size for one in wanted)
    if len(entries) > MOST_FILES or total > MOST_TIMES * path.stat().st_size + SLACK:
        raise _refused(
            path, f"{len(entries)} files that unpack to {total / 1e9:,.1f} GB from {path.stat().st_size / 1e9:,.3f}"
        )
    return wanted, total


def _harmful(entry: zipfile.ZipInfo) -> str | None:
    name = entry.filename
    if "\\" in name or "\0" in name or PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        return "a path outside of the archive"
    if ".." in PurePosixPath(name).parts or not PurePosixPath(name).parts:
        return "a path outside of the archive"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind and kind not in (stat.S_IFREG, stat.S_IFDIR):
        return "a link or a device"
    return "an encrypted file" if entry.flag_bits & 0x1 else None


def unpack(path: Path, target: Path) -> None:
    """Unpack a ZIP file into the folder `target`, which must not exist; written beside and renamed.

    A single folder at the top that bears the target's name is taken for the target itself.

    Raises
    ------
    InputError
        Whatever `judge_zip` raises, and if a file is damaged (CRC), longer than it says, or there is too little room.
    """
    entries, total = judge_zip(path)
    need_room(target.parent, total, path.name)
    beside = target.parent / f".unpacking-{target.name}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        with zipfile.ZipFile(path) as archive:
            for one in entries:
                _extract(archive, one, beside.joinpath(*PurePosixPath(one.filename).parts))
        inner = list(beside.iterdir())
        (inner[0] if [one.name for one in inner] == [target.name] else beside).rename(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _refused(path, f"a damaged file ({error})") from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise _refused(path, "two files at one place") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, path.open("xb") as file:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise zipfile.BadZipFile(f"{entry.filename!r:.120} is longer than it says")
            file.write(block)


def need_room(folder: Path, wanted: int, what: str) -> None:
    """Raises InputError where the disk of `folder` has less than `wanted` bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise InputError(
            folder,
            f"{free / 1e9:,.1f} GB free",
            f"{wanted / 1e9:,.1f} GB for {what}",
            "Free some space or choose a folder on another disk.",
        )


def _refused(path: Path, found: str) -> InputError:
    return InputError(path.name, found, "a ZIP archive of scans and tables", "Delete the file and download it again.")
