"""The body is found whatever surrounds it, and its percentiles are brought to 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cirrnb.preparation.intensity import NoBody, find_body, scale, to_half

SPACING = (5.0, 2.0, 2.5)
SHAPE = (24, 130, 150)  # 260 x 375 mm in plane


def cylinder() -> np.ndarray:
    """An elliptic body of 200 x 280 mm around row 70 and column 80, in slices 3 to 19: 17 x 5 mm of 440 cm²."""
    _, row, column = np.indices(SHAPE)
    inside = ((row - 70) * 2 / 100) ** 2 + ((column - 80) * 2.5 / 140) ** 2 <= 1
    inside[:3] = inside[20:] = False
    return inside


LITRES = np.pi * 1.0 * 1.4 * 17 * 0.05  # 3.74: half axes and height in dm
NOISE = np.random.default_rng(5)


def scan(body: float = 400, spread: float = 60, air: float = 12) -> np.ndarray:
    """Body and air with the Rician noise of a magnitude image."""
    signal = np.where(cylinder(), NOISE.normal(body, spread, SHAPE), 0)
    return np.hypot(signal + NOISE.normal(0, air, SHAPE), NOISE.normal(0, air, SHAPE)).astype(np.int16)


def with_bright_fluid() -> np.ndarray:
    volume = scan()
    volume[5:18, 60:80, 60:110] = 3000
    return volume


def with_one_spike() -> np.ndarray:
    volume = scan()
    volume[10, 70, 80] = 32000
    return volume


def with_padding() -> np.ndarray:
    return np.where(cylinder(), scan(), 0)


def with_gas_inside() -> np.ndarray:
    volume = scan()
    volume[5:18, 60:80, 60:90] = 5
    return volume


def with_an_arm() -> np.ndarray:
    volume = scan()
    volume[3:20, 60:84, 0:10] = 350
    return volume


def lifted() -> np.ndarray:
    return (scan().astype(np.float32) - 700).astype(np.int16)


@pytest.mark.parametrize(
    "made",
    [scan, with_bright_fluid, with_one_spike, with_padding, with_gas_inside, with_an_arm, lifted],
    ids=lambda made: made.__name__,
)
def test_the_body_is_found(made) -> None:  # type: ignore[no-untyped-def]
    body = find_body(made(), SPACING)
    assert body.litres == pytest.approx(LITRES, rel=0.06)
    assert body.centre == pytest.approx((70, 80), abs=3)
    # Every slice of the body, and no more than a step of the search beyond.
    first, last = body.slices
    assert 2 <= first <= 3 and 20 <= last <= 21


def test_a_noisy_scan_with_a_signal_to_noise_ratio_of_eight() -> None:
    body = find_body(scan(body=80, spread=10, air=10), SPACING)
    assert body.litres == pytest.approx(LITRES, rel=0.1)


def test_percentiles_are_those_of_the_body_in_the_whole_volume() -> None:
    volume = np.where(cylinder(), NOISE.uniform(1000, 2000, SHAPE), 0).astype(np.float32)
    volume[3:10] *= 0.5  # whichever slices are looked at later, dark ones count
    body = find_body(volume, SPACING, (5, 90))
    inside = volume[cylinder()]
    # A sample of 2 % of the voxels: its percentiles are off by a fraction of a percent.
    assert (inside < body.low).mean() == pytest.approx(0.05, abs=0.01)
    assert (inside < body.high).mean() == pytest.approx(0.90, abs=0.01)


def test_slices_in_which_hardly_anything_is_seen_are_left_out() -> None:
    volume = scan()
    volume[20:, 60:75, 60:80] = 400  # a neck: far below a third of the largest cross-section
    assert find_body(volume, SPACING).slices[1] <= 21


@pytest.mark.parametrize(
    ("volume", "told"),
    [
        (np.full(SHAPE, 7, np.int16), "all voxels at the intensity 7"),
        (np.zeros((1, 1, 1), np.float32), "all voxels at the intensity 0"),
        (np.where(cylinder(), 500, 0).astype(np.int16), "a body of the single intensity 500"),
        (np.eye(150, dtype=np.int16)[None, :130].repeat(24, 0), "no body"),
    ],
)
def test_what_is_no_body_is_told(volume: np.ndarray, told: str) -> None:
    with pytest.raises(NoBody, match=told):
        find_body(volume, SPACING)


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(-65504, 65504, width=32)))
def test_conversion_to_half_is_numpys(values: np.ndarray) -> None:
    ours, numpys = to_half(values.copy()), values.astype(np.float16)
    normal = np.abs(values) >= 2.0**-14
    assert ours[normal].tobytes() == numpys[normal].tobytes()
    assert np.abs(ours[~normal] - numpys[~normal]).max(initial=0) <= 2.0**-24


def test_conversion_to_half_is_numpys_for_every_half_and_between_them() -> None:
    halves = np.arange(0x0400, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)  # 2^-14 to 65504
    between = (halves[1:] + halves[:-1]) / 2  # ties
    near = np.concatenate([halves, between, np.nextafter(between, np.float32(0)), np.nextafter(between, np.float32(9))])
    for values in (near, -near):
        assert to_half(values.copy()).tobytes() == values.astype(np.float16).tobytes()


def test_scaling_by_hand() -> None:
    values = np.array([100, 300, 200, 1000, -900], dtype=np.float32)
    scaled = scale(values, 100, 300)
    assert scaled.dtype == np.float16
    assert scaled.tolist() == [0, 1, 0.5, 2, -0.5]
    # All float16 there are below 2^-14 come out as they are.
    small = np.arange(0x0400, dtype=np.uint16).view(np.float16)
    assert to_half(small.astype(np.float32)).tobytes() == small.tobytes()


@pytest.mark.parametrize("factor", [1e-41, 1e-38, 1e-20, 1e30])
def test_the_body_is_found_whatever_the_unit_of_the_signal(factor: float) -> None:
    plain = scan().astype(np.float32)
    with np.errstate(under="ignore"):
        found = find_body(plain * np.float32(factor), SPACING, (1.0, 99.0))
    assert found.slices == find_body(plain, SPACING, (1.0, 99.0)).slices
    assert found.litres == pytest.approx(find_body(plain, SPACING, (1.0, 99.0)).litres, rel=0.05)
    scaled = scale(plain * np.float32(factor), found.low, found.high)
    body = find_body(plain, SPACING, (1.0, 99.0))
    assert np.allclose(scaled, scale(plain, body.low, body.high), atol=0.1 if factor < 1e-38 else 0.01)
