"""Numbers as people write them: 15200 and 0.00002, not 1.52e+04 and 2e-05."""

from __future__ import annotations

import math


def figure(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, all of those before the decimal point, and no power of ten.

    Numbers beyond 1e15 and below 1e-9 keep their power of ten: nobody counts so many zeros.
    """
    size = abs(value)
    if not math.isfinite(value) or size >= 1e15 or 0 < size < 1e-9:
        return f"{value:.{digits}g}"
    if size >= 10**digits:
        return f"{value:.0f}"
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    rounded = float(text)  # 9999.9 becomes 10000
    if size >= 1:
        return f"{rounded:.0f}"
    return f"{rounded:.{digits + 9}f}".rstrip("0")
