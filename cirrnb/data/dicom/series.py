"""From files to volumes: which belong together, in what order, and whether one can be used at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.dicom.faults import find_fault
from cirrnb.data.dicom.instances import Instance
from cirrnb.data.grid import Grid

APART = ("EchoTime", "ImageType", "DiffusionBValue", "TemporalPositionIdentifier", "AcquisitionNumber", "InversionTime")
"""What tells the volumes of one series apart, in the order in which it is tried."""


@dataclass(frozen=True, eq=False)
class Series:
    """One volume of one series; a series that holds several echoes or phases becomes several of these.

    Attributes
    ----------
    number : in the listing, from 1. patient, study : likewise, in the order in which they were found.
    instances : its files, from feet to head (along the slices' normal).
    part : what tells this volume from others of its series, or "".
    """

    number: int
    patient: int
    study: int
    instances: tuple[Instance, ...]
    part: str = ""

    @property
    def tags(self) -> Any:
        return self.instances[0].tags

    @property
    def uid(self) -> str:
        return str(self.tags["SeriesInstanceUID"])

    @property
    def description(self) -> str:
        """What the scanner's operator called it: a stranger's text, made printable. It may name somebody."""
        words = str(self.tags.get("SeriesDescription") or self.tags.get("ProtocolName") or "no description")
        shown = "".join(letter if letter.isprintable() else " " for letter in words)[:48]
        return f"{shown} [{self.part}]" if self.part else shown

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """(slices, 3) LPS positions in mm, in the order of the slices."""
        return np.concatenate([one.positions for one in self.instances])

    @property
    def slices(self) -> int:
        return sum(one.frames for one in self.instances)

    @cached_property
    def heights(self) -> NDArray[np.float64]:
        """(slices,) rising mm along the slices' normal; empty where the files tell no place."""
        turned = _orientation(self.instances)
        return np.sort(self.positions @ np.cross(turned[0], turned[1])) if turned is not None else np.empty(0)

    @property
    def spacing(self) -> float | None:
        """mm between slices: what most of them keep."""
        return float(np.median(np.diff(self.heights))) if len(self.heights) > 1 else None

    @cached_property
    def grid(self) -> Grid | None:
        """Where its voxels lie (columns, rows, slices), worked out from the DICOM attributes alone; None where they
        do not tell."""
        turned, inplane = _orientation(self.instances), self.instances[0].spacings[:1]
        if turned is None or not len(inplane) or len(self.heights) < 2 or not self.spacing:
            return None
        along, down = turned
        normal = np.cross(along, down)
        first = self.positions[int(np.argmin(self.positions @ normal))]
        step = (self.heights[-1] - self.heights[0]) / (len(self.heights) - 1)
        affine = np.eye(4)
        columns = (along * inplane[0, 1], down * inplane[0, 0], normal * step, first)
        affine[:3] = np.stack(columns, axis=1)
        affine[:2] *= -1  # LPS to RAS+
        return Grid((int(self.tags["Columns"]), int(self.tags["Rows"]), len(self.heights)), affine)

    @property
    def plane(self) -> str:
        """ "axial", "coronal", "sagittal" or "unknown"."""
        turned = _orientation(self.instances)
        if turned is None:
            return "unknown"
        return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(np.cross(*turned))))]

    @property
    def burned_in(self) -> bool:
        """True if any of its files says that text is part of the pictures: it may be a person's name."""
        return any(str(one.tags.get("BurnedInAnnotation") or "").upper() == "YES" for one in self.instances)

    @cached_property
    def fault(self) -> tuple[str, str] | None:
        """What keeps this volume from being used and what to do about it, or None."""
        return find_fault(self)


def gather(instances: Iterable[Instance]) -> list[Series]:
    """Volumes in the order of patient, study and series number."""
    people = _numbered(instances, lambda one: one.person)
    found: list[Series] = []
    for patient, own in enumerate(people, 1):
        for study, exam in enumerate(_numbered(own, lambda one: (_text(one, "StudyDate"), _study(one))), 1):
            for files in _numbered(exam, lambda one: (_series_number(one), one.tags["SeriesInstanceUID"])):
                for part, volume in _volumes(files):
                    found.append(Series(len(found) + 1, patient, study, _ordered(volume), part))
    return found


def _numbered(instances: Iterable[Instance], key: Any) -> list[list[Instance]]:
    groups: dict[Any, list[Instance]] = defaultdict(list)
    for one in instances:
        groups[key(one)].append(one)
    return [groups[name] for name in sorted(groups)]


def _study(one: Instance) -> str:
    return _text(one, "StudyInstanceUID")


def _text(one: Instance, name: str) -> str:
    return str(one.tags.get(name, ""))


def _series_number(one: Instance) -> int:
    return int(one.tags.get("SeriesNumber") or 0)


def _volumes(
    files: Sequence[Instance], keys: Sequence[str] = APART, part: str = ""
) -> list[tuple[str, list[Instance]]]:
    """Files at the same place are taken apart by what differs between them; where nothing does they stay together."""
    if not keys or not _repeated(files):
        return [(part, list(files))]
    groups: dict[str, list[Instance]] = defaultdict(list)
    for one in files:
        value = one.tags.get(keys[0], "")
        groups[
            "/".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
        ].append(one)
    if len(groups) == 1:
        return _volumes(files, keys[1:], part)
    named = {value: f"{part}, {_word(keys[0], value)}".strip(", ") for value in groups}
    return [one for value, group in groups.items() for one in _volumes(group, keys[1:], named[value])]


_WORDS = {"EchoTime": "echo {} ms", "DiffusionBValue": "b {}", "TemporalPositionIdentifier": "phase {}"}


def _word(key: str, value: str) -> str:
    shown = "".join(letter for letter in value if letter.isprintable())[:40]
    return _WORDS.get(key, "{}" if key == "ImageType" else "acquisition {}").format(shown)


def _repeated(files: Sequence[Instance]) -> bool:
    places = [tuple(np.round(one.positions[0], 2)) for one in files if len(one.positions) == 1]
    return len(set(places)) < len(places)


def _ordered(files: Sequence[Instance]) -> tuple[Instance, ...]:
    turned = _orientation(files)
    if turned is None or any(len(one.positions) == 0 for one in files):
        return tuple(files)
    normal = np.cross(*turned)
    return tuple(sorted(files, key=lambda one: float(one.positions[0] @ normal)))


def _orientation(files: Sequence[Instance]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Directions of a row and of a column in LPS, of the first file that tells them; None if no file does.

    That they are the same in all files is judged by `Series.fault`.
    """
    told = next((one.orientations[0] for one in files if len(one.orientations)), None)
    return None if told is None else (told[:3], told[3:])
