"""A body with a bright ball and a liver, rendered on any grid, and short ways to prepare it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from cirrnb.data.grid import Grid
from cirrnb.data.prepared import PreparationSettings, PreparedScan
from cirrnb.data.scan import Cohort, Scan
from cirrnb.preparation.cohort import prepare

POINT = np.array((-35.0, 20.0, 12.0))  # of a bright ball, in mm RAS+: to the patient's left, in front
LIVER = np.array((60.0, 10.0, 5.0))  # centre of the liver ball
AXIAL = ((1.7, 2.1, 6.0), ((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
GRIDS = {
    "axial": (*AXIAL, (0, 0, 0)),
    "square": ((2.0, 2.0, 5.0), AXIAL[1], (0, 0, 0)),
    "flipped": ((1.7, 2.1, 6.0), ((1, 0, 0), (0, 1, 0), (0, 0, -1)), (0, 0, 0)),
    "coronal": ((1.7, 2.1, 6.0), ((-1, 0, 0), (0, 0, 1), (0, -1, 0)), (0, 0, 0)),
    "sagittal": ((1.7, 2.1, 6.0), ((0, 0, 1), (-1, 0, 0), (0, -1, 0)), (0, 0, 0)),
    "oblique": ((1.7, 2.1, 6.0), AXIAL[1], (12, -9, 7)),
    "very oblique": ((1.7, 2.1, 6.0), AXIAL[1], (0, 27, 0)),
}


def grid_of(name: str) -> Grid:
    """A grid around the origin that holds 240 x 200 x 130 mm of the patient."""
    spacing, cosines, angles = GRIDS[name]
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array(cosines, dtype=float) * spacing
    reach = np.abs(np.array(cosines, dtype=float)).T @ (240, 200, 130)
    shape = tuple(int(size) for size in np.ceil(reach / spacing))
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Grid(shape, affine)  # type: ignore[arg-type]


def render(grid: Grid, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Body (an ellipse of 200 x 160 mm, with a gradient and noise) with a bright ball at POINT, and a liver ball."""
    place = grid.to_patient(np.moveaxis(np.indices(grid.shape), 0, -1))
    body = (place[..., 0] / 100) ** 2 + (place[..., 1] / 80) ** 2 <= 1
    values = np.where(body, 300 + place[..., 0] + np.random.default_rng(seed).normal(0, 10, grid.shape), 0)
    values = values + 250 * np.exp(-(((place - POINT) / 7) ** 2).sum(-1) / 2)
    liver = np.linalg.norm(place - LIVER, axis=-1) <= 24
    return np.rint(values).astype(np.int16), liver


def write(folder: Path, patient: str, sequence: str = "T1W", kind: str = "axial", mask: bool = True, **more) -> Scan:  # type: ignore[no-untyped-def]
    grid = grid_of(kind)
    values, liver = render(grid, seed=sum(map(ord, patient + sequence)))
    image = folder / f"{patient}_{sequence}.nii.gz"
    nib.save(nib.Nifti1Image(values, grid.affine), image)
    if mask:
        nib.save(nib.Nifti1Image(liver.astype(np.uint8), grid.affine), folder / f"{patient}_{sequence}_mask.nii.gz")
    return Scan(patient, sequence, image, folder / f"{patient}_{sequence}_mask.nii.gz" if mask else None, **more)


def settle(*paths: Path) -> None:
    """Let the next call take files for untouched: as if they had been written long before they were hashed."""
    for cache in paths:
        stored = json.loads(cache.read_text())
        cache.write_text(json.dumps({name: [seen, when + 10**10, key] for name, (seen, when, key) in stored.items()}))


def contents(folder: Path) -> dict[str, bytes]:
    """All there is, hidden things too, but for the memory of what files looked like."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "fingerprints.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def prepare_one(scan: Scan, out: Path, **settings) -> PreparedScan:  # type: ignore[no-untyped-def]
    return prepare(Cohort((scan,)), out, PreparationSettings(**settings), workers=1, progress=False).scans[0]
