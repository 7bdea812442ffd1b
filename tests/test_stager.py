"""The network: any number of slices, any sequence missing, weights that sum to one, ready for attribution."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from cirrnb.data.dataset import DrawnBag
from cirrnb.data.errors import InputError
from cirrnb.model.batch import Batch, collate
from cirrnb.model.pooling import GatedAttentionPooling, SequenceFusion
from cirrnb.model.stager import Stager, StagerSettings

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Sigmoid, nn.LeakyReLU)


def patient(t1: int, t2: int, seed: int = 0, size: tuple[int, int] = (20, 24)) -> DrawnBag:
    generator = torch.Generator().manual_seed(seed)
    total = t1 + t2
    return DrawnBag(
        slices=torch.rand(total, 1, *size, generator=generator),
        sequence=torch.tensor([0] * t1 + [1] * t2),
        position=torch.arange(total, dtype=torch.float32),
        stage=0,
    )


@pytest.fixture(params=["mean", "learned"])
def stager(request) -> Stager:
    torch.manual_seed(0)
    return Stager(StagerSettings(fusion=request.param)).eval()


@pytest.fixture
def batch() -> Batch:
    return collate([patient(5, 2, 1), patient(0, 3, 2), patient(1, 0, 3), patient(4, 7, 4)])


def test_a_batch_is_laid_end_to_end(batch):
    assert len(batch) == 4 and batch.slices.shape == (22, 1, 20, 24)
    assert batch.patient.tolist() == [0] * 7 + [1] * 3 + [2] + [3] * 11
    with pytest.raises(ValueError, match="at least one"):
        collate([])


def test_weights_sum_to_one_over_what_exists(stager, batch):
    said = stager.stage(batch)
    assert said.logits.shape == (4, 3)
    for who in range(4):
        for sequence in range(2):
            here = said.slice_weights[(batch.patient == who) & (batch.sequence == sequence)]
            assert (here > 0).all()
            if len(here):
                assert here.sum().item() == pytest.approx(1, abs=1e-5)
    assert said.sequence_weights.sum(dim=1).tolist() == pytest.approx([1] * 4, abs=1e-5)
    assert said.sequence_weights[1].tolist() == [0, 1] and said.sequence_weights[2].tolist() == [1, 0]
    assert (said.sequence_weights[[0, 3]] > 0).all()


def test_company_does_not_change_a_patient(stager, batch):
    together = stager(batch)
    alone = torch.cat([stager(collate([patient(*args)])) for args in ((5, 2, 1), (0, 3, 2), (1, 0, 3), (4, 7, 4))])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_the_order_of_the_slices_does_not_matter(stager, batch):
    order = torch.randperm(22, generator=torch.Generator().manual_seed(0))
    fields = {name: getattr(batch, name)[order] for name in ("slices", "sequence", "patient", "position")}
    torch.testing.assert_close(stager(replace(batch, **fields)), stager(batch), atol=1e-5, rtol=1e-4)


def test_chunks_change_nothing_but_the_memory(stager, batch):
    torch.testing.assert_close(stager(batch, chunk=4), stager(batch), atol=1e-5, rtol=1e-4)


def test_the_sequence_matters(stager):
    drawn = patient(3, 0)
    other = replace(drawn, sequence=torch.ones(3, dtype=torch.int64))
    assert not torch.allclose(stager(collate([drawn])), stager(collate([other])))


def test_gradients_reach_every_slice(stager, batch):
    slices = batch.slices.clone().requires_grad_()
    stager(replace(batch, slices=slices))[:, 2].sum().backward()
    reached = slices.grad.abs().amax(dim=(1, 2, 3))
    assert torch.isfinite(slices.grad).all() and (reached > 0).all()


def test_gradients_stay_within_the_patient(stager, batch):
    slices = batch.slices.clone().requires_grad_()
    stager(replace(batch, slices=slices))[1, 0].backward()
    assert ((slices.grad.abs().amax(dim=(1, 2, 3)) > 0) == (batch.patient == 1)).all()


def test_gated_attention_by_hand():
    pooling = GatedAttentionPooling(width=1, hidden=1)
    with torch.no_grad():
        for layer, weight, bias in ((pooling.content, 1, 0), (pooling.gate, 0, 0), (pooling.score, 2, 7)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    # sigmoid(0) = 1/2, so the score is tanh(h) + 7 and the weights follow exp(tanh(h)).
    embedded = torch.tensor([[0.0], [2.0], [5.0], [1.0]])
    pooled, groups, weights = pooling(embedded, torch.tensor([6, 6, 1, 6]))
    parts = [math.exp(math.tanh(value)) for value in (0, 2, 1)]
    expected = [part / sum(parts) for part in parts]
    assert groups.tolist() == [1, 6]
    assert weights.tolist() == pytest.approx([expected[0], expected[1], 1.0, expected[2]])
    assert pooled[:, 0].tolist() == pytest.approx([5.0, 2 * expected[1] + expected[2]])


def test_mean_fusion_by_hand():
    fusion = SequenceFusion(width=2, learned=False)
    pooled = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0]])
    fused, weights = fusion(pooled, torch.tensor([0, 1, 3]), 2)
    assert fused.tolist() == [[2.0, 4.0], [5.0, 5.0]]
    assert weights.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_a_patient_without_slices_is_refused(stager):
    batch = collate([patient(2, 2)])
    with pytest.raises(ValueError, match="at least one slice"):
        stager(replace(batch, stage=torch.tensor([0, 0])))


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet10t", "efficientnet_b0", "convnext_atto"])
def test_no_activation_works_in_place_or_twice(backbone):
    stager = Stager(StagerSettings(backbone=backbone))
    assert not [name for name, module in stager.named_modules() if getattr(module, "inplace", False)]
    runs: Counter[str] = Counter()
    for name, module in stager.named_modules():
        module.register_forward_hook(lambda *_, name=name: runs.update([name]))
    stager.train()(collate([patient(2, 2, size=(64, 72)), patient(1, 2, size=(64, 72))]))
    activations = [name for name, module in stager.named_modules() if isinstance(module, ACTIVATIONS)]
    assert {runs[name] for name in activations} == {1}
    assert runs["backbone"] == 1, "one encoder, once over both sequences"


def test_an_unknown_backbone_is_named_with_its_likes():
    with pytest.raises(InputError, match="resnet10t"):
        Stager(StagerSettings(backbone="resnet10"))


def test_weights_that_cannot_be_fetched_are_told(monkeypatch):
    build = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no connection\nto anywhere")
        return build(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.warns(UserWarning, match="could not be fetched"):
        stager = Stager(StagerSettings(pretrained=True))
    assert stager.backbone_weights.startswith("random") and "test_resnet" in stager.backbone_weights


def test_statistics_are_the_plain_mean_of_the_steps():
    stager = Stager(StagerSettings(dropout=0))
    norm = next(module for module in stager.modules() if isinstance(module, nn.BatchNorm2d))
    seen = []
    norm.register_forward_hook(lambda _, given, __: seen.append(given[0].mean(dim=(0, 2, 3))))
    stager.train()(collate([patient(2, 2, 9)]))
    seen.clear()
    stager.forget_statistics()
    for seed in range(3):
        stager(collate([patient(2, 2, seed)]))
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(dim=0))


@pytest.mark.parametrize("wrong", [{"fusion": "sum"}, {"dropout": 1.0}, {"width": 0}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StagerSettings(**wrong)
