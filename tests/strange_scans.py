"""Scans of other kinds than the stager knows, as NIfTI files: an abdominal CT and a head."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


def write_ct(path: Path, *, air: int = -1000, padding: int | None = None, dtype: type = np.int16) -> Path:
    """A trunk of soft tissue with fat, bone and lung in Hounsfield units, 64 x 56 x 20 voxels of 6 x 6 x 8 mm; what is
    outside the scanner's circle is `padding`."""
    x, y, z = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 56), np.linspace(0, 1, 20), indexing="ij")
    rng = np.random.default_rng(3)
    values = np.full(x.shape, float(air))
    values[x**2 / 0.7 + y**2 / 0.45 < 1] = -100
    values[x**2 / 0.55 + y**2 / 0.33 < 1] = 50
    values[(x + 0.35) ** 2 + (y + 0.1) ** 2 < 0.1] = 105
    values[((np.abs(x) - 0.35) ** 2 + y**2 < 0.05) & (z > 0.7)] = -830
    values[x**2 + (y - 0.35) ** 2 < 0.01] = 400
    values += rng.normal(0, 12, x.shape)
    if padding is not None:
        values[x**2 + y**2 > 1] = padding
    nib.save(nib.Nifti1Image(values.round().astype(dtype), np.diag([-6.0, -6.0, 8.0, 1.0])), path)
    return path


def write_head(path: Path, *, weighting: str = "T1W") -> Path:
    """A head in spin echo: scalp, skull, grey and white matter, ventricles; 96 x 96 x 40 voxels of 2.4 x 2.4 x 4 mm."""
    x, y, z = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 96), np.linspace(-1, 1, 40), indexing="ij")
    radius = np.sqrt((x / 0.68) ** 2 + (y / 0.86) ** 2 + (z / 1.05) ** 2)
    scalp, skull, grey, white, fluid = (900, 60, 420, 600, 130) if weighting == "T1W" else (700, 60, 520, 380, 1000)
    values = np.zeros(x.shape)
    for limit, value in ((1.0, scalp), (0.93, skull), (0.87, fluid), (0.84, grey), (0.72, white)):
        values[radius < limit] = value
    folds = 0.72 + 0.06 * np.sin(14 * np.arctan2(y, x)) * np.cos(5 * z)
    values[(radius < 0.84) & (radius > folds)] = grey
    values[(((np.abs(x) - 0.1) / 0.07) ** 2 + (y / 0.3) ** 2 + (z / 0.3) ** 2) < 1] = fluid
    values = np.abs(values + np.random.default_rng(4).normal(0, 15, x.shape))
    nib.save(nib.Nifti1Image(values.round().astype(np.int16), np.diag([-2.4, -2.4, 4.0, 1.0])), path)
    return path
