"""Organs on the slices of a prepared scan: which voxels, in which colour, and whether a program drew them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import contourpy
import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.prepared import PreparedScan
from cirrnb.measure.organs import drawn_by_program, read_organs
from cirrnb.preparation.geometry import labels_like
from cirrnb.view.palette import LIVER_COLOUR

COLOURS = {
    "spleen": "#F0E442",
    "caudate": "#009E73",
    "right lobe": "#9AD5F5",
    "muscle": "#BBBBBB",
    "ascites": "#CC79A7",
}
"""Organ -> colour of its outline: told apart with any colour vision, and from the liver's and the map's."""


@dataclass(frozen=True, eq=False)
class Organs:
    """Organs other than the whole liver, on a prepared scan.

    Attributes
    ----------
    labels : (slices, rows, columns) uint8, 0 or 1 plus the place in `names`.
    names : in the order of `COLOURS`, those that have a voxel in view.
    by_program : whether a program drew them.
    """

    labels: NDArray[np.uint8]
    names: tuple[str, ...]
    by_program: bool


def organs_on(prepared: PreparedScan) -> Organs | None:
    """The organs that a segmentation of the scan names; None where there is none, or it cannot be used."""
    named = prepared.scan.extra.get("organs")
    if not named or not isinstance(named, str):
        return None
    path = prepared.scan.image.parent / Path(named)  # an absolute path stays as it is
    try:
        masks = read_organs(path, prepared.source_grid)
        by_program = drawn_by_program(path)
    except InputError:
        return None  # the measurements say why
    labels = np.zeros(prepared.source_grid.shape, np.uint8)
    for number, name in enumerate(COLOURS, start=1):
        if name in masks:
            labels[masks[name]] = number
    there = labels_like(prepared, labels)
    numbers = [number for number in range(1, len(COLOURS) + 1) if (there == number).any()]
    if not numbers:
        return None
    dense = np.zeros(len(COLOURS) + 1, np.uint8)
    dense[numbers] = np.arange(1, len(numbers) + 1)
    return Organs(dense[there], tuple(list(COLOURS)[number - 1] for number in numbers), by_program)


@dataclass(frozen=True)
class Outline:
    """The edge of one organ on one slice.

    Attributes
    ----------
    name, colour : of the organ. dashed : whether a program drew it.
    path : as the `d` of an SVG path, in pixels of the slice.
    """

    name: str
    colour: str
    dashed: bool
    path: str


def outlines_at(prepared: PreparedScan, organs: Organs | None, index: int) -> tuple[Outline, ...]:
    """The outlines on one slice of a prepared scan: other organs, then the liver on top."""
    outlines = []
    for number, name in enumerate(organs.names if organs else (), start=1):
        assert organs is not None
        outlines.append(Outline(name, COLOURS[name], organs.by_program, _path(organs.labels[index] == number)))
    if prepared.mask is not None:
        dashed = bool(prepared.scan.extra.get("mask_by"))
        outlines.append(Outline("liver", LIVER_COLOUR, dashed, _path(np.asarray(prepared.mask[index]))))
    return tuple(outline for outline in outlines if outline.path)


def _path(mask: NDArray[np.bool_]) -> str:
    """The edge of a mask (rows, columns) through the middles of its pixels' sides; empty for an empty mask."""
    if not mask.any():
        return ""
    lines = contourpy.contour_generator(z=np.pad(mask, 1).astype(np.float32)).lines(0.5)
    # Pixel (0, 0) has its centre at (0.5, 0.5); the padding moved it by one.
    parts = (" ".join(f"{x - 0.5:.1f},{y - 0.5:.1f}" for x, y in np.asarray(line)) for line in lines)
    return " ".join(f"M{part}Z" for part in parts)
