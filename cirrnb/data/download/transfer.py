"""What can be downloaded, and fetching it: sizes and checksums as published, resumed where it stopped."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import requests

from cirrnb.data.atomic_files import move_into_place
from cirrnb.data.errors import InputError, check_number
from cirrnb.data.json_file import parse_json

LISTINGS = 20
"""Pages and folders of a listing that are looked at, at most."""

MAX_LISTING, MAX_SECONDS, MAX_ARCHIVE = 2**22, 120, 10**12
"""Bytes and seconds of one page of a listing, and bytes of an archive, at most."""

_BLOCK = 2**14  # what has come of a block is lost where the connection breaks within it
Progress = Callable[[int], object]


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes
    ----------
    name, title : for the command line and for people. licence, citation : what is shown before anything is fetched.
    listing : OSF's list of the project's files.
    archives : file name -> SHA-256 as known to this package, or None where OSF's own is taken.
    """

    name: str
    title: str
    licence: str
    citation: str
    listing: str
    archives: Mapping[str, str | None]


CIRRMRI600 = DataSet(
    name="cirrmri600",
    title="CirrMRI600+, 628 abdominal MR scans of cirrhotic livers with masks, and 110 of healthy ones",
    licence="CC BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/): you may use, change and share it with "
    "attribution; you may not use it, or what is derived from it, for commercial purposes. The scans are of patients: "
    "do not try to find out who they are.",
    citation="Jha et al., Large Scale MRI Collection and Segmentation of Cirrhotic Liver, Scientific Data 12, 896 "
    "(2025), doi 10.1038/s41597-025-05201-7; data doi 10.17605/OSF.IO/CUK24",
    listing="https://api.osf.io/v2/nodes/cuk24/files/osfstorage/",
    archives={
        "Cirrhosis_T1_3D.zip": "36f533f0496ffc6bfb5c243a25a5e3927c682a538660484540e2cf565ce434d1",
        "Cirrhosis_T2_3D.zip": "539f0bc3bd3cdb0bb85b465ace8002bcb15631e8b59b81ca04dec0a7c287fda9",
        "Cirrhosis_T2_2D.zip": None,
        "Healthy_subjects.zip": None,
        "Metadata.zip": None,
    },
)

DATA_SETS = {data_set.name: data_set for data_set in (CIRRMRI600,)}


@dataclass(frozen=True)
class Archive:
    """One file to fetch: size in bytes, SHA-256 in hexadecimal."""

    name: str
    url: str
    size: int
    sha256: str

    @property
    def folder(self) -> str:
        """Name of the folder that it becomes."""
        return self.name.removesuffix(".zip")


def look_up(data_set: DataSet, session: requests.Session, wait: tuple[float, float]) -> list[Archive]:
    """The archives of a data set with link, size and checksum, as OSF's file API lists them.

    Raises
    ------
    InputError
        If the listing cannot be fetched or understood, an archive is missing from it, or its checksum is not the one
        that this package knows.
    """
    listed: dict[str, Archive] = {}
    pages, seen = [data_set.listing], 0
    while pages and seen < LISTINGS:
        page = _page(pages.pop(0), session, wait)
        seen += 1
        try:
            for entry in page["data"]:
                attributes = entry["attributes"]
                if attributes["kind"] == "folder":
                    pages.append(entry["relationships"]["files"]["links"]["related"]["href"])
                elif attributes["name"] in data_set.archives:
                    check_number("size", attributes["size"], 1, MAX_ARCHIVE, whole=True)
                    sha256 = str(attributes["extra"]["hashes"]["sha256"]).lower()
                    listed[attributes["name"]] = Archive(
                        attributes["name"], entry["links"]["download"], attributes["size"], sha256
                    )
            pages += [page["links"]["next"]] if (page.get("links") or {}).get("next") else []
        except (KeyError, TypeError, ValueError) as error:
            raise _changed(data_set, f"a listing without {error}") from error
    for name, known in data_set.archives.items():
        if name not in listed:
            raise _changed(data_set, f"no {name} in the listing")
        if known is not None and listed[name].sha256 != known:
            raise _changed(data_set, f"another checksum for {name}: {listed[name].sha256}")
    return [listed[name] for name in data_set.archives]


def _page(url: str, session: requests.Session, wait: tuple[float, float]) -> Any:
    try:
        with session.get(url, timeout=wait, stream=True) as answer:
            answer.raise_for_status()
            return parse_json(_text(answer))
    except (requests.RequestException, ValueError) as error:
        raise InputError(
            url,
            f"no listing of the files ({type(error).__name__}: {str(error)[:100]})",
            "OSF's answer",
            "Is there a network, and does a proxy stand in the way (HTTPS_PROXY)? What is fetched already is kept.",
        ) from error


def _text(answer: requests.Response) -> str:
    """What a server answers, as long as it ends within `MAX_LISTING` bytes and `MAX_SECONDS`."""
    content, began = bytearray(), time.monotonic()
    for block in answer.iter_content(2**14):
        content += block
        if len(content) > MAX_LISTING:
            raise ValueError(f"more than {MAX_LISTING / 1e6:.3g} MB")
        if time.monotonic() - began > MAX_SECONDS:
            raise ValueError(f"no end within {MAX_SECONDS} s")
    return content.decode("utf-8")


def _changed(data_set: DataSet, problem: str) -> InputError:
    return InputError(
        data_set.listing,
        problem,
        "the archives as they were published",
        f"Look at the project's page ({data_set.citation.rsplit(' ', 1)[-1]}); a newer cirrnb may know the new files.",
    )


@dataclass(frozen=True)
class Patience:
    """Limits after which a download is given up.

    Attributes
    ----------
    connect, silence : seconds without a connection, and without a byte.
    window, least : seconds over which at least so many bytes have to come.
    tries : attempts in a row that bring no new byte. pause : seconds before the second, doubled each time.
    """

    connect: float = 15.0
    silence: float = 60.0
    window: float = 60.0
    least: int = 20_000
    tries: int = 6
    pause: float = 1.0

    @property
    def wait(self) -> tuple[float, float]:
        return self.connect, self.silence


class _Trouble(Exception):
    """What went wrong in one attempt, in words."""


def part_of(folder: Path, archive: Archive) -> Path:
    """Where the bytes of an archive gather until it is whole."""
    return folder / f"{archive.name}.part"


def fetch(
    archive: Archive,
    folder: Path,
    session: requests.Session,
    patience: Patience | None = None,
    progress: Progress = lambda done: None,
) -> Path:
    """Download an archive into `folder` and return its path; `progress` is called with the bytes that are there.

    A file <name>.part of an earlier call is resumed (HTTP Range). A whole file whose checksum is wrong is
    fetched once more from the start.

    Raises
    ------
    InputError
        If the server stays silent, refuses or sends something else than was published.
    OSError
        If the disk cannot be written.
    """
    patience = patience or Patience()
    whole, part = folder / archive.name, part_of(folder, archive)
    if whole.is_file() and whole.stat().st_size == archive.size and sha256_of(whole) == archive.sha256:
        return whole
    for _ in range(2):
        _fill(archive, part, session, patience, progress)
        if (digest := sha256_of(part)) == archive.sha256:
            move_into_place(part, whole)
            return whole
        part.unlink()
    raise InputError(
        archive.url,
        f"{archive.name} with the SHA-256 {digest}, twice",
        archive.sha256,
        "Something on the way changes the file (a proxy, a virus scanner). Try another network; do not use this copy.",
    )


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fill(archive: Archive, part: Path, session: requests.Session, patience: Patience, progress: Progress) -> None:
    """Attempts until the part has the published size."""
    failed, pause, trouble = 0, patience.pause, ""
    while (size := part.stat().st_size if part.exists() else 0) != archive.size:
        if size > archive.size:
            part.unlink()
            continue
        try:
            _attempt(archive, part, size, session, patience, progress)
        except (_Trouble, requests.RequestException) as error:
            trouble = str(error) if isinstance(error, _Trouble) else _words(error)
        now = part.stat().st_size if part.exists() else 0
        if now > size:
            failed, pause = 0, patience.pause
        else:
            failed += 1
            if failed >= patience.tries:
                raise InputError(
                    archive.url,
                    f"{trouble or 'no new byte'} ({now / 1e6:,.1f} of {archive.size / 1e6:,.1f} MB are here)",
                    "the rest of the file",
                    "Call again later: the download resumes.",
                )
            time.sleep(pause)
            pause = min(2 * pause, 60.0)


def _attempt(
    archive: Archive,
    part: Path,
    size: int,
    session: requests.Session,
    patience: Patience,
    progress: Progress,
) -> None:
    byte_range = {"Range": f"bytes={size}-"} if size else {}
    headers = {"Accept-Encoding": "identity", **byte_range}
    with session.get(archive.url, headers=headers, stream=True, timeout=patience.wait) as answer:
        if answer.status_code == 416:
            part.unlink(missing_ok=True)
            raise _Trouble("a server that has no such part of the file")
        if answer.status_code not in (200, 206):
            raise _Trouble(f"the answer {answer.status_code} {answer.reason}")
        start = _start(answer, archive) if answer.status_code == 206 else 0
        if start not in (0, size):
            raise _Trouble(f"bytes from {start} where {size} was asked for")
        with part.open("r+b" if size and start else "wb") as file:
            file.seek(start)
            _copy(answer, file, start, archive, patience, progress)


def _start(answer: requests.Response, archive: Archive) -> int:
    place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if place is None:
        raise _Trouble("a part of the file without its place in it")
    if place[2] not in ("*", str(archive.size)):
        raise _Trouble(f"a file of {place[2]} bytes where {archive.size} were published")
    return int(place[1])


def _copy(
    answer: requests.Response, file: BinaryIO, done: int, archive: Archive, patience: Patience, progress: Progress
) -> None:
    began, before = time.monotonic(), done
    for block in answer.iter_content(_BLOCK):
        block = block[: archive.size - done]
        file.write(block)
        done += len(block)
        progress(done)
        if done >= archive.size:
            return
        if (now := time.monotonic()) - began > patience.window:
            if done - before < patience.least:
                raise _Trouble("hardly any bytes")
            began, before = now, done


def _words(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return "a server that stays silent"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "a connection that was cut"
    return f"no connection ({type(error).__name__})"
