"""Writing masks and maps as NIfTI: placed in the file as their scan is, and never over a file of another scan."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cirrnb.data.atomic_files import atomic_file
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.nifti.header import Placement
from cirrnb.data.nifti.reading import read_header

_OWNER = 16  # digits of the hash by which the scan of a file is known again, in db_name, which NIfTI-1 has no use for


def save_volume(path: Path, values: NDArray, grid: Grid, *, scan: Path | None = None, description: str = "") -> Path:
    """Write an array on its scan's grid as `path` (.nii or .nii.gz), atomically.

    Parameters
    ----------
    values : in the file's own order of axes, of the grid's shape; bool becomes uint8.
    grid : of the scan.
    scan : the scan's own file. Forms, their codes and the unit of length are copied from it, so that every program lays
        both over one another. Without it, or where it lies elsewhere than `grid`, they are scanner coordinates in mm.
    description : for the header, at most 79 bytes; no personal data.

    Returns the path.

    Raises
    ------
    InputError
        If `path` holds a file of another scan, which may be another patient's with the same name.
    """
    owner = _owner(scan)
    if path.exists() and (stored_owner := _written_for(path)) != owner:
        raise InputError(
            path,
            f"a file of another scan{'' if stored_owner else ', or of another program'}",
            "nothing there, or a file of the same scan",
            "Choose another folder, or move that file away.",
        )
    image = nib.Nifti1Image(values.astype(np.uint8) if values.dtype == np.bool_ else values, None, _header(grid, scan))
    image.header.set_data_dtype(image.get_data_dtype() if values.dtype != np.bool_ else np.uint8)
    image.header["descrip"] = description.encode()[:79]
    image.header["db_name"] = owner.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        nib.save(image, partial)
    return path


def _header(grid: Grid, scan: Path | None) -> nib.Nifti1Header:
    placement = Placement.of(grid)
    if scan is not None:
        try:
            scan_header = read_header(scan)
            placement = scan_header.placement if scan_header.grid.matches(grid) else placement
        except InputError:  # the scan has gone meanwhile; the grid is known all the same
            pass
    return placement.header(grid.shape)


def _owner(scan: Path | None) -> str:
    """By which a scan's file is known again; nothing of whose it is."""
    try:
        if scan is not None:
            with scan.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()[:_OWNER]
    except OSError:
        pass
    return ""


def description_of(path: Path) -> str | None:
    """The description of a file that `save_volume` wrote for a scan; None for any other file."""
    if not re.fullmatch(f"[0-9a-f]{{{_OWNER}}}", _written_for(path)):
        return None
    return _text(path, "descrip")


def _written_for(path: Path) -> str:
    """The owner that `save_volume` left in a file."""
    return _text(path, "db_name")


_UNREADABLE = (
    *(OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError),
    *(nib.wrapstruct.WrapStructError, nib.spatialimages.HeaderDataError),
)


def _text(path: Path, field: str) -> str:
    """A text of a header; "?" for what is no NIfTI."""
    try:
        fields = nib.Nifti1Image.from_filename(path).header
    except _UNREADABLE:
        return "?"
    return bytes(fields[field].tobytes()).rstrip(b"\0").decode(errors="replace")
