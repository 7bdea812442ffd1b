"""A patient's anatomy as tissue shares: an image of any contrast is drawn from them without painting anew.

Painting lays tissues over each other. Composited from the last layer to the first with one transmittance array, a
single pass gives the share of each tissue in each voxel. The image of a sequence is the sum over tissues of signal
times share (multiplied by the layer's shade). Beside the shares stands one label a voxel: the organ that takes
most of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from cirrnb.data.atomic_files import atomic_file
from cirrnb.data.errors import InputError
from cirrnb.simulation.body import Body
from cirrnb.simulation.fields import Array, Points, Vector
from cirrnb.simulation.tissue import TISSUES
from cirrnb.simulation.tissue_shares import Bytes, Extra, Shares, largest, tissue_shares

ANATOMY_VERSION = 2
"""Raised by hand when the shares or labels of an equal seed change; a test guards it."""

TISSUE_NAMES = (*TISSUES, "liver T2W", "septa T2W")
"""Tissues in the order of their numbers in stored shares; the last two carry the texture that T2W shows."""

KEPT = 4
"""Tissues stored of a voxel, the largest shares first."""

SHARE_UNIT = 160.0
"""Stored units of a whole voxel: a share times its shade reaches 1.59."""

POINTS_AT_ONCE = 400_000


@dataclass(frozen=True)
class Anatomy:
    """Tissue shares and organ labels of one body on a grid.

    Attributes
    ----------
    tissue : (slices, rows, columns, KEPT) uint8 numbers of tissues in `TISSUE_NAMES`; slices run to the head, rows to
        the back, columns to the patient's left.
    share : the same shape, uint8 share times shade in units of 1 / `SHARE_UNIT`; 0 where fewer tissues are there.
    label : (slices, rows, columns) uint8, 0 outside the body, else 1 plus the organ's place in `ORGANS`.
    spacing, origin : mm along slices, rows, columns; origin is the first voxel's centre (head, back, left).
    version : `ANATOMY_VERSION` of the program that made it.
    """

    tissue: NDArray[np.uint8]
    share: NDArray[np.uint8]
    label: NDArray[np.uint8]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    version: int = ANATOMY_VERSION

    def image(self, signals: Mapping[str, float], sequence: str = "T1W", slices: slice = slice(None)) -> Array:
        """(slices, rows, columns) float32 noise-free image of a contrast, from the signal of every tissue.

        `sequence` selects the texture of the parenchyma.
        """
        table = signal_table(signals, sequence) / np.float32(SHARE_UNIT)
        tissue, share = self.tissue[slices], self.share[slices]
        image = table[tissue[..., 0]] * share[..., 0]
        for k in range(1, tissue.shape[-1]):
            image += table[tissue[..., k]] * share[..., k]
        return image


def signal_table(signals: Mapping[str, float], sequence: str) -> NDArray[np.float32]:
    """Signals in the order of `TISSUE_NAMES`; the texture of the other sequence has no signal."""
    hidden = ("liver T2W", "septa T2W") if sequence == "T1W" else ("liver", "septa")
    return np.array(
        [0.0 if name in hidden else signals[name.removesuffix(" T2W")] for name in TISSUE_NAMES], np.float32
    )


def build_anatomy(
    body: Body,
    low: Vector,
    high: Vector,
    spacing: tuple[float, float, float] = (3.0, 2.5, 2.5),
    extra: Extra | None = None,
) -> Anatomy:
    """Shares and labels of a body between two corners.

    Parameters
    ----------
    low, high : corners in mm (left, back, head) of the patient; z = 0 is the porta hepatis.
    spacing : mm along slices, rows, columns of the result.
    extra : further layers, as for `tissue_shares`.
    """
    axes = [np.arange(a, b, step, dtype=np.float32) for a, b, step in zip(low, high, spacing[::-1], strict=True)]
    width = float(np.mean(spacing[1:]) / np.mean(body.scale[:2]))
    at_once = max(1, POINTS_AT_ONCE // (axes[0].size * axes[1].size))
    packed = []
    for start in range(0, axes[2].size, at_once):
        points = Points((axes[0], axes[1], axes[2][start : start + at_once]))
        packed.append(_pack(*tissue_shares(body, points, width, extra), points.shape))
    tissue, share, label = (np.concatenate(parts) for parts in zip(*packed, strict=True))
    return Anatomy(tissue, share, label, spacing, (float(low[2]), float(low[1]), float(low[0])))


def _pack(tissues: Shares, organs_: Shares, shape: tuple[int, int, int]) -> tuple[Bytes, Bytes, Bytes]:
    """The largest shares of every voxel as bytes, and its label; slices first."""
    size = int(np.prod(shape))
    names = [name for name in TISSUE_NAMES if name in tissues]
    stack = np.stack([tissues[name].transpose(2, 1, 0).ravel() for name in names])
    numbers = np.array([TISSUE_NAMES.index(name) for name in names], np.uint8)
    tissue, share = np.zeros((size, KEPT), np.uint8), np.zeros((size, KEPT), np.uint8)
    remaining = np.arange(size)
    for k in range(KEPT):
        first = stack.argmax(axis=0)
        value = stack[first, np.arange(remaining.size)]
        tissue[remaining, k] = numbers[first]
        share[remaining, k] = np.clip(np.round(value * SHARE_UNIT), 0, 255)
        stack[first, np.arange(remaining.size)] = 0
        mixed = stack.max(axis=0) > 0.5 / SHARE_UNIT
        remaining, stack = remaining[mixed], stack[:, mixed]
        if remaining.size == 0:
            break
    sides = (shape[2], shape[1], shape[0])
    label = np.ascontiguousarray(largest(organs_).transpose(2, 1, 0))
    return tissue.reshape(*sides, KEPT), share.reshape(*sides, KEPT), label


def save_anatomy(path: Path, anatomy: Anatomy) -> None:
    """Write shares and labels as one compressed file, atomically; about 3 MB for a trunk."""
    tensors: dict[str, NDArray[Any]] = {
        "tissue": anatomy.tissue,
        "share": anatomy.share,
        "label": anatomy.label,
        "spacing": np.array(anatomy.spacing, np.float64),
        "origin": np.array(anatomy.origin, np.float64),
        "version": np.array([anatomy.version], np.int64),
    }
    with atomic_file(path) as partial:
        partial.write_bytes(zlib.compress(save(tensors), 1))


def load_anatomy(path: Path) -> Anatomy:
    """Read what `save_anatomy` wrote, of any version. Raises InputError for a file that is not one."""
    try:
        parts = load(zlib.decompress(path.read_bytes()))
        spacing, origin = ((float(a), float(b), float(c)) for a, b, c in (parts["spacing"], parts["origin"]))
        return Anatomy(parts["tissue"], parts["share"], parts["label"], spacing, origin, int(parts["version"][0]))
    except (zlib.error, SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            path, f"not readable ({error})", "a stored anatomy", "Remove it; it is built again."
        ) from error
