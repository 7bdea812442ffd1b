"""DICOM files grouped into volumes, in order, and the faults that keep a volume from being used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.dicom.files import Instance
from cirrnb.data.grid import Grid, implausible

APART = ("EchoTime", "ImageType", "DiffusionBValue", "TemporalPositionIdentifier", "AcquisitionNumber", "InversionTime")
"""Attributes that separate the volumes of one series, in the order in which they are tried."""

_WORDS = {"EchoTime": "echo {} ms", "DiffusionBValue": "b {}", "TemporalPositionIdentifier": "phase {}"}

FEWEST = 8
"""Slices below which a series is taken for a localizer or a sample and not for a scan of the liver."""

UNEVEN = 0.1
"""Share of the usual distance by which slices may lie unevenly; scanners write positions with few digits."""

_CANNOT = {
    "1.2.840.10008.1.2.4.100": "MPEG2",
    "1.2.840.10008.1.2.4.101": "MPEG2",
    "1.2.840.10008.1.2.4.102": "MPEG-4",
    "1.2.840.10008.1.2.4.103": "MPEG-4",
    "1.2.840.10008.1.2.4.104": "MPEG-4",
    "1.2.840.10008.1.2.4.201": "high-throughput JPEG 2000",
    "1.2.840.10008.1.2.4.202": "high-throughput JPEG 2000",
    "1.2.840.10008.1.2.4.203": "high-throughput JPEG 2000",
}
"""Transfer syntaxes that dcm2niix does not unpack and does not report itself."""

_AGAIN = "Export the series again from the archive; if that changes nothing, choose another series."

_PLACING = {
    "ImagePositionPatient": "positions",
    "ImageOrientationPatient": "orientations",
    "PixelSpacing": "spacings",
}

_ACQUIRED = "Choose the series that the scanner acquired, or export it again from the archive."
_TURNED = 0.01  # by which directions may differ from one another, from length 1 and from a right angle


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
    """

    number: int
    patient: int
    study: int
    instances: tuple[Instance, ...]
    part: str = ""
    fragment: bool = False

    @property
    def tags(self) -> Any:
        return self.instances[0].tags

    @property
    def uid(self) -> str:
        return str(self.tags["SeriesInstanceUID"])

    @property
    def description(self) -> str:
        """The operator's description, made printable. It is untrusted text and may name a person."""
        words = str(self.tags.get("SeriesDescription") or self.tags.get("ProtocolName") or "no description")
        shown = "".join(letter if letter.isprintable() else " " for letter in words)[:48]
        return f"{shown} [{self.part}]" if self.part else shown

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
        """True if any of its files says that text is part of the pictures: it may be a person's name."""
        return any(str(instance.tags.get("BurnedInAnnotation") or "").upper() == "YES" for instance in self.instances)

    @cached_property
    def fault(self) -> tuple[str, str] | None:
        """What keeps this volume from being used and what to do about it, or None."""
        return find_fault(self)


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
                for part, volume in _volumes(files):
                    volumes.append(Series(len(volumes) + 1, patient, study, _ordered(volume), part))
    return [replace(series, fragment=any(_torn(series, other) for other in volumes)) for series in volumes]


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
    """Files at the same place are taken apart by what differs between them; where nothing does they stay together."""
    if not keys or not _repeated(files):
        return [(part, list(files))]
    groups: dict[str, list[Instance]] = defaultdict(list)
    for instance in files:
        value = instance.tags.get(keys[0], "")
        groups[
            "/".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
        ].append(instance)
    if len(groups) == 1:
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

    That they are the same in all files is judged by `Series.fault`.
    """
    directions = next((instance.orientations[0] for instance in files if len(instance.orientations)), None)
    return None if directions is None else (directions[:3], directions[3:])


def find_fault(series: Series) -> tuple[str, str] | None:
    """What keeps a volume from being used and what to do about it, or None."""
    return next(filter(None, (check(series) for check in _CHECKS)), None)


def _truncated(series: Series) -> tuple[str, str] | None:
    files = series.instances
    if cut := [instance for instance in files if instance.short]:
        return f"{len(cut)} of {len(files)} files cut short", _AGAIN
    if long := [instance for instance in files if instance.excess]:
        found = f"{len(long)} of {len(files)} files with larger pictures than their Rows, Columns and BitsAllocated say"
        return found, _AGAIN
    return None


def _colours(series: Series) -> tuple[str, str] | None:
    if all(int(instance.tags.get("SamplesPerPixel") or 1) == 1 for instance in series.instances):
        return None
    return "colour pictures (a screenshot or a fused map)", "Choose the series that the scanner acquired."


def _inverted(series: Series) -> tuple[str, str] | None:
    """MR is stored with its largest values brightest; converters do not turn the others round."""
    dark = sum(instance.tags.get("PhotometricInterpretation") == "MONOCHROME1" for instance in series.instances)
    if not dark:
        return None
    return f"{dark} of {len(series.instances)} files in which large values are dark (MONOCHROME1)", _ACQUIRED


_LARGEST = 1e9  # RescaleSlope and RescaleIntercept that are taken for real
_FORMAT = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")


def _several_formats(series: Series) -> tuple[str, str] | None:
    """Pictures are unpacked as the first file says; one that is stored otherwise would come out as noise."""
    for keyword in _FORMAT:
        values = {str(instance.tags.get(keyword)) for instance in series.instances}
        if len(values) > 1:
            return f"pictures stored in several formats ({keyword} {' and '.join(sorted(values))})", _AGAIN
    allocated, stored = (series.instances[0].tags.get(keyword) for keyword in _FORMAT[:2])
    if allocated not in (8, 16, 32, None) or (stored and allocated and stored > allocated):
        return f"pictures of {stored} bits in {allocated}", _AGAIN
    for keyword, usual in (("RescaleSlope", 1), ("RescaleIntercept", 0)):
        for value in (instance.tags.get(keyword, usual) for instance in series.instances):
            if not isinstance(value, Real) or not abs(float(value)) <= _LARGEST or (value == 0 and usual):
                return f"pictures whose {keyword} is {str(value)[:20]!r}", _AGAIN
    return None


def _torn_apart(series: Series) -> tuple[str, str] | None:
    if not series.fragment:
        return None
    found = "a part of a series: other files of its SeriesInstanceUID name another patient, study, date or number"
    return found, "Export the whole series again, or name its files alike."


_ECHOES = 1.2  # by which echo times of one volume may differ; scanners round them for each slice


def _several_echoes(series: Series) -> tuple[str, str] | None:
    stored = [instance.tags.get("EchoTime") for instance in series.instances]
    times = [float(time) for time in stored if isinstance(time, int | float) and time > 0]
    if not times or max(times) <= _ECHOES * min(times):
        return None
    remedy = "Export the one echo to be staged as a series of its own."
    return f"pictures of several echo times ({min(times):g} to {max(times):g} ms) in one series", remedy


def _packed(series: Series) -> tuple[str, str] | None:
    for instance in series.instances:
        if instance.syntax in _CANNOT:
            remedy = "Export it uncompressed (Explicit VR Little Endian), or unpack it with gdcmconv --raw or dcmdjpeg."
            return f"pictures packed as {_CANNOT[instance.syntax]}, which cannot be unpacked here", remedy
    return None


def _unplaced(series: Series) -> tuple[str, str] | None:
    """Each frame of each file needs a position, an orientation and a voxel size."""
    for keyword, name in _PLACING.items():
        counts = [len(getattr(instance, name)) for instance in series.instances]
        lacking = sum(max(0, instance.frames - rows) for instance, rows in zip(series.instances, counts, strict=True))
        if lacking or sum(counts) != series.slices:
            what = "how large their voxels are" if name == "spacings" else "where they lie in the patient"
            return f"{lacking} of {series.slices} pictures without {keyword}: {what} is unknown", _ACQUIRED
        if not np.isfinite(np.concatenate([getattr(instance, name) for instance in series.instances])).all():
            return f"pictures whose {keyword} is no number", _ACQUIRED
    return None


def _impossible(series: Series) -> tuple[str, str] | None:
    turned = np.concatenate([instance.orientations for instance in series.instances])
    rows, columns = turned[:, :3], turned[:, 3:]
    lengths = np.abs(np.linalg.norm([rows, columns], axis=2) - 1)
    if lengths.max() > _TURNED or np.abs((rows * columns).sum(axis=1)).max() > _TURNED:
        return "pictures whose ImageOrientationPatient is not two directions at a right angle", _ACQUIRED
    if (np.concatenate([instance.spacings for instance in series.instances]) <= 0).any():
        return "pictures whose PixelSpacing is not above 0 mm", _ACQUIRED
    return None


def _several_directions(series: Series) -> tuple[str, str] | None:
    turned = np.concatenate([instance.orientations for instance in series.instances])
    if np.ptp(turned, axis=0).max() <= _TURNED:
        return None
    return "slices in several directions (a localizer)", "Choose an axial series."


def _several_spacings(series: Series) -> tuple[str, str] | None:
    spacings = np.concatenate([instance.spacings for instance in series.instances])
    if (np.ptp(spacings, axis=0) <= 1e-3 * spacings[0]).all():
        return None
    return "slices with voxels of several sizes in one series", _AGAIN


def _several_places(series: Series) -> tuple[str, str] | None:
    names = {str(instance.tags.get("FrameOfReferenceUID") or "") for instance in series.instances}
    if len(names) == 1:
        return None
    return f"slices of {len(names)} frames of reference in one series (the patient was moved)", _AGAIN


def _shared_names(series: Series) -> tuple[str, str] | None:
    names = {str(instance.tags["SOPInstanceUID"]) for instance in series.instances}
    if len(names) == len(series.instances):
        return None
    return (
        f"{len(series.instances)} different pictures with {len(names)} SOPInstanceUID{'s' if len(names) > 1 else ''}",
        "Remove names with a program that gives each picture a UID of its own, or export the series again.",
    )


def _several_sizes(series: Series) -> tuple[str, str] | None:
    sizes = {(instance.tags["Rows"], instance.tags["Columns"]) for instance in series.instances}
    return (f"slices of {len(sizes)} sizes in one series", _AGAIN) if len(sizes) > 1 else None


def _few(series: Series) -> tuple[str, str] | None:
    if series.slices >= FEWEST:
        return None
    single = series.slices == 1
    return f"{series.slices} slice{'' if single else 's'} only", "Choose a series that covers the liver."


def _stacked(series: Series) -> tuple[str, str] | None:
    distances = np.diff(series.heights)
    if distances.min() > 0.01:
        return None
    return (
        "several pictures at one place (phases, echoes or b-values) that cannot be separated",
        "Export the one volume to be staged as a series of its own.",
    )


def _gap(series: Series) -> tuple[str, str] | None:
    distances, usual = np.diff(series.heights), series.spacing or 0.0
    wide = np.flatnonzero(np.abs(distances - usual) > UNEVEN * usual)
    if not len(wide):
        return None
    place = int(wide[0])
    lacking = round(distances[place] / usual) - 1
    place_text = (
        f"{distances[place]:.1f} mm between slices {place + 1} and {place + 2} (from the feet), {usual:.1f} elsewhere"
    )
    if len(wide) > 1:
        place_text += f", and {len(wide) - 1} more such places"
    cause = f"{lacking} slice{'s' if lacking > 1 else ''} missing: " if lacking > 0 else "slices that lie unevenly: "
    return cause + place_text, "Copy or export the whole series again; a volume with a hole would be wrong in every mm."


def _no_patient(series: Series) -> tuple[str, str] | None:
    """A geometry that no scan of a patient has, as `cirrnb.data.grid.implausible` judges it in every file."""
    try:
        grid = series.grid
    except ValueError as error:
        return f"a geometry that cannot be ({error})", _ACQUIRED
    fault = implausible(grid) if grid is not None else None
    return (fault, _ACQUIRED) if fault else None


_CHECKS = (
    *(
        _truncated,
        _torn_apart,
        _colours,
        _several_formats,
        _packed,
        _shared_names,
        _unplaced,
        _impossible,
        _several_directions,
        _several_spacings,
    ),
    *(_several_places, _several_sizes, _few, _stacked, _gap, _no_patient, _inverted, _several_echoes),
)
