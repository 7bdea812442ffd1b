"""Slices of a simulated cohort, and real ones where there are any, for a gallery that sets them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.cohort_reading import read_cohort
from cirrnb.data.errors import InputError
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.scan import Scan
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS

WINDOW = (0.5, 99.6)
"""Percentiles of a slice that become black and white, for real and simulated ones alike."""


@dataclass(frozen=True)
class Panel:
    """One slice as it is shown: radiological, front up, the patient's right on the viewer's left.

    Attributes
    ----------
    title : what it is, beginning with "simulated" or "real".
    image : (rows, columns) uint8 after windowing.
    mask : (rows, columns) bool liver, or None.
    aspect : height of a pixel against its width.
    """

    title: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    aspect: float


def simulated_panels(root: Path | str, patients: int = 2, shares: Sequence[float] = (0.3, 0.5, 0.7)) -> list[Panel]:
    """Slices of the first patients of each stage and sequence, at shares of the liver's height from below."""
    cohort = read_cohort(root)
    if not cohort.simulated:
        raise InputError(root, "no SIMULATED.txt", "a simulated cohort", "Simulate one: cirrnb simulate.")
    panels = []
    for sequence in T1W_T2W:
        for stage in CIRRHOSIS:
            chosen = cohort.select(sequence=sequence, stage=stage).scans[:patients]
            panels += [panel for scan in chosen for panel in _panels(scan, shares)]
    return panels


def _panels(scan: Scan, shares: Sequence[float]) -> list[Panel]:
    if scan.mask is None:
        remedy = "Simulate the cohort again: cirrnb simulate."
        raise InputError(scan.image, "a scan without a liver mask", "the mask that the simulator wrote", remedy)
    image, grid = read_volume(scan.image)
    mask, spacing = read_mask(scan.mask, grid), grid.spacing
    heights = np.flatnonzero(mask.any(axis=(0, 1)))
    panels = []
    for share in shares:
        place = int(heights[round(share * (len(heights) - 1))])
        title = f"simulated {scan.sequence} {scan.stage}, patient {scan.patient}, slice {place}"
        aspect = float(spacing[1] / spacing[0])
        panels.append(Panel(title, windowed(image[:, :, place].T), mask[:, :, place].T, aspect))
    return panels


def real_panels(folder: Path | str) -> list[Panel]:
    """The real T2W slices that `index.csv` of the folder lists: 8-bit pictures whose rows run along the patient's x."""
    from PIL import Image

    folder = Path(folder)
    if not (folder / "index.csv").is_file():
        raise InputError(folder, "no index.csv", "the folder of the real slices", "Correct the path.")
    panels = []
    for row in pd.read_csv(folder / "index.csv").to_dict("records"):
        image = np.asarray(Image.open(folder / row["file"]).convert("L")).T
        mask = np.asarray(Image.open(folder / row["mask"]).convert("L")).T > 127
        stage = CIRRHOSIS[int(row["stage"]) - 1]
        name = "unknown" if pd.isna(row["patient_id"]) else str(int(row["patient_id"]))
        panels.append(Panel(f"real T2W {stage}, patient {name}", windowed(image), mask, 1.0))
    return panels


def windowed(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """A slice brought to 0 to 255 between its `WINDOW` percentiles."""
    values = np.asarray(image, dtype=np.float64)
    low, high = np.percentile(values, WINDOW)
    return np.round(255 * np.clip((values - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
