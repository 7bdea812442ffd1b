"""DICOM to NIfTI by dcm2niix, and masks and maps back as DICOM segmentation objects."""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.atomic_files import atomic_file
from cirrnb.data.dicom.series import Series
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.locks import scratch_folder
from cirrnb.data.nifti.reading import read_header

PATIENCE = 900
"""Seconds that dcm2niix may take for one volume: a large one takes a few."""

PACKING = 1
"""gzip level: well under half the time of the usual 6, and a few per cent more bytes on MR."""

NEAR = 0.2
"""Largest distance in mm between a corner of the converted scan and its position in the DICOM files."""

_OVERLAY = re.compile(r"_ROI\d+\.nii$")
"""What dcm2niix makes of graphics that lie over the pictures (group 6000)."""

_ANEW = "Export the series again from the archive, or choose another."
_FREE_TEXT = ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16))
"""Offset and length of a NIfTI-1 header's texts (data_type, db_name, descrip, aux_file, intent_name): dcm2niix writes
the time of day and comments there."""

_COMPLAINT = re.compile(r"(?i)\b(error|unsupported|unable|fail\w*|cannot|corrupt\w*|not a valid)\b")
_UNPACKING = re.compile(r"(?i)unsupported transfer syntax|unable to decode|decompress|decod|codec|jpe?g|j2k")

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


def convert(series: Series, path: Path) -> None:
    """Convert a volume to `path` (.nii.gz).

    dcm2niix sees this volume's files alone, so that nothing else in their folder can be mixed in.

    Raises
    ------
    InputError
        If dcm2niix fails, makes anything but one volume of them, or a scan at another place than the DICOM files say.
        The message quotes the program's last error and its exit code.
    """
    # Its links hold the paths of the files, which may name a person: what a kill leaves is swept by the next run.
    with scratch_folder() as private:
        source, target = private / "dicom", private / "nifti"
        source.mkdir()
        target.mkdir()
        for place, instance in enumerate(series.instances):
            (source / f"{place:05d}.dcm").symlink_to(instance.path.absolute())
        code, output = _run(series, source, target)
        volumes = sorted(path for path in target.glob("*.nii") if not _OVERLAY.search(path.name))
        if len(volumes) != 1:
            raise _failed(series, len(volumes), code, output.replace(str(private), ""))
        _check_geometry(series, volumes[0])
        _pack(volumes[0], path)


def _run(series: Series, source: Path, target: Path) -> tuple[int, str]:
    """Exit code and output of dcm2niix."""
    # Of the program: no sidecar, no compression, no cropping, merge what was gathered here, and ignore a user's own
    # defaults file.
    options = ["-b", "n", "-z", "n", "-x", "i", "-m", "y", "-c", "", "-f", "scan", "-g", "i"]
    try:
        done = subprocess.run(
            [_program(), *options, "-o", str(target), str(source)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            _where(series), f"no answer from dcm2niix in {PATIENCE} s", "a scan that converts", "Choose another series."
        ) from error
    return done.returncode, done.stdout.decode(errors="replace")


def _program() -> str:
    try:
        import dcm2niix
    except ImportError as error:
        raise missing("dcm2niix") from error
    return str(dcm2niix.bin)


def missing(name: str) -> InputError:
    """The error if the extra for DICOM is not installed."""
    return InputError(name, "not installed", "the extra for DICOM", 'Install it: pip install ".[dicom]"')


def _where(series: Series) -> str:
    return f"series {series.number} ({series.description})"


def _last_error(output: str) -> str:
    """The last complaint of dcm2niix, or its last line: its first line names its codecs and is no complaint."""
    lines = [
        "".join(letter if letter.isprintable() else " " for letter in line).strip() for line in output.splitlines()
    ]
    lines = [line for line in lines if line and not line.startswith(("Chris Rorden", "Conversion required"))]
    return next((line for line in reversed(lines) if _COMPLAINT.search(line)), (lines or ["nothing"])[-1])[:200]


def _failed(series: Series, volumes: int, code: int, output: str) -> InputError:
    if volumes:
        return InputError(
            _where(series),
            f"{volumes} volumes in one series",
            "one volume",
            "Export the one to be staged (one phase, one echo) as a series of its own.",
        )
    from pydicom.uid import UID

    syntax, last = UID(series.instances[0].syntax), _last_error(output)
    problem = f"nothing that dcm2niix could make of it (exit code {code}; its last error: {last})"
    remedy = _ANEW
    if syntax.is_compressed and _UNPACKING.search(last):
        problem = f"pictures that dcm2niix cannot unpack ({syntax.name}; exit code {code}; its last error: {last})"
        remedy = "Export it again uncompressed (Explicit VR Little Endian), or unpack it with gdcmconv --raw."
    return InputError(_where(series), problem, "a series that dcm2niix converts", remedy)


def _check_geometry(series: Series, path: Path) -> None:
    """The converted scan has to fill the same box in the patient as the DICOM files say, voxel by voxel."""
    converted, expected_grid = read_header(path).grid, series.grid
    if expected_grid is None:
        raise InputError(_where(series), "files without a position", "a position, directions and a spacing", _ANEW)
    if sorted(converted.shape) != sorted(expected_grid.shape):
        problem = f"{' x '.join(map(str, converted.shape))} voxels after conversion"
        expected = f"{' x '.join(map(str, expected_grid.shape))} as the DICOM files say"
        raise InputError(_where(series), problem, expected, "Export the series again, or choose another.")
    if (off := farthest(converted, expected_grid)) > NEAR:
        raise InputError(
            _where(series),
            f"a converted scan that lies up to {off:.1f} mm off",
            "each voxel where the DICOM files say",
            "Export the series again, or choose another (was the gantry tilted, or are slices unevenly spaced?).",
        )


def farthest(first: Grid, second: Grid) -> float:
    """mm from a corner of one grid to the nearest of the other's, at most."""
    distances = np.linalg.norm(first.corners()[:, None] - second.corners()[None], axis=-1)
    return float(distances.min(axis=1).max())


def _pack(source: Path, target: Path) -> None:
    """Compress, with the header's texts blanked."""
    data = bytearray(source.read_bytes())
    for offset, length in _FREE_TEXT:
        data[offset : offset + length] = bytes(length)
    with target.open("wb") as file, gzip.GzipFile("", "wb", PACKING, file, mtime=0) as packed:
        packed.write(data)


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment: what it shows, its values in the file's own order of axes, and who made it.

    Attributes
    ----------
    meaning : label, code value, coding scheme and code meaning, such as `LIVER`.
    values : bool, or numbers from 0 to 1 whose largest is 1.
    made_by : program and version; None where a person may have drawn it.
    category : code value, coding scheme and code meaning of its category; None takes "Anatomical Structure" for what
        SNOMED CT names and "Attribution map" for the rest.
    """

    meaning: tuple[str, str, str, str]
    values: NDArray
    made_by: str | None = None
    category: tuple[str, str, str] | None = None


def source_headers(series: Series) -> list[Any]:
    """The headers of a series' files in its order, as pydicom data sets in which what a result must name is not absent,
    if only empty. They hold the patient's identity."""
    from pydicom import dcmread

    sources = [dcmread(instance.path, stop_before_pixels=True) for instance in series.instances]
    for source in sources:
        for name in _WANTED:
            if name not in source:
                setattr(source, name, None)
    return sources


def write_segmentation(
    path: Path,
    series: Series,
    grid: Grid,
    segments: Sequence[Segment],
    *,
    description: str,
    version: str,
    uids: tuple[str, str] | None = None,
) -> Path:
    """Write segments that lie on `grid` as one DICOM segmentation object of `series`, atomically.

    Bool segments become a binary object, others a fractional one of 255 steps. Patient and study are those of the
    series, its name included: this file belongs into the archive from which the series came, not to strangers. `uids`
    are its SeriesInstanceUID and SOPInstanceUID; None takes new ones.

    Raises
    ------
    InputError
        If the extra for DICOM is not installed, `grid` is not where the series lies, or an object of another series
        stands there.
    """
    try:
        import highdicom
        from pydicom.uid import generate_uid
    except ImportError as error:
        raise missing("highdicom") from error
    order = _order(series, grid)
    binary = all(segment.values.dtype == np.bool_ for segment in segments)
    stack = np.stack([_on_series(segment.values, order) for segment in segments], axis=-1)
    series_uid, own_uid = uids or (generate_uid(), generate_uid())
    written = highdicom.seg.Segmentation(
        source_images=source_headers(series),
        pixel_array=stack.astype(np.uint8 if binary else np.float32),
        segmentation_type="BINARY" if binary else "FRACTIONAL",
        segment_descriptions=[_described(place, segment, version) for place, segment in enumerate(segments, 1)],
        fractional_type="OCCUPANCY",
        series_instance_uid=series_uid,
        series_number=_number(series),
        sop_instance_uid=own_uid,
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
    with atomic_file(path) as partial:
        written.save_as(partial)
    return path


def _require_own(path: Path, series: Series) -> None:
    """Raise InputError if an object of another series stands there: it may be another patient's of the same name."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    if not path.exists():
        return
    try:
        references = dcmread(path, stop_before_pixels=True).get("ReferencedSeriesSequence") or []
        if [str(reference.get("SeriesInstanceUID")) for reference in references] == [series.uid]:
            return
    except (InvalidDicomError, OSError, ValueError):
        pass  # not a file of this package
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
    category = segment.category or (
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
    """A series number that shows the number of the source series."""
    return 9000 + int(series.tags.get("SeriesNumber") or 0) % 1000


def _order(series: Series, grid: Grid) -> NDArray[np.int64]:
    """(frames, rows, columns, 3) indices into an array on `grid`, for each pixel of the series in the order of its
    files."""
    series_grid = series.grid
    if series_grid is None or sorted(series_grid.shape) != sorted(grid.shape) or farthest(series_grid, grid) > NEAR:
        raise InputError(
            f"series {series.number}",
            "a series that lies elsewhere than the scan",
            "the series from which the scan was made",
            "Give the DICOM folder of this patient.",
        )
    normal = np.asarray(series_grid.affine[:3, 2]) * (-1, -1, 1)  # in LPS
    along = (series.positions - series.positions[np.argmin(series.positions @ normal)]) @ normal / (normal @ normal)
    slices = np.round(along).astype(int)
    columns, rows, _ = series_grid.shape
    frames = np.stack(np.meshgrid(slices, np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
    places = grid.to_index(series_grid.to_patient(frames[..., ::-1]))
    return np.round(places).astype(np.int64)


def _on_series(values: NDArray, order: NDArray[np.int64]) -> NDArray:
    return np.nan_to_num(values[order[..., 0], order[..., 1], order[..., 2]])
