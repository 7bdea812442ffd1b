"""From a file's own axes to axial slices, LPS, and back: turned and cropped exactly, never rotated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.grid import Grid, Orientation
from cirrnb.data.resampling import Sampling, resample, resample_nearest

if TYPE_CHECKING:
    from cirrnb.data.prepared import PreparedScan


@dataclass(frozen=True)
class Frame:
    """Which slices of a file are kept and where their rows and columns are sampled.

    Attributes
    ----------
    source : grid of the file.
    orientation : how the file's axes are turned.
    first, slices : first slice kept and their number, counted from the feet.
    rows, columns : where a slice is sampled.
    """

    source: Grid
    orientation: Orientation
    first: int
    slices: int
    rows: Sampling
    columns: Sampling

    @cached_property
    def grid(self) -> Grid:
        """Grid of the prepared array (slices, rows, columns)."""
        sample = np.diag((1.0, self.rows.step, self.columns.step, 1.0))
        sample[:3, 3] = self.first, self.rows.start, self.columns.start
        oriented = self.orientation.grid(self.source)
        return Grid((self.slices, self.rows.size, self.columns.size), oriented.affine @ sample)

    @classmethod
    def between(cls, source: Grid, prepared: Grid) -> Frame:
        """The frame that leads from `source` to `prepared`, worked out from the two grids alone."""
        orientation = Orientation.of(source)
        oriented = orientation.grid(source)
        relation = np.linalg.inv(oriented.affine) @ prepared.affine
        (_, rows, columns), start = np.diag(relation)[:3], relation[:3, 3]
        return cls(
            source,
            orientation,
            round(start[0]),
            prepared.shape[0],
            Sampling(start[1], rows, prepared.shape[1], oriented.shape[1]),
            Sampling(start[2], columns, prepared.shape[2], oriented.shape[2]),
        )

    def crop(self, oriented: NDArray) -> NDArray:
        """The slices kept of an array (slices, source rows, source columns)."""
        return oriented[self.first : self.first + self.slices]

    def to_source(self, array: NDArray) -> NDArray:
        """Bring an array (slices, rows, columns) back to the file's order and grid, 0 outside the frame.

        Numbers are interpolated linearly within the slice and come back as float32; bool comes back as bool, by
        nearest neighbour.
        """
        back = resample_nearest if array.dtype == np.bool_ else resample
        oriented = self.orientation.grid(self.source)
        whole: NDArray = np.zeros(oriented.shape, dtype=np.bool_ if array.dtype == np.bool_ else np.float32)
        self.crop(whole)[:] = back(array, self.rows.inverse(), self.columns.inverse())
        return np.ascontiguousarray(self.orientation.undo(whole))


def shared_out(source: Grid, prepared: Grid, array: NDArray) -> NDArray[np.float32]:
    """Bring amounts (attributions, counts), whose sum means something, from a prepared grid back to the file's.

    Unlike `to_source`, which interpolates values, every prepared pixel's amount is shared out among the source pixels
    it was made of, so that the sum is kept wherever the prepared pixels lie within the file.

    Returns an array on `source`, in the file's order of axes, float32: NaN in slices that were not prepared, 0 within
    the others beyond the prepared field of view.

    Raises ValueError if the array has another shape than the prepared grid.
    """
    if array.shape != prepared.shape:
        raise ValueError(f"an array on the prepared grid has shape {prepared.shape}, not {array.shape}")
    frame = Frame.between(source, prepared)
    rows, columns = (_sharing(axis) for axis in (frame.rows, frame.columns))
    whole = np.full(frame.orientation.grid(source).shape, np.nan, dtype=np.float32)
    frame.crop(whole)[:] = rows @ np.asarray(array, dtype=np.float32) @ columns.T
    return np.ascontiguousarray(frame.orientation.undo(whole))


def _sharing(axis: Sampling) -> NDArray[np.float32]:
    """Weights (source pixels, prepared pixels) by which a prepared pixel is shared out: its column sums to one."""
    back = Sampling(-axis.start / axis.step, 1 / axis.step, axis.source_size, axis.size).matrix
    return back / np.maximum(back.sum(axis=0), 1e-12)


def resample_like(prepared: PreparedScan, volume: NDArray) -> NDArray[np.float32]:
    """Bring another volume on the file's grid (a counterfactual of the scan, in the file's order of axes) to the
    prepared grid, sampled as the scan was: (slices, rows, columns) float32, not scaled."""
    frame = Frame.between(prepared.source_grid, prepared.grid)
    return resample(frame.crop(frame.orientation.apply(volume)), frame.rows, frame.columns)


def labels_like(prepared: PreparedScan, labels: NDArray) -> NDArray:
    """Bring labels on the file's grid to the prepared grid, by nearest neighbour; 0 outside the file."""
    frame = Frame.between(prepared.source_grid, prepared.grid)
    return resample_nearest(frame.crop(frame.orientation.apply(labels)), frame.rows, frame.columns)


def to_source(prepared: PreparedScan, array: NDArray) -> NDArray:
    """Bring an array on a prepared scan's grid back to the grid of the file it was made from.

    Parameters
    ----------
    array : (slices, rows, columns) as `prepared.grid`; bool for masks, numbers for anything else.

    Returns
    -------
    Array on `prepared.source_grid`, in the file's order of axes: float32, linear within the slice, slices in their
    own places; bool by nearest neighbour. 0 where nothing was prepared.

    Raises
    ------
    ValueError
        If the array has another shape than the prepared scan.
    """
    if array.shape != prepared.grid.shape:
        raise ValueError(f"an array on the prepared grid has shape {prepared.grid.shape}, not {array.shape}")
    return Frame.between(prepared.source_grid, prepared.grid).to_source(array)
