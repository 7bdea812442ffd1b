"""DICOM files grouped into volumes, in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.dicom.files import Instance
from cirrnb.data.dicom.phases import TIMES_OF_DAY, phases, seconds, starts
from cirrnb.data.grid import Grid

APART = ("EchoTime", "ImageType", "DiffusionBValue", "TemporalPositionIdentifier", "AcquisitionNumber", "InversionTime")
"""Attributes that separate the volumes of one series, in the order in which they are tried."""

_WORDS = {"EchoTime": "echo {} ms", "DiffusionBValue": "b {}", "TemporalPositionIdentifier": "phase {}"}


@dataclass(frozen=True, eq=False)
class Series:
    """One volume of one series; a series that holds several echoes or phases becomes several of these.

    Attributes
    ----------
    number : in the listing, from 1. patient, study : likewise, in the order in which they were found.
    instances : its files, from feet to head (along the slices' normal).
    part : the attribute value that separates this volume from others of its series, or "".
    fragment : whether other files of the same SeriesInstanceUID, at other places, name another patient, study, date or
        series number.
    delay : s from the first volume of the series to this one; None where the files do not say.
    after_agent : s from the injection of the contrast agent to its first picture; None where the files do not say.
    """

    number: int
    patient: int
    study: int
    instances: tuple[Instance, ...]
    part: str = ""
    fragment: bool = False
    delay: float | None = None
    after_agent: float | None = None

    @property
    def tags(self) -> Any:
        return self.instances[0].tags

    @property
    def uid(self) -> str:
        return str(self.tags["SeriesInstanceUID"])

    @property
    def description(self) -> str:
        """The operator's description, made printable. It is untrusted text and may name a person."""
        part = f"{self.part}, {self.delay:.0f} s after the first" if self.part and self.delay else self.part
        return f"{self.name} [{part}]" if part else self.name

    @property
    def name(self) -> str:
        """The operator's description of the series alone, made printable."""
        words = str(self.tags.get("SeriesDescription") or self.tags.get("ProtocolName") or "no description")
        return "".join(letter if letter.isprintable() else " " for letter in words)[:48]

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """(slices, 3) LPS positions in mm, in the order of the slices."""
        return np.concatenate([instance.positions for instance in self.instances])

    @property
    def slices(self) -> int:
        return sum(instance.frames for instance in self.instances)

    @cached_property
    def heights(self) -> NDArray[np.float64]:
        """(slices,) rising mm along the slices' normal; empty where the files have no position."""
        turned = _orientation(self.instances)
        return np.sort(self.positions @ np.cross(turned[0], turned[1])) if turned is not None else np.empty(0)

    @property
    def spacing(self) -> float | None:
        """mm between slices: what most of them keep."""
        return float(np.median(np.diff(self.heights))) if len(self.heights) > 1 else None

    @cached_property
    def grid(self) -> Grid | None:
        """Where its voxels lie (columns, rows, slices), from the DICOM attributes alone; None where they
        are missing."""
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
        """True if any of its files declares text burned into the pictures: it may be a person's name."""
        return any(str(instance.tags.get("BurnedInAnnotation") or "").upper() == "YES" for instance in self.instances)


def gather(instances: Iterable[Instance]) -> list[Series]:
    """Volumes in the order of patient, study and series number."""
    patients = _numbered(instances, lambda instance: instance.person)
    volumes: list[Series] = []
    for patient, instances_of in enumerate(patients, 1):
        for study, exam in enumerate(
            _numbered(instances_of, lambda instance: (_text(instance, "StudyDate"), _study(instance))), 1
        ):
            for files in _numbered(
                exam, lambda instance: (_series_number(instance), instance.tags["SeriesInstanceUID"])
            ):
                parts = _volumes(files)
                apart = [volume for _, volume in parts]
                times = zip(_delays(apart), _after_agent(apart), strict=True)
                for (part, volume), (delay, after) in zip(parts, times, strict=True):
                    number = len(volumes) + 1
                    volumes.append(
                        Series(number, patient, study, _ordered(volume), part, delay=delay, after_agent=after)
                    )
    return [replace(series, fragment=any(_torn(series, other) for other in volumes)) for series in volumes]


def _delays(volumes: Sequence[Sequence[Instance]]) -> list[float | None]:
    """s from the first volume of a series to each of them; None where that is not known."""
    began = starts(volumes)
    return [None] * len(volumes) if began is None else [time - min(began) for time in began]


def _after_agent(volumes: Sequence[Sequence[Instance]]) -> list[float | None]:
    """s from the injection of the contrast agent to each volume; None where that is not known, and before it."""
    began = starts(volumes, TIMES_OF_DAY) if len(volumes) > 1 else [seconds(volumes[0][0].tags, TIMES_OF_DAY[0])]
    injected = [seconds(files[0].tags, "ContrastBolusStartTime") for files in volumes]
    if began is None:
        return [None] * len(volumes)
    return [
        start - agent if start is not None and agent is not None and start >= agent else None
        for start, agent in zip(began, injected, strict=True)
    ]


def _torn(series: Series, other: Series) -> bool:
    """Whether two volumes are parts of one series. Echoes and phases of one series lie at the same places."""
    if series is other or series.uid != other.uid or not (len(series.positions) and len(other.positions)):
        return False
    heads = [
        (part.patient, part.study, _series_number(part.instances[0]), part.instances[0].tags.get("Rows"))
        for part in (series, other)
    ]
    places = [{tuple(place) for place in np.round(part.positions, 2).tolist()} for part in (series, other)]
    return heads[0] != heads[1] and not places[0] & places[1]


def _numbered(instances: Iterable[Instance], key: Any) -> list[list[Instance]]:
    groups: dict[Any, list[Instance]] = defaultdict(list)
    for instance in instances:
        groups[key(instance)].append(instance)
    return [groups[name] for name in sorted(groups)]


def _study(instance: Instance) -> str:
    return _text(instance, "StudyInstanceUID")


def _text(instance: Instance, name: str) -> str:
    return str(instance.tags.get(name, ""))


def _series_number(instance: Instance) -> int:
    return int(instance.tags.get("SeriesNumber") or 0)


def _volumes(
    files: Sequence[Instance], keys: Sequence[str] = APART, part: str = ""
) -> list[tuple[str, list[Instance]]]:
    """Files at the same place are taken apart by what differs between them, last by the time at which they were taken;
    where nothing does they stay together."""
    if not _repeated(files):
        return [(part, list(files))]
    if not keys:
        apart = phases(files)
        if apart is None:
            return [(part, list(files))]
        return [(f"{part}, phase {number}".strip(", "), phase) for number, phase in enumerate(apart, 1)]
    groups: dict[str, list[Instance]] = defaultdict(list)
    for instance in files:
        value = instance.tags.get(keys[0], "")
        groups[
            "/".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
        ].append(instance)
    if len(groups) in (1, len(files)):  # a number of its own for each picture separates nothing
        return _volumes(files, keys[1:], part)
    named = {value: f"{part}, {_word(keys[0], value)}".strip(", ") for value in groups}
    return [instance for value, group in groups.items() for instance in _volumes(group, keys[1:], named[value])]


def _word(key: str, value: str) -> str:
    shown = "".join(letter for letter in value if letter.isprintable())[:40]
    return _WORDS.get(key, "{}" if key == "ImageType" else "acquisition {}").format(shown)


def _repeated(files: Sequence[Instance]) -> bool:
    places = [tuple(np.round(instance.positions[0], 2)) for instance in files if len(instance.positions) == 1]
    return len(set(places)) < len(places)


def _ordered(files: Sequence[Instance]) -> tuple[Instance, ...]:
    turned = _orientation(files)
    if turned is None or any(len(instance.positions) == 0 for instance in files):
        return tuple(files)
    normal = np.cross(*turned)
    return tuple(sorted(files, key=lambda instance: float(instance.positions[0] @ normal)))


def _orientation(files: Sequence[Instance]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Directions of a row and of a column in LPS, of the first file that has them; None if no file does.

    That they are the same in all files is judged by `cirrnb.data.dicom.series_faults`.
    """
    directions = next((instance.orientations[0] for instance in files if len(instance.orientations)), None)
    return None if directions is None else (directions[:3], directions[3:])
