"""One volume from DICOM to NIfTI by dcm2niix, with its geometry checked and nothing in it that names anybody."""

from __future__ import annotations

import gzip
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from cirrnb.data.dicom.series import Series
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.nifti.volume import read_header

PATIENCE = 900
"""Seconds that dcm2niix may take for one volume: a large one takes a few."""

PACKING = 1
"""gzip level: well under half the time of the usual 6, and a few per cent more bytes on MR."""

NEAR = 0.2
"""mm by which a corner of the converted scan may lie off where DICOM says."""

_ANEW = "Export the series again from the archive, or choose another."
_FREE_TEXT = ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16))
"""Offset and length of a NIfTI-1 header's texts (data_type, db_name, descrip, aux_file, intent_name): dcm2niix writes
the time of day and comments there."""


def convert(series: Series, path: Path) -> None:
    """Convert a volume to `path` (.nii.gz).

    dcm2niix sees this volume's files alone, so that nothing else in their folder can be mixed in.

    Raises
    ------
    InputError
        If dcm2niix fails, makes anything but one volume of them, or one that does not lie where DICOM says. What the
        program itself said last is told, with its exit code.
    """
    with tempfile.TemporaryDirectory(prefix="cirrnb-") as private:
        source, target = Path(private) / "dicom", Path(private) / "nifti"
        source.mkdir()
        target.mkdir()
        for place, one in enumerate(series.instances):
            (source / f"{place:05d}.dcm").symlink_to(one.path.absolute())
        code, said = _run(series, source, target)
        made = sorted(target.glob("*.nii"))
        if len(made) != 1:
            raise _failed(series, len(made), code, said.replace(private, ""))
        _check_geometry(series, made[0])
        _pack(made[0], path)


def _run(series: Series, source: Path, target: Path) -> tuple[int, str]:
    """Exit code of dcm2niix and all that it said."""
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
    """What is said where the extra for DICOM is not installed."""
    return InputError(name, "not installed", "the extra for DICOM", 'Install it: pip install ".[dicom]"')


def _where(series: Series) -> str:
    return f"series {series.number} ({series.description})"


_COMPLAINT = re.compile(r"(?i)\b(error|unsupported|unable|fail\w*|cannot|corrupt\w*|not a valid)\b")
_UNPACKING = re.compile(r"(?i)unsupported transfer syntax|unable to decode|decompress|decod|codec|jpe?g|j2k")


def _last_error(said: str) -> str:
    """The last complaint of dcm2niix, or its last line: its first line names its codecs and is no complaint."""
    lines = ["".join(letter if letter.isprintable() else " " for letter in line).strip() for line in said.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("Chris Rorden", "Conversion required"))]
    return next((line for line in reversed(lines) if _COMPLAINT.search(line)), (lines or ["nothing"])[-1])[:200]


def _failed(series: Series, made: int, code: int, said: str) -> InputError:
    if made:
        return InputError(
            _where(series),
            f"{made} volumes in one series",
            "one volume",
            "Export the one to be staged (one phase, one echo) as a series of its own.",
        )
    from pydicom.uid import UID

    syntax, last = UID(series.instances[0].syntax), _last_error(said)
    found = f"nothing that dcm2niix could make of it (exit code {code}; its last error: {last})"
    remedy = _ANEW
    if syntax.is_compressed and _UNPACKING.search(last):
        found = f"pictures that dcm2niix cannot unpack ({syntax.name}; exit code {code}; its last error: {last})"
        remedy = "Export it again uncompressed (Explicit VR Little Endian), or unpack it with gdcmconv --raw."
    return InputError(_where(series), found, "a series that dcm2niix converts", remedy)


def _check_geometry(series: Series, path: Path) -> None:
    """The converted scan has to fill the same box in the patient as the DICOM files say, voxel by voxel."""
    made, told = read_header(path).grid, series.grid
    if told is None:
        raise InputError(
            _where(series), "files that do not tell where it lies", "a position, directions and a spacing", _ANEW
        )
    if sorted(made.shape) != sorted(told.shape):
        found = f"{' x '.join(map(str, made.shape))} voxels after conversion"
        expected = f"{' x '.join(map(str, told.shape))} as the DICOM files say"
        raise InputError(_where(series), found, expected, "Export the series again, or choose another.")
    if (off := farthest(made, told)) > NEAR:
        raise InputError(
            _where(series),
            f"a converted scan that lies up to {off:.1f} mm off",
            "each voxel where the DICOM files say",
            "Export the series again, or choose another (was the gantry tilted, or are slices unevenly spaced?).",
        )


def farthest(one: Grid, other: Grid) -> float:
    """mm from a corner of one grid to the nearest of the other's, at most."""
    distances = np.linalg.norm(one.corners()[:, None] - other.corners()[None], axis=-1)
    return float(distances.min(axis=1).max())


def _pack(source: Path, target: Path) -> None:
    """Compress, with the header's texts blanked."""
    data = bytearray(source.read_bytes())
    for offset, length in _FREE_TEXT:
        data[offset : offset + length] = bytes(length)
    with target.open("wb") as file, gzip.GzipFile("", "wb", PACKING, file, mtime=0) as packed:
        packed.write(data)
