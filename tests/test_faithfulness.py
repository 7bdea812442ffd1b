"""Measures of explanations: right answers on networks that can be worked out, and fair control maps."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_explanation import untrained
from toy_networks import Linear, batch_of
from toy_patients import LARGE, toy_cohort

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.explanation.baselines import blurred
from cirrnb.explanation.control_maps import control_map, smoothness
from cirrnb.explanation.faithfulness import PARTS, after_randomisation, faithfulness, maximum_sensitivity, randomised
from cirrnb.explanation.localisation import auroc, magnitude
from cirrnb.explanation.perturbation_curves import Curve, Patches, deletion, insertion, slice_deletion
from cirrnb.explanation.score import PatientScore
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import TrainedModel

WEIGHTS = torch.tensor([[4.0, 3.0], [2.0, 1.0]])


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("toy"), {"train": 1}, settings=LARGE).bags()[0]


def four_pixels() -> tuple[PatientScore, Patches]:
    """Severity is 2 * (4 a + 3 b + 2 c + d) of the one slice's pixels, all 1; every pixel is a patch."""
    score = PatientScore([Linear(WEIGHTS)], batch_of(torch.ones(1, 2, 2), [0]))
    return score, Patches.of(np.ones((1, 2, 2), bool), 1)


def test_deletion_and_insertion_by_hand():
    score, patches = four_pixels()
    order = patches.order(WEIGHTS[None].numpy())
    assert order.tolist() == [0, 1, 2, 3]
    removed = deletion(score, torch.zeros(1, 2, 2), patches, order, steps=4)
    assert removed.scores.tolist() == [20, 12, 6, 2, 0]
    assert removed.area == pytest.approx((0.5 * 1 + 0.6 + 0.3 + 0.1) / 4)
    given = insertion(score, torch.zeros(1, 2, 2), patches, order, steps=4)
    assert given.scores.tolist() == [0, 8, 14, 18, 20]
    assert given.area == pytest.approx((0.4 + 0.7 + 0.9 + 0.5) / 4)
    assert (given.whole, given.empty) == (removed.whole, removed.empty) == (20, 0)
    other = torch.flip(order, [0])
    for curve, like in ((deletion, removed), (insertion, given)):
        passes: list[int] = []
        score.tick = lambda passes=passes: passes.append(1)
        anew, again = (curve(score, torch.zeros(1, 2, 2), patches, other, 4, known) for known in (None, like))
        assert again.scores.tolist() == anew.scores.tolist() and len(passes) == 5 + 3


def test_no_order_is_better_than_the_best_and_none_worse_than_its_reverse():
    score, patches = four_pixels()
    empty = torch.zeros(1, 2, 2)
    areas = {}
    from itertools import permutations

    for order in permutations(range(4)):
        areas[order] = deletion(score, empty, patches, torch.tensor(order), steps=4).area
    assert min(areas, key=areas.get) == (0, 1, 2, 3) and max(areas, key=areas.get) == (3, 2, 1, 0)


def test_a_curve_between_equal_ends_means_nothing():
    assert np.isnan(Curve(np.array([1.0, 2.0, 1.1]), 1.0, 1.1).area)


def test_patches_without_body_stay_and_a_constant_map_has_no_order():
    flesh = np.zeros((1, 5, 6), bool)
    flesh[0, :4, :4] = True
    patches = Patches.of(flesh, 4)
    assert patches.used.tolist() == [[[True, False], [False, False]]]
    assert patches.spread(torch.tensor([0]), (5, 6)).sum() == 16
    assert patches.spread(torch.tensor([1, 3]), (5, 6)).sum() == 2 * 5
    with pytest.raises(ValueError, match="constant"):
        Patches.of(np.ones((1, 8, 8), bool), 4).order(np.ones((1, 8, 8), np.float32))


def test_slices_dropped_by_hand():
    score = PatientScore([Linear(torch.ones(1, 1))], batch_of(torch.tensor([[[3.0]], [[2.0]], [[1.0]]]), [0, 0, 1]))
    curve = slice_deletion(score, np.array([3.0, 2.0, 1.0]), nothing=0.0, steps=3)
    # Severity is twice the mean of what is left: 2, then 1.5, then 1, then nothing.
    assert curve.scores.tolist() == pytest.approx([4, 3, 2, 0])


@pytest.mark.parametrize("width", [1.0, 3.0, 8.0])
def test_random_control_maps_are_as_smooth_as_the_map(width):
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).normal(size=(6, 96, 96)).astype(np.float32)
    values = gaussian_filter(noise, (0, width, width))
    assert smoothness(values) == pytest.approx(width, rel=0.2)
    flesh = np.ones(values.shape, bool)
    made = control_map("random", values, values, flesh, 2.0, seed=1)
    assert smoothness(made) == pytest.approx(width, rel=0.25)
    assert abs(np.corrcoef(made.ravel(), values.ravel())[0, 1]) < 0.3


def test_a_shifted_control_map_is_the_same_map_somewhere_else():
    values = np.zeros((2, 60, 60), np.float32)
    values[:, 30, 30] = 1
    moved = control_map("shifted", values, values, np.ones(values.shape, bool), 2.0, seed=3)
    row, column = np.argwhere(moved[0])[0]
    assert np.hypot(row - 30, column - 30) * 2 == pytest.approx(40, abs=3)


def test_edges_lie_where_brightness_changes():
    image = np.zeros((1, 40, 40), np.float32)
    image[:, 20:] = 1
    edges = control_map("edges", image, image, np.ones(image.shape, bool), 2.0, seed=0)
    assert set(np.argmax(edges[0], axis=0)) <= {19, 20}


def test_auroc_is_sklearns():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    one, other = np.round(random.normal(0.5, 1, 200), 1), np.round(random.normal(0, 1, 300), 1)
    assert auroc(one, other) == pytest.approx(roc_auc_score([1] * 200 + [0] * 300, np.concatenate([one, other])))
    assert np.isnan(auroc(one[:0], other))


def test_randomisation_goes_from_the_head_down_and_leaves_the_model_alone():
    model = TrainedModel((untrained(),), "toy")
    before = {name: values.clone() for name, values in model.members[0].stager.named_parameters()}
    touched = []
    for _part, changed in randomised(model, seed=5):
        now = dict(changed.members[0].stager.named_parameters())
        touched.append({name for name, values in now.items() if not torch.equal(values, before[name])})
    assert list(PARTS) == ["head", "fusion and pooling", "slice embedding", "backbone"]
    assert all(one < more for one, more in itertools.pairwise(touched))
    # Whatever begins at one number for all (norms, gates of zero) is at that number anew.
    assert all(name.startswith(("head.",)) for name in touched[0])
    telling = {name for name, values in before.items() if values.numel() > 2 and values.std() > 0}
    assert not telling - touched[-1]
    same = dict(model.members[0].stager.named_parameters())
    assert all(torch.equal(values, same[name]) for name, values in before.items())


def test_every_weight_of_a_stager_with_signs_and_maps_is_randomised():
    torch.manual_seed(0)
    stager = Stager(StagerSettings(width=16, pretrained=False, signs=("spleen", "ascites"), maps=True), False).eval()
    model = replace(TrainedModel((untrained(),), "toy"), members=(replace(untrained(), stager=stager),))
    *_, (_, changed) = randomised(model, seed=5)
    now = dict(changed.members[0].stager.named_parameters())
    fixed = {name for name, values in stager.named_parameters() if torch.equal(values, now[name])}
    assert not {name for name in fixed if now[name].numel() > 2 and now[name].std() > 0}


def test_a_faithful_map_beats_its_control_maps(bag):
    """The score of this network is how much of one slice's detail there is in a band of rows, and nothing else."""
    image = np.asarray(bag.scans["T1W"].image[:1], dtype=np.float32)
    detail = torch.from_numpy(image - blurred(image, 8.0))[0]
    detail[:16] = detail[24:] = 0

    class Square(Linear):
        def __init__(self):
            super().__init__(100 * detail)
            self.settings = untrained().stager.settings

    model = TrainedModel((replace(untrained(), stager=Square()),), "square")
    told = cirrnb.explain(model, bag, permutations=4)
    table = faithfulness(model, bag, told, patch=32.0).set_index("measure")
    assert table.loc["insertion", "value"] > table.loc["insertion", ["random", "shifted"]].max()
    assert table.loc["deletion", "value"] < table.loc["deletion", ["random", "shifted"]].min()
    assert table.loc["infidelity", "value"] < 0.5 < table.loc["infidelity", "random"]
    assert (table["better"] == ["lower", "higher", "lower", "lower"]).all()


def test_an_explanation_of_somebody_else_is_refused(bag):
    model = untrained()
    told = cirrnb.explain(model, bag, "grad_cam", permutations=4)
    other = untrained()
    with torch.no_grad():
        next(other.stager.parameters()).add_(0.01)
    assert other.name == model.name, "recognised by its weights, not by its name"
    with pytest.raises(InputError, match="Explain this patient"):
        faithfulness(other, bag, told)
    renamed = faithfulness(replace(model, name="renamed"), bag, told, patch=32.0, samples=0)
    assert "deletion" in set(renamed["measure"])
    flat = replace(told, maps={name: np.ones_like(one) for name, one in told.maps.items()})
    with pytest.raises(InputError, match="constant"):
        faithfulness(model, bag, flat)


def test_what_was_measured_is_kept_and_found_again(bag, tmp_path):
    model = untrained()
    told = cirrnb.explain(model, bag, "grad_cam", permutations=4)
    asked = {"patch": 64.0, "steps": 3, "samples": 0, "store": tmp_path}
    passes = []
    first = faithfulness(model, bag, told, **asked, progress=lambda done, total: passes.append(total))
    assert passes[0] == 2 * (4 + 3 * 2) and "infidelity" not in set(first["measure"])
    passes.clear()
    again = faithfulness(model, bag, told, **asked, progress=lambda done, total: passes.append(total))
    assert passes == []
    pd.testing.assert_frame_equal(first, again)
    # Another question, another map, or a damaged file is measured anew.
    faithfulness(model, bag, told, **{**asked, "steps": 2}, progress=lambda done, total: passes.append(total))
    turned = replace(told, maps={name: -one for name, one in told.maps.items()})
    faithfulness(model, bag, turned, **asked)
    kept = list(tmp_path.glob("*.json"))
    assert passes and len(kept) == 3
    for path in kept:
        path.write_text("{")
    pd.testing.assert_frame_equal(faithfulness(model, bag, told, **asked), first)


def test_maps_of_a_randomised_model_are_compared_part_by_part(bag):
    model = untrained()
    told = cirrnb.explain(model, bag, "grad_cam", permutations=4)
    table = after_randomisation(model, bag, told, seed=3)
    assert list(table["randomised"]) == list(PARTS)
    assert table[["correlation", "signed"]].stack().between(-1, 1).all()
    opposite = replace(told, maps={name: -array for name, array in told.maps.items()})
    turned = after_randomisation(model, bag, told, again=lambda changed: opposite)
    assert (turned["correlation"] > 0.999).all() and (turned["signed"] < -0.999).all()
    same = after_randomisation(model, bag, told, again=lambda changed: told)
    assert (same["correlation"] > 0.999).all()  # the map of an edge detector, say, stays as it is


def test_sensitivity_is_nothing_where_the_map_cannot_move(bag):
    class Flat(Linear):
        def __init__(self):
            super().__init__(torch.ones(64, 72) / 1000)

    model = TrainedModel((replace(untrained(), stager=Flat()),), "flat")
    assert maximum_sensitivity(model, bag, "smooth_saliency", settings={"samples": 1}) == pytest.approx(0, abs=1e-5)
    assert maximum_sensitivity(untrained(), bag, "grad_cam", samples=1) > 0


def test_magnitude_is_smoothed_in_mm():
    values = np.zeros((1, 41, 41), np.float32)
    values[0, 20, 20] = -1
    wide = magnitude({"T1W": values}, spacing=2.0, smoothing=8.0)["T1W"][0]
    spread = (wide.sum(0) * (np.arange(41) - 20) ** 2).sum() / wide.sum()
    assert wide.sum() == pytest.approx(1, rel=1e-2) and spread**0.5 * 2 == pytest.approx(8, rel=0.05)
