"""Whether a liver mask that a person supplies fits its scan: how much it shares with the liver that is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.status import DOUBTFUL
from cirrnb.segmentation.checks import PASSED, Check
from cirrnb.simulation.tissue_shares import LIVER

LEAST_SHARED = 0.75
"""Share of the smaller of both livers that lies in the other, below which the mask is doubtful."""
LEAST_LIVER = 100.0
"""mL of liver that the program must find to judge a mask by it: it misses livers that a person draws."""

TEXT = "the mask shares {share:.0%} with the liver that the program finds: it may belong to another scan"
REMEDY = "Look at the outline. If it is right, the answer may be too."


def shared(mask: NDArray[np.bool_], liver: NDArray[np.bool_]) -> float:
    """Share of the smaller of two masks of one shape that lies in the other, 0 to 1; NaN where one is empty.

    A liver that a program finds in part lies within the one that a person drew, and shares nearly all with it.
    """
    smaller = min(np.count_nonzero(mask), np.count_nonzero(liver))
    return np.count_nonzero(mask & liver) / smaller if smaller else float("nan")


def shared_of_files(mask: Path, organs: Path) -> float:
    """As `shared`, for a mask and the map of the organs of its scan; NaN if undefined.

    That is so with less than `LEAST_LIVER` of liver, and for a mask that cannot be read: preparation says why.
    """
    labels, grid = read_volume(organs)
    liver = (labels >= LIVER[0]) & (labels <= LIVER[-1])
    if np.count_nonzero(liver) * grid.voxel_volume / 1000 < LEAST_LIVER:
        return float("nan")
    try:
        drawn = read_mask(mask, grid)
    except InputError:
        return float("nan")
    return shared(drawn, liver)


def check_mask(share: float) -> Check:
    """The check of a person's mask; its score is the logarithm of the share's odds over those of `LEAST_SHARED`.

    It only doubts: where program and person disagree, the person may be right.
    """
    if not np.isfinite(share):
        return Check("mask", float("nan"), PASSED)
    inside = float(np.clip(share, 1e-3, 1 - 1e-3))
    score = float(np.log(inside / (1 - inside)) - np.log(LEAST_SHARED / (1 - LEAST_SHARED)))
    if score >= 0:
        return Check("mask", score, PASSED)
    return Check("mask", score, DOUBTFUL, TEXT.format(share=share), REMEDY)
