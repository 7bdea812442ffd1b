"""Where the body is in a scan, and the intensities that are brought to 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.numbers import figure

SAMPLE = 6.0
"""mm between the voxels looked at to find the body and its percentiles: every n-th along each axis, without
averaging, so that their distribution is that of the whole volume. Some 50,000 remain within a body; the first or
99th percentile of so many is the true 1.00 ± 0.04th."""

LEAST_SAMPLES = 16  # along an axis, where it has as many
LEAST_BODY = 0.2
"""Litres below which what was found is not called a body."""

SUBSTANTIAL = 0.3
"""Share of the largest cross-section that a slice needs to count as showing the body."""

_BINS = 512  # of the histogram in which the body's threshold is sought

CLIP = (-0.5, 2.0)
"""Range kept after scaling: fluid and vessels may be brighter than 1, nothing useful is beyond 2."""


@dataclass(frozen=True)
class Body:
    """The body within a volume (slices, rows, columns).

    Attributes
    ----------
    low, high : intensities at the two percentiles of the body's voxels.
    slices : first slice and one past the last in which the body is substantial.
    centre : (row, column) of the middle of the body, in voxels.
    litres : its volume.
    """

    low: float
    high: float
    slices: tuple[int, int]
    centre: tuple[float, float]
    litres: float


class NoBody(ValueError):
    """No body in the volume; the message gives what was found instead."""


def find_body(
    volume: NDArray, spacing: tuple[float, float, float], percentiles: tuple[float, float] = (1.0, 99.0)
) -> Body:
    """Find the body in `volume` (slices, rows, columns) with `spacing` in mm, on a sample of its voxels.

    The body is the largest connected part above Li's threshold, with its holes (vessels, gas) filled slice by slice.

    Raises
    ------
    NoBody
        If the volume is constant, holds nothing of the size of a body, or the body has a single intensity.
    """
    strides = [_stride(size, length) for size, length in zip(volume.shape, spacing, strict=True)]
    sample = np.ascontiguousarray(volume[tuple(slice(stride // 2, None, stride) for stride in strides)], np.float32)
    inside = _fill(_largest(sample > _threshold(sample)))
    litres = inside.sum() * np.prod(strides) * np.prod(spacing) / 1e6
    if litres < LEAST_BODY:
        raise NoBody(f"no body, only {litres * 1000:.0f} mL that stand out")
    low, high = (float(value) for value in np.percentile(sample[inside], percentiles))
    if not high > low:
        raise NoBody(f"a body of the single intensity {figure(low)}")
    areas = inside.sum(axis=(1, 2))
    shown = np.flatnonzero(areas >= SUBSTANTIAL * areas.max())
    first = max(0, int(shown[0]) * strides[0] + strides[0] // 2 - (strides[0] - 1))
    last = min(volume.shape[0], int(shown[-1]) * strides[0] + strides[0] // 2 + strides[0])
    row = _middle(inside.sum(axis=(0, 2))) * strides[1] + strides[1] // 2
    column = _middle(inside.sum(axis=(0, 1))) * strides[2] + strides[2] // 2
    return Body(low, high, (first, last), (row, column), float(litres))


def scale(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float16]:
    """Bring `low` to 0 and `high` to 1, clip to `CLIP`; works in `values` itself and returns float16."""
    values -= np.float32(low)
    if (factor := 1 / (high - low)) < float(np.finfo(np.float32).max):
        values *= np.float32(factor)
    else:  # a signal in so small a unit that its inverse is too large for single precision
        values /= np.float32(high - low)
    np.clip(values, *CLIP, out=values)
    return to_half(values)


def to_half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """What `values.astype(np.float16)` is, four times as fast; works in `values` itself.

    For numbers up to 65504; what is smaller than 6e-5 may be rounded to the next float16, 6e-8 away.

    numpy converts one number at a time, which would cost more than resampling. Here the exponent is brought to that
    of float16 by a multiplication, which also makes small numbers subnormal, and the ten bits that remain of the
    fraction are rounded to even.
    """
    values *= np.float32(2.0**-112)
    bits = values.view(np.uint32)
    sign = (bits >> np.uint32(16)).astype(np.uint16) & np.uint16(0x8000)
    bits &= np.uint32(0x7FFFFFFF)
    bits += ((bits >> np.uint32(13)) & np.uint32(1)) + np.uint32(0xFFF)
    bits >>= np.uint32(13)
    return (bits.astype(np.uint16) | sign).view(np.float16)


def _stride(size: int, spacing: float) -> int:
    return max(1, min(round(SAMPLE / spacing), size // LEAST_SAMPLES))


def _threshold(sample: NDArray[np.float32]) -> float:
    """Li's minimum cross-entropy threshold (Li and Tam, Pattern Recognition Letters 19, 1998, 771).

    It suits dark surroundings and a few very bright voxels, which draw Otsu's threshold into the body. The brightest
    half percent is cut off for the same reason.
    """
    low, high = float(sample.min()), float(np.percentile(sample, 99.5))
    if not high > low:
        high = float(sample.max())
    if not high > low:
        raise NoBody(f"(almost) all voxels at the intensity {figure(low)}")
    step = (high - low) / _BINS
    with np.errstate(over="ignore"):
        factor = np.float32(1 / step)
    if not np.isfinite(factor):  # signals near the smallest numbers there are
        sample, factor = (sample - np.float32(low)) / np.float32(high - low), np.float32(_BINS)
    else:
        sample = sample - np.float32(low)
    bins = np.minimum(sample * factor, _BINS - 1).astype(np.int32)
    counts = np.bincount(bins.ravel(), minlength=_BINS)
    levels = (np.arange(_BINS) + 0.5) * step  # above 0, so that their logarithm exists
    weights, moments = np.cumsum(counts), np.cumsum(counts * levels)
    cut = int(np.searchsorted(levels, moments[-1] / weights[-1]))
    for _ in range(50):
        cut = min(max(cut, 1), len(levels) - 1)
        below = moments[cut - 1] / weights[cut - 1]
        above = (moments[-1] - moments[cut - 1]) / max(weights[-1] - weights[cut - 1], 1)
        better = int(np.searchsorted(levels, (above - below) / np.log(above / below)))
        if abs(better - cut) <= 1:
            break
        cut = better
    return low + cut * step


def _largest(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part."""
    from scipy import ndimage

    labels, count = ndimage.label(inside)
    if count < 2:
        return inside
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == np.argmax(sizes)


def _fill(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Holes within each slice filled: what is outside reaches the slice's border within the slice."""
    from scipy import ndimage

    within_slice = np.zeros((3, 3, 3), dtype=bool)
    within_slice[1] = ndimage.generate_binary_structure(2, 1)
    padded = np.pad(~inside, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    labels, _ = ndimage.label(padded, structure=within_slice)
    outside = np.zeros(labels.max() + 1, dtype=bool)
    outside[labels[:, 0, 0]] = True
    return ~outside[labels[:, 1:-1, 1:-1]]


def _middle(counts: NDArray) -> float:
    """Middle between the places where 2 % and 98 % of the counts are reached: arms and stray voxels weigh little."""
    share = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(share, 0.02), np.searchsorted(share, 0.98)
    return float(low + high) / 2
