"""What a training step sees: slabs drawn from simulated anatomies, and slabs of real scans with liver masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import IterableDataset

from cirrnb.data.grid import Orientation
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.scan import Scan
from cirrnb.segmentation.inputs import channels
from cirrnb.segmentation.working_grid import WorkingGrid
from cirrnb.simulation.acquisition import acquire_slab
from cirrnb.simulation.anatomy import load_anatomy
from cirrnb.simulation.rendering import SIZE, Slab, render, render_other
from cirrnb.simulation.tissue_shares import LIVER, ORGANS

SLAB_SLICES = (1, 2, 4, 8)
SLAB_CHANCES = (0.15, 0.25, 0.35, 0.25)
POOL, POOL_STEPS = 24, 40
"""Anatomies held in memory, and steps after which others are taken."""
CAUDATE, ASCITES = ORGANS.index("caudate") + 1, ORGANS.index("ascites") + 1
MISSED = 0.6
"""Weight of ascites that is missed; what is found where there is none has the rest."""
NOT_LIVER, SOME_LIVER = 100, 101
"""Labels of scans whose mask tells the liver and nothing else."""


@dataclass(frozen=True)
class Mixture:
    """What steps are made of.

    Attributes
    ----------
    seed : a step's content depends on it and on the number of the step alone.
    slices : of a step, in slabs of 1 to 8.
    others : share of simulated slabs that show no abdomen.
    real : share of slabs from real scans, where there are some.
    """

    seed: int = 0
    slices: int = 16
    others: float = 0.07
    real: float = 0.5


class Slabs(IterableDataset):
    """Inputs (slabs, slices, channels, rows, columns) and labels (slabs, slices, rows, columns) of every step."""

    def __init__(
        self, anatomies: Sequence[Path], scans: Sequence[Scan], mixture: Mixture, first: int, steps: int
    ) -> None:
        self.anatomies, self.scans, self.mixture = list(anatomies), list(scans), mixture
        self.first, self.steps = first, steps
        self._read: dict[Path, tuple[Tensor, Tensor]] = {}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        torch.set_num_threads(1)
        mixture, turn = self.mixture, -1
        for step in range(self.first, self.steps):
            if step // POOL_STEPS != turn:
                turn = step // POOL_STEPS
                random = np.random.default_rng([mixture.seed, 1, turn])
                chosen = random.choice(len(self.anatomies), min(POOL, len(self.anatomies)), replace=False)
                pool = [load_anatomy(self.anatomies[number]) for number in chosen]
            random = np.random.default_rng([mixture.seed, 2, step])
            slices = int(random.choice(SLAB_SLICES, p=SLAB_CHANCES))
            slabs = []
            for _ in range(mixture.slices // slices):
                if self.scans and random.random() < mixture.real:
                    slabs.append(self._real(random, slices))
                elif random.random() < mixture.others:
                    slabs.append(render_other(random, slices))
                else:
                    slabs.append(render(pool[int(random.integers(len(pool)))], random, slices))
            yield torch.stack([seen(slab) for slab in slabs]), torch.stack([slab.label for slab in slabs])

    def _real(self, random: np.random.Generator, slices: int) -> Slab:
        image, liver = self._load(self.scans[int(random.integers(len(self.scans)))])
        first = int(random.integers(0, max(1, len(image) - slices + 1)))
        image, liver = (_slices(volume, first, slices) for volume in (image, liver))
        image, liver = _moved(random, image, liver)
        label = torch.where(liver > 0.5, SOME_LIVER, NOT_LIVER).to(torch.uint8)
        image = acquire_slab(random, image, label, painted=False)
        label[label == 0] = NOT_LIVER
        return Slab(image, label, 0.0)

    def _load(self, scan: Scan) -> tuple[Tensor, Tensor]:
        """Image and liver on the working grid, as bytes once read."""
        if scan.image not in self._read:
            volume, grid = read_volume(scan.image)
            assert scan.mask is not None
            turned = Orientation.of(grid)
            working = WorkingGrid.of(turned.grid(grid))
            image = working.reduce(turned.apply(volume))
            liver = working.reduce(turned.apply(read_mask(scan.mask, grid)))
            image = image / image.abs().max().clamp_min(1e-12)
            self._read[scan.image] = image.half(), (liver * 255).to(torch.uint8)
        image, liver = self._read[scan.image]
        return image.float(), liver.float() / 255


def seen(slab: Slab) -> Tensor:
    """(slices, channels, rows, columns) of a slab; 0 outside the acquired field, as in a padded volume."""
    top, bottom, left, right = slab.field
    inputs = channels(slab.image[:, top:bottom, left:right])
    rows, columns = slab.image.shape[1:]
    return functional.pad(inputs, (left, columns - right, top, rows - bottom))


def _slices(volume: Tensor, first: int, count: int) -> Tensor:
    """`count` slices from `first`; where the volume ends, its last one again."""
    return volume[torch.arange(first, first + count).clamp_max(len(volume) - 1)]


def _moved(random: np.random.Generator, image: Tensor, liver: Tensor) -> tuple[Tensor, Tensor]:
    """Turned, scaled and shifted in plane, on the size that slabs have."""
    angle, zoom = np.deg2rad(random.normal(0, 7)), np.exp(random.normal(0, 0.1, 2))
    shift = random.normal(0, 0.06, 2)
    rows, columns = image.shape[1:]
    scale = torch.tensor([SIZE[1] / columns / zoom[1], SIZE[0] / rows / zoom[0]])
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = torch.cat([turn * scale, torch.tensor(shift)[:, None]], dim=1).float()
    grid = functional.affine_grid(matrix[None], [1, 1, *SIZE], align_corners=False).expand(len(image), -1, -1, -1)
    both = functional.grid_sample(torch.stack([image, liver], dim=1), grid, align_corners=False)
    return both[:, 0], both[:, 1]


def loss_of(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy plus one minus the Dice of each organ in the batch; of real scans for the liver as a whole.

    logits : (slabs, slices, classes, rows, columns). label : (slabs, slices, rows, columns), organs of simulated slabs,
    `NOT_LIVER` and `SOME_LIVER` of real ones: there the probabilities of the lobes are added up. The liver weighs three
    times as much as an organ, caudate and ascites twice. Of ascites, what is missed counts more than what is
    found where there is none (Salehi et al., MLMI 2017), and its voxels weigh twice in the cross-entropy: thin rims of
    it are few voxels, and networks left them out.
    """
    logits, label = logits.flatten(0, 1).float(), label.flatten(0, 1).long()
    logs = logits.log_softmax(dim=1)
    lobes = slice(LIVER[0], LIVER[-1] + 1)
    real = label >= NOT_LIVER
    inside = ((label >= LIVER[0]) & (label <= LIVER[-1])) | (label == SOME_LIVER)
    organ = torch.where(real, 0, label)
    entropy = -logs.gather(1, organ[:, None])[:, 0]
    shares = logs.exp()
    liver = shares[:, lobes].sum(1)
    if bool(real.any()):
        of_liver = torch.where(inside, liver, 1 - liver).clamp_min(1e-6).log()
        entropy = torch.where(real, -of_liver, entropy)
    entropy = torch.where(organ == ASCITES, 2 * entropy, entropy)
    known = (~real).float()
    flat, classes = organ.flatten(), shares.shape[1]
    # The softmax of the true label, summed by label: the overlap, without one-hot arrays.
    right = shares.gather(1, organ[:, None])[:, 0] * known
    both = torch.zeros(classes, device=logs.device).index_add(0, flat, right.flatten())
    truth = torch.zeros(classes, device=logs.device).index_add(0, flat, known.flatten())
    total = (shares * known[:, None]).sum((0, 2, 3)) + truth
    both = torch.cat([both[1:], (liver * inside).sum()[None]])
    total = torch.cat([total[1:], (liver.sum() + inside.sum())[None]])
    counted = torch.cat([truth[1:], inside.sum()[None].float()]) > 20
    counted[ASCITES - 1] = True  # false positives count too
    smooth = torch.ones_like(total)
    smooth[ASCITES - 1] = 30.0
    total[ASCITES - 1] = 2 * (
        (1 - MISSED) * (total[ASCITES - 1] - truth[ASCITES]) + MISSED * truth[ASCITES]
    )  # the index of Tversky in place of Dice's
    dice = 1 - (2 * both + smooth) / (total + smooth)
    weight = torch.ones_like(dice)
    weight[[CAUDATE - 1, ASCITES - 1]] = 2.0
    weight[-1] = 3.0
    return entropy.mean() + (dice * weight * counted).sum() / (weight * counted).sum().clamp_min(1)
