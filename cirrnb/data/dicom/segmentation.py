"""Masks and maps as DICOM segmentation objects that point at the series they belong to, for a PACS or a viewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.dicom.conversion import NEAR, farthest, missing
from cirrnb.data.dicom.series import Series
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.writing import replacing

SCHEME = "99CIRRNB"
"""Coding scheme of what DICOM has no code for: maps of an explanation."""

_WANTED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
"""What an object has to name, if only as unknown; series on people's discs lack some of it."""

LIVER = ("liver", "10200004", "SCT", "Liver")
SPEAKS_FOR = ("speaks for", "speaks-for", SCHEME, "Speaks for the score that is explained")
SPEAKS_AGAINST = ("speaks against", "speaks-against", SCHEME, "Speaks against the score that is explained")


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment: what it shows, its values in the file's own order of axes, and who made it.

    Attributes
    ----------
    meaning : label, code value, coding scheme and code meaning, such as `LIVER`.
    values : bool, or numbers from 0 to 1 whose largest is 1.
    made_by : program and version; None where a person may have drawn it.
    """

    meaning: tuple[str, str, str, str]
    values: NDArray
    made_by: str | None = None


def write_segmentation(
    path: Path, series: Series, grid: Grid, segments: Sequence[Segment], *, description: str, version: str
) -> Path:
    """Write segments that lie on `grid` as one DICOM segmentation object of `series`; written beside and renamed.

    Bool segments become a binary object, others a fractional one of 255 steps. Patient and study are those of the
    series, its name included: this file belongs into the archive from which the series came, not to strangers.

    Raises
    ------
    InputError
        If the extra for DICOM is not installed, `grid` is not where the series lies, or an object of another series
        stands there.
    """
    try:
        import highdicom
        from pydicom import dcmread
        from pydicom.uid import generate_uid
    except ImportError as error:
        raise missing("highdicom") from error
    order = _order(series, grid)
    binary = all(one.values.dtype == np.bool_ for one in segments)
    stack = np.stack([_on_series(one.values, order) for one in segments], axis=-1)
    sources = [dcmread(one.path, stop_before_pixels=True) for one in series.instances]
    for source in sources:
        for name in _WANTED:
            if name not in source:
                setattr(source, name, None)
    written = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=stack.astype(np.uint8 if binary else np.float32),
        segmentation_type="BINARY" if binary else "FRACTIONAL",
        segment_descriptions=[_described(place, one, version) for place, one in enumerate(segments, 1)],
        fractional_type="OCCUPANCY",
        series_instance_uid=generate_uid(),
        series_number=_number(series),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="cirrnb",
        manufacturer_model_name="cirrnb",
        software_versions=version,
        device_serial_number="none",
        content_description=description[:64],
        content_label="RESEARCH_ONLY",
        series_description=f"cirrnb, research only: {description}"[:64],
    )
    _require_own(path, series)
    with replacing(path) as beside:
        written.save_as(beside)
    return path


def _require_own(path: Path, series: Series) -> None:
    """Raise InputError if an object of another series stands there: it may be another patient's of the same name."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    if not path.exists():
        return
    try:
        told = dcmread(path, stop_before_pixels=True).get("ReferencedSeriesSequence") or []
        if [str(one.get("SeriesInstanceUID")) for one in told] == [series.uid]:
            return
    except (InvalidDicomError, OSError, ValueError):
        pass  # whatever it is, it is none of ours
    raise InputError(
        path,
        "a file of another series",
        "nothing there, or an object of the same series",
        "Choose another folder, or move that file away.",
    )


def _described(number: int, segment: Segment, version: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

    label, value, scheme, meaning = segment.meaning
    anatomical = scheme == "SCT"
    category = (
        ("123037004", "SCT", "Anatomical Structure") if anatomical else ("attribution", SCHEME, "Attribution map")
    )
    algorithm = None
    if segment.made_by:
        family = CodedConcept("123109", "DCM", "Artificial Intelligence")
        algorithm = AlgorithmIdentificationSequence(segment.made_by[:64], family, version)
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=CodedConcept(*category),
        segmented_property_type=CodedConcept(value, scheme, meaning),
        algorithm_type="AUTOMATIC" if segment.made_by else "MANUAL",
        algorithm_identification=algorithm,
    )


def _number(series: Series) -> int:
    """A series number of our own that tells from which it came."""
    return 9000 + int(series.tags.get("SeriesNumber") or 0) % 1000


def _order(series: Series, grid: Grid) -> NDArray[np.int64]:
    """(frames, rows, columns, 3) indices into an array on `grid`, for each pixel of the series in the order of its
    files."""
    told = series.grid
    if told is None or sorted(told.shape) != sorted(grid.shape) or farthest(told, grid) > NEAR:
        raise InputError(
            f"series {series.number}",
            "a series that lies elsewhere than the scan",
            "the series from which the scan was made",
            "Give the DICOM folder of this patient.",
        )
    normal = np.asarray(told.affine[:3, 2]) * (-1, -1, 1)  # in LPS
    along = (series.positions - series.positions[np.argmin(series.positions @ normal)]) @ normal / (normal @ normal)
    slices = np.round(along).astype(int)
    columns, rows, _ = told.shape
    frames = np.stack(np.meshgrid(slices, np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
    places = grid.to_index(told.to_patient(frames[..., ::-1]))
    return np.round(places).astype(np.int64)


def _on_series(values: NDArray, order: NDArray[np.int64]) -> NDArray:
    return np.nan_to_num(values[order[..., 0], order[..., 1], order[..., 2]])
