"""Slabs for training: repeatable, labels where the anatomy has them, other subjects without organs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cirrnb.segmentation.inputs import channels
from cirrnb.segmentation.slabs import seen
from cirrnb.simulation.anatomy import Anatomy, build_anatomy
from cirrnb.simulation.contrast import draw_signals
from cirrnb.simulation.rendering import BODY, SIZE, render, render_other, within
from cirrnb.simulation.tissue import TISSUES
from cirrnb.simulation.tissue_shares import LIVER
from cirrnb.simulation.wide import draw_wide_body


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return build_anatomy(draw_wide_body(2), (-170.0, -130.0, -60.0), (170.0, 130.0, 80.0), spacing=(8.0, 5.0, 5.0))


def test_a_slab_depends_on_its_random_numbers_alone(anatomy: Anatomy) -> None:
    first, again, other = (render(anatomy, np.random.default_rng(seed), 3) for seed in (5, 5, 6))
    assert torch.equal(first.image, again.image) and torch.equal(first.label, again.label)
    assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("slices", [1, 2, 8])
def test_slabs_have_finite_images_and_labels_of_organs(anatomy: Anatomy, slices: int) -> None:
    livers = 0
    for seed in range(12):
        slab = render(anatomy, np.random.default_rng(seed), slices)
        assert slab.image.shape == slab.label.shape == (slices, *SIZE)
        assert torch.isfinite(slab.image).all() and float(slab.image.min()) >= 0
        assert int(slab.label.max()) <= BODY and 3.5 <= slab.spacing <= 14
        livers += bool(((slab.label >= LIVER[0]) & (slab.label <= LIVER[-1])).any())
    assert livers >= 6


def test_the_liver_stays_on_its_side(anatomy: Anatomy) -> None:
    columns = []
    for seed in range(20):
        label = render(anatomy, np.random.default_rng(seed), 4).label
        body = torch.nonzero(label > 0)[:, 2].float().mean()
        right = torch.nonzero(label == 1)[:, 2].float()
        if len(right) > 50:
            columns.append(float(right.mean() - body))
    assert len(columns) > 5 and max(columns) < 5, "the right lobe lies at lower columns than the body's middle"


def test_subjects_without_an_abdomen_have_no_organ() -> None:
    for seed in range(8):
        slab = render_other(np.random.default_rng(seed), 2)
        assert set(slab.label.unique().tolist()) <= {0, BODY} and torch.isfinite(slab.image).all()


def test_every_tissue_has_a_signal() -> None:
    for seed in range(40):
        signals, sequence = draw_signals(np.random.default_rng(seed))
        assert signals.keys() == TISSUES.keys() and sequence in ("T1W", "T2W")
        assert all(np.isfinite(value) for value in signals.values())


def test_ascites_has_the_signal_of_fluid_and_fat_in_the_belly_that_of_fat() -> None:
    drawn = [draw_signals(np.random.default_rng(seed))[0] for seed in range(300)]
    assert all(0.7 <= signals["ascites"] / signals["csf"] <= 1.05 for signals in drawn)
    alike = [0.75 <= signals["stranded fat"] / signals["fat"] <= 1.15 for signals in drawn]
    assert 0.4 < np.mean(alike) < 1
    bright = [signals["stranded fat"] > 1.3 * signals["fat"] > 0 for signals in drawn]
    assert np.mean(bright) > 0.1, "as where fat is suppressed"
    assert np.mean([signals["lung"] < signals["liver"] for signals in drawn]) > 0.95
    ratios = np.array([signals["spleen"] / signals["liver"] for signals in drawn])
    assert (ratios > 4).any() and (ratios < 0.7).any()


def test_nothing_is_seen_beyond_the_field_of_view(anatomy: Anatomy) -> None:
    slab = render(anatomy, np.random.default_rng(5), 2)
    narrow = within(slab, (30, 70, 10, 120))
    inputs = seen(narrow)
    assert inputs.shape == (2, 2, *SIZE)
    assert not inputs[:, :, :30].any() and not inputs[:, :, 70:].any() and not inputs[..., :10].any()
    assert torch.equal(inputs[:, :, 30:70, 10:120], channels(slab.image[:, 30:70, 10:120]))
    assert int(narrow.label[:, :30].max()) == 0 and torch.equal(
        narrow.label[:, 30:70, 10:120], slab.label[:, 30:70, 10:120]
    )


def test_some_volumes_are_no_deeper_than_the_liver(anatomy: Anatomy) -> None:
    fields = [render(anatomy, np.random.default_rng(seed), 1).field for seed in range(40)]
    whole = [field == (0, SIZE[0], 0, SIZE[1]) for field in fields]
    assert 0.5 < np.mean(whole) < 0.95
    assert all(bottom - top >= SIZE[0] // 4 and right - left >= SIZE[1] // 4 for top, bottom, left, right in fields)
