"""Training patients that are built in a moment: coarser than those of a training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from cirrnb.simulation import training_patients
from cirrnb.simulation.training_patients import write_training_patient


def coarse_bodies(folder: Path, numbers: Iterable[int] = (0, 1)) -> Path:
    """The folder, with the patients of these numbers in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_patients, "SPACING", (7.0, 6.0, 6.0))
        for number in numbers:
            write_training_patient(folder, number)
    return folder
