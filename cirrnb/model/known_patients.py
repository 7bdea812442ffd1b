"""Patients of a simulated cohort whose signs are known, visited by an endless training beside its own.

The scans of an endless training vary far more than those of one hospital, and fine texture drowns in them. Those of a
cohort are as clear as a hospital's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cirrnb.data.augmentation import Augmentation, Changes
from cirrnb.data.bag import Bag
from cirrnb.data.csv_file import read_csv
from cirrnb.data.dataset import random_stratified
from cirrnb.data.errors import InputError
from cirrnb.model.organ_naming import NOT_LABELLED
from cirrnb.simulation.views import CLIP, PreparedView


@dataclass(frozen=True)
class KnownPatients:
    """Bags and the truth of their signs.

    Attributes
    ----------
    bags : prepared patients with every sequence. shown : (patients, channels) strengths, 0 to 1.
    name : of their cohort.
    """

    bags: tuple[Bag, ...]
    shown: NDArray[np.float64]
    name: str

    def __len__(self) -> int:
        return len(self.bags)

    @property
    def described(self) -> list[Any]:
        """Name of the cohort, patients, and a hash of who they are and of their truth, for a training's request."""
        digest = hashlib.sha256(" ".join(bag.subject for bag in self.bags).encode() + self.shown.tobytes())
        return [self.name, len(self), digest.hexdigest()]

    def view(
        self, number: int, sequence: str, slices: int, changes: Augmentation, random: np.random.Generator
    ) -> PreparedView:
        """Some slices of a patient's scan, changed a little; without labels of organs."""
        scan = self.bags[number].scans[sequence]
        chosen = random_stratified(len(scan.positions), slices, random)
        image = _middle(torch.from_numpy(np.asarray(scan.image[chosen], dtype=np.float32)), scan.settings.size)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        drawn = Changes.draw(len(chosen), changes, generator)
        image = drawn.apply(image[:, None])[:, 0].clamp(*CLIP)
        position = torch.from_numpy(np.asarray(scan.positions[chosen], dtype=np.float32))
        return PreparedView(image, position, torch.full(image.shape, NOT_LABELLED, dtype=torch.uint8))


def _middle(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The middle of slices (slices, rows, columns): a view that was widened to hold a large liver loses its edges."""
    starts = [(there - wanted) // 2 for there, wanted in zip(image.shape[1:], size, strict=True)]
    rows, columns = (slice(start, start + wanted) for start, wanted in zip(starts, size, strict=True))
    return image[:, rows, columns]


def known_patients(bags: Sequence[Bag], truth: Path, names: Sequence[str], sequences: Sequence[str]) -> KnownPatients:
    """The patients with all the sequences, and the strengths of the named signs that latent.csv has.

    Raises InputError if the truth is of other patients, or nobody has all sequences.
    """
    columns = [f"shown_{name}" for name in names]
    expected, remedy = f"the columns subject, {', '.join(columns)}", "Name latent.csv of the cohort."
    table = read_csv(truth, ("subject",), expected=expected, remedy=remedy)
    if missing := [name for name in ("subject", *columns) if name not in table]:
        raise InputError(truth, f"no column {missing[0]}", expected, remedy)
    whole = tuple(bag for bag in bags if set(sequences) <= set(bag.scans))
    if table["subject"].duplicated().any():
        raise InputError(truth, "a patient twice", expected, remedy)
    numbers = table.set_index("subject")[columns].apply(pd.to_numeric, errors="coerce")
    shown = numbers.reindex([bag.subject for bag in whole]).to_numpy(float)
    if not whole or not ((shown >= 0) & (shown <= 1)).all():
        found = (
            "patients without a truth from 0 to 1" if whole else f"nobody with {' and '.join(sequences) or 'a scan'}"
        )
        raise InputError(truth, found, "every patient of the cohort", remedy)
    return KnownPatients(whole, shown, next(iter(whole[0].scans.values())).scan.source)
