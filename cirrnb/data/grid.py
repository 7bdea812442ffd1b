"""Where an array's voxels lie in the patient. No array travels without its grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
