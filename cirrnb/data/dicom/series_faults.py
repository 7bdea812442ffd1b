"""The faults that keep a DICOM volume from being used."""

from __future__ import annotations

from numbers import Real

import numpy as np

from cirrnb.data.dicom.series import Series
from cirrnb.data.grid import implausible
from cirrnb.data.numbers import figure

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


def find_fault(series: Series) -> tuple[str, str] | None:
    """What keeps a volume from being used and what to do about it, or None."""
    return next(filter(None, (check(series) for check in _CHECKS)), None)


def _truncated(series: Series) -> tuple[str, str] | None:
    files = series.instances
    if cut := [instance for instance in files if instance.short]:
        return f"{len(cut)} of {len(files)} files cut short", _AGAIN
    if long := [instance for instance in files if instance.excess]:
        problem = (
            f"{len(long)} of {len(files)} files with larger pictures than their Rows, Columns and BitsAllocated say"
        )
        return problem, _AGAIN
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
    """Pictures are unpacked by the header of the first file; one that is stored otherwise would come out as noise."""
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
    problem = "a part of a series: other files of its SeriesInstanceUID name another patient, study, date or number"
    return problem, "Export the whole series again, or name its files alike."


_ECHOES = 1.2  # by which echo times of one volume may differ; scanners round them for each slice


def _several_echoes(series: Series) -> tuple[str, str] | None:
    stored = [instance.tags.get("EchoTime") for instance in series.instances]
    times = [float(time) for time in stored if isinstance(time, int | float) and time > 0]
    if not times or max(times) <= _ECHOES * min(times):
        return None
    remedy = "Export the one echo to be staged as a series of its own."
    return f"pictures of several echo times ({figure(min(times))} to {figure(max(times))} ms) in one series", remedy


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
