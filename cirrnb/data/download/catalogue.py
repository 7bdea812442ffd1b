"""What can be downloaded: its licence, its archives, and where their sizes and checksums are published."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from cirrnb.data.bounds import check_number
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import parse_json

LISTINGS = 20
"""Pages and folders of a listing that are looked at, at most."""

MAX_LISTING, MAX_SECONDS, MAX_ARCHIVE = 2**22, 120, 10**12
"""Bytes and seconds of one page of a listing, and bytes of an archive, at most."""


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

DATA_SETS = {one.name: one for one in (CIRRMRI600,)}


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
    found: dict[str, Archive] = {}
    pages, seen = [data_set.listing], 0
    while pages and seen < LISTINGS:
        page = _page(pages.pop(0), session, wait)
        seen += 1
        try:
            for entry in page["data"]:
                told = entry["attributes"]
                if told["kind"] == "folder":
                    pages.append(entry["relationships"]["files"]["links"]["related"]["href"])
                elif told["name"] in data_set.archives:
                    check_number("size", told["size"], 1, MAX_ARCHIVE, whole=True)
                    sha256 = str(told["extra"]["hashes"]["sha256"]).lower()
                    found[told["name"]] = Archive(told["name"], entry["links"]["download"], told["size"], sha256)
            pages += [page["links"]["next"]] if (page.get("links") or {}).get("next") else []
        except (KeyError, TypeError, ValueError) as error:
            raise _changed(data_set, f"a listing without {error}") from error
    for name, known in data_set.archives.items():
        if name not in found:
            raise _changed(data_set, f"no {name} in the listing")
        if known is not None and found[name].sha256 != known:
            raise _changed(data_set, f"another checksum for {name}: {found[name].sha256}")
    return [found[name] for name in data_set.archives]


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


def _changed(data_set: DataSet, found: str) -> InputError:
    return InputError(
        data_set.listing,
        found,
        "the archives as they were published",
        f"Look at the project's page ({data_set.citation.rsplit(' ', 1)[-1]}); a newer cirrnb may know the new files.",
    )
