"""Where voxels lie: indices to millimetres and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from cirrnb.data.grid import Grid

SHAPE = (7, 8, 9)


def lps(spacing: tuple[float, float, float] = (2.0, 3.0, 5.0)) -> Grid:
    affine = np.diag((-spacing[0], -spacing[1], spacing[2], 1.0))
    affine[:3, 3] = (10, 20, -30)
    return Grid(SHAPE, affine)


def test_patient_coordinates_worked_out_by_hand() -> None:
    # Index (1, 2, 3) at 2 x 3 x 5 mm, the first two axes running against R and A.
    assert lps().to_patient((1, 2, 3)) == pytest.approx((10 - 2, 20 - 6, -30 + 15))
    assert lps().spacing == pytest.approx((2, 3, 5))
    assert lps().voxel_volume == pytest.approx(30)


@given(
    st.lists(st.floats(-2, 2), min_size=9, max_size=9),
    st.lists(st.floats(-200, 200), min_size=3, max_size=3),
)
def test_index_and_patient_coordinates_undo_each_other(matrix: list[float], origin: list[float]) -> None:
    affine = np.eye(4)
    # Dominant diagonal: any such matrix is invertible, and the draw still shears and rotates.
    affine[:3, :3] = np.array(matrix).reshape(3, 3) + 9 * np.eye(3)
    affine[:3, 3] = origin
    grid = Grid(SHAPE, affine)
    indices = np.array([(0, 0, 0), (6, 7, 8), (1.5, 2.25, 7)])
    assert np.allclose(grid.to_patient(indices), apply_affine(affine, indices))
    assert np.allclose(grid.to_index(grid.to_patient(indices)), indices, atol=1e-6)


def test_grids_match_within_a_hundredth_of_a_millimetre() -> None:
    moved = np.array(lps().affine)
    moved[0, 3] += 0.005
    assert lps().matches(Grid(SHAPE, moved))
    moved[0, 3] += 0.02
    assert not lps().matches(Grid(SHAPE, moved))
    assert not lps().matches(Grid((8, 7, 9), lps().affine))


def test_a_small_tilt_that_adds_up_over_the_volume_does_not_match() -> None:
    tilted = np.array(lps().affine)
    tilted[0, 0] *= 1.01  # 0.02 mm a voxel is 0.12 mm at the far corner
    assert not lps().matches(Grid(SHAPE, tilted))


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((7, 8), np.eye(4)),
        ((7, 0, 9), np.eye(4)),
        (SHAPE, np.diag((1.0, 1.0, 0.0, 1.0))),
        (SHAPE, np.full((4, 4), np.nan)),
        (SHAPE, np.eye(3)),
        (SHAPE, np.ones((4, 4))),
    ],
)
def test_what_cannot_be_a_grid_is_refused(shape: tuple[int, ...], affine: np.ndarray) -> None:
    with pytest.raises(ValueError):
        Grid(shape, affine)  # type: ignore[arg-type]


def test_equal_grids_are_equal_and_hash_alike() -> None:
    assert lps() == lps() and hash(lps()) == hash(lps())
    assert lps() != lps((2, 3, 6))
    with pytest.raises(ValueError):
        lps().affine[0, 0] = 1  # frozen all the way down
