"""The convolutional or transformer encoder of a slice, taken from timm by name."""

from __future__ import annotations

import difflib
import warnings

import timm
import torch
from torch import nn

from cirrnb.data.errors import InputError

# Mean and standard deviation of ImageNet's three channels averaged (timm.data.constants.IMAGENET_DEFAULT_MEAN, _STD):
# prepared slices lie in about 0 to 1 as photographs do, and are shifted as pretrained weights expect.
MEAN, STANDARD_DEVIATION = 0.449, 0.226


def build_backbone(name: str, pretrained: bool) -> tuple[nn.Module, int, str]:
    """A timm model that takes one channel and gives one feature vector a slice.

    Returns the model, the number of its features and a sentence on where its weights come from. Where pretrained
    weights are asked for but cannot be fetched, the weights are random, a warning says so, and so does the sentence.

    Raises InputError if timm knows no such model.
    """
    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3) or ["resnet10t", "resnet18"]
        raise InputError(
            "backbone",
            repr(name),
            "the name of a timm model",
            f"Perhaps {' or '.join(near)}; timm.list_models() has all.",
        )
    model: nn.Module | None = None
    weights = "random"
    if pretrained:
        try:
            model = timm.create_model(name, pretrained=True, in_chans=1, num_classes=0)
            weights = f"pretrained: {name} of timm {timm.__version__}"
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            weights = f"random: pretrained weights of {name} could not be fetched"
            warnings.warn(f"{weights} ({reason}); training starts from scratch", stacklevel=2)
    if model is None:
        model = timm.create_model(name, pretrained=False, in_chans=1, num_classes=0)
    _forbid_in_place(model)
    # Channels last is how processors like to convolve: 1.5 times faster with test_resnet on a CPU with AVX2.
    model.to(memory_format=torch.channels_last)
    return model, _features(model), weights


def _forbid_in_place(model: nn.Module) -> None:
    """An activation that overwrites its input breaks Captum's hooks (Captum issue 1082)."""
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]


def _features(model: nn.Module) -> int:
    """Length of the feature vector, found by trying: timm's `num_features` is not it for every family (VGG)."""
    training = model.training
    with torch.inference_mode():
        features = model.eval()(torch.zeros(1, 1, 64, 64)).shape[-1]
    model.train(training)
    return int(features)
