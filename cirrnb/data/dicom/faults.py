"""What keeps a DICOM series from becoming one volume: each thing that geometry rests on, over all files and frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cirrnb.data.bounds import implausible

if TYPE_CHECKING:
    from cirrnb.data.dicom.series import Series

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
"""Transfer syntaxes that dcm2niix does not unpack; of others it tells so itself."""


def find_fault(series: Series) -> tuple[str, str] | None:
    """What keeps a volume from being used and what to do about it, or None."""
    return next(filter(None, (check(series) for check in _CHECKS)), None)


_AGAIN = "Export the series again from the archive; if that changes nothing, choose another series."


def _truncated(series: Series) -> tuple[str, str] | None:
    cut = [one for one in series.instances if one.short]
    return (f"{len(cut)} of {len(series.instances)} files cut short", _AGAIN) if cut else None


def _colours(series: Series) -> tuple[str, str] | None:
    if all(int(one.tags.get("SamplesPerPixel") or 1) == 1 for one in series.instances):
        return None
    return "colour pictures (a screenshot or a fused map)", "Choose the series that the scanner acquired."


def _packed(series: Series) -> tuple[str, str] | None:
    for one in series.instances:
        if one.syntax in _CANNOT:
            remedy = "Export it uncompressed (Explicit VR Little Endian), or unpack it with gdcmconv --raw or dcmdjpeg."
            return f"pictures packed as {_CANNOT[one.syntax]}, which cannot be unpacked here", remedy
    return None


_PLACING = {
    "ImagePositionPatient": "positions",
    "ImageOrientationPatient": "orientations",
    "PixelSpacing": "spacings",
}


def _unplaced(series: Series) -> tuple[str, str] | None:
    """Each frame of each file has to tell where it lies and how large its voxels are."""
    for keyword, name in _PLACING.items():
        told = [len(getattr(one, name)) for one in series.instances]
        lacking = sum(max(0, one.frames - rows) for one, rows in zip(series.instances, told, strict=True))
        if lacking or sum(told) != series.slices:
            what = "how large their voxels are" if name == "spacings" else "where they lie in the patient"
            return f"{lacking} of {series.slices} pictures that do not tell {what} (no {keyword})", _ACQUIRED
        if not np.isfinite(np.concatenate([getattr(one, name) for one in series.instances])).all():
            return f"pictures whose {keyword} is no number", _ACQUIRED
    return None


_ACQUIRED = "Choose the series that the scanner acquired, or export it again from the archive."


def _impossible(series: Series) -> tuple[str, str] | None:
    turned = np.concatenate([one.orientations for one in series.instances])
    rows, columns = turned[:, :3], turned[:, 3:]
    lengths = np.abs(np.linalg.norm([rows, columns], axis=2) - 1)
    if lengths.max() > _TURNED or np.abs((rows * columns).sum(axis=1)).max() > _TURNED:
        return "pictures whose ImageOrientationPatient is not two directions at a right angle", _ACQUIRED
    if (np.concatenate([one.spacings for one in series.instances]) <= 0).any():
        return "pictures whose PixelSpacing is not above 0 mm", _ACQUIRED
    return None


_TURNED = 0.01  # by which directions may differ from one another, from length 1 and from a right angle


def _several_directions(series: Series) -> tuple[str, str] | None:
    turned = np.concatenate([one.orientations for one in series.instances])
    if np.ptp(turned, axis=0).max() <= _TURNED:
        return None
    return "slices in several directions (a localizer)", "Choose an axial series."


def _several_spacings(series: Series) -> tuple[str, str] | None:
    spacings = np.concatenate([one.spacings for one in series.instances])
    if (np.ptp(spacings, axis=0) <= 1e-3 * spacings[0]).all():
        return None
    return "slices with voxels of several sizes in one series", _AGAIN


def _several_places(series: Series) -> tuple[str, str] | None:
    names = {str(one.tags.get("FrameOfReferenceUID") or "") for one in series.instances}
    if len(names) == 1:
        return None
    return f"slices of {len(names)} frames of reference in one series (the patient was moved)", _AGAIN


def _shared_names(series: Series) -> tuple[str, str] | None:
    names = {str(one.tags["SOPInstanceUID"]) for one in series.instances}
    if len(names) == len(series.instances):
        return None
    return (
        f"{len(series.instances)} different pictures with {len(names)} SOPInstanceUID{'s' if len(names) > 1 else ''}",
        "Remove names with a program that gives each picture a UID of its own, or export the series again.",
    )


def _several_sizes(series: Series) -> tuple[str, str] | None:
    sizes = {(one.tags["Rows"], one.tags["Columns"]) for one in series.instances}
    return (f"slices of {len(sizes)} sizes in one series", _AGAIN) if len(sizes) > 1 else None


def _few(series: Series) -> tuple[str, str] | None:
    if series.slices >= FEWEST:
        return None
    one = series.slices == 1
    return f"{series.slices} slice{'' if one else 's'} only", "Choose a series that covers the liver."


def _stacked(series: Series) -> tuple[str, str] | None:
    distances = np.diff(series.heights)
    if distances.min() > 0.01:
        return None
    return (
        "several pictures at one place (phases, echoes or b-values) that cannot be told apart",
        "Export the one volume to be staged as a series of its own.",
    )


def _gap(series: Series) -> tuple[str, str] | None:
    distances, usual = np.diff(series.heights), series.spacing or 0.0
    wide = np.flatnonzero(np.abs(distances - usual) > UNEVEN * usual)
    if not len(wide):
        return None
    place = int(wide[0])
    lacking = round(distances[place] / usual) - 1
    told = (
        f"{distances[place]:.1f} mm between slices {place + 1} and {place + 2} (from the feet), {usual:.1f} elsewhere"
    )
    if len(wide) > 1:
        told += f", and {len(wide) - 1} more such places"
    said = f"{lacking} slice{'s' if lacking > 1 else ''} missing: " if lacking > 0 else "slices that lie unevenly: "
    return said + told, "Copy or export the whole series again; a volume with a hole would be wrong in every mm."


def _no_patient(series: Series) -> tuple[str, str] | None:
    """A geometry that no scan of a patient has, as `cirrnb.data.bounds.implausible` judges it in every file."""
    try:
        grid = series.grid
    except ValueError as error:
        return f"a geometry that cannot be ({error})", _ACQUIRED
    found = implausible(grid) if grid is not None else None
    return (found, _ACQUIRED) if found else None


_CHECKS = (
    *(_truncated, _colours, _packed, _shared_names, _unplaced, _impossible, _several_directions, _several_spacings),
    *(_several_places, _several_sizes, _few, _stacked, _gap, _no_patient),
)
