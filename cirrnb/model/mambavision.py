"""MambaVision-T: convolutions at fine scales, selective state spaces and attention at coarse ones. Pure PyTorch.

Written from the paper: Hatamizadeh and Kautz, *MambaVision: a hybrid Mamba-Transformer vision backbone*, CVPR 2025
(arXiv 2407.08083); states, windows, biases and norms were then compared with the authors' code (NVlabs/MambaVision) and
agree. The scan is that of Gu and Dao, *Mamba*, arXiv 2312.00752. On a GPU the fused kernel of
`mamba_ssm` takes its place where that is installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention, softplus

from cirrnb.model.backbones import BACKBONES

WIDTHS, DEPTHS, HEADS, WINDOWS = (80, 160, 320, 640), (1, 3, 8, 4), (0, 0, 8, 16), (0, 0, 14, 7)
"""Channels, blocks, attention heads and side of the windows of each stage of the size T."""
STEM = 32
STATES = 8
"""Size of the hidden state of each channel."""
DROP = 0.2
"""Chance that the last block is skipped in training; it rises from 0 over the blocks."""


def linear_scan(decay: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """h with h[t] = decay[t] h[t - 1] + given[t] along the last axis, h[-1] = 0, in as many rounds as the length has
    binary digits (Hillis and Steele, CACM 1986;29:1170). Both (..., length); so is the result."""
    if torch.is_grad_enabled() and (decay.requires_grad or given.requires_grad):
        result: torch.Tensor = _LinearScan.apply(decay, given)
        return result
    return _scan(decay, given)


def _scan(decay: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    step = 1
    while step < given.shape[-1]:
        given = torch.cat([given[..., :step], given[..., step:] + decay[..., step:] * given[..., :-step]], dim=-1)
        decay = torch.cat([decay[..., :step], decay[..., step:] * decay[..., :-step]], dim=-1)
        step *= 2
    return given


class _LinearScan(torch.autograd.Function):
    """The scan with a gradient that is a scan too, backwards, so that the rounds' results need not be kept."""

    @staticmethod
    def forward(ctx: Any, decay: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        state = _scan(decay, given)
        ctx.save_for_backward(decay, state)
        return state

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        decay, state = ctx.saved_tensors
        following = pad(decay[..., 1:], (0, 1))
        gradient = _scan(following.flip(-1), gradients[0].flip(-1)).flip(-1)
        return gradient * pad(state[..., :-1], (1, 0)), gradient


def selective_scan(
    values: torch.Tensor, delta: torch.Tensor, rates: torch.Tensor, into: torch.Tensor, out_of: torch.Tensor
) -> torch.Tensor:
    """What a selective state space makes of a sequence (Mamba, equations 2 and 4, Euler's rule for `into`).

    Parameters
    ----------
    values, delta : (batch, channels, length), the input and its positive step sizes.
    rates : (channels, states), negative.
    into, out_of : (batch, states, length), how the input enters the state and the state the output.

    Returns (batch, channels, length), float32: y[t] = out_of[t] h[t] with
    h[t] = exp(delta[t] rates) h[t - 1] + delta[t] into[t] values[t].
    """
    decay = torch.exp(delta[:, :, None] * rates[:, :, None])
    given = (delta * values)[:, :, None] * into[:, None]
    return (linear_scan(decay, given) * out_of[:, None]).sum(dim=2)


def _fused() -> Callable[..., torch.Tensor] | None:
    """The kernel of `mamba_ssm`, or None where it is not installed."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # type: ignore[import-not-found]
    except ImportError:
        return None
    kernel: Callable[..., torch.Tensor] = selective_scan_fn
    return kernel


class MambaMixer(nn.Module):
    """Half of the channels through a selective state space, the other half past it (figure 3 of the paper)."""

    def __init__(self, width: int):
        super().__init__()
        half, rank = width // 2, math.ceil(width / 16)
        self.rank = rank
        self.enter, self.leave = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.scanned = nn.Conv1d(half, half, 3, padding="same", groups=half, bias=False)
        self.passing = nn.Conv1d(half, half, 3, padding="same", groups=half, bias=False)
        self.silu_scanned, self.silu_passing = nn.SiLU(), nn.SiLU()
        self.selects = nn.Linear(half, rank + 2 * STATES, bias=False)
        self.steps = nn.Linear(rank, half)
        self.log_rates = nn.Parameter(torch.arange(1.0, STATES + 1).log().repeat(half, 1))
        self.skip = nn.Parameter(torch.ones(half))
        # Mamba's first step sizes: between 0.001 and 0.1, evenly in their logarithm.
        nn.init.uniform_(self.steps.weight, -(rank**-0.5), rank**-0.5)
        first = torch.exp(torch.rand(half) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        with torch.no_grad():
            self.steps.bias.copy_(first + torch.log(-torch.expm1(-first)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(windows, tokens, width) of the same."""
        entered, passing = self.enter(tokens).transpose(1, 2).chunk(2, dim=1)
        values = self.silu_scanned(self.scanned(entered))
        passing = self.silu_passing(self.passing(passing))
        selected = self.selects(values.transpose(1, 2)).transpose(1, 2)
        low, into, out_of = selected.split([self.rank, STATES, STATES], dim=1)
        delta = self.steps(low.transpose(1, 2)).transpose(1, 2)
        with torch.autocast(values.device.type, enabled=False):
            parts = (tensor.float() for tensor in (values, delta, into, out_of))
            scanned = self._scan(*parts).to(values.dtype)
        return self.leave(torch.cat([scanned, passing], dim=1).transpose(1, 2))

    def _scan(
        self, values: torch.Tensor, delta: torch.Tensor, into: torch.Tensor, out_of: torch.Tensor
    ) -> torch.Tensor:
        rates = -torch.exp(self.log_rates.float())
        kernel = _fused() if values.is_cuda else None
        if kernel is not None:
            parts = (tensor.contiguous() for tensor in (values, delta, rates, into, out_of))
            return kernel(*parts, self.skip.float(), delta_softplus=True)
        scanned = selective_scan(values, softplus(delta), rates, into, out_of)
        return scanned + self.skip.float()[:, None] * values


class Attention(nn.Module):
    """Self-attention over the tokens of a window (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.enter, self.leave = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(windows, tokens, width) of the same."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.enter(tokens).chunk(3, dim=2)
        )
        return self.leave(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class SkippedAtTimes(nn.Module):
    """A branch that is skipped for some of the items in training (stochastic depth: Huang et al., ECCV 2016)."""

    def __init__(self, chance: float):
        super().__init__()
        self.chance = chance

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """The branch (items, ...), zero for some of them, the others the larger for it."""
        if not self.training or self.chance == 0:
            return branch
        kept = torch.rand(len(branch), *[1] * (branch.ndim - 1), device=branch.device) >= self.chance
        return branch * kept / (1 - self.chance)


class TokenBlock(nn.Module):
    """A mixer of tokens and a perceptron, each beside what it was given."""

    def __init__(self, width: int, mixer: nn.Module, drop: float):
        super().__init__()
        self.before_mixer, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixer, self.skipped = mixer, SkippedAtTimes(drop)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(windows, tokens, width) of the same."""
        tokens = tokens + self.skipped(self.mixer(self.before_mixer(tokens)))
        return tokens + self.skipped(self.perceptron(self.before_perceptron(tokens)))


class ConvolutionBlock(nn.Module):
    """Two convolutions beside what they were given (equation 1 of the paper)."""

    def __init__(self, width: int, drop: float):
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.second, self.second_norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.gelu, self.skipped = nn.GELU(approximate="tanh"), SkippedAtTimes(drop)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(slices, width, rows, columns) of the same."""
        changed = self.gelu(self.first_norm(self.first(maps)))
        return maps + self.skipped(self.second_norm(self.second(changed)))


class TokenStage(nn.Module):
    """Blocks on the tokens of square windows: the first half mix by state spaces, the second half by attention."""

    def __init__(self, width: int, depth: int, heads: int, window: int, drops: list[float]):
        super().__init__()
        self.window = window
        self.blocks = nn.Sequential(
            *(
                TokenBlock(width, MambaMixer(width) if place < depth / 2 else Attention(width, heads), drops[place])
                for place in range(depth)
            )
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(slices, width, rows, columns) of the same; windows that reach beyond the edge are filled with zeros."""
        slices, width, rows, columns = maps.shape
        side = self.window
        down, right = -rows % side, -columns % side
        padded = pad(maps, (0, right, 0, down))
        high, wide = (rows + down) // side, (columns + right) // side
        cut = padded.reshape(slices, width, high, side, wide, side).permute(0, 2, 4, 3, 5, 1)
        tokens = self.blocks(cut.reshape(slices * high * wide, side * side, width))
        joined = tokens.reshape(slices, high, wide, side, side, width).permute(0, 5, 1, 3, 2, 4)
        return joined.reshape(slices, width, rows + down, columns + right)[:, :, :rows, :columns]


class MambaVision(nn.Module):
    """The four stages; the coarsest map is normalised, as before the paper's last layer."""

    channels = WIDTHS

    def __init__(self, inputs: int = 1, drop: float = DROP):
        """For slices of so many channels."""
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, STEM, 3, 2, 1, bias=False),
            nn.BatchNorm2d(STEM, eps=1e-4),
            nn.ReLU(),
            nn.Conv2d(STEM, WIDTHS[0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(WIDTHS[0], eps=1e-4),
            nn.ReLU(),
        )
        count = sum(DEPTHS)
        drops = [drop * number / (count - 1) for number in range(count)]
        self.stages = nn.ModuleList()
        for width, depth, heads, window in zip(WIDTHS, DEPTHS, HEADS, WINDOWS, strict=True):
            stage_drops, drops = drops[:depth], drops[depth:]
            if window:
                self.stages.append(TokenStage(width, depth, heads, window, stage_drops))
            else:
                self.stages.append(nn.Sequential(*(ConvolutionBlock(width, chance) for chance in stage_drops)))
        self.halves = nn.ModuleList(nn.Conv2d(fine, coarse, 3, 2, 1, bias=False) for fine, coarse in pairwise(WIDTHS))
        self.norm = nn.BatchNorm2d(WIDTHS[-1])

    def forward(self, slices: torch.Tensor) -> list[torch.Tensor]:
        """Maps of the four stages, a 4th to a 32nd of the slices' sides, of slices (slices, inputs, rows, columns)."""
        maps = []
        present = self.stem(slices)
        for number, stage in enumerate(self.stages):
            present = stage(self.halves[number - 1](present) if number else present)
            maps.append(present)
        return [*maps[:-1], self.norm(maps[-1])]


@BACKBONES.register("mambavision_t")
def mambavision_t() -> MambaVision:
    """MambaVision-T for slices of one channel, 31 million parameters."""
    return MambaVision()
