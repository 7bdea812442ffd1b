"""The header of a NIfTI file, judged before memory is taken for its voxels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.grid import SPACING, Grid, implausible
from cirrnb.data.nifti.file_bytes import SAVE_AGAIN, ByteStream, not_nifti
from cirrnb.data.numbers import figure

MAX_VOXELS = 2**28
"""Largest scan opened: 268 million voxels, five times the largest published one (560 x 560 x 160)."""

_MAX_GZIP_RATIO = 1100  # deflate cannot pack more than 1032 bytes into one


_UNITS = {0: "unknown", 1: "meter", 2: "mm", 3: "micron"}
_MM = {"meter": 1000.0, "micron": 0.001}
"""mm in a unit of length; a file that names none is taken for mm, as every program does."""

ALIGNED = 2
"""Code of a form that aligns a scan with something else."""

_APART = 0.1  # mm between where sform and qform place a corner voxel from which that is noted


@dataclass(frozen=True, eq=False)
class Placement:
    """The position of the voxels as stored in a file: both forms with their codes, in the file's own unit of length.

    Attributes
    ----------
    sform, qform : (4, 4) affines in `unit`; None where the code is 0.
    sform_code, qform_code : of the NIfTI standard: 1 scanner, 2 aligned, 3 Talairach, 4 MNI, 5 template; 0 for none.
        Codes that the standard does not know count as 2, aligned with something.
    unit : "mm", "meter", "micron" or "unknown".
    spacing : of the voxels, in `unit`, as the affine has it that is used.
    """

    sform: NDArray[np.float64] | None
    sform_code: int
    qform: NDArray[np.float64] | None
    qform_code: int
    unit: str
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, grid: Grid) -> Placement:
        """Scanner coordinates in mm by both forms."""
        return cls(grid.affine, 1, grid.affine, 1, "mm", grid.spacing)

    def header(self, shape: tuple[int, int, int]) -> nib.Nifti1Header:
        """A NIfTI-1 header for an array of a shape that lies there."""
        fields = nib.Nifti1Header()
        fields.set_data_shape(shape)
        fields.set_zooms(self.spacing)
        fields.set_xyzt_units(self.unit)
        fields.set_sform(self.sform, self.sform_code)
        if self.qform is not None:
            fields.set_qform(self.qform, self.qform_code)  # without shears, which a qform cannot hold
        return fields

    def notes(self, shape: tuple[int, int, int]) -> tuple[str, ...]:
        """What is unusual about it, in words: lengths in another unit, forms that disagree."""
        notes = []
        factor = _MM.get(self.unit, 1.0)
        if self.unit in _MM:
            notes.append(f"lengths in {self.unit}, brought to mm")
        if self.sform is not None and self.qform is not None:
            ends = np.stack(np.meshgrid(*((0, size - 1) for size in shape), indexing="ij"), axis=-1).reshape(8, 3)
            moved = ends @ (self.sform - self.qform)[:3, :3].T + (self.sform - self.qform)[:3, 3]
            apart = float(np.linalg.norm(moved, axis=1).max()) * factor
            if not apart <= _APART:
                notes.append(f"sform and qform place the voxels up to {apart:.1f} mm apart; the sform is taken")
        return tuple(notes)


@dataclass(frozen=True)
class VolumeHeader:
    """The header of a NIfTI file, before any voxel is read.

    Attributes
    ----------
    grid : shape and affine of the array as the file stores it, in mm for any unit of the file.
    dtype : type of the stored numbers, with the file's byte order.
    slope, intercept : a voxel's value is slope * stored + intercept; (1, 0) where the file names none.
    offset : byte at which the voxels begin.
    placement : position of the voxels as stored in the file.
    """

    grid: Grid
    dtype: np.dtype
    slope: float
    intercept: float
    offset: int
    placement: Placement

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how the file is placed, in words."""
        return self.placement.notes(self.grid.shape)

    @property
    def scaled(self) -> bool:
        """True if the stored numbers are not the values themselves."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def value_dtype(self) -> np.dtype:
        """Type of the array that `read_volume` returns: integers of one or two bytes stay as they are, all else
        becomes float32."""
        small = self.dtype.kind in "iu" and self.dtype.itemsize <= 2
        return self.dtype.newbyteorder("=") if small and not self.scaled else np.dtype(np.float32)


def judge_header(path: Path, stream: ByteStream) -> VolumeHeader:
    """The header at the beginning of a stream; what is wrong with it is raised as `read_header` describes."""
    fields = _parse(path, stream)
    shape = _shape(path, fields.get_data_shape())
    dtype = _dtype(path, fields)
    offset = int(fields["vox_offset"])
    claimed = prod(shape) * dtype.itemsize + offset
    most = path.stat().st_size * (_MAX_GZIP_RATIO if stream.compressed else 1)
    if prod(shape) > MAX_VOXELS:
        size = " x ".join(map(str, shape))
        raise InputError(
            path,
            f"a claimed size of {size} voxels ({figure(claimed / 1e9, 3)} GB)",
            f"at most {MAX_VOXELS} voxels",
            "If the scan really is that large, resample it first; if not, its header is damaged.",
        )
    if claimed > most:
        raise InputError(
            path,
            f"a header that claims {figure(claimed / 1e6, 3)} MB in a file of {path.stat().st_size} bytes",
            "a file that can hold its voxels",
            f"The file is cut short or its header is damaged. {SAVE_AGAIN}",
        )
    slope, intercept = _scaling(path, fields)
    placement = _placement(path, fields)
    return VolumeHeader(_grid(path, placement, shape), dtype, slope, intercept, offset, placement)


def _parse(path: Path, stream: ByteStream) -> nib.Nifti1Header:
    """The header's fields, NIfTI-1 or NIfTI-2, either byte order."""
    start = stream.read(348)
    if len(start) == 348 and start[344:348] == b"ni1\0":
        raise InputError(
            path,
            "the header of a two-file NIfTI pair (.hdr and .img)",
            "NIfTI in a single file (.nii or .nii.gz)",
            "Convert the pair into one .nii.gz.",
        )
    two = start[4:8] == b"n+2\0"
    if two:
        start += stream.read(540 - 348)
    elif start[344:348] != b"n+1\0":
        raise not_nifti(path, start)
    kind = nib.Nifti2Header if two else nib.Nifti1Header
    try:
        fields = kind(start, check=False)
        if not len(start) <= int(fields["vox_offset"]) <= 2**24:
            raise HeaderDataError("voxels that begin at an impossible place")
        fields.get_data_dtype()
        return fields
    except (HeaderDataError, ValueError, OverflowError, KeyError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(path, f"a damaged NIfTI header ({error})", "a header as the NIfTI standard has it", SAVE_AGAIN)


def _shape(path: Path, stored: tuple[int, ...]) -> tuple[int, int, int]:
    shape = tuple(int(size) for size in stored)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            path,
            f"an array with the axes {' x '.join(map(str, shape)) or 'none'}",
            "three axes: one volume",
            "Split a series (time points, echoes, b-values) into its volumes and give the one to be staged.",
        )
    return shape[0], shape[1], shape[2]


def _dtype(path: Path, fields: nib.Nifti1Header) -> np.dtype:
    dtype = fields.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = "colours (RGB)" if dtype.fields is not None else str(dtype)
        raise InputError(
            path, f"voxels that are {name}", "integers or real numbers", "Export the scan as magnitude images."
        )
    return dtype


def _scaling(path: Path, fields: nib.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept as the NIfTI standard means them: a slope of 0 (or none) means not scaled."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if np.isnan(slope) or slope == 0:
        return 1.0, 0.0
    if np.isnan(intercept):
        intercept = 0.0
    if not np.isfinite(slope) or not np.isfinite(intercept):
        raise _damaged(path, ValueError(f"scl_slope {slope}, scl_inter {intercept}"))
    return slope, intercept


def _placement(path: Path, fields: nib.Nifti1Header) -> Placement:
    codes = int(fields["sform_code"]), int(fields["qform_code"])
    if max(codes) <= 0:
        raise InputError(
            path,
            "no orientation (sform_code and qform_code are 0)",
            "a header with the position of the voxels in the patient",
            "Convert the scan again with a tool that keeps the orientation, for example dcm2niix.",
        )
    try:
        sform = fields.get_sform() if codes[0] > 0 else None
        qform = fields.get_qform() if codes[1] > 0 and (sform is None or _has_qform(fields)) else None
    except (HeaderDataError, ValueError, FloatingPointError) as error:
        raise _damaged(path, error) from error
    unit = _UNITS.get(int(fields["xyzt_units"]) & 7, "unknown")
    used = sform if sform is not None else qform
    assert used is not None  # one of the codes is above 0
    spacing = np.linalg.norm(np.asarray(used, np.float64)[:3, :3], axis=0)
    first, second = (_known(code) if form is not None else 0 for code, form in zip(codes, (sform, qform), strict=True))
    return Placement(sform, first, qform, second, unit, (float(spacing[0]), float(spacing[1]), float(spacing[2])))


def _known(code: int) -> int:
    return code if code in nib.nifti1.xform_codes.value_set("code") else ALIGNED


def _has_qform(fields: nib.Nifti1Header) -> bool:
    """False for a damaged qform in a file with an sform, which every program takes first."""
    try:
        return bool(np.isfinite(fields.get_qform()).all())
    except (HeaderDataError, ValueError, FloatingPointError):
        return False


def _grid(path: Path, placement: Placement, shape: tuple[int, int, int]) -> Grid:
    stored = placement.sform if placement.sform is not None else placement.qform
    assert stored is not None  # one of the codes is above 0
    affine = np.array(stored, dtype=np.float64)
    affine[:3] *= _MM.get(placement.unit, 1.0)
    try:
        grid = Grid(shape, affine)
    except ValueError as error:
        raise _damaged(path, error) from error
    if fault := implausible(grid):
        raise InputError(
            path,
            fault,
            f"a scan with voxels of {SPACING[0]:g} to {SPACING[1]:g} mm, in the scanner",
            "Convert the scan again with a tool that keeps the geometry, for example dcm2niix.",
        )
    return grid
