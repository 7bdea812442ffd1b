"""Checks of a mask before anything is measured in it: how large, in how many pieces, cut off or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import generate_binary_structure, label

FEWEST_VOXELS = 64
"""Fewer say nothing about texture or shape; a liver has thousands."""

CUT_OFF = "the mask is cut off"
"""Begins the remark on a mask that ends with the scan."""

WHOLE = 0.95
"""Share of the largest piece from which other pieces are taken for crumbs."""


@dataclass(frozen=True)
class MaskCheck:
    """What is true of a mask (slices, rows, columns).

    Attributes
    ----------
    voxels, slices : how many are in it.
    pieces : connected components, corners counted as touching; largest : share of the largest.
    cut : which ends of the volume it touches, in words: "lowest slice", "highest slice", "edge of the slices".
    """

    voxels: int
    slices: int
    pieces: int
    largest: float
    cut: tuple[str, ...]

    @property
    def too_small(self) -> str:
        """Why nothing can be measured, or nothing."""
        if self.voxels == 0:
            return "the mask is empty"
        return f"the mask has only {self.voxels} voxels" if self.voxels < FEWEST_VOXELS else ""

    @property
    def flat(self) -> str:
        """Why nothing three-dimensional can be measured, or nothing."""
        return "the mask lies in one slice" if self.slices == 1 else ""

    @property
    def remark(self) -> str:
        """What a reader of a measurement has to know, or nothing."""
        remarks = []
        if self.pieces > 1 and self.largest < WHOLE:
            remarks.append(f"the mask is in {self.pieces} pieces, the largest {self.largest:.0%} of it")
        if self.cut:
            remarks.append(f"{CUT_OFF} at the {' and the '.join(self.cut)}")
        return "; ".join(remarks)


def check_mask(mask: NDArray[np.bool_]) -> MaskCheck:
    """Look a mask (slices, rows, columns) over."""
    mask = np.asarray(mask, dtype=bool)
    voxels = int(mask.sum())
    if not voxels:
        return MaskCheck(0, 0, 0, 0.0, ())
    labels, pieces = label(mask, generate_binary_structure(3, 3))
    sizes = np.bincount(labels.ravel())[1:]
    sides = mask[:, [0, -1], :].any() or mask[:, :, [0, -1]].any()
    ends = {"lowest slice": mask[0].any(), "highest slice": mask[-1].any(), "edge of the slices": sides}
    # A mask of a single slice necessarily touches both ends; `flat` reports that.
    cut = tuple(name for name, touched in ends.items() if touched and (len(mask) > 1 or name.startswith("edge")))
    return MaskCheck(voxels, int(mask.any(axis=(1, 2)).sum()), int(pieces), float(sizes.max() / voxels), cut)
