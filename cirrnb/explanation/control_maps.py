"""Maps that know nothing of the model: a method that is no better than these shows nothing of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

CONTROL_MAPS = ("random", "shifted", "edges")
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
        made = np.stack([gaussian_gradient_magnitude(one, EDGE / spacing) for one in image])
    else:
        raise ValueError(f"a control map is one of {CONTROL_MAPS}, not {name!r}")
    return np.where(flesh, made, 0).astype(np.float32)


def smoothness(values: Map) -> float:
    """Standard deviation in pixels of the Gaussian that would make noise as smooth within the slice as a map is.

    Noise smoothed by a Gaussian of width s has the correlation exp(-d^2 / 4 s^2) at distance d; 0.3 (hardly any) to 32.
    """
    apart = 2
    pairs = [(values[:, apart:], values[:, :-apart]), (values[:, :, apart:], values[:, :, :-apart])]
    found = []
    for one, other in pairs:
        if one.std() > 0 and other.std() > 0:
            found.append(float(np.corrcoef(one.ravel(), other.ravel())[0, 1]))
    correlation = min(max(float(np.mean(found)) if found else 0.0, 1e-6), 0.9999)
    return float(np.clip(apart / math.sqrt(-4 * math.log(correlation)), 0.3, 32))
