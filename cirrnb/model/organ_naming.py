"""A part that names organs pixel by pixel, trained along with an encoder and thrown away with the training.

One strength a patient teaches an encoder little of an organ that takes up a few pixels of a few slices, such as the
portal vein. Where the organ lies is known pixel by pixel on simulated scans.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, one_hot

from cirrnb.data.augmentation import Augmentation, Changes
from cirrnb.model.encoder import SliceEncoder
from cirrnb.model.heads_and_losses import SignMaps
from cirrnb.model.stager import Stager
from cirrnb.simulation.tissue_shares import ORGANS

CLASSES = len(ORGANS) + 1
"""The organs, and before them what lies outside the body."""
NOT_LABELLED = 255
"""Label of a pixel of which nothing is known."""
RARE = {"portal and splenic vein": 6.0, "gallbladder": 4.0, "caudate": 4.0, "ascites": 4.0, "spleen": 2.0}
"""Weight of a pixel of small organs and of those that signs change; of all others 1."""


class OrganNaming(nn.Module):
    """Names the organ at each place of the feature maps that a stager's shared encoder computed last."""

    def __init__(self, stager: Stager) -> None:
        super().__init__()
        encoder = cast(SliceEncoder, stager.encoders["shared"])
        self.maps = SignMaps(encoder.channels, CLASSES)
        weights = torch.tensor([1.0, *(RARE.get(name, 1.0) for name in ORGANS)])
        self.register_buffer("weights", weights, persistent=False)
        self._features: tuple[torch.Tensor, ...] = ()
        encoder.maps.register_forward_hook(self._keep)

    def loss(self, label: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of the labels (slices, rows, columns) of the slices that were encoded last, at the
        resolution of the finest feature map."""
        logits = self.maps(self._features).float()
        self._features = ()
        size = logits.shape[-2:]
        if not (label != NOT_LABELLED).any():
            return logits.sum() * 0
        wanted = interpolate(label[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()
        return cross_entropy(logits, wanted, weight=cast(torch.Tensor, self.weights), ignore_index=NOT_LABELLED)

    def _keep(self, module: nn.Module, given: object, features: tuple[torch.Tensor, ...]) -> None:
        self._features = features


def moved(label: torch.Tensor, changes: Changes) -> torch.Tensor:
    """Labels (slices, rows, columns) uint8 turned and shifted as the changes turn and shift the image."""
    parts = one_hot(label.long(), CLASSES).movedim(-1, 1).flatten(0, 1)[:, None].float()
    limits = changes.bounds
    bounds = Augmentation(limits.rotation, limits.shift, gain=0, gamma=0, noise=0, bias=0, flip=limits.flip)
    alike = Changes(changes.values.repeat_interleave(CLASSES, 0), changes.seeds.repeat_interleave(CLASSES), bounds)
    return alike.apply(parts).unflatten(0, (-1, CLASSES))[:, :, 0].argmax(dim=1).to(torch.uint8)
