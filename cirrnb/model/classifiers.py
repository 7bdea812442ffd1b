"""Networks that classify single slices as their authors built them: only the last layer is another.

For comparisons with published figures. `SliceEncoder` (`encoder.py`) is what a stager otherwise reads slices with.
"""

from __future__ import annotations

import timm
import torch
from torch import nn

from cirrnb.data.errors import InputError
from cirrnb.model.backbones import BACKBONES, Backbone, create, forbid_in_place, registered_backbone
from cirrnb.model.encoder import HandedOn, SliceEncoder
from cirrnb.model.first_weights import FirstWeights
from cirrnb.model.settings import StagerSettings

MEAN, STANDARD_DEVIATION = 0.5, 0.5
"""Of every channel, as Zeng et al. (arXiv 2502.18225) normalise."""

CLASSIC = 4096
"""Width of the two hidden layers of VGG's classifier (Simonyan and Zisserman, ICLR 2015)."""


class WholeNetwork(SliceEncoder):
    """Slices (slices, 1, rows, columns) to what a network's last layer sees, (slices, width).

    A timm model gets three equal channels; a registered backbone gets one, and its coarsest map is averaged. VGG has
    the classic classifier, initialised anew.
    """

    def __init__(self, settings: StagerSettings, first: FirstWeights):
        nn.Module.__init__(self)
        self.attention, self._own_weights = None, False
        name = settings.backbone
        self.maps = HandedOn()
        backbone: Backbone | _Features
        head: nn.Module
        if name in BACKBONES:
            backbone, self.backbone_weights = registered_backbone(name, 1, first)
            self.width, head = backbone.channels[-1], _Mean()
        else:
            model, self.backbone_weights = create(name, first, features_only=False, in_chans=3, num_classes=0)
            forbid_in_place(model)
            model.to(memory_format=torch.channels_last)
            backbone = _Features(model, int(model.num_features))  # type: ignore[arg-type]
            if name.startswith("vgg"):
                model.pre_logits = nn.Identity()
                self.width, head = CLASSIC, ClassicClassifier(backbone.channels[-1])
            else:
                self.width, head = int(getattr(model, "head_hidden_size", backbone.channels[-1])), _Head(model)
        self.backbone, self.head = backbone, head  # type: ignore[assignment]
        self.channels = tuple(self.backbone.channels)
        self.levels = nn.ModuleList([nn.Identity()])  # one scale

    def forward(self, slices: torch.Tensor, sequence: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """What the last layer sees, (slices, width), and no attention."""
        return self.head(self.features(slices)[-1]), []

    def features(self, slices: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The coarsest feature map of each slice."""
        return self.maps(tuple(self.backbone((slices - MEAN) / STANDARD_DEVIATION)[-1:]))


class _Features(nn.Module):
    """A timm model up to its last feature map."""

    def __init__(self, model: nn.Module, channels: int):
        super().__init__()
        self.model, self.channels = model, [channels]

    def forward(self, slices: torch.Tensor) -> list[torch.Tensor]:
        return [self.model.forward_features(slices.expand(-1, 3, -1, -1))]  # type: ignore[operator]


class _Head(nn.Module):
    """What a timm model does between its last feature map and its last layer; its weights are the backbone's."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self._model = [model]  # in a list, so that its weights are not counted twice

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self._model[0].forward_head(features, pre_logits=True)  # type: ignore[operator]


class _Mean(nn.Module):
    """The mean of each channel."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=(2, 3))


class ClassicClassifier(nn.Sequential):
    """VGG's layers between the feature map, brought to 7 x 7, and the last layer."""

    def __init__(self, channels: int, width: int = CLASSIC):
        super().__init__(
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            nn.Linear(channels * 49, width),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(0.5),
        )


def require_size(encoder: SliceEncoder, name: str, size: tuple[int, int]) -> None:
    """Raise InputError if a network cannot read slices of `size` (rows, columns), as transformers of a fixed size."""
    slices = torch.zeros(1, 1, *size, device=next(encoder.parameters()).device)
    training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval()(slices, torch.zeros(1, dtype=torch.int64, device=slices.device))
    except (AssertionError, RuntimeError, ValueError) as error:
        fixed = _input_size(name)
        remedy = f"It was made for {fixed[0]} x {fixed[1]}: --view slice --pixels {fixed[0]}." if fixed else ""
        raise InputError(
            "backbone",
            f"{name}, which cannot read slices of {size[0]} x {size[1]} pixels ({str(error).splitlines()[0]:.120})",
            "a network for slices of this size",
            remedy or "Choose a convolutional network, such as resnet18.",
        ) from error
    finally:
        encoder.train(training)


def _input_size(name: str) -> tuple[int, int] | None:
    config = timm.get_pretrained_cfg(name) if timm.is_model(name.split(".")[0]) else None
    return (config.input_size[1], config.input_size[2]) if config is not None and config.input_size else None
