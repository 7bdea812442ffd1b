"""How much the score falls when a patch of a slice is replaced by the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from captum.attr import Occlusion

from cirrnb.explanation.methods import Attributed, Request, attribution_method

AT_ONCE = 16
"""Patches tried in one pass; only the slices they lie in are encoded anew."""


def _passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> int:
    patch = int(settings["patch"])
    return math.ceil(shape[0] * math.ceil(shape[1] / patch) * math.ceil(shape[2] / patch) / AT_ONCE) + 1


@attribution_method(
    name="occlusion",
    label="Occlusion by patches",
    signed=True,
    compares=True,
    settings={"patch": 8},
    quick={"patch": 24},
    passes=_passes,
    source="Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014",
)
def _run(request: Request) -> Attributed:
    score, baseline, settings = request.score, request.baseline, request.settings
    assert baseline is not None
    patch = int(settings["patch"])
    _, _, rows, columns = score.slices.shape
    window = (1, min(patch, rows), min(patch, columns))
    with torch.no_grad():
        maps = Occlusion(score).attribute(
            score.slices,
            sliding_window_shapes=window,
            strides=window,
            baselines=baseline[:1],
            perturbations_per_eval=AT_ONCE,
        )
    # Captum writes a patch's whole effect into each of its pixels; shared out among them, pixels can be added up.
    return Attributed(_shared_out(maps[0].float(), window[1], window[2]))


def _shared_out(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    _, rows, columns = maps.shape
    heights = torch.tensor([min(height, rows - row // height * height) for row in range(rows)])
    widths = torch.tensor([min(width, columns - column // width * width) for column in range(columns)])
    return maps / (heights[:, None] * widths)
