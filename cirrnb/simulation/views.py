"""Slices of a training patient as preparation would leave them: another contrast and acquisition at every visit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cirrnb.simulation.acquisition import acquire_slab
from cirrnb.simulation.anatomy import Anatomy
from cirrnb.simulation.contrast import draw_usual_signals
from cirrnb.simulation.rendering import displacement, planes_of, rotation, sample_at, with_bowel, with_lesions
from cirrnb.simulation.tissue_shares import LIVER

VIEWS_VERSION = 1
"""Raised by hand when views of equal shares and seeds change."""
SLICE_SPACING = {"T1W": (3.0, 9.0), "T2W": (4.5, 14.0)}
"""mm between slices, drawn evenly in their logarithm."""
COARSEST = 3.6
"""mm of the largest pixel that is acquired; half of the scans are acquired as finely as they are drawn."""
CLIP = (-0.5, 2.0)
"""Range of prepared intensities, see `cirrnb.preparation.intensity`."""


@dataclass(frozen=True)
class PreparedView:
    """Some slices of one scan.

    Attributes
    ----------
    image : (slices, rows, columns) float32, the body's 1st and 99th percentile at 0 and 1.
    position : (slices,) float32, mm towards the head.
    label : (slices, rows, columns) uint8, as `Anatomy.label`.
    """

    image: Tensor
    position: Tensor
    label: Tensor


def draw_view(
    anatomy: Anatomy,
    random: np.random.Generator,
    sequence: str,
    slices: int,
    spacing: float = 2.0,
    size: tuple[int, int] = (112, 128),
) -> PreparedView:
    """Draw slices of a scan centred on the liver.

    Parameters
    ----------
    sequence : "T1W" or "T2W".
    slices : of the scan, one from each of so many equal stretches of the liver.
    spacing : mm in plane. size : rows and columns.
    """
    signals = draw_usual_signals(random, sequence)
    if random.random() < 0.3:
        for name in ("liver", "spleen", "muscle", "fat", "septa"):
            signals[name] *= float(np.exp(0.15 * random.standard_normal()))
    between = float(np.exp(random.uniform(*np.log(SLICE_SPACING[sequence]))))
    thickness = between * float(random.uniform(0.75, 1.0))
    subslices = int(np.clip(round(thickness / anatomy.spacing[0]), 1, 4))
    heights, middle = _place(anatomy, random, between, slices)
    where = _places(random, heights, middle, thickness, subslices, spacing, size)
    centres = (
        where[:, subslices // 2] if subslices % 2 else (where[:, subslices // 2 - 1] + where[:, subslices // 2]) / 2
    )
    low, high = planes_of(anatomy, where)
    clean = torch.from_numpy(anatomy.image(signals, sequence, slice(low, high)))
    if random.random() < 0.3:
        clean = with_bowel(random, anatomy, clean, signals, slice(low, high))
    image = sample_at(clean, anatomy, where, low, "bilinear").mean(dim=1).abs_()
    plain = torch.from_numpy(anatomy.label[low:high].astype(np.float32))
    label = sample_at(plain, anatomy, centres[:, None], low, "nearest")[:, 0].to(torch.uint8)
    if random.random() < 0.3:
        image = with_lesions(random, image, label, centres)
    if random.random() < 0.5:
        image = _coarser(image, float(random.uniform(1.0, max(1.0, COARSEST / spacing))))
    image = acquire_slab(random, image, label, usual=True)
    return PreparedView(_scaled(random, image, label), torch.from_numpy(heights.astype(np.float32)), label)


def _place(
    anatomy: Anatomy, random: np.random.Generator, between: float, slices: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Heights of the slices drawn, in mm, rising, and the middle of the view (rows, columns) in mm."""
    liver = np.isin(anatomy.label, LIVER)
    lines = [np.flatnonzero(liver.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    first = [origin + step * line[0] for origin, step, line in zip(anatomy.origin, anatomy.spacing, lines, strict=True)]
    last = [origin + step * line[-1] for origin, step, line in zip(anatomy.origin, anatomy.spacing, lines, strict=True)]
    every = np.arange(first[0] + random.uniform(0, between), last[0], between)
    every = every if len(every) else np.array([(first[0] + last[0]) / 2])
    count = min(slices, len(every))
    edges = np.arange(count + 1) * len(every) // count
    middle = np.array([(first[axis] + last[axis]) / 2 for axis in (1, 2)]) + random.normal(0, 4, 2)
    return every[random.integers(edges[:-1], edges[1:])], middle


def _places(
    random: np.random.Generator,
    heights: NDArray[np.float64],
    middle: NDArray[np.float64],
    thickness: float,
    subslices: int,
    spacing: float,
    size: tuple[int, int],
) -> Tensor:
    """(slices, sub-slices, rows, columns, 3) places in mm (head, back, left)."""
    centre = np.array([heights.mean(), *middle])
    sub = (np.arange(subslices) - (subslices - 1) / 2) * thickness / subslices
    z = ((heights - centre[0])[:, None] + sub).ravel()
    y, x = ((np.arange(count) - (count - 1) / 2) * spacing for count in size)
    lines = (torch.from_numpy(axis.astype(np.float32)) for axis in (z, y, x))
    grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)
    tilt = np.deg2rad(random.normal(0, (2, 2, 4)))
    zoom = np.exp(0.03 * random.standard_normal(3))
    grid = grid @ torch.from_numpy((rotation(tilt) * zoom).astype(np.float32))
    grid = grid + 0.15 * displacement(random, grid) + torch.from_numpy(centre.astype(np.float32))
    return grid.reshape(len(heights), subslices, *size, 3)


def _coarser(image: Tensor, factor: float) -> Tensor:
    """As if acquired with pixels so many times as large and interpolated to the finer ones."""
    rows, columns = (max(8, round(count / factor)) for count in image.shape[1:])
    coarse = functional.interpolate(image[:, None], size=(rows, columns), mode="area")
    return functional.interpolate(coarse, size=image.shape[1:], mode="bilinear", align_corners=False)[:, 0]


def _scaled(random: np.random.Generator, image: Tensor, label: Tensor) -> Tensor:
    """As preparation scales a scan; its percentiles are of the whole body and here of some slices, so they vary."""
    values = image[label > 0][::17]
    if values.numel() < 50:
        return torch.zeros_like(image)
    low, high = (float(value) for value in torch.quantile(values, torch.tensor((0.01, 0.99))))
    high = low + max(high - low, 1e-6) * float(np.exp(0.1 * random.standard_normal()))
    return ((image - low) / (high - low)).clamp(*CLIP)
