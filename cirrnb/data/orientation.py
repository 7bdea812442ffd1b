"""The axes of a file and of the patient: any volume as axial slices, feet to head, turned exactly and never rotated."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.grid import Grid

TILTED = 20.0
"""Degrees between an axis of the file and the patient's nearest axis above which a note is made."""

CLEARLY_COARSER = 1.5
"""A scan was acquired along the axis whose spacing is this many times that of the head axis."""

_PATIENT = (2, 1, 0)  # patient axes (RAS+ z, y, x) that slices, rows and columns lie along
_SIGNS = (1, -1, -1)  # slices go to the head, rows to the back, columns to the left
_AXES = ("from feet to head", "from front to back", "from right to left")


@dataclass(frozen=True)
class Orientation:
    """How a file's axes become slices (feet to head), rows (front to back) and columns (patient's right to left).

    Attributes
    ----------
    axes : the file's axis for slices, rows and columns.
    flipped : whether it runs the other way.
    angle : largest angle in degrees between one of them and its axis of the patient; kept in the affine.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    angle: float

    @classmethod
    def of(cls, grid: Grid) -> Orientation:
        """Each axis of the patient gets the file's axis that lies closest, so that all of them together fit best."""
        cosines = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
        axes = max(permutations(range(3)), key=lambda order: np.abs(cosines[_PATIENT, order]).sum())
        along = cosines[_PATIENT, axes]
        flips = tuple(bool(value * sign < 0) for value, sign in zip(along, _SIGNS, strict=True))
        angle = float(np.degrees(np.arccos(np.clip(np.abs(along).min(), 0, 1))))
        return cls((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]), angle)

    def apply(self, array: NDArray) -> NDArray:
        """View of an array in the file's order as (slices, rows, columns)."""
        return self._flip(array.transpose(self.axes))

    def undo(self, array: NDArray) -> NDArray:
        """View of an array (slices, rows, columns) in the file's order."""
        return self._flip(array).transpose(np.argsort(self.axes))

    def _flip(self, array: NDArray) -> NDArray:
        return array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def grid(self, source: Grid) -> Grid:
        """Grid of `apply`'s view of an array on `source`."""
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for new, (axis, flip) in enumerate(zip(self.axes, self.flipped, strict=True)):
            turn[axis, new] = -1 if flip else 1
            turn[axis, 3] = source.shape[axis] - 1 if flip else 0
        shape = tuple(source.shape[axis] for axis in self.axes)
        return Grid((shape[0], shape[1], shape[2]), source.affine @ turn)

    def notes(self, source: Grid) -> tuple[str, ...]:
        """What is unusual about how a scan on `source` was acquired, in words."""
        notes = []
        if self.angle > TILTED:
            notes.append(f"tilted by {self.angle:.0f}° against the patient's axes; kept as acquired")
        spacing = self.grid(source).spacing
        coarsest = int(np.argmax(spacing))
        if coarsest != 0 and spacing[coarsest] >= CLEARLY_COARSER * spacing[0]:
            name = ("axially", "coronally", "sagittally")[coarsest]
            notes.append(f"acquired {name}: slices of {spacing[coarsest]:.1f} mm {_AXES[coarsest]}")
        return tuple(notes)
