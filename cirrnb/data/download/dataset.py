"""From a name to a folder that `cirrnb.read_cohort` reads: the licence, the room, the archives one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import requests

from cirrnb.data.download.catalogue import DATA_SETS, Archive, DataSet, look_up
from cirrnb.data.download.transfer import Patience, fetch, part_of
from cirrnb.data.download.unpacking import need_room, unpack
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.locking import locked
from cirrnb.data.writing import write_whole

TERMS = "LICENCE.txt"
"""File in the data set's folder that says under which terms it may be used."""

_DONE = ".downloaded.json"
_GROWN = (
    1.1  # share by which unpacked scans may be larger; what an archive really needs is checked before it is unpacked
)

Tell = Callable[[str], None]


def data_set_named(name: str) -> DataSet:
    """Raises InputError for a data set that is not known."""
    if name not in DATA_SETS:
        raise InputError("data set", repr(name), f"one of {', '.join(DATA_SETS)}", "Choose one of these.")
    return DATA_SETS[name]


def terms(data_set: DataSet) -> str:
    """What somebody has to agree to."""
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
    """Fetch, verify and unpack a data set into `out`; what is done already is kept, what was begun is gone on with.

    Parameters
    ----------
    agreed : that the licence was shown to somebody who agrees to it.
    only : archives by name (Cirrhosis_T2_3D); all without.
    keep : leave the archives beside what was unpacked.

    Returns the folder.

    Raises
    ------
    InputError
        If nobody agreed, an archive is not known, there is too little room, or what comes is not what was published.
    """
    if not agreed:
        raise InputError("licence", "no agreement", "somebody who agrees to it", "Read it, then give --agree.")
    out, patience = Path(out), patience or Patience()
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
    """Fetch the archives of `wanted` that are not here; nobody else writes into `out` meanwhile."""
    write_whole(out / TERMS, terms(data_set))
    done = _done(out)
    with requests.Session() as session:
        archives = look_up(wanted, session, patience.wait)
        left = [one for one in archives if done.get(one.name) != one.sha256 or not (out / one.folder).is_dir()]
        for one in archives:
            if one not in left:
                tell(f"{one.folder} is here already.")
        need_room(out, sum(_room(one, out) for one in left), "the archives and what they unpack to")
        for one in left:
            _one(one, out, session, patience, tell, progress)
            done[one.name] = one.sha256
            write_whole(out / _DONE, json.dumps(done, indent=1))
            if not keep:
                (out / one.name).unlink()


def _one(
    archive: Archive, out: Path, session: requests.Session, patience: Patience, tell: Tell, progress: bool
) -> None:
    from tqdm.auto import tqdm

    if (out / archive.folder).exists():
        raise InputError(
            out / archive.folder,
            "a folder that this command did not unpack",
            "room for a verified copy",
            "Move it away, or give another folder.",
        )
    begun = part_of(out, archive)
    tell(f"{archive.name}: {archive.size / 1e6:,.0f} MB" + (", goes on where it stopped" if begun.exists() else ""))
    with tqdm(total=archive.size, unit="B", unit_scale=True, desc=archive.folder, disable=not progress) as bar:
        path = fetch(archive, out, session, patience, lambda there: bar.update(there - bar.n))
    tell(f"{archive.name}: checksum as published, unpacking")
    unpack(path, out / archive.folder)


def _room(archive: Archive, out: Path) -> int:
    """Bytes that an archive and its contents still need on the disk."""
    here = next((path.stat().st_size for path in (out / archive.name, part_of(out, archive)) if path.exists()), 0)
    return max(0, archive.size - here) + int(_GROWN * archive.size)


def _done(out: Path) -> dict[str, str]:
    try:
        told = read_object(out / _DONE, "a whole file", "Delete it.")
        return {str(name): str(value) for name, value in told.items()}
    except (OSError, ValueError, AttributeError):
        return {}
