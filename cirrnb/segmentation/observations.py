"""Numbers that describe a segmented volume: sizes, places and signals of its organs, for the checks of any scan.

All of them are taken on the segmenter's working grid, where they cost a few milliseconds, and stored beside the map of
the organs, so that checks need no second segmentation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cirrnb.simulation.tissue_shares import LIVER, ORGANS

OBSERVATIONS_VERSION = 2
"""Raised by hand when observations of an equal volume change."""

Array = NDArray[np.float32]
Labels = NDArray[np.uint8]

VERTEBRAE = ORGANS.index("vertebrae") + 1
_SURE = 0.7
"""Probability of a voxel's organ from which its signal counts."""
_FEW = 12
"""Voxels of 3 mm below which an organ has no signal and no place."""
_SOLID = ("spleen", "kidneys", "portal and splenic vein", "aorta", "gallbladder", "vertebrae", "back muscle", "ascites")
_LEAST = {"spleen": 20.0, "kidneys": 20.0, "aorta": 2.0, "vertebrae": 20.0, "back muscle": 20.0, "gallbladder": 2.0}
"""mL from which an organ counts as found."""
SIGNALS = (*_SOLID, "fat under the skin", "brightest", "middle of the body", "darkest")
"""Signals that are observed, each as the logarithm of its ratio to the liver's."""
CANAL = ("spinal canal against vertebrae", "rank of the spinal canal")
"""How bright the fluid of the spinal canal is: bright on T2W, dark on T1W, with and without fat suppression."""
PLACED = ("spleen", "kidneys", "aorta", "gallbladder", "vertebrae", "back muscle")
"""Organs whose place relative to the liver is observed."""


def observe(
    image: Array, labels: Labels, label_probability: Array, spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Observations by name; NaN if an organ is absent.

    Parameters
    ----------
    image : (slices, rows, columns), slices to the head, rows to the back, columns to the left; any scale.
    labels : the same shape, 0 outside the body, else 1 plus the place in `ORGANS`.
    label_probability : the same shape, 0 to 1, probability of the voxel's label.
    spacing : mm along slices, rows, columns.

    Returns
    -------
    Volumes in mL, places and extents in mm, areas as shares, signals as logarithms of ratios.
    """
    body = labels > 0
    voxel = float(np.prod(spacing)) / 1000
    counts = np.bincount(labels.ravel(), minlength=len(ORGANS) + 1)
    observed = {f"volume {name}": float(count) * voxel for name, count in zip(ORGANS, counts[1:], strict=True)}
    liver = (labels >= LIVER[0]) & (labels <= LIVER[-1])
    observed["volume liver"] = float(np.count_nonzero(liver)) * voxel
    observed["size of the liver"] = float(np.log1p(observed["volume liver"]))
    observed["organs found"] = float(sum(observed[f"volume {name}"] >= least for name, least in _LEAST.items()))
    observed["volume of the body"] = float(np.count_nonzero(body)) * voxel
    observed["covered"] = image.shape[0] * spacing[0]
    observed |= _shape(liver, body, label_probability, spacing)
    observed |= _places(labels, liver, body, spacing)
    observed |= _signals(image, labels, liver, body, label_probability, spacing)
    return observed | _canal(image, labels, spacing)


def _shape(
    liver: NDArray, body: NDArray, label_probability: Array, spacing: tuple[float, float, float]
) -> dict[str, float]:
    names = ("probability", "largest part", "share of the slice", "compactness", "extent z", "extent y", "extent x")
    if np.count_nonzero(liver) < _FEW:
        return dict.fromkeys(names, float("nan"))
    parts, _ = ndimage.label(liver)
    areas = liver.sum(axis=(1, 2))
    widest = int(areas.argmax())
    lines = [np.flatnonzero(liver.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    extent = [(line[-1] - line[0] + 1) * step for line, step in zip(lines, spacing, strict=True)]
    return {
        "probability": float(label_probability[liver].mean()),
        "largest part": float(np.bincount(parts.ravel())[1:].max() / np.count_nonzero(liver)),
        "share of the slice": float(areas[widest] / max(1, body[widest].sum())),
        "compactness": float(np.count_nonzero(liver) * np.prod(spacing) / np.prod(extent)),
        "extent z": float(extent[0]),
        "extent y": float(extent[1]),
        "extent x": float(extent[2]),
    }


def _centre(mask: NDArray, spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Centre of a mask in mm, NaN without one."""
    if np.count_nonzero(mask) < _FEW:
        return np.full(3, np.nan)
    return np.array([line.mean() for line in np.nonzero(mask)]) * spacing


def _places(labels: Labels, liver: NDArray, body: NDArray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Positions of organs: z to the head, y to the back, x to the left."""
    middle, places = _centre(liver, spacing), {}
    slices = np.flatnonzero(liver.any(axis=(1, 2)))
    around = body[slices[0] : slices[-1] + 1] if len(slices) else body
    trunk = _centre(around, spacing)
    for axis, name in ((1, "y"), (2, "x")):
        across = np.count_nonzero(around.any(axis=(0, 3 - axis))) * spacing[axis]
        places[f"liver {name} in the body"] = float((middle[axis] - trunk[axis]) / max(across, spacing[axis]))
    for name in PLACED:
        centre = _centre(labels == ORGANS.index(name) + 1, spacing)
        for axis, letter in enumerate("zyx"):
            places[f"{name} {letter} from the liver"] = float(centre[axis] - middle[axis])
        places[f"{name} x in the body"] = float(centre[2] - trunk[2])
    areas = liver.sum(axis=(1, 2)).astype(float)
    if areas.sum() >= _FEW:
        z = (np.arange(len(areas)) - (areas * np.arange(len(areas))).sum() / areas.sum()) * spacing[0]
        spread = np.sqrt((areas * z**2).sum() / areas.sum())
        places["skewness of the liver z"] = float((areas * z**3).sum() / areas.sum() / max(spread, 1e-6) ** 3)
    else:
        places["skewness of the liver z"] = float("nan")
    return places


def _signals(
    image: Array,
    labels: Labels,
    liver: NDArray,
    body: NDArray,
    label_probability: Array,
    spacing: tuple[float, float, float],
) -> dict[str, float]:
    """Logarithms of signals relative to the liver's, and how the image's values are distributed."""
    signals: dict[str, float] = {}
    sure = label_probability > _SURE
    low, high = (float(value) for value in np.quantile(image, (0.001, 0.999)))
    span = max(high - low, 1e-20)
    inner = ndimage.binary_erosion(liver, np.ones((1, 3, 3))) & sure
    liver_signal = _median(image, inner if np.count_nonzero(inner) >= _FEW else liver)
    for name in _SOLID:
        signals[f"signal {name}"] = _ratio(_median(image, (labels == ORGANS.index(name) + 1) & sure), liver_signal)
    depth = max(1, round(8 / spacing[1]))
    filled = ndimage.binary_fill_holes(body.any(axis=0)) if body.any() else body.any(axis=0)
    rim = body & ~ndimage.binary_erosion(filled, iterations=depth)[None]
    signals["signal fat under the skin"] = _ratio(_median(image, rim), liver_signal)
    values = image[body] if np.count_nonzero(body) >= _FEW else image.ravel()
    tenth, half, most, top = (float(value) for value in np.quantile(values, (0.1, 0.5, 0.9, 0.99)))
    signals["signal brightest"], signals["signal middle of the body"] = (
        _ratio(top, liver_signal),
        _ratio(half, liver_signal),
    )
    signals["signal darkest"] = _ratio(max(tenth, low + 1e-3 * span), liver_signal)
    signals["contrast in the body"] = (most - tenth) / max(abs(half), 1e-3 * span)
    outside = image[~body]
    signals["background"] = (_median(image, ~body) - low) / span if outside.size >= _FEW else float("nan")
    signals["background spread"] = float(outside.std()) / span if outside.size >= _FEW else float("nan")
    signals["below zero"] = float((image < -1e-6 * span).mean())
    grain = np.abs(np.diff(image, axis=2))[:, :, :-1][inner[:, :, 1:-1]] if inner.any() else np.zeros(0)
    signals["grain"] = (
        float(np.log((np.median(grain) + 1e-4 * span) / max(abs(liver_signal), 1e-3 * span)))
        if len(grain)
        else float("nan")
    )
    return signals


def _canal(image: Array, labels: Labels, spacing: tuple[float, float, float]) -> dict[str, float]:
    """A high quantile of the signal behind the vertebrae, 38 mm deep and 22 mm wide: medians over the slices.

    Its logarithm relative to the vertebrae's signal, and the proportion of the slice's body that is darker.
    """
    ratios = []
    for plane, label in zip(image, labels, strict=True):
        rows, columns = np.nonzero(label == VERTEBRAE)
        if len(rows) < _FEW:
            continue
        y, x = int(rows.mean()), columns.mean()
        wide = slice(max(0, int(x - 11 / spacing[2])), int(x + 11 / spacing[2]) + 1)
        behind = plane[y : int(y + 38 / spacing[1]), wide]
        if behind.size < _FEW:
            continue
        bright, vertebrae = float(np.quantile(behind, 0.93)), float(np.median(plane[label == VERTEBRAE]))
        ratios.append((_ratio(bright, vertebrae), float((plane[label > 0] < bright).mean())))
    if not ratios:
        return dict.fromkeys(CANAL, float("nan"))
    return dict(zip(CANAL, (float(value) for value in np.median(ratios, axis=0)), strict=True))


def _median(image: Array, mask: NDArray) -> float:
    return float(np.median(image[mask])) if np.count_nonzero(mask) >= _FEW else float("nan")


def _ratio(signal: float, liver: float) -> float:
    """Logarithm of a ratio, within -4 and 4; NaN where one is missing."""
    if not (np.isfinite(signal) and np.isfinite(liver)):
        return float("nan")
    if liver <= 0 or signal <= 0:
        return -4.0 if signal <= liver else 4.0
    return float(np.clip(np.log(signal / liver), -4, 4))


def numbers(observed: Mapping[str, float], names: tuple[str, ...]) -> NDArray[np.float64]:
    """Observations in a given order, NaN for those that are missing."""
    return np.array([observed.get(name, float("nan")) for name in names], np.float64)
