"""The facts of one scan, from reading image and mask once: geometry, values, mask, a hash of the voxels."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.mask_checks import better_place, shape_doubts
from cirrnb.data.nifti.header import VolumeHeader
from cirrnb.data.nifti.reading import as_mask, read_header, read_volume, refuse_ct

SIGNAL = 0.05
"""Share of a scan's 99th percentile above which a voxel is taken for tissue when the body's outline is drawn. Livers
full of iron lie below, but skin, fat and muscle around them do not."""

_SAMPLE = 100_000  # voxels from which percentiles are estimated
_STEP = 5.0  # mm between the voxels that stand for the body

Facts = dict[str, Any]

NUMBERS = (
    *("slices", "in_plane", "through_plane", "tilt", "minimum", "maximum", "middle", "top"),
    *("liver_volume", "liver_slices", "liver_outside", "liver_right", "liver_front"),
    *("liver_wider", "move_right", "move_front"),
)
FACTS = (
    *("problem", "dtype", "scaled", "matrix", "orientation", "placement", "voxels"),
    *("mask_state", "mask_problem", "mask_placement", "mask_doubts_found", "liver_at"),
    *NUMBERS,
)
"""All facts that `run_job` may return; those that do not apply are absent."""


def run_job(job: dict[str, str | None]) -> Facts:
    """Examine the scan that a job names; a file or values that cannot be used are a fact and do not stop the audit."""
    try:
        return examine(Path(job["image"] or ""), Path(job["mask"]) if job["mask"] else None)
    except InputError as error:
        return {"problem": str(error)}
    except MemoryError:
        return {"problem": f"{job['image']}: too little memory to read it"}
    except (OSError, ArithmeticError, ValueError) as error:
        return {"problem": f"{job['image']}: {type(error).__name__}: {error}"}


def examine(image: Path, mask: Path | None) -> Facts:
    """Facts of one scan, as plain numbers and text.

    - `dtype`, `scaled`: type of the stored numbers; whether the file scales them.
    - `matrix` ("320 x 260"), `slices`, `in_plane`, `through_plane` (mm), `orientation` ("LPS": towards what the three
      axes run), `tilt` (degrees that they are off the body's axes). Slices lie along the axis with the widest
      spacing, the last one where all are alike.
    - `placement`, `mask_placement`: what is unusual about how image and mask say where they lie, in words, joined by ;.
    - `minimum`, `maximum`, `middle` (median), `top` (99th percentile) of the values.
    - `voxels`: hash of shape and values, the same for the same voxels under another name or type of integer.
    - `mask_state`: "none", "fine", "empty", "not binary", "on another grid" or "unreadable", with `mask_problem`.
    - With a fine mask `mask_doubts_found` (what of its volume, parts and side speaks against it), `liver_volume` (mL),
      `liver_slices`, `liver_at` (borders of the array that it touches),
      `liver_outside` (share of its voxels outside the body), `liver_right` and `liver_front` (mm by which its centre
      lies to the patient's right and to the front of the body's centre), `liver_wider` (how many times less the values
      would spread under the mask moved by `move_right` and `move_front` mm; 1 where it fits best as it lies).

    Raises InputError if the image cannot be read or is a CT; what is wrong with a mask is a fact.
    """
    header = read_header(image)
    values, grid = read_volume(image)
    refuse_ct(image, values)
    facts = _geometry(header) | _values(values)
    facts["voxels"] = _hash(values)
    if mask is None:
        return facts | {"mask_state": "none"}
    inside, state = _mask(mask, grid)
    return facts | state | (_liver(values, inside, grid, facts["top"]) if inside is not None else {})


def _geometry(header: VolumeHeader) -> Facts:
    grid, through = header.grid, _through(header.grid)
    plane = [axis for axis in range(3) if axis != through]
    directions = grid.affine[:3, :3] / np.array(grid.spacing)
    tilt = np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0), 0, 1))).max()
    return {
        "dtype": header.dtype.newbyteorder("=").name,
        "scaled": header.scaled,
        "matrix": " x ".join(str(grid.shape[axis]) for axis in plane),
        "slices": grid.shape[through],
        "in_plane": max(grid.spacing[axis] for axis in plane),
        "through_plane": grid.spacing[through],
        "orientation": "".join(nib.aff2axcodes(grid.affine)),
        "tilt": float(tilt),
        "placement": "; ".join(header.notes),
    }


def _values(values: NDArray) -> Facts:
    flat = values.ravel(order="F")
    sample = flat[:: max(1, flat.size // _SAMPLE)]
    middle, top = np.percentile(sample, (50, 99))
    facts = {"minimum": values.min(), "maximum": values.max(), "middle": middle, "top": top}
    return {name: float(value) for name, value in facts.items()}


def _hash(values: NDArray) -> str:
    digest = hashlib.blake2b(str(values.shape).encode(), digest_size=16)
    digest.update(values.ravel(order="F").data.cast("B"))
    return digest.hexdigest()


def _mask(path: Path, grid: Grid) -> tuple[NDArray[np.bool_] | None, Facts]:
    state = "unreadable"
    try:
        header = read_header(path)
        mask_grid = header.grid
        if not mask_grid.matches(grid):
            shapes = [" x ".join(map(str, each.shape)) for each in (mask_grid, grid)]
            problem = (
                f"{shapes[0]} voxels, its scan {shapes[1]}" if mask_grid.shape != grid.shape else "placed elsewhere"
            )
            return None, {"mask_state": "on another grid", "mask_problem": f"{path}: {problem}"}
        values, _ = read_volume(path)
        state = "not binary" if values.any() else "empty"
        return as_mask(path, values), {"mask_state": "fine", "mask_placement": "; ".join(header.notes)}
    except InputError as error:
        return None, {"mask_state": state, "mask_problem": str(error)}


def _liver(values: NDArray, inside: NDArray[np.bool_], grid: Grid, top: float) -> Facts:
    """Measurements of the liver under the mask. `top` is the 99th percentile of the scan; the arrays share the grid."""
    through = _through(grid)
    lines = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    borders = [
        f"{'slice' if axis == through else f'axis {axis + 1}'}: {end}"
        for axis, line in enumerate(lines)
        for end, touched in (("first", line[0] == 0), ("last", line[-1] == grid.shape[axis] - 1))
        if touched
    ]
    steps = [1 if axis == through else max(1, round(_STEP / grid.spacing[axis])) for axis in range(3)]
    coarse = tuple(slice(None, None, step) for step in steps)
    body, liver = _outline(values[coarse] > SIGNAL * top, through), inside[coarse]
    facts = {
        "mask_doubts_found": "; ".join(shape_doubts(inside, grid)),
        "liver_volume": int(np.count_nonzero(inside)) * grid.voxel_volume / 1000,
        "liver_slices": len(lines[through]),
        "liver_at": ", ".join(borders),
    }
    if body.any() and liver.any():
        centres = [grid.to_patient(np.argwhere(part).mean(axis=0) * steps) for part in (body, liver)]
        right, front, _ = (centres[1] - centres[0]).tolist()
        outside = float(np.mean(~body[liver]))
        facts |= {"liver_outside": outside, "liver_right": right, "liver_front": front}
        between = [np.inf if axis == through else steps[axis] * grid.spacing[axis] for axis in range(3)]
        wider, move = better_place(values[coarse], body, liver, (between[0], between[1], between[2]))
        right, front, _ = (grid.to_patient(np.multiply(move, steps)) - grid.to_patient(np.zeros(3))).tolist()
        facts |= {"liver_wider": wider, "move_right": right, "move_front": front}
    return facts


def _through(grid: Grid) -> int:
    """The axis along which slices lie: the one with the widest spacing, the last where all are alike."""
    return max(range(3), key=lambda axis: (round(grid.spacing[axis], 2), axis))


def _outline(tissue: NDArray[np.bool_], through: int) -> NDArray[np.bool_]:
    """The body with lungs, vessels and dark organs filled in: what has tissue on all four sides within its slice."""
    from scipy import ndimage

    block = [2, 2, 2]
    block[through] = 1
    body = ndimage.binary_opening(tissue, np.ones(block))  # single voxels are noise
    filled = np.ones_like(body)
    for axis in {0, 1, 2} - {through}:
        after = np.maximum.accumulate(body, axis=axis)
        before = np.flip(np.maximum.accumulate(np.flip(body, axis), axis=axis), axis)
        filled &= after & before
    return filled
