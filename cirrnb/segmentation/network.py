"""The network: a small U-Net over slices whose deeper levels look at the neighbouring slices too.

Slices are convolved in two dimensions, so that any thickness will do; from the second level on, each level mixes a
slice with the one below and the one above. After Ronneberger et al., MICCAI 2015, and the factorised kernels of Tran et
al., CVPR 2018. Batch normalisation lets a slab have any number of slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cirrnb.simulation.tissue_shares import ORGANS

CHANNELS = 2
"""Input channels, see `cirrnb.segmentation.inputs`."""


@dataclass(frozen=True)
class NetworkSettings:
    """Widths of the levels from full resolution down; each level halves rows and columns."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 160)
    classes: int = len(ORGANS) + 1

    @property
    def multiple(self) -> int:
        """Rows and columns have to be multiples of this."""
        return int(2 ** (len(self.widths) - 1))


class _Convolve(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=False)
        )

    def fuse(self) -> None:
        """Fold the normalisation into the convolution, for prediction."""
        convolution, norm = self[0], self[1]
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        self[0], self[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()


class _MixSlices(nn.Module):
    """Adds to each slice what the one below, itself and the one above say together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3 * width, width, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=False)

    def fuse(self) -> None:
        """Fold the normalisation into the convolution, for prediction."""
        assert isinstance(self.norm, nn.BatchNorm2d)
        self.mix, self.norm = fuse_conv_bn_eval(self.mix, self.norm), nn.Identity()

    def forward(self, x: Tensor, slices: int) -> Tensor:
        stack = x.reshape(-1, slices, *x.shape[1:])
        nothing = torch.zeros_like(stack[:, :1])
        below = torch.cat([nothing, stack[:, :-1]], dim=1)
        above = torch.cat([stack[:, 1:], nothing], dim=1)
        around = torch.cat([below, stack, above], dim=2).flatten(0, 1)
        return x + self.relu(self.norm(self.mix(around.contiguous(memory_format=torch.channels_last))))


class _Level(nn.Module):
    def __init__(self, inputs: int, width: int, mixes: bool, stride: int = 1, convolutions: int = 2) -> None:
        super().__init__()
        self.convolve = nn.Sequential(
            _Convolve(inputs, width, stride), *(_Convolve(width, width) for _ in range(convolutions - 1))
        )
        self.mix = _MixSlices(width) if mixes else None

    def forward(self, x: Tensor, slices: int) -> Tensor:
        x = self.convolve(x)
        return x if self.mix is None else self.mix(x, slices)


class OrganNetwork(nn.Module):
    """(subjects, slices, CHANNELS, rows, columns) -> (subjects, slices, classes, rows, columns) logits.

    Rows and columns are multiples of `settings.multiple`. Example::

        OrganNetwork(NetworkSettings())(torch.zeros(1, 3, 2, 112, 128)).shape  # (1, 3, 13, 112, 128)
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = settings.widths
        self.down = nn.ModuleList()
        for depth, width in enumerate(widths):
            before = widths[depth - 1] if depth else CHANNELS
            self.down.append(_Level(before, width, mixes=depth > 0, stride=2 if depth else 1))
        self.up = nn.ModuleList()
        for depth in range(len(widths) - 2, -1, -1):
            width = widths[depth]
            self.up.append(_Level(widths[depth + 1] + width, width, mixes=depth > 1, convolutions=2 if depth else 1))
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(widths[0], settings.classes, 1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features of every level, (subjects * slices, width, rows, columns) each, the finest first."""
        slices = x.shape[1]
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = []
        for level in self.down:
            x = level(x, slices)
            features.append(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x), *x.shape[:2])

    def decode(self, features: list[Tensor], subjects: int, slices: int) -> Tensor:
        """Logits from what `encode` found in so many subjects and slices."""
        *skipped, x = features
        for level, skip in zip(self.up, reversed(skipped), strict=True):
            x = level(torch.cat([self.enlarge(x), skip], dim=1), slices)
        return self.head(x).reshape(subjects, slices, self.settings.classes, *x.shape[2:])


def fused(network: OrganNetwork) -> OrganNetwork:
    """The same network for prediction, in evaluation mode, with each normalisation folded into its convolution."""
    for module in network.modules():
        if isinstance(module, _Convolve | _MixSlices):
            module.fuse()
    return network
