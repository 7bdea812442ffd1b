"""Prepared scans: the settings of preparation, and slices on one spacing that are read from disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError, check_number
from cirrnb.data.grid import Grid
from cirrnb.data.json_file import number_array, read_object
from cirrnb.data.scan import Scan

FIELD_OF_VIEW = {"abdomen": (288.0, 384.0), "liver": (224.0, 256.0)}
"""Default field of view in mm, rows (front to back) x columns (right to left)."""

WHOLE = "slice"
"""The view of whole slices, whatever their size in mm, brought to a number of pixels."""

WHOLE_PIXELS = (256, 256)
"""Rows and columns of whole slices, as in Zeng et al. (arXiv 2502.18225)."""

MAX_FIELD_OF_VIEW = 1000.0
"""Longest side of a field of view in mm; the widest scanners see 700."""

MAX_SIZE = 2048
"""Most rows or columns of a prepared slice: a float16 slice then takes 8 MB."""


@dataclass(frozen=True)
class PreparationSettings:
    """How scans are brought to one form. Every one of these is part of a prepared scan's key.

    Attributes
    ----------
    view : "abdomen" centres the field of view on the body, "liver" on the liver mask (on the body without one). Where
        the liver of a patient is larger than the field of view, "liver" widens it for that patient. "slice" takes the
        whole slice, stretched to `pixels`; spacing and field of view then play no part.
    spacing : in-plane spacing in mm of the prepared slices, the same along rows and columns. Spacing through
        plane is left as acquired.
    field_of_view : (rows, columns) in mm; None takes the view's default in `FIELD_OF_VIEW`.
    margin : mm of slices kept above and below the liver (with a mask).
    percentiles : of the body's voxels in the whole volume, brought to 0 and 1.
    pixels : (rows, columns) of whole slices, by default `WHOLE_PIXELS`; None for the other views.
    """

    view: str = "abdomen"
    spacing: float = 1.5
    field_of_view: tuple[float, float] | None = None
    margin: float = 0.0
    percentiles: tuple[float, float] = (1.0, 99.0)
    pixels: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.view, str) or self.view not in (*FIELD_OF_VIEW, WHOLE):
            raise ValueError(f"view is one of {(*FIELD_OF_VIEW, WHOLE)}, not {self.view!r}")
        check_number("spacing", self.spacing, 0.3, 10)
        check_number("margin", self.margin, 0, 1000)
        low, high = _pair("percentiles", self.percentiles, 0, 100)
        if high - low < 1:
            raise ValueError(f"percentiles rise by at least 1, not {self.percentiles}")
        # Pairs are lists where they come from a file; as tuples they compare and hash alike.
        object.__setattr__(self, "percentiles", (low, high))
        if self.view == WHOLE:
            if self.field_of_view is not None:
                raise ValueError(f"whole slices have no field_of_view, and it is {self.field_of_view}")
            rows, columns = _pair("pixels", self.pixels or WHOLE_PIXELS, 8, MAX_SIZE)
            object.__setattr__(self, "pixels", (int(rows), int(columns)))
            return
        if self.pixels is not None:
            raise ValueError(f"pixels are of whole slices (view {WHOLE!r}), and the view is {self.view!r}")
        view = FIELD_OF_VIEW[self.view] if self.field_of_view is None else self.field_of_view
        object.__setattr__(self, "field_of_view", _pair("field_of_view", view, 1, MAX_FIELD_OF_VIEW))
        if min(self.size) < 8 or max(self.size) > MAX_SIZE:
            raise ValueError(
                f"field_of_view {self.field_of_view} mm at {self.spacing} mm is {self.size} pixels, not 8 to {MAX_SIZE}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a prepared slice."""
        if self.pixels is not None:
            return self.pixels
        assert self.field_of_view is not None
        return size_of(self.field_of_view, self.spacing)

    @property
    def described(self) -> str:
        """In words: the view, its size in mm and the spacing, or the pixels of whole slices."""
        if self.field_of_view is None:
            return f"whole slices, {self.size[0]} x {self.size[1]} pixels"
        rows, columns = self.field_of_view
        return f"{self.view}, {rows:g} x {columns:g} mm at {self.spacing:g} mm"

    def stored(self) -> dict[str, Any]:
        """The fields as files and keys hold them. Later additions are absent at their default, so that what was
        prepared before is found again."""
        stored = asdict(self)
        if self.pixels is None:
            del stored["pixels"]
        return stored


def size_of(field: tuple[float, float], spacing: float) -> tuple[int, int]:
    """Rows and columns of a field of view in mm."""
    return round(field[0] / spacing), round(field[1] / spacing)


def _pair(name: str, values: Any, least: float, most: float) -> tuple[float, float]:
    """Two numbers within bounds. Raises ValueError for anything else."""
    if not isinstance(values, list | tuple) or len(values) != 2:
        raise ValueError(f"{name} is two numbers, not {values!r:.80}")
    for value in values:
        check_number(name, value, least, most)
    return float(values[0]), float(values[1])


@dataclass(frozen=True)
class PreparedScan:
    """One scan as slices x rows x columns, LPS: slices from feet to head, rows from front to back, columns from
    the patient's right to the left, so that a slice shown as it is has the radiological orientation.

    Attributes
    ----------
    scan : the scan it was made from.
    folder : where its arrays lie; `image` and `mask` are mapped from there when they are used.
    grid : grid of `image` and `mask` (slices, rows, columns).
    source_grid : grid of the file it was made from.
    settings : what it was made with.
    notes : what is unusual about the scan, as sentences.
    measured : intensities brought to 0 and 1 (low, high), body_litres, the file's slices that were kept (first and
        one past the last, from the feet) out of source_slices; with a mask also liver_ml and the share of the liver
        that is outside the field of view (liver_outside) and the borders at which it is cut off (liver_cut_off).
    """

    scan: Scan
    folder: Path
    grid: Grid
    source_grid: Grid
    settings: PreparationSettings
    notes: tuple[str, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def image(self) -> NDArray[np.float16]:
        """(slices, rows, columns) float16, read-only and memory-mapped: 0 at the lower and 1 at the upper
        percentile of the body, clipped to -0.5 and 2; 0 outside the file's own field of view."""
        return _mapped(self.folder / "image.npy")

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """(slices, rows, columns) bool liver mask on the same grid, or None where none is known."""
        path = self.folder / "mask.npy"
        return _mapped(path) if path.exists() else None

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """(slices,) position of each slice's centre along the head axis in mm (RAS+ z), rising."""
        slices, rows, columns = self.grid.shape
        centre = np.array([(index, (rows - 1) / 2, (columns - 1) / 2) for index in range(slices)])
        return self.grid.to_patient(centre)[:, 2]

    @property
    def widest(self) -> int:
        """Index of the slice where the liver is widest, or of the middle one where no liver is outlined."""
        mask = self.mask
        if mask is None or not mask.any():
            return self.grid.shape[0] // 2
        return int(mask.sum(axis=(1, 2)).argmax())

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone, which a data loader's workers are sent."""
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    @classmethod
    def open(cls, folder: Path, scan: Scan) -> PreparedScan:
        """Read what `describe` put into `folder`. Raises as `read_description`."""
        return cls(scan=scan, folder=folder, **read_description(folder))


OPEN_FILES = 32
"""Arrays that stay mapped, the latest used: each holds a file open, of which a process may have about a thousand."""


def _mapped(path: Path) -> NDArray:
    """A stored array, read-only and memory-mapped. Whoever keeps it keeps its file open."""
    status = path.stat()
    return _map(path, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=OPEN_FILES)
def _map(path: Path, inode: int, changed: int) -> NDArray:
    """`inode` and `changed` distinguish a file from an earlier one at the same path."""
    array: NDArray = np.load(path, mmap_mode="r")
    return array


def describe(
    grid: Grid, source_grid: Grid, settings: PreparationSettings, notes: tuple[str, ...], measured: Mapping[str, Any]
) -> dict[str, Any]:
    """What `prepared.json` holds and `PreparedScan.open` reads: nothing that names the patient or a path."""
    return {
        "settings": settings.stored(),
        "grid": {"shape": grid.shape, "affine": grid.affine.tolist()},
        "source_grid": {"shape": source_grid.shape, "affine": source_grid.affine.tolist()},
        "notes": notes,
        "measured": dict(measured),
    }


def read_description(folder: Path) -> dict[str, Any]:
    """Grids, settings, notes and measurements of a prepared scan's folder, by the names of `PreparedScan`'s fields.

    Raises FileNotFoundError where there is no description, InputError for a damaged one.
    """
    path, remedy = folder / "prepared.json", "Remove the folder, and prepare the scan again."
    stored = read_object(path, "a whole file", remedy)
    try:
        if not isinstance(stored["measured"], dict) or not all(isinstance(note, str) for note in stored["notes"]):
            raise ValueError("notes or measurements that are none")
        return {
            "grid": _grid(stored["grid"]),
            "source_grid": _grid(stored["source_grid"]),
            "settings": PreparationSettings(**stored["settings"]),
            "notes": tuple(stored["notes"]),
            "measured": stored["measured"],
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"a damaged description ({error})", "what cirrnb.prepare writes", remedy) from error


def _grid(stored: dict[str, Any]) -> Grid:
    for size in stored["shape"]:
        check_number("shape", size, 1, 2**31, whole=True)
    return Grid(tuple(stored["shape"]), number_array("affine", stored["affine"], (4, 4)))
