"""One scan, from its file to arrays of one form: oriented, cropped, resampled within the slice, scaled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.given_masks import Box
from cirrnb.data.grid import Grid, Orientation
from cirrnb.data.mask_checks import shape_doubts
from cirrnb.data.nifti.reading import read_header, read_mask, read_volume, refuse_ct
from cirrnb.data.prepared import PreparationSettings, size_of
from cirrnb.data.resampling import Sampling, resample
from cirrnb.preparation.geometry import Frame
from cirrnb.preparation.intensity import Body, NoBody, find_body, scale

CUT_OFF = 0.02
"""Share of the liver's largest area above which it does not end in the first or last slice, but is cut off there."""
_CHUNK = 8  # slices worked on together, so that what is computed stays in the processor's cache


@dataclass(frozen=True)
class Standardised:
    """A scan brought to one form, not yet stored; the fields are those of `PreparedScan`."""

    image: NDArray[np.float16]
    mask: NDArray[np.bool_] | None
    grid: Grid
    source_grid: Grid
    notes: tuple[str, ...]
    measured: dict[str, Any]


@dataclass(frozen=True)
class View:
    """What a scan's frame has to contain, beyond the settings: so that the whole liver lies in it on every sequence.

    Attributes
    ----------
    field : (rows, columns) in mm.
    margin : mm of slices above and below the liver.
    box : of a scan without a mask, where the view shall be: from and to in mm (RAS+) along x, y, z; None for the body.
    """

    field: tuple[float, float]
    margin: float
    box: Box | None = None


@dataclass(frozen=True)
class _Region:
    """Where the view shall be (slices, rows, columns), in voxels, from the first to one past the last."""

    slices: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    @classmethod
    def of_box(cls, box: Box, grid: Grid) -> _Region | None:
        """A box on the oriented grid of a scan; None where it lies beside the scan."""
        corners = np.array([(*corner, 1.0) for corner in product(*box)])
        places = (corners @ np.linalg.inv(grid.affine).T)[:, :3]
        first = np.maximum(np.floor(places.min(axis=0) + 0.5), 0).astype(int)
        last = np.minimum(np.ceil(places.max(axis=0) + 0.5), grid.shape).astype(int)
        if (first >= last).any():
            return None
        slices, rows, columns = zip(first.tolist(), last.tolist(), strict=True)
        return cls(slices, rows, columns)

    @property
    def centre(self) -> tuple[float, float]:
        return (self.rows[0] + self.rows[1] - 1) / 2, (self.columns[0] + self.columns[1] - 1) / 2


@dataclass(frozen=True)
class _Liver(_Region):
    """Extent of a liver mask; `area` the most voxels of one slice."""

    voxels: int
    ends: tuple[int, int]
    area: int

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> _Liver:
        lines = (np.flatnonzero(np.any(mask, axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
        slices, rows, columns = ((int(line[0]), int(line[-1]) + 1) for line in lines)
        areas = np.count_nonzero(mask, axis=(1, 2))
        return cls(slices, rows, columns, int(areas.sum()), (int(areas[0]), int(areas[-1])), int(areas.max()))

    def cut_off(self, shape: tuple[int, int, int]) -> list[str]:
        """Borders of the scan at which the liver is cut off."""
        borders = [
            name
            for name, area in zip(("lowest slice", "highest slice"), self.ends, strict=True)
            if area > CUT_OFF * self.area
        ]
        if min(self.rows[0], self.columns[0]) == 0 or self.rows[1] == shape[1] or self.columns[1] == shape[2]:
            borders.append("edge of the image")
        return borders


def liver_extent(image: Path, mask: Path) -> tuple[float, float]:
    """Extent in mm of the liver of a scan from front to back and from right to left (rows and columns).

    Raises InputError as `read_mask` does.
    """
    source = read_header(image).grid
    orientation = Orientation.of(source)
    liver, spacing = _Liver.of(orientation.apply(read_mask(mask, source))), orientation.grid(source).spacing
    rows, columns = (
        (last - first) * step for (first, last), step in zip((liver.rows, liver.columns), spacing[1:], strict=True)
    )
    return float(rows), float(columns)


def standardise(
    image: Path, mask: Path | None, settings: PreparationSettings, view: View | None = None
) -> Standardised:
    """Read a scan and its liver mask, if there is one, and bring them to the form `settings` ask for.

    `view` widens the field of view and the margin that the settings name.

    Intensities are scaled by percentiles over the body of the whole volume, whatever the view or the slices kept.

    Raises
    ------
    InputError
        Whatever `read_volume` and `read_mask` raise, and if the scan is a CT or there is no body in it.
    """
    voxels, source = read_volume(image)
    refuse_ct(image, voxels)
    orientation = Orientation.of(source)
    volume, grid = orientation.apply(voxels), orientation.grid(source)
    try:
        body = find_body(volume, grid.spacing, settings.percentiles)
    except NoBody as error:
        raise InputError(image, str(error), "an abdominal scan", "Look at the file; leave it out.") from error
    marked = None if mask is None else orientation.apply(read_mask(mask, source))
    liver = None if marked is None else _Liver.of(marked)
    drawn = _Region.of_box(view.box, grid) if view is not None and view.box is not None and liver is None else None
    frame = _frame(source, orientation, body, liver or drawn, settings, view)
    prepared = _scaled(frame.crop(volume), frame, body)
    prepared_mask = None if marked is None else _resampled_mask(frame.crop(marked), frame)
    notes = [*read_header(image).notes, *orientation.notes(source)]
    measured = _measured(frame, body)
    if liver is None or marked is None:
        if settings.view == "liver":
            middle = "the body" if drawn is None else "a box that a reader drew"
            notes.append(f"no liver mask; the view is centred on {middle}")
    else:
        assert mask is not None
        notes += [f"liver mask: {note}" for note in read_header(mask).notes]
        measured["liver_ml"] = round(liver.voxels * source.voxel_volume / 1000, 3)
        measured["liver_outside"] = outside = round(_share_outside(frame.crop(marked), frame, liver), 4)
        if outside >= 0.005:
            notes.append(f"{outside:.0%} of the liver lies outside the field of view")
        if cut := liver.cut_off(marked.shape):
            measured["liver_cut_off"] = cut
            notes.append(f"part of the liver is missing: it is cut off at the {' and the '.join(cut)}")
        doubts = shape_doubts(orientation.undo(marked), source)
        notes += [f"the liver mask may be no liver: {doubt}" for doubt in doubts]
    return Standardised(prepared, prepared_mask, frame.grid, source, tuple(notes), measured)


def _frame(
    source: Grid,
    orientation: Orientation,
    body: Body,
    region: _Region | None,
    settings: PreparationSettings,
    view: View | None,
) -> Frame:
    grid = orientation.grid(source)
    margin, sizes = settings.margin, settings.size
    if view is not None:
        margin = max(margin, view.margin)
        sizes = size_of(view.field, settings.spacing)
    first, last = body.slices
    if region is not None:
        extra = int(margin / grid.spacing[0] + 1e-6)
        if view is not None and view.margin > settings.margin:  # a program may have missed the end: whole slices of it
            extra = int(np.ceil(view.margin / grid.spacing[0] - 1e-6))
        first, last = max(0, region.slices[0] - extra), min(grid.shape[0], region.slices[1] + extra)
    if settings.pixels is not None:
        rows, columns = (
            _whole(size, source_size) for size, source_size in zip(settings.pixels, grid.shape[1:], strict=True)
        )
        return Frame(source, orientation, first, last - first, rows, columns)
    centre = region.centre if region is not None and settings.view == "liver" else body.centre
    rows, columns = (
        _sampling(middle, settings.spacing / spacing, size, source_size)
        for middle, spacing, size, source_size in zip(centre, grid.spacing[1:], sizes, grid.shape[1:], strict=True)
    )
    return Frame(source, orientation, first, last - first, rows, columns)


def _whole(size: int, source_size: int) -> Sampling:
    """Samples that share a whole axis evenly."""
    step = source_size / size
    return Sampling((step - 1) / 2, step, size, source_size)


def _sampling(middle: float, step: float, size: int, source_size: int) -> Sampling:
    """Samples around `middle`. They begin on the edge of a source voxel: an equal spacing copies without blurring,
    and halving or doubling it meets no mask's edge exactly half-way."""
    edge = (step - 1) / 2
    return Sampling(round(middle - step * (size - 1) / 2 - edge) + edge, step, size, source_size)


def _scaled(volume: NDArray, frame: Frame, body: Body) -> NDArray[np.float16]:
    image = np.empty(frame.grid.shape, dtype=np.float16)
    for begin in range(0, len(volume), _CHUNK):
        part = resample(volume[begin : begin + _CHUNK], frame.rows, frame.columns)
        image[begin : begin + _CHUNK] = scale(part, body.low, body.high)
    image[:, ~frame.rows.inside] = 0
    image[:, :, ~frame.columns.inside] = 0
    return image


def _resampled_mask(mask: NDArray[np.bool_], frame: Frame) -> NDArray[np.bool_]:
    prepared = np.empty(frame.grid.shape, dtype=np.bool_)
    for begin in range(0, len(mask), _CHUNK):
        part = resample(mask[begin : begin + _CHUNK], frame.rows, frame.columns)
        np.greater_equal(part, 0.5 - 1e-6, out=prepared[begin : begin + _CHUNK])
    return prepared


def _share_outside(mask: NDArray[np.bool_], frame: Frame, liver: _Liver) -> float:
    """Share of the liver's voxels that lie beyond the rows and columns of the frame."""
    seen = []
    for axis in (frame.rows, frame.columns):
        back = axis.inverse().inside
        seen.append(slice(int(np.argmax(back)), len(back) - int(np.argmax(back[::-1]))) if back.any() else slice(0, 0))
    return 1 - np.count_nonzero(mask[:, seen[0], seen[1]]) / liver.voxels


def _measured(frame: Frame, body: Body) -> dict[str, Any]:
    return {
        "low": body.low,
        "high": body.high,
        "body_litres": round(body.litres, 3),
        "slices": [frame.first, frame.first + frame.slices],
        "source_slices": frame.orientation.grid(frame.source).shape[0],
    }
