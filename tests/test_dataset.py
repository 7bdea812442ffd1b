"""Which slices are drawn, and how they are changed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_patients import toy_cohort, write_scan

from cirrnb.data.augmentation import Augmentation, Changes, augment, move, noise, smooth_field
from cirrnb.data.bag import Bag
from cirrnb.data.dataset import (
    UNSTAGED,
    BagDataset,
    SliceDataset,
    draw,
    draw_for_training,
    evenly_spaced,
    random_stratified,
)
from cirrnb.data.scan import Scan

NOTHING = Augmentation(rotation=0, shift=0, gain=0, gamma=0, noise=0, bias=0)


def test_evenly_spaced_takes_the_middle_of_equal_stretches():
    assert evenly_spaced(9, 3).tolist() == [1, 4, 7]
    assert evenly_spaced(10, 4).tolist() == [1, 3, 6, 8]
    assert evenly_spaced(3, 8).tolist() == [0, 1, 2]
    assert evenly_spaced(5, None).tolist() == [0, 1, 2, 3, 4]


@given(available=st.integers(1, 400), wanted=st.integers(1, 40), seed=st.integers(0, 99))
def test_stratified_draws_are_distinct_rising_and_one_a_stretch(available, wanted, seed):
    drawn = random_stratified(available, wanted, np.random.default_rng(seed))
    assert len(drawn) == min(available, wanted)
    assert (np.diff(drawn) > 0).all() and drawn[0] >= 0 and drawn[-1] < available
    if available > wanted:
        stretch = (drawn + 0.5) * wanted / available
        assert (np.abs(stretch - (np.arange(wanted) + 0.5)) <= 1).all()


def test_every_slice_is_drawn_sooner_or_later():
    generator = np.random.default_rng(0)
    drawn = np.concatenate([random_stratified(7, 3, generator) for _ in range(200)])
    assert set(drawn) == set(range(7))


def test_a_draw_carries_sequence_position_and_stage(tmp_path):
    bag = toy_cohort(tmp_path, {"train": 3}, slices=(9, 4)).bags()[2]
    drawn = draw(bag, 3)
    assert drawn.slices.shape == (6, 1, 20, 24) and drawn.slices.dtype == torch.float32
    assert drawn.sequence.tolist() == [0, 0, 0, 1, 1, 1]
    assert drawn.position[:3].tolist() == [-95, -80, -65]  # 5 mm apart from -100 mm
    assert drawn.position[3:].tolist() == pytest.approx([place - bag.shifts["T2W"] for place in (-100, -90, -85)])
    assert drawn.stage == 2
    expected = bag.scans["T2W"].image[[0, 2, 3]].astype(np.float32)
    np.testing.assert_array_equal(drawn.slices[3:, 0].numpy(), expected)


def test_a_missing_sequence_is_absent_and_a_missing_stage_is_marked(tmp_path):
    scan = Scan("1", "T2W", Path("1.nii.gz"))
    drawn = draw(Bag({"T2W": write_scan(tmp_path / "1", scan, np.zeros((5, 7, 8), np.float16))}))
    assert drawn.sequence.tolist() == [1] * 5
    assert drawn.stage == UNSTAGED


def test_draws_follow_from_seed_epoch_and_patient_alone(tmp_path):
    bags = toy_cohort(tmp_path, {"train": 4}).bags()
    forward, backward = BagDataset(bags, 3, Augmentation(), 5), BagDataset(bags[::-1], 3, Augmentation(), 5)
    for dataset in (forward, backward):
        dataset.set_epoch(2)
    before = forward[0].changed()
    assert torch.equal(before, backward[3].changed())
    assert torch.equal(forward[1].changed(), forward[1].changed())
    assert torch.equal(forward[2, 0].changed(), before)
    forward.set_epoch(3)
    assert not torch.equal(forward[0].changed(), before)
    assert not torch.equal(draw_for_training(bags[0], 3, Augmentation(), 6, 2).changed(), before)


def test_changes_of_a_batch_are_those_of_its_scans(tmp_path):
    dataset = BagDataset(toy_cohort(tmp_path, {"train": 3}).bags(), 3, Augmentation(flip=0.5), 5)
    drawn = [dataset[1, number] for number in range(3)]
    together = Changes.joined([one.changes for one in drawn]).apply(torch.cat([one.slices for one in drawn]))
    apart = torch.cat([one.changed() for one in drawn])
    assert together.dtype == torch.float32 and (apart - torch.cat([one.slices for one in drawn])).abs().max() > 0.1
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=0)


def test_noise_is_standard_normal_and_of_its_seed_alone():
    values = noise(torch.tensor([3, 4, 3]), (90, 110))
    assert torch.equal(values[0], values[2]) and not torch.equal(values[0], values[1])
    assert abs(float(values.mean())) < 0.02 and abs(float(values.std()) - 1) < 0.02
    tails = [float((values[:2].abs() > bound).double().mean()) for bound in (1, 2, 3)]
    assert tails == pytest.approx([0.3173, 0.0455, 0.0027], abs=0.01)
    # Neighbours, and the same place in slices of neighbouring seeds, are unrelated.
    one, other = values[0, 0], values[1, 0]
    for a, b in ((one[:, 1:], one[:, :-1]), (one[1:], one[:-1]), (one, other)):
        assert abs(float((a * b).mean())) < 0.05


def test_an_epoch_of_slices_has_each_once(tmp_path):
    bags = toy_cohort(tmp_path, {"train": 3}, slices=(4, 2)).bags()
    slices = SliceDataset(bags, Augmentation(), 1)
    assert len(slices) == 3 * 6
    assert [slices[number].stage for number in range(18)] == [0] * 6 + [1] * 6 + [2] * 6
    assert [int(slices[number].sequence) for number in range(6)] == [0, 0, 0, 0, 1, 1]
    np.testing.assert_array_equal(slices[5].slices[0, 0], bags[0].scans["T2W"].image[1])
    assert torch.equal(slices[2, 7].changed(), slices[2, 7].changed())
    assert not torch.equal(slices[2, 7].changed(), slices[3, 7].changed())
    plain = SliceDataset(bags)[7]
    assert plain.changes is None and plain.changed().dtype == torch.float32


def test_no_augmentation_leaves_the_slices_alone(tmp_path):
    bag = toy_cohort(tmp_path, {"train": 1}, slices=(3, 3)).bags()[0]
    drawn = draw_for_training(bag, 3, None, 0, 0)
    assert torch.equal(drawn.changed(), draw(bag, 3).slices)
    torch.testing.assert_close(draw_for_training(bag, 3, NOTHING, 0, 0).changed(), drawn.changed())


def dot(rows: int, columns: int, row: int, column: int) -> torch.Tensor:
    image = torch.zeros(1, 1, rows, columns)
    image[0, 0, row, column] = 1.0
    return image


def test_moving_shifts_by_shares_of_the_sides():
    moved = move(dot(10, 20, 4, 7), angle=0.0, down=0.2, right=0.1)
    torch.testing.assert_close(moved, dot(10, 20, 6, 9), atol=1e-5, rtol=0)


def test_turning_minds_the_sides():
    # About the centre (4, 9) of 9 x 19 pixels, a quarter turn takes the dot 3 pixels in front of it to one 3 pixels to
    # the side of it, whatever the slice's own sides.
    moved = move(dot(9, 19, 1, 9), angle=math.pi / 2, down=0.0, right=0.0)
    torch.testing.assert_close(moved, dot(9, 19, 4, 6), atol=1e-5, rtol=0)


@given(seed=st.integers(0, 200))
def test_no_augmentation_swaps_the_sides(seed):
    slices = torch.zeros(2, 1, 24, 32)
    slices[:, :, 8:16, 3:7] = 1.0
    changed = augment(slices, Augmentation(noise=0), torch.Generator().manual_seed(seed))
    assert changed[..., :16].sum() > 5 * changed[..., 16:].sum()
    assert torch.equal(changed[0], changed[1]), "a scan's slices move together"


def test_intensities_stay_near_and_negative_ones_are_not_lost():
    slices = torch.full((1, 1, 16, 16), 0.5)
    slices[..., 8:] = -0.3
    amounts = Augmentation(rotation=0, shift=0, gain=0.15, gamma=0.2, noise=0)
    for seed in range(30):
        changed = augment(slices, amounts, torch.Generator().manual_seed(seed))
        assert torch.isfinite(changed).all()
        # 0.5 to the power of 1 / 1.2 to 1.2, times 0.85 to 1.15
        assert 0.85 * 0.5**1.2 - 1e-6 <= changed[0, 0, 5, 2] <= 1.15 * 0.5 ** (1 / 1.2) + 1e-6
        assert -0.3 * 1.15 - 1e-6 <= changed[0, 0, 5, 12] <= -0.3 * 0.85 + 1e-6


@pytest.mark.parametrize("wrong", [{"rotation": 90}, {"shift": -0.1}, {"gain": 1.0}, {"noise": float("nan")}])
def test_amounts_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)


def test_a_receive_field_is_smooth_and_within_its_bound():
    field = smooth_field((40, 60), torch.Generator().manual_seed(1))
    assert field.shape == (40, 60) and field.abs().max() <= 1 and field.abs().max() > 0.05
    assert field.diff(dim=0).abs().max() < 0.06 and field.diff(dim=1).abs().max() < 0.06
    shaded = augment(torch.ones(2, 1, 40, 60), replace(NOTHING, bias=0.3), torch.Generator().manual_seed(2))
    assert shaded.min() > 0.69 and shaded.max() < 1.31 and shaded.std() > 0.01


def test_slices_are_mirrored_only_where_asked_for():
    slices = torch.arange(12.0).reshape(1, 1, 3, 4) / 12
    assert torch.allclose(augment(slices, NOTHING, torch.Generator().manual_seed(0)), slices, atol=1e-6)
    both = augment(slices, replace(NOTHING, flip=1.0), torch.Generator().manual_seed(0))
    assert torch.allclose(both, slices.flip(-1, -2), atol=1e-6)


def test_sequences_are_left_out_as_often_as_asked_for(tmp_path):
    bag = toy_cohort(tmp_path, {"train": 1}).bags()[0]
    seen = [set(draw_for_training(bag, 2, None, 0, epoch, 0.4).sequence.tolist()) for epoch in range(200)]
    share = sum(len(one) == 1 for one in seen) / 200
    assert 0.28 < share < 0.52 and {0} in seen and {1} in seen
    alone = bag.only(["T2W"])
    assert set(draw_for_training(alone, 2, None, 0, 0, 0.99).sequence.tolist()) == {1}
    assert bag.only(["T1W", "T2W"]) is bag and alone.only(["T1W"]) is None


def test_age_and_sex_come_along_where_known(tmp_path):
    bag = toy_cohort(tmp_path, {"train": 1}).bags()[0]
    assert draw(bag).person.tolist() == [0, 0, 0, 0]
    scans = {name: replace(one, scan=replace(one.scan, age=75.0, sex="female")) for name, one in bag.scans.items()}
    assert draw(Bag(scans)).person.tolist() == [1, 1, 1, 1]
    younger = {name: replace(one, scan=replace(one.scan, age=45.0, sex="male")) for name, one in bag.scans.items()}
    assert draw(Bag(younger)).person.tolist() == [-1, 1, 0, 1]
