"""Other organs from a segmentation: a NIfTI file with a number for each label, and a JSON file with their meaning.

The file stands in the column `organs` of a cohort's table. `spleens.nii.gz` is explained by `spleens.json`: either
{"spleen": 1, "muscle": [46, 47], "caudate": 3, "right lobe": 4}, any of them, or the name of a known
table: "cirrnb", "total_mr".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.json_file import read_json
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.scan import Scan
from cirrnb.simulation.tissue_shares import ORGANS as SEGMENTED

ASCITES = "ascites"
ORGANS = ("spleen", "muscle", "caudate", "right lobe", ASCITES)

SEGMENTER = "cirrnb"
TABLES = {
    "total_mr": {"spleen": [1], "muscle": [46, 47]},
    SEGMENTER: {"spleen": [4], "muscle": [11], "caudate": [3], "right lobe": [1], "ascites": [5]},
}
"""Labels of known programs: the package's own segmenter (`cirrnb.simulation.tissue_shares.ORGANS`), and
TotalSegmentator's task total_mr (muscle: the autochthonous back muscles, left and right;
D'Antonoli et al., Radiology 2025;314:e241613)."""


def read_organs(path: Path, grid: Grid) -> dict[str, NDArray[np.bool_]]:
    """Masks of the organs that a segmentation names, in the file's own order of axes.

    Organs without a voxel are absent, but for ascites: that there is none is a finding.

    Raises
    ------
    InputError
        If the segmentation cannot be read, lies on another grid than the scan, or its labels have no stated meaning.
    """
    labels = _labels(path)
    values, labels_grid = read_volume(path)
    if not labels_grid.matches(grid):
        raise InputError(
            path,
            "a segmentation on another grid than its scan",
            "the scan's own grid",
            "Resample the segmentation to the scan (nearest neighbour).",
        )
    masks = {name: np.isin(values, numbers) for name, numbers in labels.items()}
    return {name: mask for name, mask in masks.items() if mask.any() or name == ASCITES}


def is_by_program(path: Path) -> bool:
    """True if the labels are those of the package's own segmenter. Raises InputError as `read_organs` does."""
    return _explained(path) == SEGMENTER


def organs_by_program(scan: Scan) -> bool:
    """True if the package's own segmenter drew the organs of a scan; False where there are none that can be read."""
    named = scan.extra.get("organs")
    try:
        return bool(named) and is_by_program(scan.image.parent / str(named))
    except (InputError, OSError):
        return False


def organ_numbers(path: Path) -> dict[int, str]:
    """Number -> name of the organs in a segmentation, as far as they are known. Raises InputError."""
    if is_by_program(path):
        return dict(enumerate(SEGMENTED, start=1))
    return {number: name for name, numbers in _labels(path).items() for number in numbers}


def drawn_by_program(path: Path) -> bool:
    """Whether a segmentation is explained by a program's own table, so that a program drew it. Raises InputError."""
    return isinstance(_explained(path), str)


def _labels(path: Path) -> dict[str, list[int]]:
    stored = _explained(path)
    if isinstance(stored, str):
        return TABLES[stored]
    pairs = stored.items()
    return {name: value if isinstance(value, list) else [value] for name, value in pairs}


def _explained(path: Path) -> str | dict[str, int | list[int]]:
    """Content of a segmentation's JSON file: the name of one of `TABLES`, or labels by organ. Raises InputError."""
    json_path = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    names = " or ".join(TABLES)
    expected = f"{json_path.name} beside it with numbers for any of {', '.join(ORGANS)}, or the name {names}"
    remedy = "Write what the labels mean into that file."
    try:
        stored = read_json(json_path, expected, remedy)
    except OSError as error:
        raise InputError(path, "labels that nobody explains", expected, remedy) from error
    if isinstance(stored, str) and stored in TABLES:
        return stored
    pairs = stored.items() if isinstance(stored, dict) else ()
    numbers: dict[str, list[int]] = {name: value if isinstance(value, list) else [value] for name, value in pairs}
    wrong = [name for name in numbers if name not in ORGANS]
    if (
        not numbers
        or wrong
        or not all(type(label) is int and label > 0 for value in numbers.values() for label in value)
    ):
        raise InputError(json_path, f"{str(stored)[:80]!r}", expected, remedy)
    return dict(numbers)
