"""Small changes to training slices that leave the stage alone: the patient lies a little otherwise, the scanner is
set a little otherwise. Nothing is flipped unless asked for, since organs have sides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Augmentation:
    """How far training slices may be changed; each amount is drawn evenly up to the bound. Zeros change nothing.

    Attributes
    ----------
    rotation : degrees in the plane, either way.
    shift : share of the slice's rows and columns, either way.
    gain : share by which the intensities are multiplied up or down.
    gamma : intensities above 0 are raised to a power between 1 / (1 + gamma) and 1 + gamma.
    noise : largest standard deviation of Gaussian noise, in units of the prepared intensities (about 0 to 1).
    bias : largest share by which a smooth receive field brightens or darkens a place.
    flip : chance of a mirror image left to right and, drawn apart, front to back; only to repeat what others did.
    """

    rotation: float = 10.0
    shift: float = 0.06
    gain: float = 0.15
    gamma: float = 0.2
    noise: float = 0.03
    bias: float = 0.15
    flip: float = 0.0

    def __post_init__(self) -> None:
        bounds = {"rotation": 45.0, "shift": 0.5, "gain": 0.9, "gamma": 4.0, "noise": 1.0, "bias": 0.9, "flip": 1.0}
        for name, bound in bounds.items():
            if not 0 <= getattr(self, name) <= bound:
                raise ValueError(f"{name} is between 0 and {bound}, not {getattr(self, name)}")


def augment(slices: torch.Tensor, amounts: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Change the slices (slices, 1, rows, columns) of one scan alike; only the noise differs from slice to slice.

    A patient moves as a whole, so one draw serves the scan; what turns in from outside is 0, as outside the file's
    own field of view.
    """
    angle, down, right, gain, gamma, noise = (torch.rand(6, generator=generator) * 2 - 1).tolist()
    moved = move(slices, math.radians(amounts.rotation * angle), amounts.shift * down, amounts.shift * right)
    power = (1 + amounts.gamma) ** gamma
    # Values below the body's 1st percentile are negative and have no real power.
    bent = torch.where(moved > 0, moved.clamp(min=1e-6) ** power, moved)
    field = 1 + amounts.bias * smooth_field(slices.shape[-2:], generator)
    spread = amounts.noise * (noise + 1) / 2
    changed = bent * field * (1 + amounts.gain * gain) + spread * torch.randn(bent.shape, generator=generator)
    mirrored = [axis for axis in (-1, -2) if float(torch.rand(1, generator=generator)) < amounts.flip]
    return changed.flip(mirrored) if mirrored else changed


def smooth_field(size: tuple[int, int] | torch.Size, generator: torch.Generator) -> torch.Tensor:
    """(rows, columns) between -1 and 1: a random quadratic in both directions, as receive coils shade an image."""
    down, right = (torch.linspace(-1, 1, count) for count in size)
    one, two = torch.ones_like(down), torch.ones_like(right)
    terms = [(down, two), (one, right), (down, right), (down**2, two), (one, right**2)]
    weights = torch.rand(len(terms), generator=generator) * 2 - 1
    # At most five terms of at most one each.
    return sum((w * a[:, None] * b for w, (a, b) in zip(weights, terms, strict=True)), torch.zeros(size)) / len(terms)


def move(slices: torch.Tensor, angle: float, down: float, right: float) -> torch.Tensor:
    """Turn slices (slices, 1, rows, columns) about their centre by `angle` radians, a positive angle taking the front
    to the patient's right, then shift them by shares of the rows (`down`) and of the columns (`right` on the screen).

    Bilinear; pixels are square; what comes in from outside is 0.
    """
    rows, columns = slices.shape[-2:]
    cosine, sine = math.cos(angle), math.sin(angle)
    # affine_grid measures both axes from -1 to 1; pixels are square, so a rotation has to mind the sides.
    matrix = torch.tensor(
        [[cosine, -sine * rows / columns, -2 * right], [sine * columns / rows, cosine, -2 * down]], dtype=slices.dtype
    )
    grid = torch.nn.functional.affine_grid(matrix.expand(len(slices), 2, 3), list(slices.shape), align_corners=False)
    return torch.nn.functional.grid_sample(slices, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
