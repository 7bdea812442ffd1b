"""Out-of-distribution score of a scan: how far the segmenter's features of the liver and its surroundings lie from
those of simulated patients.

The features are those of `cirrnb.segmentation.surroundings`; the score is a Mahalanobis distance under a probabilistic
principal component analysis (Tipping and Bishop, J. R. Stat. Soc. B 1999;61:611), one for each sequence, in units of
the distance that 1 % of simulated patients exceed of whom neither the network nor this fit has seen any. Grades: usual
up to 1, unusual up to the distance of which that tail, continued, expects 1 patient in 10,000, and far beyond it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from cirrnb.data.atomic_files import atomic_file, atomic_write
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import is_format, read_object
from cirrnb.data.status import FAR, UNUSUAL, USUAL
from cirrnb.segmentation.surroundings import FEATURES_VERSION

SETTINGS, ARRAYS = "unusual.json", "unusual.safetensors"
FORMAT = 1
COMPONENTS = 24
"""Directions in which simulated patients vary; along all others they spread alike."""
RARE, RAREST = 0.01, 0.0001
"""Share of unseen simulated patients beyond the limits of unusual and of far."""
FEWEST = 15
"""Fewest scans of a population from which the tail of its distribution is estimated."""
LARGEST = 8 << 20
"""Bytes a file may have."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Usual:
    """What is usual of one sequence.

    Attributes
    ----------
    mean, scale : (features,) of the square roots of features.
    components : (COMPONENTS, features), orthonormal, of standardised features. spread : (COMPONENTS,) standard
        deviations along them. rest : standard deviation along each other direction.
    limit : distance from which a scan is unusual. far : from which it is far, in units of `limit`, above 1.
    """

    mean: Numbers
    scale: Numbers
    components: Numbers
    spread: Numbers
    rest: float
    limit: float = 1.0
    far: float = math.inf

    def distance(self, features: NDArray) -> float:
        """Distance of a scan's features; 1 is the limit of usual scans."""
        z = (np.sqrt(np.maximum(np.asarray(features, np.float64), 0)) - self.mean) / self.scale
        along = self.components @ z
        residual = max(float(z @ z - along @ along), 0.0)
        return math.sqrt(float(((along / self.spread) ** 2).sum()) + residual / self.rest**2) / self.limit


@dataclass(frozen=True)
class OutOfDistributionScore:
    """What is usual by sequence, for the segmenter of a fingerprint. `fitted` says on how many; for reading only."""

    usual: Mapping[str, Usual]
    fingerprint: str
    fitted: Mapping[str, Any] = field(default_factory=dict)

    def score(self, features: NDArray | None, sequence: str) -> tuple[float, str] | None:
        """Distance and grade of a scan; None where no liver was found or the sequence is unknown."""
        if features is None or sequence not in self.usual or len(features) != len(self.usual[sequence].mean):
            return None
        usual = self.usual[sequence]
        distance = usual.distance(features)
        return distance, USUAL if distance <= 1 else UNUSUAL if distance <= usual.far else FAR


def fit_usual(features: NDArray, held: Sequence[NDArray]) -> Usual:
    """Fit the distribution of features (scans, features) of simulated patients, and its limits on others.

    `held` are held-out populations, (scans, features) each. A scan that is usual in one of them is usual, so the widest
    limits are used. Raises ValueError for fewer than `COMPONENTS` + 2 scans, or `FEWEST` scans of a population.
    """
    if len(features) < COMPONENTS + 2 or not held or min(len(population) for population in held) < FEWEST:
        raise ValueError(f"{len(features)} scans and {[len(population) for population in held]} held out are too few")
    rooted = np.sqrt(np.maximum(np.asarray(features, np.float64), 0))
    mean, scale = rooted.mean(axis=0), np.maximum(rooted.std(axis=0), 1e-3)
    z = (rooted - mean) / scale
    _, singular, components = np.linalg.svd(z, full_matrices=False)
    variance = singular**2 / (len(z) - 1)
    rest = float(variance[COMPONENTS:].sum() / (z.shape[1] - COMPONENTS))
    spread = np.sqrt(np.maximum(variance[:COMPONENTS], rest))
    raw = Usual(mean, scale, components[:COMPONENTS], spread, math.sqrt(max(rest, 1e-6)))
    pairs = [limits(np.array([raw.distance(row) for row in population])) for population in held]
    limit, far = (max(pair) for pair in zip(*pairs, strict=True))
    return Usual(mean, scale, components[:COMPONENTS], spread, raw.rest, limit, far / limit)


def limits(distances: Numbers) -> tuple[float, float]:
    """Distances that `RARE` and `RAREST` of patients exceed: the tail beyond the 90th percentile, taken for
    exponential."""
    base = float(np.quantile(distances, 0.9))
    excess = max(float((distances[distances >= base] - base).mean()), 1e-3 * base)
    rare, rarest = (base + excess * math.log(0.1 / share) for share in (RARE, RAREST))
    return rare, rarest


def save_score(folder: Path, score: OutOfDistributionScore) -> None:
    """Write `unusual.json` and `unusual.safetensors` into a segmenter's folder, each atomically."""
    arrays = {
        f"{name}.{part}": getattr(usual, part).astype(np.float32)
        for name, usual in score.usual.items()
        for part in ("mean", "scale", "components", "spread")
    }
    with atomic_file(folder / ARRAYS) as partial:
        partial.write_bytes(save(arrays))
    stored = {
        "format": FORMAT,
        "features": FEATURES_VERSION,
        "fingerprint": score.fingerprint,
        "fitted": dict(score.fitted),
        "usual": {
            name: {"rest": usual.rest, "limit": usual.limit, "far": usual.far} for name, usual in score.usual.items()
        },
    }
    atomic_write(folder / SETTINGS, json.dumps(stored, indent=1, allow_nan=False) + "\n")


def read_score(folder: Path, fingerprint: str) -> OutOfDistributionScore | None:
    """What a segmenter's folder says is usual; None where it says nothing, or says it for other weights or features.

    Raises InputError for damaged files.
    """
    path, arrays = folder / SETTINGS, folder / ARRAYS
    if not path.is_file() or not arrays.is_file():
        return None
    remedy = "Install the package again, or fit it: cirrnb fit-checks."
    stored = read_object(path, "what is usual for a segmenter", remedy)
    try:
        if not is_format(stored["format"], FORMAT) or arrays.stat().st_size > LARGEST:
            raise ValueError("another format")
        if stored["features"] != FEATURES_VERSION or stored["fingerprint"] != fingerprint:
            return None
        kept = load_file(arrays)
        usual = {str(name): _checked(_usual_of(kept, str(name), numbers)) for name, numbers in stored["usual"].items()}
        return OutOfDistributionScore(usual, fingerprint, dict(stored["fitted"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(path, f"no usable files ({error})", "what cirrnb fit-checks writes", remedy) from error


def _usual_of(kept: Mapping[str, NDArray], name: str, numbers: Mapping[str, Any]) -> Usual:
    mean, scale, components, spread = (
        kept[f"{name}.{part}"].astype(np.float64) for part in ("mean", "scale", "components", "spread")
    )
    rest, limit, far = (float(numbers[part]) for part in ("rest", "limit", "far"))
    return Usual(mean, scale, components, spread, rest, limit, far)


def _checked(usual: Usual) -> Usual:
    count = len(usual.mean)
    shapes = [part.shape for part in (usual.mean, usual.scale, usual.components, usual.spread)]
    if shapes != [(count,), (count,), (len(usual.spread), count), (len(usual.spread),)]:
        raise ValueError("numbers of another shape")
    arrays = (usual.mean, usual.scale, usual.components, usual.spread, np.array([usual.rest, usual.limit, usual.far]))
    if not all(np.isfinite(part).all() for part in arrays):
        raise ValueError("numbers that are not finite")
    if min(usual.scale.min(), usual.spread.min(), usual.rest, usual.limit) <= 0 or usual.far < 1:
        raise ValueError("spreads or limits that are not above zero")
    return usual
