"""How training slices are changed: amounts are drawn on the host, a few numbers a scan, and applied to all slices of a
batch at once on the device where the network is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import affine_grid, grid_sample


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


COLUMNS = ("cosine", "sine", "down", "right", "mirror_rows", "mirror_columns", "power", "gain", "spread")
"""Of `Changes.values`; weights of the receive field's `FIELD_TERMS` follow."""
FIELD_TERMS = 5
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Changes:
    """What is done to each slice.

    Attributes
    ----------
    values : (slices, `COLUMNS` and the terms of the receive field) float32.
    seeds : (slices,) int64, of the noise.
    bounds : what the values were drawn within; what it leaves out is not computed.
    """

    values: torch.Tensor
    seeds: torch.Tensor
    bounds: Augmentation

    @classmethod
    def draw(cls, slices: int, bounds: Augmentation, generator: torch.Generator) -> Changes:
        """One draw for the `slices` of one scan, which all move alike; the noise alone differs between them."""
        angle, down, right, gain, gamma, noise = (torch.rand(6, generator=generator) * 2 - 1).tolist()
        field = torch.rand(FIELD_TERMS, generator=generator) * 2 - 1
        mirrors = [-1.0 if chance < bounds.flip else 1.0 for chance in torch.rand(2, generator=generator).tolist()]
        seeds = torch.randint(2**31, (slices,), generator=generator)
        turn = math.radians(bounds.rotation * angle)
        row = [math.cos(turn), math.sin(turn), bounds.shift * down, bounds.shift * right, *mirrors]
        row += [(1 + bounds.gamma) ** gamma, 1 + bounds.gain * gain, bounds.noise * (noise + 1) / 2]
        return cls(torch.cat([torch.tensor(row), field]).repeat(slices, 1), seeds, bounds)

    @classmethod
    def joined(cls, parts: Sequence[Changes]) -> Changes:
        """Those of several scans, drawn within the same bounds, one after the other."""
        return cls(
            torch.cat([part.values for part in parts]), torch.cat([part.seeds for part in parts]), parts[0].bounds
        )

    def to(self, device: torch.device | str) -> Changes:
        """The same on another device."""
        values = self.values.to(device, non_blocking=True)
        return replace(self, values=values, seeds=self.seeds.to(device, non_blocking=True))

    def pin_memory(self) -> Changes:
        """The same in memory from which a GPU copies while the host goes on."""
        return replace(self, values=self.values.pin_memory(), seeds=self.seeds.pin_memory())

    def apply(self, slices: torch.Tensor) -> torch.Tensor:
        """The slices (slices, 1, rows, columns) changed, float32, on their device. What turns in from outside is 0, as
        outside the file's own field of view."""
        bounds, size = self.bounds, slices.shape[-2:]
        cosine, sine, down, right, mirror_rows, mirror_columns, power, gain, spread = (
            self.values[:, place] for place in range(len(COLUMNS))
        )
        changed = slices.float()
        if bounds.rotation or bounds.shift or bounds.flip:
            ratio = size[0] / size[1]  # see `move`
            first = torch.stack([cosine * mirror_columns, -sine * ratio * mirror_rows, -2 * right], dim=1)
            second = torch.stack([sine / ratio * mirror_columns, cosine * mirror_rows, -2 * down], dim=1)
            changed = _sampled(changed, torch.stack([first, second], dim=1))
        if bounds.gamma:
            # Values below the body's 1st percentile are negative and have no real power.
            bent = changed.clamp(min=1e-6) ** power[:, None, None, None]
            changed = torch.where(changed > 0, bent, changed)
        if bounds.bias:
            weights = self.values[:, len(COLUMNS) :]
            field = torch.einsum("nk,krc->nrc", weights, _field_terms(size, slices.device)) / FIELD_TERMS
            changed = changed * (1 + bounds.bias * field)[:, None]
        if bounds.gain:
            changed = changed * gain[:, None, None, None]
        if bounds.noise:
            changed = changed + spread[:, None, None, None] * noise(self.seeds, size)
        return changed


def augment(slices: torch.Tensor, amounts: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Change the slices (slices, 1, rows, columns) of one scan alike; only the noise differs from slice to slice."""
    return Changes.draw(len(slices), amounts, generator).apply(slices)


def noise(seeds: torch.Tensor, size: tuple[int, int] | torch.Size) -> torch.Tensor:
    """(slices, 1, rows, columns) of the standard normal distribution, a function of `seeds` (slices,) int64 alone: the
    same on every device and in every batch.

    A hash of each pixel's number (the 32-bit mixer "lowbias32" of C. Wellons, public domain), made normal after Box and
    Muller (Ann. Math. Statist. 1958;29:610).
    """
    rows, columns = size
    value = torch.arange(rows * columns, device=seeds.device)[None] + seeds[:, None] * 0x9E3779B1 & _MASK
    value = (value ^ (value >> 16)) * 0x7FEB352D & _MASK
    value = (value ^ (value >> 15)) * 0x846CA68B & _MASK
    value = value ^ (value >> 16)
    length = torch.sqrt(-2 * torch.log(((value >> 16) + 0.5) / 65536))
    return (length * torch.cos((value & 0xFFFF) * (2 * math.pi / 65536))).reshape(-1, 1, rows, columns)


def smooth_field(size: tuple[int, int] | torch.Size, generator: torch.Generator) -> torch.Tensor:
    """(rows, columns) between -1 and 1: a random quadratic in both directions, as receive coils shade an image."""
    weights = torch.rand(FIELD_TERMS, generator=generator) * 2 - 1
    return torch.einsum("k,krc->rc", weights, _field_terms(size, weights.device)) / FIELD_TERMS


def _field_terms(size: tuple[int, int] | torch.Size, device: torch.device) -> torch.Tensor:
    """(`FIELD_TERMS`, rows, columns), each of at most one."""
    down, right = (torch.linspace(-1, 1, count, device=device) for count in size)
    rows, columns = down[:, None].expand(*size), right[None].expand(*size)
    return torch.stack([rows, columns, rows * columns, rows**2, columns**2])


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
    return _sampled(slices, matrix.expand(len(slices), 2, 3))


def _sampled(slices: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    grid = affine_grid(matrices, list(slices.shape), align_corners=False)
    return grid_sample(slices, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
