"""From a slice to its embedding: backbone, attention gates at each scale, the scales joined."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from cirrnb.model.backbones import MEAN, STANDARD_DEVIATION, build_backbone
from cirrnb.model.first_weights import FirstWeights
from cirrnb.model.settings import StagerSettings


class SliceAttention(nn.Module):
    """Feature maps to one vector a slice: channels weighed by what the slice shows, places by what stands there.

    The channel gate follows Hu et al., *Squeeze-and-Excitation Networks*, CVPR 2018; the spatial gate is a softmax over
    the places of the map, as Woo et al. (CBAM, ECCV 2018) put one after the other. Every sequence has weights of its
    own. At the start both gates are open: the vector is the plain mean.
    """

    def __init__(self, channels: int, kinds: int):
        """`kinds` sets of weights; a slice names the one it uses."""
        super().__init__()
        hidden = max(channels // 8, 8)
        self.squeeze, self.relu = nn.Linear(channels, kinds * hidden), nn.ReLU()
        self.excite, self.sigmoid = nn.Parameter(torch.zeros(kinds, hidden, channels)), nn.Sigmoid()
        self.place, self.softmax = nn.Parameter(torch.zeros(kinds, channels)), nn.Softmax(dim=1)
        # All-zero weights would leave the hidden layer without a gradient.
        nn.init.normal_(self.excite, std=hidden**-0.5 / 10)

    def forward(self, features: torch.Tensor, kind: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pool `features` (slices, channels, rows, columns) with the weights `kind` (slices,) int64 names.

        Returns vectors (slices, channels) and the spatial maps (slices, rows, columns), non-negative and each summing
        to one.
        """
        slices, channels, rows, columns = features.shape
        every = torch.arange(slices, device=kind.device)
        flat = features.flatten(2)
        hidden = self.relu(self.squeeze(flat.mean(dim=2))).unflatten(1, (len(self.excite), -1))
        gate = 2 * self.sigmoid(torch.einsum("nkh,khc->nkc", hidden, self.excite)[every, kind])
        # The gates are folded into vectors, so that no second map of full size is ever written.
        weigh = (gate * self.place[kind])[:, None]
        maps = self.softmax(torch.bmm(weigh, flat)[:, 0] * channels**-0.5)
        pooled = torch.bmm(flat, maps[..., None])[..., 0] * gate
        return pooled, maps.unflatten(1, (rows, columns))


TOLERATED = 1e-4
"""Largest difference of embeddings, relative to the largest one, by which a folded encoder counts as the same."""


class HandedOn(nn.Module):
    """The feature maps as the backbone hands them on to the gates. Has no weights; attribution by layer hooks in here.

    Gives views and not the maps themselves, which the backbone's later layers read too: the score's gradient for a view
    is what that scale itself says, without what deeper scales make of it, and costs no way back through the backbone.
    """

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return the maps (slices, channels, rows, columns) unchanged."""
        return tuple(feature_map.view_as(feature_map) for feature_map in maps)


class SliceEncoder(nn.Module):
    """Slices (slices, 1, rows, columns) to embeddings (slices, width), from feature maps at several scales."""

    def __init__(self, settings: StagerSettings, first: FirstWeights, sequences: int):
        """For slices of that many `sequences`."""
        super().__init__()
        self.backbone, channels, self.backbone_weights = build_backbone(settings.backbone, first, settings.scales)
        self.attention: nn.ModuleList | None = None
        self._own_weights = settings.attention == "sequence"
        if settings.attention != "none":
            kinds = sequences if self._own_weights else 1
            self.attention = nn.ModuleList(SliceAttention(count, kinds) for count in channels)
        self.maps = HandedOn()
        self.channels = tuple(channels)
        # Scales differ in magnitude by far; levelled, none drowns the others in the joint layer.
        self.levels = nn.ModuleList(nn.LayerNorm(count) for count in channels)
        self.join = nn.Linear(sum(channels), settings.width)
        self.width = settings.width

    def forward(self, slices: torch.Tensor, sequence: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Embeddings (slices, width), and for each scale, the finest first, its spatial attention (slices, rows,
        columns), which sums to one; no maps without attention. `sequence` is (slices,) int64."""
        features = self.features(slices)
        if self.attention is None:
            pooled, maps = [feature_map.mean(dim=(2, 3)) for feature_map in features], []
        else:
            kind = sequence if self._own_weights else torch.zeros_like(sequence)
            pairs = [gate(feature_map, kind) for gate, feature_map in zip(self.attention, features, strict=True)]
            pooled, maps = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        levelled = [level(vector) for level, vector in zip(self.levels, pooled, strict=True)]
        return self.join(torch.cat(levelled, dim=1)), maps

    def features(self, slices: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Feature maps (slices, channels, rows, columns) of each scale, the finest first."""
        return self.maps(tuple(self.backbone((slices - MEAN) / STANDARD_DEVIATION)))

    def embed(self, slices: torch.Tensor, sequence: torch.Tensor, chunk: int | None) -> torch.Tensor:
        """Embeddings alone, `chunk` slices at a time. Where gradients are wanted, a chunk's activations are thrown away
        and computed again on the way back, so that any number of slices needs the memory of one chunk."""
        if chunk is None or len(slices) <= chunk:
            return self(slices, sequence)[0]
        parts = zip(slices.split(chunk), sequence.split(chunk), strict=True)
        if not torch.is_grad_enabled():
            return torch.cat([self(*part)[0] for part in parts])
        return torch.cat([checkpoint(self._embedding, *part, use_reentrant=False) for part in parts])

    def _embedding(self, slices: torch.Tensor, sequence: torch.Tensor) -> torch.Tensor:
        return self(slices, sequence)[0]


@torch.no_grad()
def folded(encoder: SliceEncoder, example: torch.Tensor, sequence: torch.Tensor) -> SliceEncoder:
    """A copy with the same embeddings up to rounding, for evaluation without gradients.

    The order of the layers is taken from the order of their registration. The embeddings of `example` (slices, 1, rows,
    columns) and `sequence` (slices,) check it: if they differ, the encoder itself is returned.
    """
    quick = copy.deepcopy(encoder).eval()
    _fold(quick.backbone)
    expected, actual = encoder(example, sequence)[0], quick(example, sequence)[0]
    same = bool((expected - actual).abs().max() <= TOLERATED * expected.abs().max())
    return quick if same else encoder


def _fold(module: nn.Module) -> None:
    children = list(module.named_children())
    for (name, child), (after, following) in pairwise(children):
        # Exactly these: subclasses hold an activation too.
        if type(child) is nn.Conv2d and type(following) is nn.BatchNorm2d:
            layout = torch.channels_last if child.weight.is_contiguous(memory_format=torch.channels_last) else None
            fused = fuse_conv_bn_eval(child, following)
            setattr(module, name, fused.to(memory_format=layout) if layout else fused)
            setattr(module, after, nn.Identity())
    for child in module.children():
        if type(child) is nn.ReLU:
            child.inplace = True
        _fold(child)
