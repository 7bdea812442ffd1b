"""From the cells of a feature map to the pixels of a slice: where a cell looks is worked out, not assumed.

A convolution of stride 2 with a kernel of 3 and a padding of 1 centres its first cell on the first pixel, a patch of 4
x 4 pixels between the second and the third. Taking one for the other shifts a coarse map by half a cell, 16 pixels.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cirrnb.data.errors import InputError
from cirrnb.model.encoder import SliceEncoder
from cirrnb.model.stager import Stager

PROBE = 512
"""Rows and columns of the slice on which the places of the cells are found."""

_LAYOUTS: dict[tuple[str, tuple[int, ...]], tuple[tuple[float, float], ...]] = {}


def to_pixels(cells: torch.Tensor, stager: Stager, scale: int, size: tuple[int, int]) -> torch.Tensor:
    """Maps (slices, rows, columns) of cells at `scale` (0 the finest used) spread over slices of `size` pixels.

    Linear between the centres of the cells, the same beyond the outermost; a map's sum is kept.
    """
    first, step = cell_layout(stager)[scale]
    rows, columns = (
        torch.from_numpy(_spreading(first, step, cells.shape[axis], size[axis - 1])).to(cells) for axis in (1, 2)
    )
    return rows @ cells @ columns.T


def scales_named(scale: int | str, stager: Stager) -> list[int]:
    """Places, 0 the finest, of the scales that a setting names: "all", or one by its number, 1 the finest.

    Raises InputError for one that the stager does not have.
    """
    places = range(stager.scales)
    if scale == "all":
        return list(places)
    if not isinstance(scale, int) or scale - 1 not in places:
        known = [*range(1, stager.scales + 1), "all"]
        raise InputError("scale", repr(scale), f"one of {known}, 1 the finest", "Choose one of these.")
    return [scale - 1]


def cell_layout(stager: Stager) -> tuple[tuple[float, float], ...]:
    """For each scale used, the finest first: the pixel at which the first cell is centred, and pixels from cell to
    cell, the same along rows and columns."""
    encoder = next(iter(stager.encoders.values()))
    assert isinstance(encoder, SliceEncoder)
    key = (stager.settings.backbone, tuple(encoder.backbone.channels))
    if key not in _LAYOUTS:
        with torch.enable_grad():
            _LAYOUTS[key] = _find_layout(encoder.backbone)
    return _LAYOUTS[key]


def _spreading(first: float, step: float, cells: int, pixels: int) -> NDArray[np.float32]:
    """Weights (pixels, cells): linear between centres; columns sum to one."""
    place = np.clip((np.arange(pixels) - first) / step, 0, cells - 1)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)))
    return (weights / np.maximum(weights.sum(axis=0), 1e-9)).astype(np.float32)


def _find_layout(backbone: nn.Module) -> tuple[tuple[float, float], ...]:
    """By the gradient of one cell for the pixels, in a copy of the backbone that only adds up what each layer sees.

    All weights alike, no activation, no normalisation: the gradient is then as symmetric about the cell's centre as the
    layers' own windows are.
    """
    plain = _made_plain(copy.deepcopy(backbone)).eval()
    layouts = []
    pixels = torch.zeros(1, 1, PROBE, PROBE, requires_grad=True)
    for layer in plain(pixels):
        step = PROBE / layer.shape[2]
        middle = layer.shape[2] // 2
        (gradient,) = torch.autograd.grad(layer[0, :, middle, middle].sum(), pixels, retain_graph=True)
        centre = _centre_of_symmetry(gradient[0, 0].double().sum(dim=1).numpy(), step * middle, step)
        layouts.append((centre - step * middle, step))
    return tuple(layouts)


def _centre_of_symmetry(profile: NDArray[np.float64], start: float, step: float) -> float:
    """The place between half a cell before and one cell behind `start` about which a profile is most alike on both
    sides, to half a pixel. Looks two cells far, so that what sees the whole slice (attention, squeeze) hardly
    counts."""
    places = np.arange(-step / 2, step + 0.25, 0.5) + start
    away = np.arange(0.5, 2 * step)
    pixels = np.arange(len(profile))
    sides = [(np.interp(place + away, pixels, profile), np.interp(place - away, pixels, profile)) for place in places]
    return float(places[int(np.argmin([np.square(side - other).sum() for side, other in sides]))])


def _made_plain(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        kind = type(child).__name__.lower()
        if isinstance(child, nn.MaxPool2d):
            setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
        elif ("norm" in kind and not list(child.children())) or _is_activation(child):
            setattr(module, name, nn.Identity())
        else:
            _made_plain(child)
    for name, values in module.named_parameters(recurse=False):
        with torch.no_grad():
            values.fill_(0.0 if name == "bias" else 1 / max(values[0].numel(), 1) if values.dim() > 1 else 1.0)
    return module


def _is_activation(module: nn.Module) -> bool:
    if "sigmoid" in type(module).__name__.lower():  # a gate, which without it would square what it gates
        return False
    return not list(module.parameters()) and type(module).__module__.endswith(
        ("modules.activation", "layers.activations")
    )
