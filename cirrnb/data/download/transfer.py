"""One large file over HTTP: goes on where it stopped, gives up on silence, and is believed only after its checksum."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests

from cirrnb.data.download.catalogue import Archive
from cirrnb.data.errors import InputError

_BLOCK = 2**14  # what has come of a block is lost where the connection breaks within it
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Patience:
    """What is borne before giving up.

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

    What an earlier call left as <name>.part is gone on with (HTTP Range). A whole file whose checksum is wrong is
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
        if (found := sha256_of(part)) == archive.sha256:
            return part.replace(whole)
        part.unlink()
    raise InputError(
        archive.url,
        f"{archive.name} with the SHA-256 {found}, twice",
        archive.sha256,
        "Something on the way changes the file (a proxy, a virus scanner). Try another network; do not use this copy.",
    )


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fill(archive: Archive, part: Path, session: requests.Session, patience: Patience, progress: Progress) -> None:
    """Attempts until the part has the published size."""
    failed, pause, trouble = 0, patience.pause, ""
    while (there := part.stat().st_size if part.exists() else 0) != archive.size:
        if there > archive.size:
            part.unlink()
            continue
        try:
            _attempt(archive, part, there, session, patience, progress)
        except (_Trouble, requests.RequestException) as error:
            trouble = str(error) if isinstance(error, _Trouble) else _words(error)
        now = part.stat().st_size if part.exists() else 0
        if now > there:
            failed, pause = 0, patience.pause
        else:
            failed += 1
            if failed >= patience.tries:
                raise InputError(
                    archive.url,
                    f"{trouble or 'no new byte'} ({now / 1e6:,.1f} of {archive.size / 1e6:,.1f} MB are here)",
                    "the rest of the file",
                    "Call again later: it goes on where it stopped.",
                )
            time.sleep(pause)
            pause = min(2 * pause, 60.0)


def _attempt(
    archive: Archive,
    part: Path,
    there: int,
    session: requests.Session,
    patience: Patience,
    progress: Progress,
) -> None:
    asked = {"Range": f"bytes={there}-"} if there else {}
    headers = {"Accept-Encoding": "identity", **asked}
    with session.get(archive.url, headers=headers, stream=True, timeout=patience.wait) as answer:
        if answer.status_code == 416:
            part.unlink(missing_ok=True)
            raise _Trouble("a server that has no such part of the file")
        if answer.status_code not in (200, 206):
            raise _Trouble(f"the answer {answer.status_code} {answer.reason}")
        start = _start(answer, archive) if answer.status_code == 206 else 0
        if start not in (0, there):
            raise _Trouble(f"bytes from {start} where {there} was asked for")
        with part.open("r+b" if there and start else "wb") as file:
            file.seek(start)
            _copy(answer, file, start, archive, patience, progress)


def _start(answer: requests.Response, archive: Archive) -> int:
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if told is None:
        raise _Trouble("a part of the file without its place in it")
    if told[2] not in ("*", str(archive.size)):
        raise _Trouble(f"a file of {told[2]} bytes where {archive.size} were published")
    return int(told[1])


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
