"""From scores to stages: probabilities that add up, an order that holds, losses worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from cirrnb.model.heads_and_losses import HEADS, CornHead, CrossEntropyHead, CumulativeHead, StageHead, stage_loss

BUILT_IN = ("cumulative", "corn", "cross_entropy")


@pytest.mark.parametrize("stages", [2, 3, 5])
@pytest.mark.parametrize("name", BUILT_IN)
def test_probabilities_add_up_even_far_out(name, stages):
    torch.manual_seed(0)
    head = HEADS[name](4, stages)
    for size in (1, 30):
        chances = head.log_probabilities(head(torch.randn(50, 4) * size)).exp()
        assert chances.shape == (50, stages)
        assert torch.isfinite(chances).all() and (chances >= 0).all()
        torch.testing.assert_close(chances.sum(dim=1), torch.ones(50))


@pytest.mark.parametrize("stages", [2, 3, 5])
@pytest.mark.parametrize("name", BUILT_IN)
def test_gradients_stay_finite_far_out(name, stages):
    head = HEADS[name](4, stages)
    fused = (torch.randn(20, 4) * 40).requires_grad_()
    stage_loss(head.log_probabilities(head(fused)), torch.arange(20) % stages).sum().backward()
    assert torch.isfinite(fused.grad).all()


def test_proportional_odds_by_hand():
    # Odds of more than mild 3 to 1, of severe 1 to 3.
    chances = CumulativeHead.log_probabilities(torch.tensor([[math.log(3), -math.log(3)]])).exp()
    assert chances[0].tolist() == pytest.approx([0.25, 0.5, 0.25])


@pytest.mark.parametrize("stages", [2, 3, 4, 5])
def test_a_cumulative_head_begins_with_equal_stages(stages):
    head = CumulativeHead(2, stages)
    chances = head.log_probabilities(head(torch.zeros(1, 2))).exp()
    assert chances[0].tolist() == pytest.approx([1 / stages] * stages, abs=1e-3)


def test_a_cumulative_head_of_three_stages_has_the_weights_of_saved_models():
    shapes = {name: tuple(values.shape) for name, values in CumulativeHead(2, 3).state_dict().items()}
    assert shapes == {"first": (), "gap": (), "severity.weight": (1, 2)}


def test_conditional_odds_of_five_stages_by_hand():
    # Half reach each next stage of those that reached the one before.
    chances = CornHead.log_probabilities(torch.zeros(1, 4)).exp()
    assert chances[0].tolist() == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16])


@pytest.mark.parametrize("head", [CumulativeHead, CornHead])
def test_log_odds_above_are_those_of_the_probabilities(head):
    made = head(3, 5)
    scores = made(torch.randn(20, 3, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(made.log_odds_above(scores), StageHead.log_odds_above.__func__(head, scores))


def test_more_severity_never_means_a_milder_answer():
    head = CumulativeHead(1, 3)
    with torch.no_grad():
        head.severity.weight.fill_(1)
    severe = head.log_probabilities(head(torch.linspace(-8, 8, 60)[:, None])).exp() @ torch.arange(3.0)
    assert (severe.diff() > 0).all()


def test_conditional_odds_by_hand():
    chances = CornHead.log_probabilities(torch.tensor([[0.0, math.log(4)]])).exp()
    assert chances[0].tolist() == pytest.approx([0.5, 0.1, 0.4])


def test_cross_entropy_is_torchs_own():
    scores, stage = torch.randn(9, 3), torch.arange(9) % 3
    torch.testing.assert_close(
        stage_loss(CrossEntropyHead.log_probabilities(scores), stage),
        torch.nn.functional.cross_entropy(scores, stage, reduction="none"),
    )


def test_weights_and_focus_by_hand():
    said = torch.tensor([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]]).log()
    stage = torch.tensor([1, 0])
    weighted = stage_loss(said, stage, torch.tensor([2.0, 3.0, 1.0]))
    assert weighted.tolist() == pytest.approx([3 * math.log(4), 2 * math.log(1.25)])
    focused = stage_loss(said, stage, focus=2)
    assert focused.tolist() == pytest.approx([0.75**2 * math.log(4), 0.2**2 * math.log(1.25)])
