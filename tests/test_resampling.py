"""Resampling within the slice against somebody else's weights and against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cirrnb.data.resampling import Sampling, resample, resample_nearest


def over(source_size: int, size: int) -> Sampling:
    """Samples that cover a source edge to edge, as image libraries resize."""
    step = source_size / size
    return Sampling((step - 1) / 2, step, size, source_size)


@pytest.mark.parametrize("size", [(16, 18), (5, 7), (23, 40), (90, 11), (47, 61)])
def test_weights_are_those_of_torch_with_antialiasing(size: tuple[int, int]) -> None:
    volume = np.random.default_rng(0).normal(size=(3, 47, 61)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(volume)[None], size=size, mode="bilinear", antialias=True, align_corners=False
    )[0].numpy()
    ours = resample(volume, over(47, size[0]), over(61, size[1]))
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_weights_are_those_of_pillow_when_shrinking() -> None:
    volume = np.random.default_rng(1).normal(size=(47, 61)).astype(np.float32)
    expected = np.asarray(Image.fromarray(volume).resize((20, 13), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(resample(volume[None], over(47, 13), over(61, 20))[0], expected, atol=2e-5)


def test_halving_weighs_four_neighbours_as_by_hand() -> None:
    # A sample midway between voxels 1 and 2, reaching two voxels either way: 0.25, 0.75, 0.75, 0.25 of 2.
    assert Sampling(1.5, 2.0, 1, 4).matrix.tolist() == [[0.125, 0.375, 0.375, 0.125]]


def test_one_spacing_and_whole_voxels_copy_exactly_and_fill_with_zero() -> None:
    volume = np.arange(1, 1 + 7 * 8 * 9, dtype=np.int16).reshape(7, 8, 9)
    moved = resample(volume, Sampling(-2.0, 1.0, 12, 8), Sampling(3.0, 1.0, 8, 9))
    expected = np.zeros((7, 12, 8), dtype=np.float32)
    expected[:, 2:10, :6] = volume[:, :, 3:]
    np.testing.assert_array_equal(moved, expected)


def test_a_frame_beside_the_source_holds_nothing() -> None:
    volume = np.ones((7, 8, 9), dtype=np.float32)
    assert not resample(volume, Sampling(0.0, 1.0, 8, 8), Sampling(20.0, 1.0, 5, 9)).any()
    assert not resample(volume, Sampling(-30.0, 1.0, 4, 8), Sampling(0.0, 1.0, 9, 9)).any()


def test_the_outer_voxels_reach_half_a_voxel_beyond_their_centres() -> None:
    sampling = Sampling(-0.75, 0.25, 6, 9)  # -0.75, -0.5, -0.25, 0, ...
    assert sampling.inside.tolist() == [False, True, True, True, True, True]
    np.testing.assert_allclose(sampling.matrix.sum(axis=1), [0, 1, 1, 1, 1, 1], atol=1e-6)
    assert sampling.matrix[1, 0] == 1


@given(st.floats(-60, 60), st.floats(0.2, 6), st.integers(1, 90), st.integers(1, 70))
def test_a_constant_stays_constant_inside_and_a_ramp_stays_a_ramp(
    start: float, step: float, size: int, source_size: int
) -> None:
    sampling = Sampling(start, step, size, source_size)
    np.testing.assert_allclose(sampling.matrix.sum(axis=1), sampling.inside, atol=1e-5)
    reach = max(1.0, step)
    deep = (sampling.positions >= reach) & (sampling.positions <= source_size - 1 - reach)
    ramp = sampling.matrix @ np.arange(source_size, dtype=np.float32)
    # A triangle sampled at whole voxels is symmetric only to within a fraction of its reach.
    np.testing.assert_allclose(ramp[deep], sampling.positions[deep], atol=0.26 if step > 1 else 1e-3)


@given(st.floats(-9, 9), st.floats(0.3, 4), st.integers(1, 80), st.integers(1, 70))
def test_blocks_hold_the_whole_matrix(start: float, step: float, size: int, source_size: int) -> None:
    sampling = Sampling(start, step, size, source_size)
    joined = np.zeros_like(sampling.matrix)
    for samples, seen, weights in sampling.blocks:
        joined[samples, seen] = weights
    np.testing.assert_array_equal(joined, sampling.matrix)


@given(st.floats(-9, 9), st.floats(0.3, 4))
def test_the_inverse_of_the_inverse_is_the_sampling(start: float, step: float) -> None:
    sampling = Sampling(start, step, 11, 13)
    again = sampling.inverse().inverse()
    assert (again.size, again.source_size) == (11, 13)
    assert (again.start, again.step) == pytest.approx((start, step), abs=1e-9)
    # Voxel i of the source lies at sample (i - start) / step.
    assert sampling.inverse().positions[4] == pytest.approx((4 - start) / step, abs=1e-9)


def test_nearest_takes_whole_voxels_and_false_outside() -> None:
    mask = np.zeros((2, 4, 5), dtype=bool)
    mask[1, 2, 3] = True
    taken = resample_nearest(mask, Sampling(-1.0, 0.5, 12, 4), Sampling(0.1, 1.0, 6, 5))
    assert taken.dtype == bool and taken.shape == (2, 12, 6)
    # Rows lie at -1, -0.5, 0, ..., 4.5: those at 2 and 2.5 (rounded to even) are nearest to voxel 2, like 1.5.
    assert sorted(map(tuple, np.argwhere(taken).tolist())) == [(1, 5, 3), (1, 6, 3), (1, 7, 3)]
