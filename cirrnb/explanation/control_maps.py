"""Control maps, which know nothing of the model, and the one rule by which a map beats them.

A map that is no better than these says nothing about the model. Pages, figures, the explorer and the benchmark use this
rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

CONTROL_MAPS = ("random", "shifted", "edges")
CONTROLS = (*CONTROL_MAPS, "attention")
"""Columns of `faithfulness` that a map is compared with; "attention" is the model's own order of the slices."""

TESTED = ("deletion", "insertion")
"""Measures that make up the verdict on a map."""

SHIFT = 40.0
"""mm by which a map is moved within the slice to serve as a control map."""

EDGE = 2.0
"""mm, scale of the edge detector."""

Map = NDArray[np.float32]


def control_map(name: str, values: Map, image: Map, flesh: NDArray[np.bool_], spacing: float, seed: int) -> Map:
    """A map (slices, rows, columns) of the named kind, 0 outside the body.

    Parameters
    ----------
    name : "random" is noise as smooth as `values`, "shifted" is `values` moved by 40 mm, "edges" are the image's own.
    values : the map to compare with. image : the prepared slices. flesh : what is body. spacing : mm within the slice.

    Raises ValueError for another name.
    """
    random = np.random.default_rng(seed)
    if name == "random":
        width = smoothness(values)
        made = gaussian_filter(random.standard_normal(values.shape).astype(np.float32), (0, width, width))
    elif name == "shifted":
        angle = random.uniform(0, 2 * math.pi)
        moved = (round(SHIFT / spacing * math.sin(angle)), round(SHIFT / spacing * math.cos(angle)))
        made = np.roll(values, moved, axis=(1, 2))
    elif name == "edges":
        made = np.stack([gaussian_gradient_magnitude(slice_, EDGE / spacing) for slice_ in image])
    else:
        raise ValueError(f"a control map is one of {CONTROL_MAPS}, not {name!r}")
    return np.where(flesh, made, 0).astype(np.float32)


def smoothness(values: Map) -> float:
    """Standard deviation in pixels, 0.3 to 32, of the Gaussian that makes noise as smooth within the slice as a map.

    Noise smoothed by a Gaussian of width s has the correlation exp(-d^2 / 4 s^2) at distance d.
    """
    apart = 2
    pairs = [(values[:, apart:], values[:, :-apart]), (values[:, :, apart:], values[:, :, :-apart])]
    correlations = []
    for first, other in pairs:
        if first.std() > 0 and other.std() > 0:
            correlations.append(float(np.corrcoef(first.ravel(), other.ravel())[0, 1]))
    correlation = min(max(float(np.mean(correlations)) if correlations else 0.0, 1e-6), 0.9999)
    return float(np.clip(apart / math.sqrt(-4 * math.log(correlation)), 0.3, 32))


Row = Mapping[Any, Any]
"""A row of `faithfulness`: measure, better ("lower" or "higher"), value, and the value of each of `CONTROLS`."""


def advantages(row: Row) -> dict[str, float]:
    """Control -> by how much the map is better than it in one measure; above 0 the map is better.

    Controls without a value are absent, and all of them where the map has none.
    """
    if pd.isna(row["value"]):
        return {}
    sign = 1.0 if row["better"] == "higher" else -1.0
    return {name: sign * (row["value"] - row[name]) for name in CONTROLS if pd.notna(row.get(name))}


def beats_controls(row: Row) -> bool | None:
    """True if the map is better than every control in one measure; a tie is not better. None where nothing can be
    compared: the map or all controls have no value."""
    differences = advantages(row)
    return all(value > 0 for value in differences.values()) if differences else None


def best_control(row: Row) -> float:
    """Value of the control that comes closest to the map, or beats it by most; NaN where nothing can be compared."""
    differences = advantages(row)
    return float(row[min(differences, key=lambda name: differences[name])]) if differences else math.nan


def map_verdict(rows: Iterable[Row]) -> str:
    """In which of `TESTED` a map beats its controls: both, deletion, insertion, neither, or undefined, where one of
    them is missing or cannot be compared."""
    results = {row["measure"]: beats_controls(row) for row in rows}
    if any(results.get(measure) is None for measure in TESTED):
        return "undefined"
    passed = [measure for measure in TESTED if results[measure]]
    return "both" if len(passed) == len(TESTED) else passed[0] if passed else "neither"
