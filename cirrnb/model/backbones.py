"""The backbone of a slice, taken from timm by name or from a plug-in: feature maps at several scales.

A plug-in adds one: `@BACKBONES.register("name")` above a function without arguments that gives a module.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import nn

from cirrnb.data.errors import InputError
from cirrnb.data.plugins import Registry
from cirrnb.model.pretrained import fetched, on_hub

# Mean and standard deviation of ImageNet's three channels averaged (timm.data.constants.IMAGENET_DEFAULT_MEAN, _STD):
# prepared slices lie in about 0 to 1 as photographs do, and are shifted as pretrained weights expect.
MEAN, STANDARD_DEVIATION = 0.449, 0.226


BACKBONES: Registry[Callable[[], nn.Module]] = Registry("backbone")
"""name -> maker of a module that takes slices (slices, 1, rows, columns) and gives a list of maps (slices, channels,
rows, columns), the finest first; its attribute `channels` lists how many channels each has."""


class Backbone(nn.Module):
    """A model that takes one channel and gives the feature maps of its coarsest scales."""

    def __init__(self, model: nn.Module, channels: list[int], scales: int):
        super().__init__()
        self.model, self.channels, self._scales = model, channels[-scales:], scales

    def forward(self, slices: torch.Tensor) -> list[torch.Tensor]:
        """Maps (slices, channels, rows, columns), the finest first, of slices (slices, 1, rows, columns)."""
        maps = self.model(slices)[-self._scales :]
        # Some families keep channels last in the shape itself.
        return [
            one if one.shape[1] == count else one.permute(0, 3, 1, 2)
            for one, count in zip(maps, self.channels, strict=True)
        ]


def build_backbone(name: str, pretrained: bool, scales: int = 4) -> tuple[Backbone, list[int], str]:
    """A backbone by its name, the channels of its maps, and a sentence on where its weights come from.

    Where pretrained weights are asked for but cannot be fetched, the weights are random, a warning says so, and so does
    the sentence.

    Raises InputError if neither a plug-in nor timm knows such a model, or it gives no feature maps.
    """
    if name in BACKBONES:
        registered = BACKBONES[name]()
        channels = [int(count) for count in registered.channels]  # type: ignore[union-attr]
        _forbid_in_place(registered)
        plugged = Backbone(registered, channels, min(scales, len(channels)))
        return plugged, plugged.channels, "random: a plug-in's backbone"
    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3) or ["resnet10t", "resnet18"]
        raise InputError(
            "backbone",
            repr(name),
            "the name of a timm model",
            f"Perhaps {' or '.join(near)}; timm.list_models() has all.",
        )
    weights = "random"
    model: nn.Module | None = None
    if pretrained:
        try:
            repository = on_hub(name)
            model = _create(name, pretrained=True, file=None if repository is None else fetched(repository))
            weights = f"pretrained: {name} of timm {timm.__version__}"
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            weights = f"random: pretrained weights of {name} could not be fetched"
            warnings.warn(f"{weights} ({reason}); training starts from scratch", stacklevel=2)
    model = model or _create(name, pretrained=False)
    channels = list(model.feature_info.channels())  # type: ignore[union-attr, operator]
    _forbid_in_place(model)
    # Channels last is how processors like to convolve: 1.5 times faster with test_resnet on a CPU with AVX2.
    model.to(memory_format=torch.channels_last)
    backbone = Backbone(model, channels, min(scales, len(channels)))
    return backbone, backbone.channels, weights


def _create(name: str, pretrained: bool, file: Path | None = None) -> nn.Module:
    """The network, with weights of `file` or, where it is None, from where timm knows them to be."""
    overlay = None if file is None else {"file": str(file), "hf_hub_id": None}
    try:
        return timm.create_model(
            name, pretrained=pretrained, pretrained_cfg_overlay=overlay, in_chans=1, features_only=True
        )
    except (AttributeError, NotImplementedError) as error:
        raise InputError(
            "backbone", f"{name}, of which timm gives no feature maps", "a model with maps", "Choose another, resnet18."
        ) from error
    except RuntimeError as error:
        if pretrained:
            raise  # most often there is no network
        found = f"{name}, which timm cannot build ({str(error)[:200]})"
        raise InputError("backbone", found, "a model that it can", "Choose another, resnet18.") from error


def _forbid_in_place(model: nn.Module) -> None:
    """An activation that overwrites its input breaks Captum's hooks (Captum issue 1082)."""
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
