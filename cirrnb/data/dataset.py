"""One patient's slices as tensors: drawn and augmented anew each epoch for training, evenly spaced for evaluation."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cirrnb.data.bag import Bag
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale

UNSTAGED = -100
"""The stage of an unstaged patient: the index that torch's cross-entropy ignores."""


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


@dataclass(frozen=True)
class DrawnBag:
    """The slices of one patient that are looked at together, the sequences one after the other.

    Attributes
    ----------
    slices : (slices, 1, rows, columns) float32, about 0 to 1.
    sequence : (slices,) int64 index into `sequences`.
    position : (slices,) float32, mm along the head axis (RAS+ z) of the patient's first sequence; a patient breathes
        otherwise in the others, whose slices are moved by the shift between them (`cirrnb.data.bag.estimate_shift`).
    person : (4,) float32: age as (years - 60) / 15, whether it is known, 1 for female, whether the sex is known; 0
        where unknown.
    stage : index into the stage scale, or `UNSTAGED`.
    sequences : names that `sequence` counts: those of the model.
    """

    slices: torch.Tensor
    sequence: torch.Tensor
    position: torch.Tensor
    person: torch.Tensor
    stage: int
    sequences: tuple[str, ...] = T1W_T2W


def evenly_spaced(available: int, wanted: int | None) -> NDArray[np.int64]:
    """Rising indices of `wanted` slices spread over `available` ones, in the middle of equal stretches; all of them
    if None or if there are no more."""
    if wanted is None or available <= wanted:
        return np.arange(available)
    return ((np.arange(wanted) + 0.5) * available / wanted).astype(np.int64)


def random_stratified(available: int, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Rising indices of one slice drawn from each of `wanted` nearly equal stretches of `available` ones, so that
    every draw sees the liver from dome to tip; all of them if there are no more."""
    if available <= wanted:
        return np.arange(available)
    edges = np.arange(wanted + 1) * available // wanted
    return generator.integers(edges[:-1], edges[1:])


def draw(
    bag: Bag, wanted: int | None = None, sequences: tuple[str, ...] = T1W_T2W, stages: StageScale = CIRRHOSIS
) -> DrawnBag:
    """`wanted` evenly spaced slices of each sequence (None: all), unchanged.

    `sequences` and `stages` are those of the model: sequence and stage are numbered by them. Raises ValueError for a
    sequence of the bag that is not among them.
    """
    chosen = {name: evenly_spaced(scan.grid.shape[0], wanted) for name, scan in bag.scans.items()}
    return _gather(bag, chosen, sequences, stages)


def draw_for_training(
    bag: Bag,
    wanted: int,
    amounts: Augmentation | None,
    seed: int,
    epoch: int,
    sequence_dropout: float = 0.0,
    sequences: tuple[str, ...] = T1W_T2W,
    stages: StageScale = CIRRHOSIS,
) -> DrawnBag:
    """`wanted` random slices of each sequence, augmented; depends on seed, epoch and subject and on nothing else, so
    that neither the order of the patients nor a resumed run changes a draw.

    With probability `sequence_dropout`, one sequence of a patient with several is omitted.
    """
    source = np.random.default_rng((seed, epoch, zlib.crc32(bag.subject.encode())))
    chosen = {name: random_stratified(scan.grid.shape[0], wanted, source) for name, scan in bag.scans.items()}
    if len(chosen) > 1 and source.random() < sequence_dropout:
        del chosen[list(chosen)[source.integers(len(chosen))]]
    drawn = _gather(bag, chosen, sequences, stages)
    if amounts is None:
        return drawn
    generator = torch.Generator().manual_seed(int(source.integers(2**62)))
    parts = drawn.slices.split([len(indices) for indices in chosen.values()])
    return replace(drawn, slices=torch.cat([augment(part, amounts, generator) for part in parts]))


def _gather(bag: Bag, chosen: dict[str, NDArray[np.int64]], names: tuple[str, ...], stages: StageScale) -> DrawnBag:
    slices = [np.asarray(bag.scans[name].image[indices], dtype=np.float32) for name, indices in chosen.items()]
    positions = [bag.scans[name].positions[indices] - bag.shifts[name] for name, indices in chosen.items()]
    sequences = [np.full(len(indices), names.index(name), dtype=np.int64) for name, indices in chosen.items()]
    return DrawnBag(
        slices=torch.from_numpy(np.concatenate(slices))[:, None],
        sequence=torch.from_numpy(np.concatenate(sequences)),
        position=torch.from_numpy(np.concatenate(positions).astype(np.float32)),
        person=_person(bag),
        stage=UNSTAGED if bag.stage not in stages else stages.index(bag.stage or ""),
        sequences=names,
    )


def _person(bag: Bag) -> torch.Tensor:
    age, sex = bag.age, bag.sex
    known = age is not None and np.isfinite(age)
    years = (age - 60) / 15 if known and age is not None else 0.0
    return torch.tensor([years, float(known), float(sex == "female"), float(sex is not None)])


class BagDataset(torch.utils.data.Dataset[DrawnBag]):
    """Patients for training: item i is a new draw of patient i each epoch (see `draw_for_training`).

    Call `set_epoch` before the epoch's first item.
    """

    def __init__(
        self,
        bags: Sequence[Bag],
        slices: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        sequence_dropout: float = 0.0,
        sequences: tuple[str, ...] = T1W_T2W,
        stages: StageScale = CIRRHOSIS,
    ):
        self.bags, self.slices, self.augmentation, self.seed, self.epoch = list(bags), slices, augmentation, seed, 0
        self.sequence_dropout, self.sequences, self.stages = sequence_dropout, sequences, stages

    def set_epoch(self, epoch: int) -> None:
        """The draws that follow are those of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.bags)

    def __getitem__(self, index: int) -> DrawnBag:
        bag = self.bags[index]
        return draw_for_training(
            bag,
            self.slices,
            self.augmentation,
            self.seed,
            self.epoch,
            self.sequence_dropout,
            self.sequences,
            self.stages,
        )
