"""What a scanner does to a slab: texture, shading, resolution, ghosts, noise, a field of view that ends in the body."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def acquire_slab(
    random: np.random.Generator,
    image: Tensor,
    label: Tensor,
    plane: str = "axial",
    painted: bool = True,
    usual: bool = False,
) -> Tensor:
    """What a scanner makes of a clean (slices, rows, columns) slab; stronger than most scanners do it.

    A `usual` acquisition has half the shading, no window and no curve of grey values. Of images that were not painted
    but acquired, texture and resolution are left as they are. Where the field of view is cut, `label` becomes 0 beyond
    it, in place.
    """
    if painted:
        image = _texture(random, image)
    image = image * shading(random, image.shape) ** (0.5 if usual else 1.0)
    if painted:
        image = blur(random, image, plane)
    if random.random() < 0.2:
        image = _ghosts(random, image)
    inside = label > 0
    level = float(image[inside].mean()) if bool(inside.any()) else 1.0
    level = level if level > 0 else 1.0
    sigma = level * float(np.exp(random.uniform(np.log(0.01), np.log(0.16 if painted else 0.06))))
    noise = torch.from_numpy(random.standard_normal((2, *image.shape), dtype=np.float32))
    if random.random() < 0.5:
        noise = functional.avg_pool2d(noise, 3, 1, 1) * 2.5
    image = torch.hypot(image + sigma * noise[0], sigma * noise[1])
    if painted and random.random() < 0.3:
        image = image * inside
    if random.random() < 0.12:
        image, label[...] = _cut(random, image, label)
    if not usual and random.random() < 0.12:
        image = _windowed(random, image, inside)
    return (image / level).clamp_min_(0) ** (1.0 if usual else float(random.uniform(0.6, 1.7)))


def _windowed(random: np.random.Generator, image: Tensor, inside: Tensor) -> Tensor:
    """Brightest and darkest tissue cut off, as in images stored after windowing."""
    values = image[inside][::31]
    if values.numel() < 20:
        return image
    shares = torch.tensor([random.uniform(0, 0.1), random.uniform(0.85, 0.99)], dtype=values.dtype)
    low, high = (float(value) for value in values.quantile(shares))
    return (image.clamp(low, max(high, low + 1e-6)) - low) * inside if high > low else image


def smooth_field(random: np.random.Generator, shape: torch.Size, cells: tuple[int, int, int]) -> Tensor:
    """Smooth noise of about unit variance."""
    coarse = torch.from_numpy(random.standard_normal((1, 1, *cells)).astype(np.float32)) * 1.5
    return functional.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def _texture(random: np.random.Generator, image: Tensor) -> Tensor:
    """Grain and patches of real tissue, rougher than painted ones."""
    depth = image.shape[0]
    for low, high, most in ((28, 56, 0.14), (9, 20, 0.12)):
        amount, cells = float(random.uniform(0, most)), int(random.integers(low, high))
        image = image * (1 + amount * smooth_field(random, image.shape, (max(2, depth), cells, cells))).clamp_min_(0.1)
    return image


def shading(random: np.random.Generator, shape: torch.Size) -> Tensor:
    """Receive field: smooth humps, and coils in front, behind or on a side that see the near better than the far."""
    field = float(random.uniform(0, 0.35)) * smooth_field(random, shape, (2, 4, 4))
    if random.random() < 0.3:  # slices that lie towards the end of the coil, or were gained apart
        field = field + float(random.uniform(0, 0.7)) * smooth_field(random, shape, (shape[0] + 1, 1, 1))
    if random.random() < 0.5:
        y = torch.linspace(0, 1, shape[1])[:, None]
        x = torch.linspace(0, 1, shape[2])[None, :]
        reach = random.uniform(0.25, 1.2, 4)
        gain = random.uniform(0.05, 1, 4)
        parts = zip((y, 1 - y, x, 1 - x), reach, gain, strict=True)
        near = torch.full(shape[1:], 1e-3)
        for away, depth, strength in parts:
            near = near + float(strength) * torch.exp(-away / float(depth))
        field = field + (near / near.mean()).log()
    return field.exp()


def blur(random: np.random.Generator, image: Tensor, plane: str) -> Tensor:
    """A (slices, rows, columns) slab at the resolution of an acquisition in a plane: thick slices, coarse voxels."""
    if plane != "axial":  # slices lie along rows or columns: averaged over their thickness there
        width = int(random.choice((2, 2, 3))) if random.random() < 0.9 else 4
        axis = 1 if plane == "coronal" else 2
        sizes = (width, 1) if axis == 1 else (1, width)
        coarse = functional.avg_pool2d(image[None], sizes, sizes, ceil_mode=True)
        return functional.interpolate(coarse, size=image.shape[1:], mode="bilinear", align_corners=False)[0]
    if random.random() < 0.4:
        sigma = random.uniform(0.3, 1.0, 2)
        for axis in (0, 1):
            steps = torch.arange(-2, 3, dtype=torch.float32)
            weights = torch.exp(-0.5 * (steps / float(sigma[axis])) ** 2)
            kernel = (weights / weights.sum()).reshape(1, 1, *((5, 1) if axis == 0 else (1, 5)))
            image = functional.conv2d(image[:, None], kernel, padding=(2, 0) if axis == 0 else (0, 2))[:, 0]
    if random.random() < 0.08:  # voxels of up to 12 mm
        size = int(random.integers(2, 5))
        coarse = functional.avg_pool2d(image[None], size, size, ceil_mode=True)
        image = functional.interpolate(coarse, size=image.shape[1:], mode="bilinear", align_corners=False)[0]
    return image


def _ghosts(random: np.random.Generator, image: Tensor) -> Tensor:
    axis = 1 if random.random() < 0.75 else 2
    shift = int(random.integers(image.shape[axis] // 8, image.shape[axis] // 3))
    strength = float(random.uniform(0.03, 0.15))
    phase = torch.from_numpy(np.cos(random.uniform(0, 2 * np.pi, (image.shape[0], 1, 1))).astype(np.float32))
    return (image + strength * phase * (image.roll(shift, axis) + image.roll(-shift, axis) - 0.6 * image)).abs()


def _cut(random: np.random.Generator, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """A field of view that ends within the body: nothing beyond."""
    keep = torch.zeros(image.shape[1:], dtype=torch.bool)
    rows = sorted(random.integers(0, image.shape[1], 2))
    columns = sorted(random.integers(0, image.shape[2], 2))
    top, bottom = min(rows[0], 30), max(rows[1], image.shape[1] - 30)
    left, right = min(columns[0], 36), max(columns[1], image.shape[2] - 36)
    keep[top:bottom, left:right] = True
    return image * keep, label * keep
