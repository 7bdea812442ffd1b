"""Several patients' slices laid end to end: any number of slices a patient, any sequence missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from cirrnb.data.dataset import DrawnBag
from cirrnb.data.sequences import T1W_T2W


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
    """

    slices: torch.Tensor
    sequence: torch.Tensor
    patient: torch.Tensor
    position: torch.Tensor
    person: torch.Tensor
    stage: torch.Tensor
    sequences: tuple[str, ...] = T1W_T2W

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.stage)

    @property
    def group(self) -> torch.Tensor:
        """(slices,) patient and sequence of each slice in one number: patient * sequences + sequence."""
        return self.patient * len(self.sequences) + self.sequence

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sequences"}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})

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
        return replace(self, slices=slices)


def collate(drawn: Sequence[DrawnBag]) -> Batch:
    """Lay patients' drawn slices end to end; smaller ones get a rim of zeros, as beyond the scan's own field of view.

    Raises ValueError for no patient at all, or sequences numbered apart.
    """
    if not drawn:
        raise ValueError("a batch has at least one patient")
    if len({bag.sequences for bag in drawn}) > 1:
        raise ValueError("patients of a batch are drawn for one model")
    counts = torch.tensor([len(bag.slices) for bag in drawn])
    return Batch(
        slices=torch.cat(_of_one_size([bag.slices for bag in drawn])),
        sequence=torch.cat([bag.sequence for bag in drawn]),
        patient=torch.repeat_interleave(torch.arange(len(drawn)), counts),
        position=torch.cat([bag.position for bag in drawn]),
        person=torch.stack([bag.person for bag in drawn]),
        stage=torch.tensor([bag.stage for bag in drawn]),
        sequences=drawn[0].sequences,
    )


def _of_one_size(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """(slices, 1, rows, columns) each, the smaller ones within a rim of zeros."""
    rows, columns = (max(part.shape[axis] for part in parts) for axis in (2, 3))
    padded = []
    for part in parts:
        high, wide = rows - part.shape[2], columns - part.shape[3]
        padded.append(torch.nn.functional.pad(part, (wide // 2, wide - wide // 2, high // 2, high - high // 2)))
    return padded
