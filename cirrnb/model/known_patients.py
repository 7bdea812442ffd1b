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

NAME_LATENT = "Name latent.csv of the cohort."


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
    """Centre crop of slices (slices, rows, columns): a view that was widened to hold a large liver loses its edges."""
    starts = [(length - wanted) // 2 for length, wanted in zip(image.shape[1:], size, strict=True)]
    rows, columns = (slice(start, start + wanted) for start, wanted in zip(starts, size, strict=True))
    return image[:, rows, columns]


def known_patients(bags: Sequence[Bag], truth: Path, names: Sequence[str], sequences: Sequence[str]) -> KnownPatients:
    """The patients with all sequences, and their strengths of the named signs from latent.csv.

    Raises InputError if latent.csv describes other patients, or no patient has all sequences.
    """
    strengths = true_strengths(truth, names)
    whole = tuple(bag for bag in bags if set(sequences) <= set(bag.scans))
    if not whole:
        problem = f"nobody with {' and '.join(sequences) or 'a scan'}"
        raise InputError(truth, problem, "every patient of the cohort", NAME_LATENT)
    shown = of_patients(strengths, [bag.subject for bag in whole], truth)
    return KnownPatients(whole, shown, next(iter(whole[0].scans.values())).scan.source)


def true_strengths(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """(patients, signs) strengths of latent.csv, by subject; NaN where a text is no number.

    Raises InputError if a sign is not in the file, or a patient is in it twice.
    """
    columns = {f"shown_{name}": name for name in names}
    expected = f"the columns subject, {', '.join(columns)}"
    table = read_csv(path, ("subject",), expected=expected, remedy=NAME_LATENT)
    if missing := [name for name in ("subject", *columns) if name not in table]:
        raise InputError(path, f"no column {', '.join(missing[:3])}", expected, NAME_LATENT)
    if table["subject"].duplicated().any():
        raise InputError(path, "a patient twice", expected, NAME_LATENT)
    numbers = table.set_index("subject")[list(columns)].apply(pd.to_numeric, errors="coerce")
    return numbers.rename(columns=columns)


def of_patients(strengths: pd.DataFrame, subjects: Sequence[str], path: Path) -> NDArray[np.float64]:
    """(patients, signs) of a table of `true_strengths`, whose file is `path`.

    Raises InputError unless it has a strength from 0 to 1 of each patient and sign."""
    shown = strengths.reindex(list(subjects)).to_numpy(float)
    if not ((shown >= 0) & (shown <= 1)).all():
        raise InputError(path, "patients without a truth from 0 to 1", "every patient of the cohort", NAME_LATENT)
    return shown
