"""Prepared patients written straight to disk, whose stage shows in their brightness or nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.grid import Grid
from cirrnb.data.prepared import PreparationSettings, PreparedCohort, PreparedScan
from cirrnb.data.scan import SEQUENCES, STAGES, Scan

SETTINGS = PreparationSettings(spacing=8.0, field_of_view=(160.0, 192.0))  # 20 x 24 pixels


def write_scan(folder: Path, scan: Scan, image: NDArray[np.float16], spacing: float = 5.0) -> PreparedScan:
    """A prepared scan as `cirrnb.prepare` leaves it, but for the description; slices `spacing` mm apart from z = -100 mm upwards."""
    affine = np.array([[0, 0, -8.0, 90], [0, -8.0, 0, 80], [spacing, 0, 0, -100], [0, 0, 0, 1]])
    grid = Grid(image.shape, affine)
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", image)
    return PreparedScan(scan, folder, grid, grid, SETTINGS)


def toy_cohort(
    root: Path,
    splits: dict[str, int],
    *,
    signal: float = 1.0,
    sequences: Sequence[str] = SEQUENCES,
    slices: Sequence[int] = (9, 4),
    seed: int = 0,
    name: str = "toy",
) -> PreparedCohort:
    """Patients numbered through the splits, stages in turn. A blob's brightness tells the stage, `signal` times."""
    random = np.random.default_rng(seed)
    rows, columns = SETTINGS.size
    scans = []
    number = 0
    for split, count in splits.items():
        for index in range(count):
            number += 1
            stage = STAGES[index % 3]
            for sequence, many in zip(sequences, slices, strict=False):
                image = random.normal(0.3, 0.05, (many, rows, columns))
                image[:, 6:14, 5:15] += signal * 0.3 * (index % 3)
                scan = Scan(str(number), sequence, Path(f"{number}.nii.gz"), stage=stage, split=split)
                scans.append(write_scan(root / f"{number}-{sequence}", scan, image.astype(np.float16)))
    failures = pd.DataFrame(columns=["subject", "sequence", "reason"])
    return PreparedCohort(tuple(scans), failures, SETTINGS, name, simulated=True)
