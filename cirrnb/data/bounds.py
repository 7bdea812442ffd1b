"""Bounds of numbers and types of settings, judged before anything is computed or allocated with them."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from cirrnb.data.grid import Grid

SPACING = (0.05, 100.0)
"""Distance in mm between the voxels of a scan. Abdominal MRI has 0.5 to 12 mm."""

MAX_EXTENT = 5_000.0
"""Longest side of a scan in mm."""

MAX_OFFSET = 10_000.0
"""Farthest corner of a scan from the scanner's origin, in mm."""

MIN_ANGLE = 45.0
"""Smallest angle in degrees between two axes of a scan; a gantry tilts by at most 30."""


class OutOfBounds(ValueError):
    """A setting that is no number within its bounds, or of the wrong type."""


def check_number(name: str, value: Any, least: float, most: float, whole: bool = False) -> None:
    """Raise OutOfBounds unless `value` is a number from `least` to `most`; True and False are none."""
    kind = Integral if whole else Real
    wanted = f"{'a whole number' if whole else 'a number'} from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(float(value)):
        raise OutOfBounds(f"{name} is {wanted}, not {value!r:.80}")
    if not least <= float(value) <= most:
        raise OutOfBounds(f"{name} is {wanted}, not {value!r:.80}")


def check_flag(name: str, value: Any) -> None:
    """Raise OutOfBounds unless `value` is True or False; 0, null and "no" are neither."""
    if not isinstance(value, bool):
        raise OutOfBounds(f"{name} is true or false, not {value!r:.80}")


def implausible(grid: Grid) -> str | None:
    """What no scan of a patient has about this grid, in words, or None where it can be one."""
    smallest, largest = min(grid.spacing), max(grid.spacing)
    if not (SPACING[0] <= smallest and largest <= SPACING[1]):
        return f"voxels of {' x '.join(f'{one:.3g}' for one in grid.spacing)} mm"
    extent = max(spacing * size for spacing, size in zip(grid.spacing, grid.shape, strict=True))
    if extent > MAX_EXTENT:
        return f"a side of {extent / 1000:.3g} m"
    offset = float(np.abs(grid.corners()).max())
    if offset > MAX_OFFSET:
        return f"a position {offset / 1000:.3g} m from the scanner's origin"
    axes = grid.affine[:3, :3] / np.array(grid.spacing)
    cosine = max(abs(float(axes[:, one] @ axes[:, other])) for one, other in ((0, 1), (0, 2), (1, 2)))
    angle = math.degrees(math.acos(min(cosine, 1.0)))
    return f"axes at an angle of {angle:.3g} degrees" if angle < MIN_ANGLE else None
