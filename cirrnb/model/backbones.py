"""The backbone of a slice, taken from timm by name or from a plug-in: feature maps at several scales.

A plug-in adds one: `@BACKBONES.register("name")` above a function without arguments that gives a module.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from torch import nn

from cirrnb.data.errors import InputError, listed
from cirrnb.data.plugins import Registry
from cirrnb.model.first_weights import FirstWeights, key_table, read_weights, require_keys, take
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
            feature_map if feature_map.shape[1] == count else feature_map.permute(0, 3, 1, 2)
            for feature_map, count in zip(maps, self.channels, strict=True)
        ]


def build_backbone(name: str, first: FirstWeights, scales: int = 4) -> tuple[Backbone, list[int], str]:
    """A backbone by its name, the channels of its maps, and a sentence on where its weights come from.

    Raises InputError if neither a plug-in nor timm knows such a model, it gives no feature maps, or the weights that
    are asked for cannot be fetched or read.
    """
    if name in BACKBONES:
        plugged, weights = registered_backbone(name, scales, first)
        return plugged, plugged.channels, weights
    model, weights = create(name, first, features_only=True, in_chans=1)
    channels = list(model.feature_info.channels())  # type: ignore[union-attr, operator]
    forbid_in_place(model)
    # Channels last is how processors like to convolve: 1.5 times faster with test_resnet on a CPU with AVX2.
    model.to(memory_format=torch.channels_last)
    backbone = Backbone(model, channels, min(scales, len(channels)))
    return backbone, backbone.channels, weights


def registered_backbone(name: str, scales: int, first: FirstWeights) -> tuple[Backbone, str]:
    """A backbone of `BACKBONES`, and where its weights come from. Raises InputError for weights that do not fit."""
    registered = BACKBONES[name]()
    channels = [int(count) for count in registered.channels]  # type: ignore[union-attr]
    forbid_in_place(registered)
    weights = "random: a registered backbone"
    if first.file is not None:
        take(registered, read_weights(first.file), first.file)
        weights = f"pretrained: file {first.file.name}"
    return Backbone(registered, channels, min(scales, len(channels))), weights


def create(name: str, first: FirstWeights, **options: Any) -> tuple[nn.Module, str]:
    """A timm model, built with timm's `options`, and where its weights come from. Raises as `build_backbone`."""
    if not timm.is_model(name.split(".")[0]):
        known = [*BACKBONES.names, *timm.list_models()]
        near = difflib.get_close_matches(name, known, n=3) or ["resnet10t", "resnet18"]
        remedy = f"Perhaps {' or '.join(near)}; timm.list_models() has all."
        if name.lower().startswith(STATE_SPACE):
            remedy = (
                "mambavision_t is built in. Vim and MedMamba need kernels or code that may not be copied: register one "
                "as docs/extending.md shows, and name its file with --plugin."
            )
        raise InputError("backbone", repr(name), "a registered backbone or the name of a timm model", remedy)
    if first.file is not None:
        # Compared before it is read into the model: timm passes over what is missing.
        whole = _shapes(name, int(options["in_chans"]))
        require_keys(key_table(whole, read_weights(first.file)), whole, first.file)
        overlay = {"file": str(first.file), "hf_hub_id": None}
        return _create(name, True, options, overlay), f"pretrained: file {first.file.name}"
    if not first.fetch:
        return _create(name, False, options), "random"
    try:
        repository = on_hub(name)
        overlay = {} if repository is None else {"file": str(fetched(repository)), "hf_hub_id": None}
        return _create(name, True, options, overlay), f"pretrained: {name} of timm {timm.__version__}"
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if "pretrained tag" in reason:
            raise InputError("backbone", f"{name} ({reason})", "a tag that timm knows", "Leave out the tag.") from error
        problem = f"pretrained weights of {name} that could not be fetched ({reason:.200})"
        remedy = "Give a file of them (--weights FILE.safetensors), or begin with random weights (--pretrained none)."
        raise InputError("pretrained", problem, "a hub that answers, or weights in its cache", remedy) from error


def weights_used(name: str, file: Path | str, channels: int = 1) -> pd.DataFrame:
    """Which tensors of a file of first weights a backbone of so many input channels uses: used (yes or no), why,
    tensors (how many), million (numbers in them), and the first of their names; one row for each kind of use.

    Raises InputError for a file that cannot be read.
    """
    whole = BACKBONES[name]() if name in BACKBONES else _shapes(name, channels)
    table = key_table(whole, read_weights(Path(file)))
    rows = []
    for (used, why), group in table.groupby(["used", "why"], sort=False):
        numbers = sum(math.prod(shape) for shape in group["shape"])
        keys = listed(list(group["key"]), 2)
        rows.append(("yes" if used else "no", why or "as it is", len(group), f"{numbers / 1e6:.2f}", keys))
    return pd.DataFrame(rows, columns=["used", "why", "tensors", "million", "keys"])


def _shapes(name: str, channels: int) -> nn.Module:
    """A timm model without its last layer and without memory for its weights."""
    with torch.device("meta"):
        return timm.create_model(name, in_chans=channels, num_classes=0)


STATE_SPACE = ("mamba", "vim", "medmamba", "vmamba", "vssm")
"""Beginnings of the names of state space networks, which timm does not have."""


def _create(name: str, pretrained: bool, options: dict[str, Any], overlay: dict[str, Any] | None = None) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=pretrained, pretrained_cfg_overlay=overlay or None, **options)
    except (AttributeError, NotImplementedError) as error:
        raise InputError(
            "backbone", f"{name}, of which timm gives no feature maps", "a model with maps", "Choose another, resnet18."
        ) from error
    except RuntimeError as error:
        if pretrained:
            raise  # most often there is no network
        problem = f"{name}, which timm cannot build ({str(error)[:200]})"
        raise InputError("backbone", problem, "a model that it can", "Choose another, resnet18.") from error


def forbid_in_place(model: nn.Module) -> None:
    """An activation that overwrites its input breaks Captum's hooks (Captum issue 1082)."""
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
