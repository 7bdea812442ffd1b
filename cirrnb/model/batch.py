"""Several patients' slices laid end to end: any number of slices a patient, any sequence missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cirrnb.data.augmentation import Changes
from cirrnb.data.dataset import DrawnBag
from cirrnb.data.sequences import T1W_T2W


@dataclass(frozen=True)
class Layout:
    """Which slices belong together, worked out on the host: a device would have to be waited for to learn how many
    there are of each.

    Attributes
    ----------
    groups : (groups,) int64, the values of `Batch.group` that occur, rising.
    member : (slices,) int64 index of each slice's group in `groups`.
    of_sequence : for each sequence of the batch, indices of its slices, int64.
    """

    groups: torch.Tensor
    member: torch.Tensor
    of_sequence: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, group: NDArray[np.int64], sequences: int) -> Layout:
        """By the group of each slice (slices,)."""
        groups, member = np.unique(group, return_inverse=True)
        indices = tuple(
            torch.from_numpy(np.flatnonzero(group % sequences == sequence)) for sequence in range(sequences)
        )
        return cls(torch.from_numpy(groups), torch.from_numpy(member.reshape(-1)), indices)

    def map(self, change: Any) -> Layout:
        """The same with each tensor changed."""
        return Layout(change(self.groups), change(self.member), tuple(map(change, self.of_sequence)))


@dataclass(frozen=True)
class Batch:
    """A ragged batch: every slice carries the sequence and the patient it belongs to, so nothing is padded.

    Attributes
    ----------
    slices : (slices, 1, rows, columns) float32, about 0 to 1.
    sequence : (slices,) int64 index into `sequences`.
    patient : (slices,) int64 index of the patient in this batch.
    position : (slices,) float32, mm along the head axis (RAS+ z), where the first sequence shows what the slice shows.
    person : (patients, 4) float32, age and sex as `DrawnBag` has them.
    stage : (patients,) int64 index into the stage scale, or `UNSTAGED`.
    sequences : names that `sequence` counts: those of the model.
    changes : how the slices are still to be changed, once they are on the device (`changed`); None for not at all.
    host_layout : the layout, on the batch's device, if it was worked out on the host; `dataclasses.replace` drops it.
    """

    slices: torch.Tensor
    sequence: torch.Tensor
    patient: torch.Tensor
    position: torch.Tensor
    person: torch.Tensor
    stage: torch.Tensor
    sequences: tuple[str, ...] = T1W_T2W
    changes: Changes | None = None
    host_layout: Layout | None = field(default=None, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.stage)

    @property
    def group(self) -> torch.Tensor:
        """(slices,) patient and sequence of each slice in one number: patient * sequences + sequence."""
        return self.patient * len(self.sequences) + self.sequence

    @cached_property
    def layout(self) -> Layout:
        """Which slices belong together; where the batch lies on a GPU and the host did not work it out, it waits."""
        if self.host_layout is not None:
            return self.host_layout
        group = self.group
        return Layout.of(group.cpu().numpy(), len(self.sequences)).map(lambda tensor: tensor.to(group.device))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; pixels become float32 there. Where it is pinned, the host goes on
        meanwhile."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=True))
        changes = None if self.changes is None else self.changes.to(device)
        return moved._with(slices=moved.slices.float(), changes=changes)

    def pin_memory(self) -> Batch:
        """The same batch in memory from which a GPU copies while the host goes on; data loaders call this."""
        changes = None if self.changes is None else self.changes.pin_memory()
        return self._map(torch.Tensor.pin_memory)._with(changes=changes)

    def changed(self) -> Batch:
        """The batch with its slices changed as drawn for training."""
        return self if self.changes is None else self._with(slices=self.changes.apply(self.slices), changes=None)

    def _map(self, change: Any) -> Batch:
        """The batch with `change` applied to each of its tensors, but not to its augmentations."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        tensors = {name: change(value) for name, value in values.items() if isinstance(value, torch.Tensor)}
        return replace(self, **tensors).laid_out(None if self.host_layout is None else self.host_layout.map(change))

    def laid_out(self, layout: Layout | None) -> Batch:
        """The batch with a layout that was worked out on the host, in place."""
        object.__setattr__(self, "host_layout", layout)
        return self

    def _with(self, **changes: Any) -> Batch:
        """Other pixels or changes, and the slices in their places."""
        return replace(self, **changes).laid_out(self.host_layout)

    def taking(self, slices: torch.Tensor, patient: torch.Tensor, patients: int) -> Batch:
        """Other patients made of this batch's one patient: slice `slices[i]` (int64 index) goes to patient
        `patient[i]` of `patients`. The pixels are left out, since what follows the encoder needs none."""
        return Batch(
            slices=self.slices[:0],
            sequence=self.sequence[slices],
            patient=patient,
            position=self.position[slices],
            person=self.person.expand(patients, -1),
            stage=self.stage.expand(patients),
            sequences=self.sequences,
        )

    def replace_slices(self, slices: torch.Tensor) -> Batch:
        """The same batch with other pixels (slices, 1, rows, columns)."""
        return self._with(slices=slices)


def collate(drawn: Sequence[DrawnBag]) -> Batch:
    """Lay patients' drawn slices end to end; smaller ones get a rim of zeros, as beyond the scan's own field of view.

    Raises ValueError for no patient at all, or sequences numbered apart.
    """
    if not drawn:
        raise ValueError("a batch has at least one patient")
    if len({bag.sequences for bag in drawn}) > 1:
        raise ValueError("patients of a batch are drawn for one model")
    counts = torch.tensor([len(bag.slices) for bag in drawn])
    if not counts.all():
        raise ValueError("every patient of a batch needs at least one slice")
    sequence = torch.cat([bag.sequence for bag in drawn])
    patient = torch.repeat_interleave(torch.arange(len(drawn)), counts)
    names = drawn[0].sequences
    changes = [bag.changes for bag in drawn if bag.changes is not None]
    if len(changes) not in (0, len(drawn)):
        raise ValueError("all patients of a batch are changed, or none")
    return Batch(
        slices=torch.cat(_of_one_size([bag.slices for bag in drawn])),
        sequence=sequence,
        patient=patient,
        position=torch.cat([bag.position for bag in drawn]),
        person=torch.stack([bag.person for bag in drawn]),
        stage=torch.tensor([bag.stage for bag in drawn]),
        sequences=names,
        changes=Changes.joined(changes) if changes else None,
    ).laid_out(Layout.of((patient * len(names) + sequence).numpy(), len(names)))


def _of_one_size(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """(slices, 1, rows, columns) each, the smaller ones within a rim of zeros."""
    rows, columns = (max(part.shape[axis] for part in parts) for axis in (2, 3))
    padded = []
    for part in parts:
        high, wide = rows - part.shape[2], columns - part.shape[3]
        padded.append(torch.nn.functional.pad(part, (wide // 2, wide - wide // 2, high // 2, high - high // 2)))
    return padded
