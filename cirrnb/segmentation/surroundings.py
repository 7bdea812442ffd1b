"""What the segmenter's encoder sees in the liver, in its rim and around it: one mean a feature and a region.

Nothing further than `AROUND` mm from the liver counts, and nothing outside the body: the body's outline, the arms or
the table say nothing of how well a liver can be staged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

FEATURES_VERSION = 1
"""Raised by hand when equal volumes get other features."""
LEVELS = (1, 2, 3)
"""Levels of the encoder, 0 the finest: cells of 6, 12 and 24 mm."""
RIM, AROUND = 6.0, 30.0
"""mm outside the liver, within a slice: up to the first lies the rim, up to the second what is around."""
REGIONS = ("liver", "rim", "around")


def regions(liver: NDArray[np.bool_], body: NDArray[np.bool_], spacing: tuple[float, float, float]) -> list[NDArray]:
    """Masks of `REGIONS` (slices, rows, columns); slices without liver have none."""
    outside = np.full(liver.shape, np.inf)
    for place in np.flatnonzero(liver.any(axis=(1, 2))):
        outside[place] = ndimage.distance_transform_edt(~liver[place], sampling=spacing[1:])
    return [liver, (outside > 0) & (outside <= RIM) & body, (outside > RIM) & (outside <= AROUND) & body]


def pooled(features: Sequence[Tensor], masks: Sequence[NDArray], multiple: int) -> NDArray[np.float32] | None:
    """Means of encoder features over regions, region after region and in it level after level; None without a liver.

    Parameters
    ----------
    features : for each of `LEVELS` (slices, width, rows, columns), of an image that was padded at its last rows and
        columns to a multiple of `multiple`; of a network with fewer levels, for those that it has.
    masks : as `regions` gives them, of the image before it was padded.

    Returns
    -------
    (regions times widths,) float32; 0 for a region without a pixel.
    """
    if not features or not masks[0].any():
        return None
    rows, columns = (-(-size // multiple) * multiple - size for size in masks[0].shape[1:])
    parts = []
    for mask in masks:
        weight = torch.from_numpy(np.pad(mask, ((0, 0), (0, rows), (0, columns)))).float()[:, None]
        for level, values in zip(LEVELS, features, strict=False):
            cells = torch.nn.functional.avg_pool2d(weight, 2**level)
            total = (values.float() * cells).sum(dim=(0, 2, 3))
            parts.append((total / cells.sum().clamp_min(1e-6)).numpy())
    return np.concatenate(parts).astype(np.float32)
