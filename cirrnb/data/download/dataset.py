"""From a data set's name to a folder that `cirrnb.read_cohort` reads: licence, archives, safe unpacking."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import requests

from cirrnb.data.atomic_files import atomic_folder, atomic_write, remove_unfinished
from cirrnb.data.download.transfer import DATA_SETS, Archive, DataSet, Patience, fetch, look_up, part_of
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.locks import locked
from cirrnb.data.typed_paths import typed_path

TERMS = "LICENCE.txt"
"""File with the terms of use, in the data set's folder."""

_DONE = ".downloaded.json"
_GROWN = (
    1.1  # share by which unpacked scans may be larger; what an archive really needs is checked before it is unpacked
)

Tell = Callable[[str], None]
MOST_FILES = 200_000

MOST_TIMES = 30
"""Times its own size to which an archive may unpack: scans are packed already, so that they hardly grow."""

SLACK = 2**20
"""Bytes to which anything may unpack."""

_BLOCK = 2**20
_LEFT_OUT = ("__MACOSX/", ".DS_Store")


def data_set_named(name: str) -> DataSet:
    """Raises InputError for a data set that is not known."""
    if name not in DATA_SETS:
        raise InputError("data set", repr(name), f"one of {', '.join(DATA_SETS)}", "Choose one of these.")
    return DATA_SETS[name]


def terms(data_set: DataSet) -> str:
    """Title, licence and citation of a data set."""
    return f"{data_set.title}\n\nLicence: {data_set.licence}\n\nCite: {data_set.citation}\n"


def download(
    data_set: DataSet,
    out: Path | str,
    *,
    agreed: bool,
    only: Collection[str] = (),
    keep: bool = False,
    patience: Patience | None = None,
    tell: Tell = print,
    progress: bool = True,
) -> Path:
    """Fetch, verify and unpack a data set into `out`; finished archives are kept, and an interrupted download resumes.

    Parameters
    ----------
    agreed : whether the user has seen the licence and agrees to it.
    only : archives by name (Cirrhosis_T2_3D); all without.
    keep : keep the archives after unpacking.

    Returns the folder.

    Raises
    ------
    InputError
        Without agreement, for an unknown archive, too little space, or a file that is not the published one.
    """
    if not agreed:
        raise InputError("licence", "no agreement", "agreement of the user", "Read it, then give --agree.")
    out, patience = typed_path(out), patience or Patience()
    known = {name.removesuffix(".zip"): name for name in data_set.archives}
    for name in only:
        if name.removesuffix(".zip") not in known:
            raise InputError("archive", repr(name), f"one of {', '.join(known)}", "Choose one of these.")
    wanted = {name.removesuffix(".zip") for name in only} or set(known)
    narrowed = replace(
        data_set, archives={known[name]: data_set.archives[known[name]] for name in known if name in wanted}
    )
    with locked(out):
        _fetch(narrowed, data_set, out, keep, patience, tell, progress)
    return out


def _fetch(
    wanted: DataSet, data_set: DataSet, out: Path, keep: bool, patience: Patience, tell: Tell, progress: bool
) -> None:
    """Fetch the archives of `wanted` that are missing. The caller holds the lock of `out`."""
    atomic_write(out / TERMS, terms(data_set))
    remove_unfinished(out)
    done = _done(out)
    with requests.Session() as session:
        archives = look_up(wanted, session, patience.wait)
        missing = [
            archive
            for archive in archives
            if done.get(archive.name) != archive.sha256 or not (out / archive.folder).is_dir()
        ]
        for archive in archives:
            if archive not in missing:
                tell(f"{archive.folder} is here already.")
        need_room(out, sum(_room(archive, out) for archive in missing), "the archives and what they unpack to")
        for archive in missing:
            _fetch_archive(archive, out, session, patience, tell, progress)
            done[archive.name] = archive.sha256
            atomic_write(out / _DONE, json.dumps(done, indent=1))
            if not keep:
                (out / archive.name).unlink()


def _fetch_archive(
    archive: Archive, out: Path, session: requests.Session, patience: Patience, tell: Tell, progress: bool
) -> None:
    from tqdm.auto import tqdm

    if (out / archive.folder).exists():
        raise InputError(
            out / archive.folder,
            "a folder that this command did not unpack",
            "free space for a verified copy",
            "Move it away, or give another folder.",
        )
    begun = part_of(out, archive)
    tell(f"{archive.name}: {archive.size / 1e6:,.0f} MB" + (", resumed" if begun.exists() else ""))
    with tqdm(total=archive.size, unit="B", unit_scale=True, desc=archive.folder, disable=not progress) as bar:
        path = fetch(archive, out, session, patience, lambda size: bar.update(size - bar.n))
    tell(f"{archive.name}: checksum as published, unpacking")
    unpack(path, out / archive.folder)


def _room(archive: Archive, out: Path) -> int:
    """Bytes that an archive and its contents still need on the disk."""
    here = next((path.stat().st_size for path in (out / archive.name, part_of(out, archive)) if path.exists()), 0)
    return max(0, archive.size - here) + int(_GROWN * archive.size)


def _done(out: Path) -> dict[str, str]:
    try:
        stored = read_object(out / _DONE, "a whole file", "Delete it.")
        return {str(name): str(value) for name, value in stored.items()}
    except (OSError, ValueError, AttributeError):
        return {}


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
    wanted = [entry for entry in entries if not entry.is_dir() and not entry.filename.startswith(_LEFT_OUT[0])]
    wanted = [entry for entry in wanted if PurePosixPath(entry.filename).name != _LEFT_OUT[1]]
    for entry in entries:
        if reason := _harmful(entry):
            raise _refused(path, f"{entry.filename!r:.120}, {reason}")
    total = sum(entry.file_size for entry in wanted)
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
    """Unpack a ZIP file into the folder `target`, which must not exist, atomically.

    A single folder at the top that bears the target's name is taken for the target itself.

    Raises
    ------
    InputError
        Whatever `judge_zip` raises, and if a file is damaged (CRC), longer than it says, or there is too little space.
    """
    entries, total = judge_zip(path)
    need_room(target.parent, total, path.name)
    parts = [PurePosixPath(entry.filename).parts for entry in entries]
    nested = {names[0] for names in parts if len(names) > 1} == {names[0] for names in parts} == {target.name}
    try:
        with zipfile.ZipFile(path) as archive, atomic_folder(target) as partial:
            for entry, names in zip(entries, parts, strict=True):
                _extract(archive, entry, partial.joinpath(*names[nested:]))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _refused(path, f"a damaged file ({error})") from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise _refused(path, "two files at one place") from error


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remaining = entry.file_size
    with archive.open(entry) as source, path.open("xb") as file:
        while block := source.read(_BLOCK):
            remaining -= len(block)
            if remaining < 0:
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


def _refused(path: Path, problem: str) -> InputError:
    return InputError(path.name, problem, "a ZIP archive of scans and tables", "Delete the file and download it again.")
