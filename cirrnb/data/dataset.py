"""One patient's slices as tensors, drawn anew each epoch for training and evenly spaced for evaluation."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cirrnb.data.augmentation import Augmentation, augment
from cirrnb.data.prepared import Bag
from cirrnb.data.scan import T1W_T2W
from cirrnb.data.stages import CIRRHOSIS, StageScale

UNSTAGED = -100
"""Stands for the stage of a patient whom nobody staged; the number that torch's cross-entropy passes over."""


@dataclass(frozen=True)
class DrawnBag:
    """The slices of one patient that are looked at together, the sequences one after the other.

    Attributes
    ----------
    slices : (slices, 1, rows, columns) float32, about 0 to 1.
    sequence : (slices,) int64 index into `sequences`.
    position : (slices,) float32, mm along the head axis (RAS+ z) of the patient's first sequence; a patient breathes
        otherwise in the others, whose slices stand where the first shows the same (see `alignment`).
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

    In a share `sequence_dropout` of the draws of a patient with several sequences, one of them is left out.
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
