"""A scan file with signs planted into it, as a small cohort of its own that says what was done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.cohort_reading import SIMULATED
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Orientation
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.nifti.saving import save_volume
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.simulation.planting import plant, require_request
from cirrnb.simulation.signs import SIGNS
from cirrnb.simulation.tissue_shares import ORGANS

LEAST_LIVER = 200.0
"""mL of liver below which nothing is planted."""
_STAY = ("portal and splenic vein", "aorta", "gallbladder", "kidneys", "vertebrae", "back muscle")
_MARK = (
    "The scan in this folder was CHANGED BY A PROGRAM: signs of disease were planted into it (strengths.json).\n"
    "It is no patient's, and nothing that is found in it holds for a patient.\n"
)


def plant_file(
    scan: Path | str,
    out: Path | str,
    sequence: str,
    strengths: Mapping[str, float],
    *,
    seed: int = 0,
    segmenter: Segmenter | None = None,
) -> Path:
    """Segment a scan, plant signs into it, and write both as a cohort of one patient named "planted".

    Writes image, mask and evidence (numbers of `SIGNS`, from 1) on the scan's own grid, scans.csv, strengths.json, and
    a mark by which the cohort counts as simulated.

    Parameters
    ----------
    scan : NIfTI file of a liver without signs. sequence, strengths, seed : as for `cirrnb.simulation.planting.plant`.

    Returns
    -------
    The table scans.csv.

    Raises
    ------
    InputError
        If the scan cannot be read, less than `LEAST_LIVER` of liver is found in it, or a sign or strength is wrong.
    """
    scan, out = Path(scan), Path(out)
    require_request(sequence, strengths)
    volume, grid = read_volume(scan)
    segmentation = (segmenter or Segmenter.load()).segment(volume, grid)
    if segmentation.volumes["liver"] < LEAST_LIVER:
        amount = f"{segmentation.volumes['liver']:.0f} mL of liver"
        raise InputError(scan, amount, f"a scan with {LEAST_LIVER:.0f} mL or more", "Choose another scan.")
    turned = Orientation.of(grid)
    labels = turned.apply(segmentation.labels)
    made = plant(
        turned.apply(volume),
        turned.apply(segmentation.liver),
        turned.apply(segmentation.organ("spleen")),
        np.asarray(labels > 0),
        turned.grid(grid).spacing,
        sequence,
        strengths,
        seed,
        np.isin(labels, [ORGANS.index(name) + 1 for name in _STAY]),
    )
    image = np.ascontiguousarray(turned.undo(made.image), dtype=np.float32)
    description = "signs planted by cirrnb"
    files = {
        "image": save_volume(out / f"planted_{sequence}.nii.gz", image, grid, scan=scan, description=description),
        "mask": save_volume(
            out / f"planted_{sequence}_mask.nii.gz",
            np.ascontiguousarray(turned.undo(made.liver)),
            grid,
            scan=scan,
            description=description,
        ),
    }
    evidence = np.ascontiguousarray(turned.undo(made.evidence))
    save_volume(out / f"planted_{sequence}_evidence.nii.gz", evidence, grid, scan=scan, description=description)
    names = {str(number): sign for number, sign in enumerate(SIGNS, start=1)}
    stored = {"strengths": dict(made.strengths), "seed": seed, "segmented by": segmentation.drawn_by, "evidence": names}
    atomic_write(out / "strengths.json", json.dumps(stored, indent=1) + "\n")
    atomic_write(out / SIMULATED, _MARK)
    row = {"patient": "planted", "sequence": sequence, **{name: path.name for name, path in files.items()}}
    return write_csv(out / "scans.csv", [{**row, "mask_by": segmentation.drawn_by}])
