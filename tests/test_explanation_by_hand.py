"""Attributions of toy networks are those that paper and pencil give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy_networks import Attending, Linear, batch_of

from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.explanation.methods import Request, method_named, methods
from cirrnb.explanation.score import PatientScore, score_of_stage
from cirrnb.explanation.shapley import shapley_values
from cirrnb.model.heads_and_losses import CornHead, CrossEntropyHead

WEIGHTS = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.0, 3.0]])
SLICES = torch.arange(24.0).reshape(4, 2, 3) / 10


def linear() -> PatientScore:
    return PatientScore([Linear(WEIGHTS)], batch_of(SLICES, [0, 0, 1, 1]))


def run(name: str, score: PatientScore, baseline: torch.Tensor, **changed) -> object:
    how = method_named(name)
    return how.run(Request(score, baseline if how.compares else None, {**how.settings, **changed}))


@pytest.mark.parametrize("name", ["integrated_gradients", "gradient_shap", "deep_lift"])
def test_a_linear_network_gives_weight_times_difference(name):
    baseline = torch.full((1, 4, 2, 3), 0.25)
    changed = {"noise": 0.0} if name == "gradient_shap" else {}
    found = run(name, linear(), baseline, **changed)
    # Severity is twice the mean over four slices.
    torch.testing.assert_close(found.maps, 2 / 4 * WEIGHTS * (SLICES - 0.25), atol=1e-5, rtol=1e-5)
    assert found.delta == pytest.approx(0, abs=1e-4)


def test_saliency_of_a_linear_network_is_the_size_of_the_weights():
    found = run("smooth_saliency", linear(), torch.zeros(1, 4, 2, 3), samples=3)
    torch.testing.assert_close(found.maps, (2 / 4 * WEIGHTS.abs()).expand(4, -1, -1))


def test_occlusion_of_a_linear_network_is_each_patchs_part_shared_out():
    baseline = torch.zeros(1, 4, 2, 3)
    found = run("occlusion", linear(), baseline, patch=2)
    effect = 2 / 4 * WEIGHTS * SLICES  # of each pixel; patches are 2 x 2, the last one 2 x 1
    first = effect[:, :, :2].sum(dim=(1, 2), keepdim=True) / 4
    last = effect[:, :, 2:].sum(dim=(1, 2), keepdim=True) / 2
    expected = torch.cat([first.expand(-1, 2, 2), last.expand(-1, 2, 1)], dim=2)
    torch.testing.assert_close(found.maps, expected)
    assert float(found.maps.sum()) == pytest.approx(float(effect.sum()), abs=1e-5)


def test_attention_over_two_slices():
    x = 1.3
    score = PatientScore([Attending()], batch_of(torch.tensor([[[x]], [[0.0]]]), [0, 1]))
    whole = 2 * x / (1 + math.exp(-x))
    assert float(score(score.slices)[0]) == pytest.approx(whole, rel=1e-5)
    found = run("integrated_gradients", score, torch.zeros(1, 2, 1, 1), steps=64)
    # The second slice never leaves the baseline, so all of the difference to 0 is the first one's.
    assert found.maps.flatten().tolist() == pytest.approx([whole, 0.0], abs=1e-3)
    told = shapley_values(score, nothing=0.0, permutations=8)
    alone = 2 * x
    first, second = (alone + whole) / 2, (0 + whole - alone) / 2
    assert told.sequences == pytest.approx({"T1W": first, "T2W": second}, rel=1e-5)
    # With two slices an order and its reverse are all there are: no sampling error is left.
    assert told.slices["T1W"] == pytest.approx([first], rel=1e-5)
    assert told.slices["T2W"] == pytest.approx([second], rel=1e-5)
    assert told.errors["T1W"] == pytest.approx([0.0], abs=1e-6)


def test_shares_of_a_linear_network_with_four_slices():
    score = linear()
    told = shapley_values(score, nothing=0.4, permutations=200)
    values = (2 * SLICES * WEIGHTS).sum(dim=(1, 2)).numpy()
    # The mean of those present: Shapley values by enumeration of all 24 orders.
    from itertools import permutations

    expected = np.zeros(4)
    for order in permutations(range(4)):
        before = 0.4
        for place, one in enumerate(order):
            after = values[list(order[: place + 1])].mean()
            expected[one] += (after - before) / 24
            before = after
    found = np.concatenate([told.slices["T1W"], told.slices["T2W"]])
    error = np.concatenate([told.errors["T1W"], told.errors["T2W"]])
    assert (np.abs(found - expected) < 4 * error + 1e-6).all()
    assert found.sum() == pytest.approx(values.mean() - 0.4, rel=1e-5)
    assert sum(told.sequences.values()) == pytest.approx(values.mean() - 0.4, rel=1e-5)


def test_the_cumulative_log_odds_of_a_conditional_head():
    scores = torch.randn(50, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0)) * 3
    chances = CornHead.log_probabilities(scores).exp()
    above_moderate = (chances[:, 2] / (1 - chances[:, 2])).log()
    head = CornHead(4, 3)
    torch.testing.assert_close(score_of_stage(head, scores, "above moderate", CIRRHOSIS), above_moderate)
    torch.testing.assert_close(score_of_stage(head, scores, "severity", CIRRHOSIS), scores[:, 0] + above_moderate)


def test_differences_of_logits():
    scores = torch.tensor([[1.0, 2.0, 5.0]])
    head = CrossEntropyHead(4, 3)
    assert score_of_stage(head, scores, "severity", CIRRHOSIS).tolist() == [4.0]
    assert score_of_stage(head, scores, "moderate", CIRRHOSIS).tolist() == [2.0]
    assert score_of_stage(head, scores, "mild - moderate", CIRRHOSIS).tolist() == [-1.0]


def test_every_file_of_the_registry_is_a_method():
    assert {
        "integrated_gradients",
        "gradient_shap",
        "smooth_saliency",
        "grad_cam",
        "occlusion",
        "attention",
        "deep_lift",
    } <= set(methods())
    for name, one in methods().items():
        assert one.name == name and one.source and one.label
