"""MambaVision-T against a scan taken step by step, against somebody else's, and its size against the paper's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cirrnb.model.mambavision import MambaMixer, MambaVision, TokenStage, linear_scan, selective_scan


def by_steps(values, delta, rates, into, out_of):
    """The recurrence as the paper writes it, one step after the other."""
    state = values.new_zeros(*values.shape[:2], rates.shape[1])
    seen = []
    for place in range(values.shape[2]):
        step = delta[:, :, place, None]
        state = torch.exp(step * rates) * state + step * into[:, None, :, place] * values[:, :, place, None]
        seen.append((state * out_of[:, None, :, place]).sum(dim=2))
    return torch.stack(seen, dim=2)


def scan_inputs(length: int = 49) -> list[torch.Tensor]:
    torch.manual_seed(3)
    parts = [torch.randn(2, 6, length), torch.rand(2, 6, length) * 0.2 + 1e-3, -torch.rand(6, 4) * 8 - 0.1]
    parts += [torch.randn(2, 4, length), torch.randn(2, 4, length)]
    return [one.requires_grad_() for one in parts]


@pytest.mark.parametrize("length", [1, 2, 49, 196])
def test_the_scan_is_that_of_single_steps(length):
    parts = scan_inputs(length)
    fast, slow = selective_scan(*parts), by_steps(*parts)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(selective_scan(*parts), slow, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(fast)
    found = torch.autograd.grad((fast * weights).sum(), parts)
    expected = torch.autograd.grad((slow * weights).sum(), parts)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * float(other.abs().max()) + 1e-7, rtol=1e-4)


def test_the_gradient_of_the_scan_by_finite_differences():
    torch.manual_seed(0)
    decay, given = torch.rand(2, 5, dtype=torch.double), torch.randn(2, 5, dtype=torch.double)
    assert torch.autograd.gradcheck(linear_scan, (decay.requires_grad_(), given.requires_grad_()))


@pytest.mark.slow
def test_the_scan_is_that_of_mambapy():
    pscan = pytest.importorskip("mambapy.pscan").pscan
    values, delta, rates, into, out_of = (one.detach() for one in scan_inputs())
    decay = torch.exp(delta[:, :, None] * rates[:, :, None])  # batch, channels, states, length
    given = (delta * values)[:, :, None] * into[:, None]
    states = pscan(decay.permute(0, 3, 1, 2).contiguous(), given.permute(0, 3, 1, 2).contiguous())
    other = (states.permute(0, 2, 3, 1) * out_of[:, None]).sum(dim=2)
    torch.testing.assert_close(selective_scan(values, delta, rates, into, out_of), other, atol=1e-5, rtol=1e-5)


def test_as_many_parameters_as_the_paper_says():
    with torch.device("meta"):
        network = nn.ModuleList([MambaVision(inputs=3), nn.Linear(640, 3)])
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(31.2e6, rel=0.01)


def test_maps_of_any_size_and_a_gradient_for_every_weight():
    torch.manual_seed(1)
    network = MambaVision()
    maps = network(torch.randn(2, 1, 72, 100))
    assert [tuple(one.shape) for one in maps] == [
        (2, 80, 18, 25), (2, 160, 9, 13), (2, 320, 5, 7), (2, 640, 3, 4)
    ]  # fmt: skip
    sum(one.square().mean() for one in maps).backward()
    assert [name for name, one in network.named_parameters() if one.grad is None] == []
    network.eval()
    with torch.no_grad():
        slices = torch.randn(3, 1, 64, 64)
        torch.testing.assert_close(network(slices)[-1][1:2], network(slices[1:2])[-1], atol=1e-4, rtol=1e-4)


def test_windows_are_apart_and_put_back_in_their_places():
    torch.manual_seed(2)
    stage = TokenStage(32, 2, 2, 4, [0.0, 0.0]).eval()
    maps = torch.randn(1, 32, 7, 9)
    changed = maps.clone()
    changed[0, 3, 5, 2] += 5
    with torch.no_grad():
        where = (stage(maps) - stage(changed)).abs().amax(dim=1)[0] > 1e-6
    rows, columns = where.nonzero().T
    assert set(rows.tolist()) <= {4, 5, 6} and set(columns.tolist()) <= {0, 1, 2, 3} and len(rows) > 6


def test_tokens_before_do_not_see_the_state_of_those_behind():
    torch.manual_seed(4)
    mixer, tokens = MambaMixer(32).eval(), torch.randn(1, 12, 32)
    later = tokens.clone()
    later[:, 8] += 1
    with torch.no_grad():
        differs = (mixer(tokens) - mixer(later)).abs().amax(dim=2)[0] > 1e-6
    assert not differs[:7].any() and differs[8:].all()  # 7 is seen by the convolution
