"""Reading a NIfTI file that comes from anywhere, without taking more memory than its voxels need."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.nifti.file_bytes import SAVE_AGAIN, ByteStream
from cirrnb.data.nifti.header import VolumeHeader, judge_header
from cirrnb.data.numbers import figure

ROUNDING = 1e-5
"""Share by which the values of a mask may differ and count as one."""

_BLOCK = 2**20  # voxels converted at a time; keeps the temporary arrays small compared with the scan


AIR, SOFT = (-1100.0, -900.0), (-200.0, 300.0)
"""Hounsfield units of air, and of fat, soft tissue and blood with contrast agent."""

LEAST_AIR = 0.05
"""Share of a CT's voxels that are air, or the padding below it that scanners put outside their circle."""

LEAST_SOFT = 0.7
"""Share of what is neither air nor lung that is fat or soft tissue; the rest is bone, table, gas and noise."""

_SAMPLE = 200_000  # voxels looked at


def read_header(path: Path | str) -> VolumeHeader:
    """Read and judge the header of a NIfTI file (.nii or .nii.gz), without its voxels.

    Raises
    ------
    InputError
        If the file cannot be read, is not single-file NIfTI, is not three-dimensional (trailing axes of length 1
        are forgiven), holds numbers that are not integers or real, claims more than `MAX_VOXELS` voxels or more
        than the file can hold, or has no position in the patient.
    """
    path = Path(path)
    with ByteStream(path) as stream:
        return judge_header(path, stream)


def read_volume(path: Path | str) -> tuple[NDArray, Grid]:
    """Read a NIfTI file (.nii or .nii.gz) into memory, in the file's own order of axes.

    Returns the voxels, of `VolumeHeader.value_dtype` and with slope and intercept applied, and their grid. Memory
    taken is that of the returned array and a few megabytes.

    Raises
    ------
    InputError
        Whatever `read_header` raises, and if the voxels are cut short, damaged (gzip's checksum), NaN or infinite.
    """
    path = Path(path)
    with ByteStream(path) as stream:
        header = judge_header(path, stream)
        voxels = np.empty(prod(header.grid.shape), dtype=header.value_dtype)
        broken = 0
        for begin, block in _blocks(path, stream, header, voxels.size):
            part = voxels[begin : begin + block.size]
            if header.scaled:
                with np.errstate(over="ignore", invalid="ignore"):
                    np.multiply(block, header.slope, out=part, casting="unsafe")
                    part += np.float32(header.intercept)
            else:
                with np.errstate(over="ignore"):
                    part[:] = block
            if part.dtype.kind == "f":
                broken += part.size - int(np.count_nonzero(np.isfinite(part)))
        stream.finish()
    if broken:
        raise InputError(
            path,
            f"{broken} of {voxels.size} voxels that are NaN or infinite",
            "numbers everywhere",
            "Find out what wrote them; replace them on purpose (for example by 0) or leave the scan out.",
        )
    return voxels.reshape(header.grid.shape, order="F"), header.grid


def read_mask(path: Path | str, grid: Grid) -> NDArray[np.bool_]:
    """Read a binary mask that lies on `grid`, as bool in the file's own order of axes.

    Zero is outside; one positive value, whichever, is inside.

    Raises
    ------
    InputError
        Whatever `read_volume` raises, and if the mask lies on another grid, has more than one value beside
        zero, or is empty.
    """
    path = Path(path)
    mask_grid = read_header(path).grid
    if not mask_grid.matches(grid):
        raise InputError(
            path,
            f"a mask {_describe(mask_grid)}"
            + ("" if mask_grid.shape != grid.shape else ", placed elsewhere in the patient"),
            f"the scan's own grid, {_describe(grid)}",
            "Resample the mask to its scan (nearest neighbour), or find the mask that belongs to the scan.",
        )
    values, _ = read_volume(path)
    return as_mask(path, values)


def as_mask(path: Path, values: NDArray) -> NDArray[np.bool_]:
    """The values of a mask file as bool; raises what `read_mask` raises of an empty or a non-binary one.

    Bytes of 0 and 1, the usual case, are looked at as they are and not copied.
    """
    low, high = values.min(), values.max()
    if low == 0 == high:
        raise InputError(
            path,
            "an empty mask: every voxel is 0",
            "a mask with the liver in it",
            "Draw the mask again, or leave the mask out (the scan can be prepared without one).",
        )
    if low >= 0 and high == 1 and values.dtype.itemsize == 1:
        return values.view(np.bool_)
    inside = values != 0
    # A tool that resamples may leave 0.99999994 for 1.
    if low < 0 or np.count_nonzero(values >= high * (1 - ROUNDING)) < np.count_nonzero(inside):
        sample = np.unique(values[inside][:: max(1, int(inside.sum()) // 100_000)])
        shown = ", ".join(f"{value:.9g}" for value in sample[:6]) + (", ..." if sample.size > 6 else "")
        raise InputError(
            path,
            f"a mask with the values {shown} beside 0",
            "a binary mask: 0 outside the liver and one positive value inside",
            "Keep the liver's label only, and resample masks with nearest neighbour.",
        )
    return inside


def _describe(grid: Grid) -> str:
    shape = " x ".join(str(size) for size in grid.shape)
    return f"of {shape} voxels of {' x '.join(figure(length) for length in grid.spacing)} mm"


def _blocks(path: Path, stream: ByteStream, header: VolumeHeader, count: int) -> Iterator[tuple[int, NDArray]]:
    """The stored numbers in turn, at most `_BLOCK` at a time, each with its place in the flat array."""
    stream.read(header.offset - stream.position)
    for begin in range(0, count, _BLOCK):
        wanted = min(_BLOCK, count - begin) * header.dtype.itemsize
        data = stream.read(wanted)
        if len(data) < wanted:
            held, total = begin * header.dtype.itemsize + len(data), count * header.dtype.itemsize
            raise InputError(
                path,
                f"only {held / 1e6:.3g} of {total / 1e6:.3g} MB of voxels: the file is cut short",
                "as many voxels as the header says",
                SAVE_AGAIN,
            )
        yield begin, np.frombuffer(data, dtype=header.dtype)


def refuse_ct(path: Path, values: NDArray) -> None:
    """Raise InputError if the values of a scan are Hounsfield units, as those of a CT are."""
    flat = values.ravel(order="K")
    sample = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float32)
    if not is_hounsfield(sample):
        return
    air = float(np.mean(sample < AIR[1]))
    raise InputError(
        path,
        f"values that are Hounsfield units ({air:.0%} are air at -1000, tissue lies around 0): a CT",
        "a T1W or T2W scan from MRI",
        "Leave it out; of CT the stager knows nothing. If it is MRI all the same, shift its values to begin at 0.",
    )


def is_hounsfield(values: NDArray[np.float32]) -> bool:
    """Whether values (any shape) are distributed as those of a CT: much air at -1000, and nearly all else at tissue."""
    below, tissue = values < AIR[1], values[values > -400]
    if below.mean() < LEAST_AIR or tissue.size < LEAST_AIR * values.size:
        return False
    at_air = np.mean((values >= AIR[0]) & below)
    in_soft = np.mean((tissue > SOFT[0]) & (tissue < SOFT[1]))
    return bool(at_air >= 0.5 * LEAST_AIR and in_soft >= LEAST_SOFT)
