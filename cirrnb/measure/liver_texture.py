"""Fine texture of the liver, as shape of the signal's distribution at three scales.

Nodules and septa differ from parenchyma by a tenth of its signal, a few millimetres apart: less than noise does at one
pixel, and more than it at several. What is measured are differences of Gaussians within the liver, away from its
surface: how far the tails of their distribution reach and how uneven they are, relative to its spread. Contrast, gain
and shading of a scan do not enter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter

from cirrnb.data.prepared import PreparedScan

SCALES = (1.2, 2.4, 4.8)
"""mm, standard deviations of the Gaussians; each difference is of two that follow each other, the first of the image
itself."""
INSIDE = 6.0
"""mm from the outline within which nothing is measured."""
LEAST_AREA = 1500.0
"""mm² of liver below which a slice is not measured."""
TAILS = (2, 10, 90, 98)
"""Percentiles."""

Numbers = NDArray[np.float64]


def texture_names() -> tuple[str, ...]:
    """Names of the texture features, in the order of `liver_texture`."""
    names = [f"spread at {scale:g} mm" for scale in SCALES[1:]]
    for scale in SCALES:
        names += [f"percentile {percent} at {scale:g} mm" for percent in TAILS]
        names += [f"skewness at {scale:g} mm", f"kurtosis at {scale:g} mm"]
    return tuple(names)


def liver_texture(scan: PreparedScan) -> dict[str, float]:
    """Texture of the liver of a prepared scan.

    Returns
    -------
    Name (`texture_names`) -> median over the slices, without a unit: logarithms of spreads against the finest one, of
    percentiles against the spread at their scale, skewness, and the logarithm of kurtosis. Empty without a liver mask,
    or without a slice with enough liver.
    """
    mask = scan.mask
    if mask is None:
        return {}
    spacing = scan.settings.spacing
    rows = []
    for image, liver in zip(np.asarray(scan.image, np.float32), mask, strict=True):
        inside = binary_erosion(liver, iterations=max(1, round(INSIDE / spacing)))
        if np.count_nonzero(inside) * spacing**2 < LEAST_AREA:
            continue
        numbers = _of_slice(image, inside, spacing)
        if np.isfinite(numbers).all():
            rows.append(numbers)
    if not rows:
        return {}
    return dict(zip(texture_names(), np.median(rows, axis=0).tolist(), strict=True))


def _of_slice(image: NDArray[np.float32], inside: NDArray[np.bool_], spacing: float) -> Numbers:
    level = float(np.median(image[inside]))
    before = image / max(level, 1e-3)
    spreads, others = [], []
    for scale in SCALES:
        after = gaussian_filter(before, scale / spacing)
        part = (before - after)[inside].astype(float)
        before = after
        part -= np.median(part)
        spread = float(part.std()) + 1e-4
        spreads.append(np.log(spread))
        others += [np.log(abs(float(np.percentile(part, percent))) + 1e-3) - spreads[-1] for percent in TAILS]
        others += [(part**3).mean() / spread**3, np.log((part**4).mean() / spread**4 + 1e-3)]
    return np.array([*(value - spreads[0] for value in spreads[1:]), *others])
