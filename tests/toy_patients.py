"""Prepared patients written straight to disk, whose stage shows in their brightness or nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.grid import Grid
from cirrnb.data.prepared import PreparationSettings, PreparedScan
from cirrnb.data.scan import Scan
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS

SETTINGS = PreparationSettings(spacing=8.0, field_of_view=(160.0, 192.0))  # 20 x 24 pixels


LARGE = PreparationSettings(spacing=8.0, field_of_view=(512.0, 576.0))  # 64 x 72 pixels


def write_scan(
    folder: Path, scan: Scan, image: NDArray[np.float16], settings: PreparationSettings = SETTINGS
) -> PreparedScan:
    """A prepared scan as `cirrnb.prepare` leaves it, without its description: slices 5 mm apart up from z = -100 mm."""
    affine = np.array([[0, 0, -8.0, 90], [0, -8.0, 0, 80], [5.0, 0, 0, -100], [0, 0, 0, 1]])
    grid = Grid(image.shape, affine)
    if not folder.exists():  # another process may be reading it
        folder.mkdir(parents=True)
        np.save(folder / "image.npy", image)
    return PreparedScan(scan, folder, grid, grid, settings)


def toy_cohort(
    root: Path,
    splits: dict[str, int],
    *,
    signal: float = 1.0,
    pattern: float = 0.0,
    sequences: Sequence[str] = T1W_T2W,
    slices: Sequence[int] = (9, 4),
    settings: PreparationSettings = SETTINGS,
) -> PreparedCohort:
    """Patients numbered through the splits, stages in turn. A blob's brightness tells the stage, `signal` times;
    `pattern` is the contrast of a pattern of the patient's own, by which each can be known again."""
    random = np.random.default_rng(0)
    rows, columns = settings.size
    scans = []
    number = 0
    for split, count in splits.items():
        for index in range(count):
            number += 1
            stage = CIRRHOSIS[index % 3]
            own = np.kron(random.normal(0, pattern, (rows // 4, columns // 4)), np.ones((4, 4)))
            for sequence, many in zip(sequences, slices, strict=False):
                image = own + random.normal(0.3, 0.05, (many, rows, columns))
                image[:, 6:14, 5:15] += signal * 0.3 * (index % 3)
                scan = Scan(str(number), sequence, Path(f"{number}.nii.gz"), stage=stage, split=split)
                scans.append(write_scan(root / f"{number}-{sequence}", scan, image.astype(np.float16), settings))
    failures = pd.DataFrame(columns=["subject", "sequence", "reason"])
    return PreparedCohort(tuple(scans), failures, settings, "toy", simulated=True)
