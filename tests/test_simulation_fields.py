"""Distances, noise and cells of the simulator against what can be worked out by hand."""

import numpy as np
import pytest

from cirrnb.simulation.fields import Cells, Noise, Points, capsule, coverage, ellipsoid, smooth_max, smooth_min


def points(*sizes: int, step: float = 1.0) -> Points:
    axes = [np.arange(size, dtype=np.float32) * np.float32(step) for size in sizes]
    return Points((axes[0], axes[1], axes[2]))


def test_ellipsoid_is_exact_for_a_sphere():
    where = points(7, 8, 9)
    distance = ellipsoid(where, (3, 3, 3), (2, 2, 2))
    assert distance.shape == (7, 8, 9)
    assert distance[3, 3, 8] == pytest.approx(3, abs=1e-4)
    assert distance[5, 3, 3] == pytest.approx(0, abs=1e-4)
    assert distance[6, 7, 3] == pytest.approx(3, abs=1e-4)


def test_ellipsoid_turns_in_the_axial_plane():
    where = points(41, 41, 3)
    lying = ellipsoid(where, (20, 20, 1), (12, 4, 5))
    standing = ellipsoid(where, (20, 20, 1), (12, 4, 5), np.pi / 2)
    np.testing.assert_allclose(standing, lying.transpose(1, 0, 2), atol=1e-3)


def test_capsule_has_round_ends_and_a_taper():
    where = points(21, 9, 9)
    tube = capsule(where, (4, 4, 4), (16, 4, 4), 2.0, 1.0)
    assert tube[0, 4, 4] == pytest.approx(4 - 2)
    assert tube[20, 4, 4] == pytest.approx(4 - 1)
    assert tube[10, 8, 4] == pytest.approx(4 - 1.5)
    assert tube[10, 7, 8] == pytest.approx(5 - 1.5)


def test_coverage_counts_the_volume_of_a_sphere():
    where = points(40, 41, 42, step=0.5)
    volume = coverage(ellipsoid(where, (10, 10, 10), (7, 7, 7)), 0.5).sum() * 0.5**3
    assert volume == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.01)


def test_smooth_union_and_intersection_only_act_near_the_edge():
    a, b = np.array([5.0, 1.0, -9.0], np.float32), np.array([-5.0, 1.0, 4.0], np.float32)
    np.testing.assert_allclose(smooth_max(a, b, 4), (5, 1 + 1, 4))
    np.testing.assert_allclose(smooth_min(a, b, 4), (-5, 1 - 1, -9))


def test_window_is_the_part_within_a_box():
    where = points(7, 8, 9)
    found = where.window((1.5, 2.0, -5.0), (4.5, 3.5, 50.0))
    assert found is not None
    window, inside = found
    assert window == (slice(2, 5), slice(2, 4), slice(0, 9))
    assert inside.shape == (3, 2, 9)
    assert where.window((20, 0, 0), (30, 5, 5)) is None


def test_noise_is_the_same_in_a_part_as_in_the_whole_and_has_unit_variance():
    noise = Noise.draw(np.random.default_rng(3), 6.0, 9.0, 14.0)
    where = points(90, 80, 70)
    whole = noise(where)
    found = where.window((20, 30, 40), (31, 42, 53))
    assert found is not None
    np.testing.assert_allclose(noise(found[1]), whole[found[0]], atol=1e-5)
    assert whole.std() == pytest.approx(1, abs=0.2)
    # Neighbours 1 mm apart are alike where humps are 14 mm apart; white noise would differ by sqrt(2).
    assert np.diff(whole, axis=2).std() < 0.35


def test_cells_are_nearest_to_their_centre_and_divided_by_walls():
    cells = Cells.draw(np.random.default_rng(4), 8.0)
    where = points(30, 31, 32)
    chosen = np.ones(where.shape, bool)
    centre, wall, name = cells.at(where, chosen)
    assert centre.shape == (30 * 31 * 32,)
    assert centre.min() < 0.15 < 0.5 < centre.max() < 1.5
    assert 0 <= wall.min() < 0.02
    assert len(np.unique(name)) > 20
