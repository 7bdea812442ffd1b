"""What is said of a mask before anything is measured in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from cirrnb.measure.masks import FEWEST_VOXELS, check_mask
from cirrnb.measure.measurement import Measurement


def block(shape: tuple[int, int, int] = (7, 8, 9), margin: int = 1) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[margin:-margin, margin:-margin, margin:-margin] = True
    return mask


def test_a_sound_mask_has_nothing_to_tell():
    checked = check_mask(block())
    assert (checked.voxels, checked.slices, checked.pieces, checked.largest) == (5 * 6 * 7, 5, 1, 1.0)
    assert not checked.too_small and not checked.flat and not checked.remark


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ((0, 4, 4), "lowest slice"),
        ((6, 4, 4), "highest slice"),
        ((3, 0, 4), "edge of the slices"),
        ((3, 4, 8), "edge of the slices"),
    ],
)
def test_a_mask_that_is_cut_off_says_where(place: tuple[int, int, int], told: str):
    mask = block()
    mask[place] = True
    assert check_mask(mask).cut == (told,) and told in check_mask(mask).remark


def test_pieces_are_told_unless_they_are_crumbs():
    mask = np.zeros((9, 20, 21), bool)
    mask[1:8, 2:10, 2:10] = True
    mask[4, 15, 15] = True
    assert check_mask(mask).pieces == 2 and not check_mask(mask).remark
    mask[2:7, 13:18, 13:18] = True
    assert "2 pieces, the largest 78%" in check_mask(mask).remark


def test_few_voxels_one_slice_and_nothing_at_all():
    small = np.zeros((7, 8, 9), bool)
    assert check_mask(small).too_small == "the mask is empty"
    small[3, 2:5, 2:5] = True
    assert check_mask(small).too_small == "the mask has only 9 voxels"
    flat = np.zeros((7, 20, 21), bool)
    flat[3, 2:15, 2:15] = True
    assert not check_mask(flat).too_small and check_mask(flat).flat == "the mask lies in one slice"
    assert FEWEST_VOXELS < 13 * 13


@given(arrays(bool, (4, 5, 6)))
def test_any_mask_can_be_looked_over(mask: np.ndarray):
    checked = check_mask(mask)
    assert checked.voxels == mask.sum() and checked.slices == mask.any(axis=(1, 2)).sum()
    assert (checked.pieces == 0) == (checked.voxels == 0)
    assert bool(checked.cut) <= bool(mask[[0, -1]].any() or mask[:, [0, -1]].any() or mask[:, :, [0, -1]].any())


def test_a_measurement_reads_as_a_person_would_write_it():
    assert str(Measurement("liver volume", 1234.5, "mL")) == "liver volume: 1234 mL"
    assert str(Measurement("sphericity", None, "", "no liver mask")) == "sphericity: not measured (no liver mask)"
