"""One patient's slices as tensors: drawn anew each epoch for training, evenly spaced for evaluation."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cirrnb.data.augmentation import Augmentation, Changes
from cirrnb.data.bag import Bag
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale

UNSTAGED = -100
"""The stage of an unstaged patient: the index that torch's cross-entropy ignores."""


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
    changes : how the slices are still to be changed (`changed`); None for not at all.
    """

    slices: torch.Tensor
    sequence: torch.Tensor
    position: torch.Tensor
    person: torch.Tensor
    stage: int
    sequences: tuple[str, ...] = T1W_T2W
    changes: Changes | None = None

    def changed(self) -> torch.Tensor:
        """The slices after the changes, float32."""
        return self.slices.float() if self.changes is None else self.changes.apply(self.slices)


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
    """`wanted` random slices of each sequence as stored, and how they are to be changed.

    It depends on seed, epoch and subject and on nothing else, so that neither the order of the patients nor a resumed
    run changes a draw.

    With probability `sequence_dropout`, one sequence of a patient with several is omitted.
    """
    source = np.random.default_rng((seed, epoch, zlib.crc32(bag.subject.encode())))
    chosen = {name: random_stratified(scan.grid.shape[0], wanted, source) for name, scan in bag.scans.items()}
    if len(chosen) > 1 and source.random() < sequence_dropout:
        del chosen[list(chosen)[source.integers(len(chosen))]]
    drawn = _gather(bag, chosen, sequences, stages, stored_type=True)
    if amounts is None:
        return drawn
    generator = torch.Generator().manual_seed(int(source.integers(2**62)))
    parts = [Changes.draw(len(indices), amounts, generator) for indices in chosen.values()]
    return replace(drawn, changes=Changes.joined(parts))


def draw_slice(
    bag: Bag,
    sequence: str,
    place: int,
    amounts: Augmentation | None,
    seed: int,
    epoch: int,
    sequences: tuple[str, ...] = T1W_T2W,
    stages: StageScale = CIRRHOSIS,
) -> DrawnBag:
    """One slice as a patient of its own, to be changed by `amounts`, if any; its draw depends on seed, epoch, subject,
    sequence and place alone."""
    name = zlib.crc32(f"{bag.subject}/{sequence}/{place}".encode())
    image = np.array(bag.scans[sequence].image[place])
    changes = None
    if amounts is not None:
        source = torch.Generator().manual_seed(int(np.random.SeedSequence((seed, epoch, name)).generate_state(1)[0]))
        changes = Changes.draw(1, amounts, source)
    return DrawnBag(
        slices=torch.from_numpy(image)[None, None],
        sequence=torch.tensor([sequences.index(sequence)]),
        # Nothing that stages single slices asks where they lie, so that no shift need be estimated.
        position=torch.tensor([bag.scans[sequence].positions[place]], dtype=torch.float32),
        person=_person(bag),
        stage=UNSTAGED if bag.stage not in stages else stages.index(bag.stage or ""),
        sequences=sequences,
        changes=changes,
    )


def _gather(
    bag: Bag,
    chosen: dict[str, NDArray[np.int64]],
    names: tuple[str, ...],
    stages: StageScale,
    stored_type: bool = False,
) -> DrawnBag:
    """`stored_type` leaves the pixels float16 as they are stored, half as much to copy; a device widens them."""
    kind = np.float16 if stored_type else np.float32
    slices = [np.asarray(bag.scans[name].image[indices], dtype=kind) for name, indices in chosen.items()]
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


Item = int | tuple[int, int]
"""Which patient or slice, or epoch and which: workers that persist learn of a new epoch by their items alone."""


class BagDataset(torch.utils.data.Dataset[DrawnBag]):
    """Patients for training: item i is a new draw of patient i each epoch (see `draw_for_training`).

    Items are asked for as (epoch, i), or as i after `set_epoch`.
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
        for bag in self.bags:
            _ = bag.shifts  # estimated once, here, and not by every worker

    def set_epoch(self, epoch: int) -> None:
        """The draws that follow are those of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.bags)

    def __getitem__(self, item: Item) -> DrawnBag:
        epoch, index = item if isinstance(item, tuple) else (self.epoch, item)
        return draw_for_training(
            self.bags[index],
            self.slices,
            self.augmentation,
            self.seed,
            epoch,
            self.sequence_dropout,
            self.sequences,
            self.stages,
        )


class EvenlyDrawn(torch.utils.data.Dataset[DrawnBag]):
    """Patients for validation: item i is patient i with evenly spaced slices, the same in each epoch."""

    def __init__(self, bags: Sequence[Bag], slices: int, sequences: tuple[str, ...], stages: StageScale):
        self.bags, self.slices, self.sequences, self.stages = list(bags), slices, sequences, stages
        for bag in self.bags:
            _ = bag.shifts

    def __len__(self) -> int:
        return len(self.bags)

    def __getitem__(self, item: Item) -> DrawnBag:
        return draw(self.bags[item[1] if isinstance(item, tuple) else item], self.slices, self.sequences, self.stages)


class SliceDataset(torch.utils.data.Dataset[DrawnBag]):
    """All slices of the patients, each an item of its own (see `draw_slice`), in the order of patients and sequences.

    Items are asked for as (epoch, i), or as i for the first epoch; without `augmentation` they are left alone.
    """

    def __init__(
        self,
        bags: Sequence[Bag],
        augmentation: Augmentation | None = None,
        seed: int = 0,
        sequences: tuple[str, ...] = T1W_T2W,
        stages: StageScale = CIRRHOSIS,
    ):
        self.bags, self.augmentation, self.seed = list(bags), augmentation, seed
        self.sequences, self.stages = sequences, stages
        self._places = [
            (number, name, place)
            for number, bag in enumerate(self.bags)
            for name, scan in bag.scans.items()
            for place in range(scan.grid.shape[0])
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, item: Item) -> DrawnBag:
        epoch, index = item if isinstance(item, tuple) else (0, item)
        number, name, place = self._places[index]
        bag = self.bags[number]
        return draw_slice(bag, name, place, self.augmentation, self.seed, epoch, self.sequences, self.stages)
