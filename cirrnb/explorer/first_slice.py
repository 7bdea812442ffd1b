"""The slice at which the pictures stand when a map has come."""

from __future__ import annotations

import numpy as np

from cirrnb.data.bag import Bag
from cirrnb.explanation.explanation import Explanation

LIVER_SHARE = 1 / 3
"""Area of liver that a slice must show, as a share of the scan's largest."""


def strongest_height(bag: Bag, explanation: Explanation) -> float:
    """Height in mm, in the frame of the first sequence, of the slice with the largest Shapley value of either sign.

    Of scans with a liver mask only slices count that show at least `LIVER_SHARE` of the largest area of liver: the
    chart names the others, but none of them is a place to begin reading.
    """
    best, height = -1.0, 0.0
    for name, values in explanation.shapley.slices.items():
        scan, sizes = bag.scans[name], np.abs(values)
        liver = np.zeros(len(sizes)) if scan.mask is None else np.asarray(scan.mask).sum(axis=(1, 2))
        if liver.any():
            sizes = np.where(liver >= LIVER_SHARE * liver.max(), sizes, -1.0)
        if sizes.max() > best:
            best, height = float(sizes.max()), float(scan.positions[int(sizes.argmax())] - bag.shifts[name])
    return height
