"""Tissue shares: the painted image comes back from them for any signals; labels are whole; files are judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cirrnb.data.errors import InputError
from cirrnb.simulation.anatomy import build_anatomy, load_anatomy, save_anatomy
from cirrnb.simulation.body import Body, Frame
from cirrnb.simulation.fields import Points
from cirrnb.simulation.patients import draw_patient, plan
from cirrnb.simulation.scene import paint
from cirrnb.simulation.tissue import TISSUES
from cirrnb.simulation.tissue_shares import LIVER, ORGANS, organ_shares, tissue_shares
from cirrnb.simulation.wide import draw_wide_body


@pytest.fixture(scope="module")
def body() -> Body:
    """A patient with every sign."""
    drawn = draw_patient(plan("small", 4, 0, 7)[3], 7).body
    return replace(drawn, shown=dict.fromkeys(drawn.shown, 0.6))


@pytest.fixture(scope="module")
def points() -> Points:
    axes = (np.arange(-180, 180, 5.0), np.arange(-140, 150, 5.0), np.arange(-60, 60, 12.0))
    x, y, z = (axis.astype(np.float32) for axis in axes)
    return Points((x, y, z))


def frame_of(body: Body, points: Points) -> Frame:
    moved = points.moved(body.scale, (0, 0, 0))
    return Frame(moved, moved, 5.0 / float(np.mean(body.scale[:2])))


@pytest.mark.parametrize(("sequence", "tolerance"), [("T1W", 1e-5), ("T2W", 0.1)])
def test_an_image_from_shares_is_the_painted_one(body: Body, points: Points, sequence: str, tolerance: float) -> None:
    random = np.random.default_rng(3)
    signals = {name: float(random.uniform(0, 1)) for name in TISSUES}
    frame = frame_of(body, points)
    painted = paint(body, frame, signals, sequence, with_counterfactual=False).real
    tissues, _ = tissue_shares(body, points, frame.width)
    other = {"T1W": ("liver T2W", "septa T2W"), "T2W": ("liver", "septa")}[sequence]
    image = sum(signals[name.removesuffix(" T2W")] * share for name, share in tissues.items() if name not in other)
    # T2W's texture lies in T1W's transmittance, which differs at the liver's edge only.
    assert np.abs(image - painted).max() < tolerance
    assert np.quantile(np.abs(image - painted), 0.99) < 1e-3


def test_shares_of_organs_are_shares(body: Body, points: Points) -> None:
    shares = organ_shares(body, frame_of(body, points))
    assert set(shares) <= set(ORGANS) and {"spleen", "ascites", "caudate", "kidneys", "aorta"} <= set(shares)
    total = sum(shares.values())
    assert total.min() > -1e-5 and total.max() < 1 + 1e-5
    middle = tuple(size // 2 for size in points.shape)
    assert total[middle] == pytest.approx(1, abs=1e-5) and total[0, 0, 0] == 0


def test_a_stored_anatomy_draws_what_its_shares_say(body: Body) -> None:
    low, high = (-150.0, -110.0, -20.0), (150.0, 110.0, 25.0)
    anatomy = build_anatomy(body, low, high, spacing=(9.0, 5.0, 6.0))
    assert anatomy.label.shape == (5, 44, 50)  # slices, rows, columns
    assert set(np.unique(anatomy.label)) >= {0, 1, 4, 10, 11, 12}
    # The liver lies to the patient's right (low columns), the vertebrae behind the middle.
    liver, spine = (np.argwhere(np.isin(anatomy.label, labels)).mean(axis=0) for labels in (LIVER, (10,)))
    assert liver[2] < 25 < np.argwhere(anatomy.label == 4).mean(axis=0)[2] and spine[1] > 22
    flat = anatomy.image(dict.fromkeys(TISSUES, 1.0))
    inside = anatomy.label[:, 20:24, 20:30] > 0
    assert np.median(flat[:, 20:24, 20:30][inside]) == pytest.approx(1, abs=0.1)


def test_files_come_back_and_damaged_ones_are_told(body: Body, tmp_path: Path) -> None:
    anatomy = build_anatomy(body, (-90.0, -60.0, 0.0), (60.0, 60.0, 18.0), spacing=(9.0, 6.0, 6.0))
    path = tmp_path / "one.anatomy"
    save_anatomy(path, anatomy)
    back = load_anatomy(path)
    assert (back.spacing, back.origin, back.version) == (anatomy.spacing, anatomy.origin, anatomy.version)
    assert all(np.array_equal(getattr(back, name), getattr(anatomy, name)) for name in ("tissue", "share", "label"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError) as caught:
        load_anatomy(path)
    assert caught.value.where == str(path)


def test_wide_bodies_are_what_they_say() -> None:
    bodies = [draw_wide_body(seed) for seed in range(12)]
    assert bodies[3].shown == draw_wide_body(3).shown and bodies[3].scale == draw_wide_body(3).scale
    assert min(one.fat for one in bodies) < 12 and max(one.fat for one in bodies) > 25
    assert any(not any(one.shown.values()) for one in bodies) and any(one.shown["ascites"] > 0.5 for one in bodies)
