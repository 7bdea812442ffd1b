"""What the network sees of a volume: grey values in one range, and the contrast to the surroundings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBOURHOOD = 17
"""Pixels across over which the local mean and spread are taken: 51 mm, wider than a kidney."""
PERCENTILES = (0.005, 0.99)


def channels(image: Tensor) -> Tensor:
    """(slices, 2, rows, columns) float32 from a (slices, rows, columns) image at 3 mm in plane.

    The first channel is the image between its 0.5th and 99th percentile, mapped to 0 to 1 and cut at 1.5. The second is
    its difference from the local mean in local standard deviations, halved and cut at -2 and 2; the shading of coils
    changes it little. A constant image gives 0 everywhere.
    """
    image = image.float()
    flat = image.flatten()
    if flat.numel() > 400_000:
        flat = flat[:: flat.numel() // 400_000 + 1]
    low, high = (float(value) for value in torch.quantile(flat, torch.tensor(PERCENTILES, dtype=flat.dtype)))
    span = max(high - low, 1e-6 * max(abs(high), 1e-20))
    grey = ((image - low) / span).clamp(0, 1.5) if high > low else torch.zeros_like(image)
    pad = NEIGHBOURHOOD // 2
    around = torch.stack([grey, grey * grey], dim=1)
    for size, padding in (((NEIGHBOURHOOD, 1), (pad, 0)), ((1, NEIGHBOURHOOD), (0, pad))):
        around = functional.avg_pool2d(around, size, 1, padding, count_include_pad=False)
    spread = (around[:, 1] - around[:, 0].square()).clamp_min(0).sqrt()
    local = ((grey - around[:, 0]) / (spread + 0.01)).clamp(-4, 4) / 2
    return torch.stack([grey, local], dim=1)
