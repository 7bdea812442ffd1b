"""The network: any number of slices, any sequence missing, weights that sum to one, ready for attribution."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from cirrnb.data.dataset import DrawnBag
from cirrnb.data.errors import InputError
from cirrnb.model.batch import Batch, Layout, collate
from cirrnb.model.encoder import SliceAttention, folded
from cirrnb.model.fusion import CrossSequenceAttention, GatedAttentionPooling, SequenceFusion
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Sigmoid, nn.LeakyReLU)


def patient(t1: int, t2: int, seed: int = 0, size: tuple[int, int] = (20, 24)) -> DrawnBag:
    generator = torch.Generator().manual_seed(seed)
    total = t1 + t2
    return DrawnBag(
        slices=torch.rand(total, 1, *size, generator=generator),
        sequence=torch.tensor([0] * t1 + [1] * t2),
        position=torch.arange(total, dtype=torch.float32) * 5,
        person=torch.tensor([0.4, 1.0, 1.0, 1.0]),
        stage=0,
    )


VARIANTS = {
    "whole": {},
    "cumulative": {"head": "cumulative", "demographics": True},
    "separate": {"encoders": "separate", "attention": "shared", "fusion": "weighted"},
    "plain": {"attention": "none", "scales": 1, "pooling": "mean", "fusion": "mean", "head": "cross_entropy"},
    "slice": {"pooling": "slice", "fusion": "mean", "head": "cross_entropy"},
}


def build(**settings) -> Stager:
    torch.manual_seed(0)
    stager = Stager(StagerSettings(pretrained=False, **settings)).eval()
    with torch.no_grad():  # parts that begin as doing nothing would pass any test
        for parameter in stager.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return stager


@pytest.fixture(params=list(VARIANTS))
def stager(request) -> Stager:
    return build(**VARIANTS[request.param])


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
    assert said.scores.shape == (4, 3 if stager.settings.head == "cross_entropy" else 2)
    assert said.log_probabilities.exp().sum(dim=1).tolist() == pytest.approx([1] * 4, abs=1e-5)
    for who in range(4):
        for sequence in range(2):
            here = said.slice_weights[(batch.patient == who) & (batch.sequence == sequence)]
            assert (here > 0).all()
            if len(here):
                assert here.sum().item() == pytest.approx(1, abs=1e-5)
    assert said.sequence_weights.sum(dim=1).tolist() == pytest.approx([1] * 4, abs=1e-5)
    if stager.settings.fusion != "cross":
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
    stager(replace(batch, slices=slices))[:, 1].sum().backward()
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
    pooled, groups, weights = pooling(embedded, Layout.of(np.array([6, 6, 1, 6]), 2))
    parts = [math.exp(math.tanh(value)) for value in (0, 2, 1)]
    expected = [part / sum(parts) for part in parts]
    assert groups.tolist() == [1, 6]
    assert weights.tolist() == pytest.approx([expected[0], expected[1], 1.0, expected[2]])
    assert pooled[:, 0].tolist() == pytest.approx([5.0, 2 * expected[1] + expected[2]])


def test_mean_fusion_by_hand():
    fusion = SequenceFusion(width=2, kind="mean", sequences=2)
    pooled = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0]])
    there = torch.tensor([[True, True], [False, True]])
    fused, weights = fusion(pooled, torch.tensor([0, 1, 3]), there, None)
    assert fused.tolist() == [[2.0, 4.0], [5.0, 5.0]]
    assert weights.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_a_missing_sequence_is_replaced_by_its_stand_in():
    fusion = SequenceFusion(width=2, kind="cross", sequences=2)
    with torch.no_grad():
        fusion.score.weight.zero_()
        for layer in fusion.own:
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    there, stand_in = torch.tensor([[False, True]]), torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    fused, weights = fusion(torch.tensor([[2.0, 4.0]]), torch.tensor([1]), there, stand_in)
    assert fused.tolist() == [[6.0, 12.0]] and weights.tolist() == [[0.5, 0.5]]


def test_slices_attend_to_the_other_sequence_near_them(batch):
    weights = build().crossing_weights(batch)
    assert weights is not None and weights.shape == (4, 22, 24)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(4, 22))
    same = (batch.patient[:, None] == batch.patient) & (batch.sequence[:, None] != batch.sequence)
    assert (weights[:, :, :22] > 0).any(dim=0).equal(same), "only the patient's own slices of the other sequence"
    alone = torch.tensor([who in (1, 2) for who in batch.patient.tolist()])
    assert ((weights[:, :, 22:].sum(dim=2) > 0).all(dim=0) == alone).all(), "a stand-in only where one is missing"


def test_attention_to_the_other_sequence_falls_with_the_distance():
    crossing = CrossSequenceAttention(width=8)
    with torch.no_grad():
        for layer in (crossing.query, crossing.key):
            layer.weight.zero_()
            layer.bias.zero_()
    batch = replace(collate([patient(1, 3)]), position=torch.tensor([10.0, 10.0, 22.0, 34.0]))
    _, weights = crossing(torch.rand(4, 8), batch, torch.rand(2, 8))
    expected = torch.tensor([1, math.exp(-0.5), math.exp(-2)])  # REACH is 12 mm
    torch.testing.assert_close(weights[0, 0, 1:4], expected / expected.sum())


def test_each_sequence_has_attention_of_its_own(batch):
    stager = build()
    maps = stager.attention_maps(batch)
    assert [one.shape for one in maps] == [(22, 5, 6), (22, 3, 3), (22, 2, 2), (22, 1, 1)]
    for one in maps:
        torch.testing.assert_close(one.sum(dim=(1, 2)), torch.ones(22))
    with torch.no_grad():
        for gate in stager.encoders["shared"].attention:
            gate.place[1] += torch.randn_like(gate.place[1])
    changed = (stager.attention_maps(batch)[0] - maps[0]).abs().amax(dim=(1, 2)) > 1e-6
    assert (changed == (batch.sequence == 1)).all()


def test_an_untrained_gate_is_the_plain_mean():
    gate = SliceAttention(channels=6, kinds=2)
    with torch.no_grad():
        gate.excite.zero_()
    features = torch.rand(3, 6, 4, 5)
    pooled, maps = gate(features, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(pooled, features.mean(dim=(2, 3)))
    torch.testing.assert_close(maps, torch.full((3, 4, 5), 1 / 20))


def test_slices_staged_by_themselves_are_averaged(batch):
    stager = build(**VARIANTS["slice"])
    said = stager.stage(batch)
    mine = batch.patient == 3
    by_slice = torch.stack([stager.stage(collate([one])).log_probabilities[0] for one in singles(batch, mine)])
    torch.testing.assert_close(said.log_probabilities[3].exp(), by_slice.exp().mean(dim=0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(stager.loss(said, batch)[3], -by_slice[:, 0].mean(), atol=1e-5, rtol=1e-4)


def singles(batch: Batch, mine: torch.Tensor) -> list[DrawnBag]:
    parts = (batch.slices[mine], batch.sequence[mine], batch.position[mine])
    return [
        DrawnBag(one[None], sequence[None], position[None], batch.person[3], 0)
        for one, sequence, position in zip(*parts, strict=True)
    ]


def test_age_and_sex_count_only_where_asked_for(batch):
    older = replace(batch, person=batch.person + 1)
    assert torch.equal(build()(older), build()(batch))
    assert not torch.allclose(build(demographics=True)(older), build(demographics=True)(batch))


def test_gradients_are_the_same_in_chunks(batch):
    stager = build()
    gradients = []
    for chunk in (None, 5):
        slices = batch.slices.clone().requires_grad_()
        stager(replace(batch, slices=slices), chunk)[:, 0].sum().backward()
        gradients.append(slices.grad)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-3)


def test_a_patient_without_slices_is_refused(stager):
    batch = collate([patient(2, 2)])
    with pytest.raises(ValueError, match="at least one slice"):
        stager(replace(batch, stage=torch.tensor([0, 0])))


@pytest.mark.parametrize(
    "backbone", ["test_resnet", "resnet18", "vgg11", "pvt_v2_b0", "efficientnet_b0", "convnext_atto", "mambaout_femto"]
)
def test_no_activation_works_in_place_or_twice(backbone):
    stager = Stager(StagerSettings(backbone=backbone, pretrained=False))
    assert not [name for name, module in stager.named_modules() if getattr(module, "inplace", False)]
    runs: Counter[str] = Counter()
    for name, module in stager.named_modules():
        module.register_forward_hook(lambda *_, name=name: runs.update([name]))
    stager.train()(collate([patient(2, 2, size=(64, 72)), patient(1, 2, size=(64, 72))]))
    activations = [name for name, module in stager.named_modules() if isinstance(module, ACTIVATIONS)]
    assert {runs[name] for name in activations} == {1}
    assert runs["encoders.shared.backbone"] == 1, "one encoder, once over both sequences"


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_a_folded_encoder_says_the_same(backbone):
    torch.manual_seed(0)
    encoder = Stager(StagerSettings(backbone=backbone, pretrained=False)).encoders["shared"]
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after a training: anything but the identity
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    encoder.eval()
    slices, sequence = torch.rand(3, 1, 56, 64), torch.tensor([0, 1, 0])
    quick = folded(encoder, slices[:2], sequence[:2])
    with torch.no_grad():
        torch.testing.assert_close(quick(slices, sequence)[0], encoder(slices, sequence)[0], rtol=1e-4, atol=1e-5)
    if backbone == "test_resnet":
        count = [sum(type(one) is nn.BatchNorm2d for one in which.modules()) for which in (encoder, quick)]
        assert count[1] < count[0] / 4


def test_an_encoder_whose_layers_run_in_another_order_is_not_folded():
    torch.manual_seed(0)
    encoder = Stager(StagerSettings(backbone="test_resnet", pretrained=False)).eval().encoders["shared"]

    class Backwards(nn.Module):
        def __init__(self, whole):
            super().__init__()
            self.first, self.norm, self.whole = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), whole
            nn.init.uniform_(self.norm.running_mean, 0.5, 1.0)

        def forward(self, slices):
            return self.whole(self.first(self.norm(slices)))

    encoder.backbone = Backwards(encoder.backbone).eval()
    assert folded(encoder, torch.rand(2, 1, 56, 64), torch.tensor([0, 1])) is encoder


def test_an_unknown_backbone_is_named_with_its_likes():
    with pytest.raises(InputError, match="resnet10t"):
        Stager(StagerSettings(backbone="resnet10", pretrained=False))


def test_weights_that_cannot_be_fetched_are_an_error(monkeypatch):
    build = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no connection\nto anywhere")
        return build(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"(?s)could not be fetched.*--weights"):
        Stager(StagerSettings(pretrained=True))


def test_statistics_are_the_plain_mean_of_the_steps():
    stager = Stager(StagerSettings(pretrained=False, dropout=0))
    norm = next(module for module in stager.modules() if isinstance(module, nn.BatchNorm2d))
    seen = []
    norm.register_forward_hook(lambda _, given, __: seen.append(given[0].mean(dim=(0, 2, 3))))
    stager.train()(collate([patient(2, 2, 9)]))
    seen.clear()
    stager.forget_statistics()
    for seed in range(3):
        stager(collate([patient(2, 2, seed)]))
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(dim=0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"fusion": "sum"},
        {"dropout": 1.0},
        {"width": 0},
        {"scales": 5},
        {"head": "softmax"},
        {"sequences": ("T1W", "t1w")},
        {"sequences": "T1W"},
        {"sequences": ()},
    ],
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StagerSettings(**wrong)
