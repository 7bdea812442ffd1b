"""Out-of-distribution check: whether a scan looks like the training scans; flags a wrong sequence, organ or contrast.

Looks at the prepared image alone and not at the network, which is sure of itself on anything. A scan is far if its
brightness and coarse layout are further from the training scans' mean, in units of their spread (Mahalanobis distance
with the shrunk covariance of Ledoit and Wolf, J. Multivariate Analysis 2004;88:365), than nearly all of theirs are, or
if it is nearer to the scans of the other sequence; `CLEARLY` nearer where it is far from both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import KFold

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.bag import Bag
from cirrnb.data.errors import check_number
from cirrnb.data.json_file import number_array, read_part
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.sequences import check_sequence

OUT_OF_DISTRIBUTION = "out_of_distribution.json"
EARLIER_NAME = "familiarity.json"
"""What the file was called before; run folders with it load."""
FORMAT = 1
LEAST = 30
"""Fewest training scans of a sequence for which it is checked."""
TILES = (5, 6)
"""Rows and columns of the coarse layout."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
CLEARLY = 1.5
"""How many times nearer to the other sequence a scan must be that is far from both, to be taken for that one."""
SHARE = 0.99
"""Share of held-out training scans whose distance counts as usual."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Usual:
    """What the training scans of one sequence look like: mean (features,) and precision (features, features) of
    `describe_image`, and the largest usual distance. Distances are Mahalanobis', at least 0."""

    mean: Numbers
    precision: Numbers
    limit: float

    def distance(self, described: Numbers) -> float:
        """Of a scan as `describe_image` gives it from the training scans."""
        apart = described - self.mean
        return math.sqrt(max(float(apart @ self.precision @ apart), 0.0))


@dataclass(frozen=True)
class OutOfDistribution:
    """What is usual, by sequence; a sequence with fewer than `LEAST` training scans is absent and never flagged."""

    usual: Mapping[str, Usual]

    def distances(self, scans: Mapping[str, PreparedScan]) -> dict[str, float]:
        """Sequence -> how far a scan lies from the training scans of its sequence, 1 the largest usual distance."""
        return {
            name: self.usual[name].distance(describe_image(scan)) / self.usual[name].limit
            for name, scan in scans.items()
            if name in self.usual
        }

    def remarks(self, scans: Mapping[str, PreparedScan]) -> list[str]:
        """A sentence for each scan that looks unlike the training scans of its sequence."""
        remarks = []
        for name, scan in scans.items():
            if name not in self.usual:
                continue
            described = describe_image(scan)
            far = {sequence: usual.distance(described) / usual.limit for sequence, usual in self.usual.items()}
            likest = min(far, key=lambda sequence: far[sequence])
            if likest != name and (far[likest] <= 1 or far[name] > CLEARLY * far[likest]):
                question = "are the two exchanged?" if likest in scans else f"is it {likest}?"
                remarks.append(f"{name} looks more like the training scans of {likest}: {question}")
            elif far[name] > 1:
                remarks.append(
                    f"{name} looks unlike the training scans ({far[name]:.1f} times the usual distance): another "
                    "sequence, organ or contrast?"
                )
        return remarks

    def save(self, run: Path | str) -> Path:
        """Write `out_of_distribution.json` into a run folder."""
        path = Path(run) / OUT_OF_DISTRIBUTION
        stored = {
            name: {"mean": usual.mean.tolist(), "precision": usual.precision.tolist(), "limit": usual.limit}
            for name, usual in self.usual.items()
        }
        atomic_write(path, json.dumps({"format": FORMAT, "usual": stored}, allow_nan=False) + "\n")
        return path


def fit_out_of_distribution(bags: Sequence[Bag]) -> OutOfDistribution:
    """Learn from training patients what their scans look like."""
    described: dict[str, list[Numbers]] = {}
    for bag in bags:
        for name, scan in bag.scans.items():
            described.setdefault(name, []).append(describe_image(scan))
    return OutOfDistribution({name: _usual(np.array(rows)) for name, rows in described.items() if len(rows) >= LEAST})


def out_of_distribution_file(run: Path | str) -> Path | None:
    """The file of a run folder, by its name or its earlier name; None where there is none."""
    return next((path for name in (OUT_OF_DISTRIBUTION, EARLIER_NAME) if (path := Path(run) / name).is_file()), None)


def read_out_of_distribution(run: Path | str) -> OutOfDistribution | None:
    """What a run folder says is usual, or None where it says nothing. Raises InputError if the file is damaged."""
    path = out_of_distribution_file(run)
    return read_part(path, FORMAT, "file", _out_of_distribution) if path else None


def _out_of_distribution(stored: dict[str, Any]) -> OutOfDistribution:
    for name in stored["usual"]:
        check_sequence(name)
    return OutOfDistribution({name: _checked(values) for name, values in stored["usual"].items()})


def describe_image(scan: PreparedScan) -> Numbers:
    """(features,) of a prepared scan: quantiles of its brightness, how sharply it changes, and the mean brightness and
    its spread along the body in `TILES` of the slice."""
    image = np.asarray(scan.image, dtype=np.float32)
    columns = np.add.reduceat(image, _edges(image.shape[2], TILES[1]), axis=2)
    tiles = np.add.reduceat(columns, _edges(image.shape[1], TILES[0]), axis=1) / (image[0].size / np.prod(TILES))
    thinned = image[::2, ::2, ::2]
    sharp = np.abs(np.diff(image[::2], axis=2)).mean()
    parts = [np.quantile(thinned, QUANTILES), [sharp], tiles.mean(axis=0).ravel(), tiles.std(axis=0).ravel()]
    return np.concatenate(parts).astype(np.float64)


def _edges(size: int, parts: int) -> NDArray[np.int64]:
    return np.arange(parts) * size // parts


def _usual(rows: Numbers) -> Usual:
    held_out = []
    for known, new in KFold(5, shuffle=True, random_state=0).split(rows):
        estimate = LedoitWolf().fit(rows[known] / _scale(rows))
        held_out += np.sqrt(estimate.mahalanobis(rows[new] / _scale(rows))).tolist()
    scale = _scale(rows)
    estimate = LedoitWolf().fit(rows / scale)
    precision = estimate.precision_ / np.outer(scale, scale)
    return Usual(estimate.location_ * scale, precision, float(np.quantile(held_out, SHARE)))


def _scale(rows: Numbers) -> Numbers:
    """Spread of each feature, so that shrinking treats them alike."""
    return np.maximum(rows.std(axis=0), 1e-6)


def _checked(stored: Mapping[str, Any]) -> Usual:
    check_number("limit", stored["limit"], 1e-6, 1e6)
    count = 7 + 2 * int(np.prod(TILES))
    # Prepared brightness lies between -0.5 and 2; a feature's spread is taken for at least 1e-6.
    mean = number_array("mean", stored["mean"], (count,), 10)
    precision = number_array("precision", stored["precision"], (count, count))
    if not np.allclose(precision, precision.T) or np.linalg.eigvalsh(precision)[0] <= 0:
        raise ValueError("a precision that belongs to no distances: it is not symmetric and positive definite")
    return Usual(mean, precision, float(stored["limit"]))
