"""Where an array's voxels lie in the patient. No array travels without its grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cirrnb.data.numbers import figure

SPACING = (0.05, 100.0)
"""Distance in mm between the voxels of a scan. Abdominal MRI has 0.5 to 12 mm."""

MAX_EXTENT = 5_000.0
"""Longest side of a scan in mm."""

MAX_OFFSET = 10_000.0
"""Farthest corner of a scan from the scanner's origin, in mm."""

MIN_ANGLE = 45.0
"""Smallest angle in degrees between two axes of a scan; a gantry tilts by at most 30."""

TILTED = 20.0
"""Degrees between an axis of the file and the patient's nearest axis above which a note is made."""

PLANES = ("axially", "coronally", "sagittally")
CLEARLY_COARSER = 1.5
"""A scan was acquired along the axis whose spacing is this many times that of the head axis."""

_PATIENT = (2, 1, 0)  # patient axes (RAS+ z, y, x) that slices, rows and columns lie along
_SIGNS = (1, -1, -1)  # slices go to the head, rows to the back, columns to the left
_AXES = ("from feet to head", "from front to back", "from right to left")


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and affine of a three-dimensional array.

    Attributes
    ----------
    shape : (int, int, int)
        Number of voxels along each array axis.
    affine : (4, 4) float array
        Maps voxel indices (voxel centres at whole numbers) to millimetres in the patient, RAS+ as in NIfTI:
        the coordinates grow towards the patient's right, front and head.

    Raises
    ------
    ValueError
        If the shape is not three positive sizes, or the affine is not finite, invertible and 4 x 4.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a grid's shape is three positive sizes, not {self.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError("a grid's affine is a finite 4 x 4 matrix")
        if not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise ValueError(f"the last row of an affine is 0 0 0 1, not {affine[3]}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise ValueError("a grid's affine must be invertible: two of its axes point the same way")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along each array axis, in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def to_patient(self, indices: ArrayLike) -> NDArray[np.float64]:
        """Patient coordinates (..., 3) in mm, RAS+, of voxel indices (..., 3)."""
        return np.asarray(indices, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, points: ArrayLike) -> NDArray[np.float64]:
        """Fractional voxel indices (..., 3) of patient coordinates (..., 3) in mm, RAS+."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(points, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def corners(self) -> NDArray[np.float64]:
        """Patient coordinates (8, 3) in mm of the centres of the eight corner voxels."""
        ends = np.stack(np.meshgrid(*((0, size - 1) for size in self.shape), indexing="ij"), axis=-1)
        return self.to_patient(ends.reshape(8, 3))

    def matches(self, other: Grid, tolerance: float = 0.01) -> bool:
        """True if both have the same shape and no corner lies more than `tolerance` mm apart.

        Affines of one scan and its mask often differ in the sixth digit; comparing corners in mm
        forgives that and nothing that could be seen.
        """
        if self.shape != other.shape:
            return False
        return bool(np.linalg.norm(self.corners() - other.corners(), axis=-1).max() <= tolerance)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))


def implausible(grid: Grid) -> str | None:
    """What no scan of a patient has about this grid, in words, or None where it can be one."""
    smallest, largest = min(grid.spacing), max(grid.spacing)
    if not (SPACING[0] <= smallest and largest <= SPACING[1]):
        return f"voxels of {' x '.join(figure(first, 3) for first in grid.spacing)} mm"
    extent = max(spacing * size for spacing, size in zip(grid.spacing, grid.shape, strict=True))
    if extent > MAX_EXTENT:
        return f"a side of {figure(extent / 1000, 3)} m"
    offset = float(np.abs(grid.corners()).max())
    if offset > MAX_OFFSET:
        return f"a position {figure(offset / 1000, 3)} m from the scanner's origin"
    axes = grid.affine[:3, :3] / np.array(grid.spacing)
    cosine = max(abs(float(axes[:, first] @ axes[:, second])) for first, second in ((0, 1), (0, 2), (1, 2)))
    angle = math.degrees(math.acos(min(cosine, 1.0)))
    return f"axes at an angle of {angle:.3g} degrees" if angle < MIN_ANGLE else None


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
        plane = self.plane(source)
        if plane != 0:
            name, spacing = PLANES[plane], self.grid(source).spacing[plane]
            notes.append(f"acquired {name}: slices of {spacing:.1f} mm {_AXES[plane]}")
        return tuple(notes)

    def plane(self, source: Grid) -> int:
        """The place in `PLANES` of how `source` was acquired; 0 unless one other spacing is clearly the largest."""
        spacing = self.grid(source).spacing
        *_, second, most = sorted(spacing)
        return int(np.argmax(spacing)) if most >= CLEARLY_COARSER * second else 0
