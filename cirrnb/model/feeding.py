"""Batches for training and validation: read ahead by workers that stay alive, copied to the device while it works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader

from cirrnb.data.dataset import BagDataset, DrawnBag, EvenlyDrawn, Item, SliceDataset
from cirrnb.model.batch import Batch, collate

AHEAD = 4
"""Batches that each worker reads ahead."""


class Feed:
    """Batches of a dataset for one process.

    Workers are started once and learn by their items which epoch it is. For a GPU, batches wait in pinned memory, from
    which they are copied while it computes.
    """

    def __init__(self, dataset: BagDataset | EvenlyDrawn | SliceDataset, workers: int, device: torch.device):
        self.dataset, self._device = dataset, device
        self._steps = _Steps()
        ahead = {"persistent_workers": True, "prefetch_factor": AHEAD} if workers else {}
        self._loader: DataLoader[DrawnBag] = DataLoader(
            dataset,
            batch_sampler=self._steps,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # of its own, so that dropout does not depend on when workers were started
            **ahead,  # type: ignore[arg-type]
        )

    def __len__(self) -> int:
        """Items of the dataset."""
        return len(self.dataset)

    def batches(self, steps: Sequence[Sequence[int]], epoch: int) -> Iterator[Batch]:
        """A batch on the device, changed as drawn, for each step (indices of items)."""
        self._steps.items = [[(epoch, index) for index in step] for step in steps]
        for batch in self._loader:
            yield batch.to(self._device).changed()


class _Steps(torch.utils.data.Sampler[list[Item]]):
    """The items of each step of the coming epoch."""

    def __init__(self) -> None:
        self.items: list[list[Item]] = []

    def __iter__(self) -> Iterator[list[Item]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)
