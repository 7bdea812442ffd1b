"""Scans as they were acquired: the file's whole field of view at its own resolution, and maps laid on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.bag import Bag
from cirrnb.data.grid import Orientation
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.prepared import PreparedScan
from cirrnb.explanation.explanation import Explanation
from cirrnb.preparation.intensity import scale


@dataclass(frozen=True)
class AcquiredScan(PreparedScan):
    """A prepared scan's file, turned to slices x rows x columns (LPS) and scaled alike, but neither cropped nor
    resampled. It is shown and never handed to a model."""

    @cached_property
    def image(self) -> NDArray[np.float16]:
        volume, grid = read_volume(self.scan.image)
        turned = np.array(Orientation.of(grid).apply(volume), dtype=np.float32)
        return scale(turned, float(self.measured["low"]), float(self.measured["high"]))

    @cached_property
    def mask(self) -> NDArray[np.bool_] | None:
        if self.scan.mask is None:
            return None
        return np.asarray(Orientation.of(self.source_grid).apply(read_mask(self.scan.mask, self.source_grid)))


def as_acquired(bag: Bag) -> Bag:
    """A patient's scans in the whole field of view of their files. Reading raises InputError or OSError."""
    scans = {}
    for name, prepared in bag.scans.items():
        whole = Orientation.of(prepared.source_grid).grid(prepared.source_grid)
        fields = {field: getattr(prepared, field) for field in PreparedScan.__dataclass_fields__}
        scans[name] = AcquiredScan(**{**fields, "grid": whole})
    acquired = Bag(scans, bag.sequences)
    acquired.__dict__["shifts"] = bag.shifts  # estimated on the prepared scans
    return acquired


def explanation_as_acquired(explanation: Explanation, acquired: Bag) -> Explanation:
    """The same maps on the grids of `as_acquired`; 0 where nothing was explained."""
    maps = {}
    for name in explanation.maps:
        turned = Orientation.of(explanation.source_grids[name]).apply(explanation.to_source(name))
        maps[name] = np.nan_to_num(np.asarray(turned, dtype=np.float32))
    return replace(explanation, maps=maps, grids={name: acquired.scans[name].grid for name in maps})
