"""A CT among MR scans: NIfTI headers do not say what scanner a file comes from, but Hounsfield units do.

Air is -1000, fat -100, soft tissue 30 to 70 (up to 200 with a contrast agent) on every CT in the world, while MR values
are magnitudes of whatever scale. What was cut to the body or shifted to begin at 0 is not recognised.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError

AIR, SOFT = (-1100.0, -900.0), (-200.0, 300.0)
"""Hounsfield units of air, and of fat, soft tissue and blood with contrast agent."""

LEAST_AIR = 0.05
"""Share of a CT's voxels that are air, or the padding below it that scanners put outside their circle."""

LEAST_SOFT = 0.7
"""Share of what is neither air nor lung that is fat or soft tissue; the rest is bone, table, gas and noise."""

_SAMPLE = 200_000  # voxels looked at


def refuse_ct(path: Path, values: NDArray) -> None:
    """Raise InputError if the values of a scan are Hounsfield units, as those of a CT are."""
    flat = values.ravel(order="K")
    sample = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float32)
    if not is_hounsfield(sample):
        return
    air = float(np.mean(sample < AIR[1]))
    raise InputError(
        path,
        f"values that are Hounsfield units ({air:.0%} are air at -1000, tissue lies around 0): a CT",
        "a T1W or T2W scan from MRI",
        "Leave it out; of CT the stager knows nothing. If it is MRI all the same, shift its values to begin at 0.",
    )


def is_hounsfield(values: NDArray[np.float32]) -> bool:
    """Whether values (any shape) are distributed as those of a CT: much air at -1000, and nearly all else at tissue."""
    below, tissue = values < AIR[1], values[values > -400]
    if below.mean() < LEAST_AIR or tissue.size < LEAST_AIR * values.size:
        return False
    at_air = np.mean((values >= AIR[0]) & below)
    in_soft = np.mean((tissue > SOFT[0]) & (tissue < SOFT[1]))
    return bool(at_air >= 0.5 * LEAST_AIR and in_soft >= LEAST_SOFT)
