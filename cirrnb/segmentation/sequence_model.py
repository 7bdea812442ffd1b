"""Which sequence a scan is, and whether it is any: from signals of the organs that were found.

Two questions, two forms. Which of the sequences is a sum over contrasts. Whether it is any is a likeness to simulated
scans, those of the sequences and those of other contrasts (maps, CT): other contrasts lie all around the sequences, and
it is several signals together that give them away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.json_file import number_array
from cirrnb.data.sequences import sequence_names
from cirrnb.segmentation.observations import CANAL, SIGNALS, numbers

OTHER = "other"
"""Class of contrasts that are no known sequence."""
FEWEST = 3
"""Signals without which a sequence is not judged."""
BOUND = 2.0
"""Standard deviations at which one observation stops counting more: on real scans an organ may be found in the wrong
place, and its signal be that of another."""
WHOLE_BOUND = 4.0
"""The same for observations of the whole image, which no organ in the wrong place changes."""
CONTRASTS = tuple(name for name in SIGNALS if name not in ("ascites", "darkest"))
SEQUENCE = (*CANAL, *(f"contrast {name}" for name in CONTRASTS), "range", "grain in the range")
"""What tells one sequence from another, by the names that `contrasts` gives."""
WHOLE = (
    *("range", "grain in the range", "contrast brightest", "contrast middle of the body"),
    *("spread of the signals", "background", "background spread"),
)
KNOWN = (
    *SEQUENCE,
    *(f"signal {name}" for name in SIGNALS if name != "ascites"),
    *("spread of the signals", "background", "background spread"),
)
"""What tells the sequences from other contrasts."""
_SPREAD = ("spleen", "kidneys", "portal and splenic vein", "aorta", "vertebrae", "back muscle", "fat under the skin")

Numbers = NDArray[np.float64]


def contrasts(observed: Mapping[str, float]) -> dict[str, float]:
    """Features from which the sequence is recognised, by the names in `KNOWN`; NaN if an organ is absent.

    A contrast is a signal minus that of the liver, divided by the range of the body from its darkest tenth to its
    brightest hundredth: an offset, as in CT, does not change it. The range and the spread of the organs' signals are
    logarithms relative to the liver's signal: an offset makes both small.
    """
    signals = {name: observed.get(f"signal {name}", np.nan) for name in SIGNALS}
    ratio = {name: float(np.exp(signal)) for name, signal in signals.items()}
    span = max(ratio["brightest"] - ratio["darkest"], 1e-3)
    values = {f"contrast {name}": (ratio[name] - 1) / span for name in CONTRASTS}
    values |= {f"signal {name}": signal for name, signal in signals.items()}
    values |= {name: observed.get(name, np.nan) for name in (*CANAL, "background", "background spread")}
    spread = np.array([signals[name] for name in _SPREAD])
    spread = spread[np.isfinite(spread)]
    values["spread of the signals"] = float(np.log(spread.std() + 0.02)) if len(spread) >= FEWEST else np.nan
    return values | {"range": float(np.log(span)), "grain in the range": observed.get("grain", np.nan) - np.log(span)}


def expanded(values: Numbers, mean: Numbers, scale: Numbers, bounds: Numbers | float = BOUND) -> Numbers:
    """(rows, numbers) -> (rows, 2 times numbers): standardised within the bounds, then whether missing."""
    missing = ~np.isfinite(values)
    z = np.where(missing, 0.0, np.clip((values - mean) / scale, -np.asarray(bounds), bounds))
    return np.concatenate([z, missing], axis=1)


@dataclass(frozen=True)
class Additive:
    """Scores that are sums over numbers, each of which counts within `BOUND`, and by being missing; so that one odd
    signal of another scanner moves them by a bounded amount.

    `names` (numbers,), `mean` and `scale` the same length, `weights` (scores, 2 times numbers), `intercepts` (scores,).
    """

    names: tuple[str, ...]
    mean: Numbers
    scale: Numbers
    weights: Numbers
    intercepts: Numbers

    def scores(self, values: Mapping[str, float]) -> Numbers:
        """(scores,) of the numbers by name."""
        terms = expanded(numbers(values, self.names)[None], self.mean, self.scale)
        return np.asarray((self.weights * terms).sum(axis=1) + self.intercepts)


@dataclass(frozen=True)
class Likeness:
    """One score: a weighted sum of likenesses to simulated scans (kernel logistic regression).

    Far from all of them it is the intercept.

    Attributes
    ----------
    names : (numbers,). mean, scale : the same length.
    points : (scans, 2 times numbers), what `expanded` gives for the simulated scans, missing ones counting half.
    weights : (scans,). intercept : the score without any likeness.
    narrowness : the likeness is exp(-narrowness * squared distance).
    """

    names: tuple[str, ...]
    mean: Numbers
    scale: Numbers
    points: Numbers
    weights: Numbers
    intercept: float
    narrowness: float

    def score(self, values: Mapping[str, float]) -> float:
        """Log odds of the numbers by name."""
        place = placed(numbers(values, self.names)[None], self.names, self.mean, self.scale)
        return float(likenesses(place, self.points, self.narrowness)[0] @ self.weights + self.intercept)


def placed(values: Numbers, names: tuple[str, ...], mean: Numbers, scale: Numbers) -> Numbers:
    """(rows, numbers) -> (rows, 2 times numbers), where distances are taken."""
    bounds = np.array([WHOLE_BOUND if name in WHOLE else BOUND for name in names])
    return expanded(values, mean, scale, bounds) * np.repeat([1.0, 0.5], len(names))


def likenesses(places: Numbers, points: Numbers, narrowness: float) -> Numbers:
    """(rows, points), 0 to 1."""
    squared = ((places[:, None] - points[None]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-narrowness * squared))


@dataclass(frozen=True)
class SequenceModel:
    """Which sequence signals are those of, and whether they are those of any.

    Attributes
    ----------
    classes : sequences, the last one `OTHER`.
    which : a score for each class, of a multinomial logistic regression.
    known : whether any.
    """

    classes: tuple[str, ...]
    which: Additive
    known: Likeness

    def score(self, observed: Mapping[str, float], declared: str) -> float:
        """Log odds of the declared sequence against all else; NaN for an unknown sequence and for too few signals."""
        values = contrasts(observed)
        if declared not in self.classes[:-1] or np.isfinite(numbers(values, self.which.names)).sum() < FEWEST:
            return float("nan")
        logs = self.which.scores(values)
        place = self.classes.index(declared)
        return float(logs[place] - np.logaddexp.reduce(np.delete(logs, place)))

    def any_known(self, observed: Mapping[str, float]) -> float:
        """Log odds that the signals are those of any of the sequences."""
        return self.known.score(contrasts(observed))

    def likeliest(self, observed: Mapping[str, float]) -> str | None:
        """The sequence that a scan is most like, None for another contrast than all of them."""
        best = self.classes[int(self.which.scores(contrasts(observed)).argmax())]
        return None if best == OTHER or self.any_known(observed) < 0 else best


def sequence_out(model: SequenceModel) -> dict[str, Any]:
    """What is stored of a model, for JSON."""
    which, known = model.which, model.known
    return {
        "classes": model.classes,
        "which": {
            "names": which.names,
            **{part: getattr(which, part).tolist() for part in ("mean", "scale", "weights", "intercepts")},
        },
        "known": {
            "names": known.names,
            **{part: getattr(known, part).tolist() for part in ("mean", "scale", "points", "weights")},
            "intercept": known.intercept,
            "narrowness": known.narrowness,
        },
    }


def sequence_in(stored: Any) -> SequenceModel:
    """What `sequence_out` gave. Raises ValueError, KeyError or TypeError for anything else."""
    classes = sequence_names(stored["classes"][:-1])
    if stored["classes"][-1] != OTHER:
        raise ValueError(f"classes without {OTHER!r} at the end")
    return SequenceModel((*classes, OTHER), _which_in(stored["which"], len(classes) + 1), _known_in(stored["known"]))


def _which_in(stored: Mapping[str, Any], scores: int) -> Additive:
    count = len(SEQUENCE)
    require_names(stored["names"], SEQUENCE)
    weights = number_array("weights", stored["weights"], (scores, 2 * count))
    mean, scale = _standard(stored, count)
    return Additive(SEQUENCE, mean, scale, weights, number_array("intercepts", stored["intercepts"], (scores,)))


def _known_in(stored: Mapping[str, Any]) -> Likeness:
    count = len(KNOWN)
    require_names(stored["names"], KNOWN)
    mean, scale = _standard(stored, count)
    if not isinstance(stored["weights"], list) or not stored["weights"]:
        raise ValueError("no simulated scans to compare with")
    scans = len(stored["weights"])
    points = number_array("points", stored["points"], (scans, 2 * count))
    weights = number_array("weights", stored["weights"], (scans,))
    intercept, narrowness = number_array("intercept", [stored["intercept"], stored["narrowness"]], (2,)).tolist()
    if narrowness <= 0:
        raise ValueError("a narrowness that is not above 0")
    return Likeness(KNOWN, mean, scale, points, weights, intercept, narrowness)


def _standard(stored: Mapping[str, Any], count: int) -> tuple[Numbers, Numbers]:
    mean, scale = (number_array(part, stored[part], (count,)) for part in ("mean", "scale"))
    if scale.min() <= 0:
        raise ValueError("a scale that is not above 0")
    return mean, scale


def require_names(stored: Any, expected: tuple[str, ...]) -> None:
    """An observation of another name would be missing in every scan, and the check pass without a word."""
    if stored != list(expected):
        raise ValueError(f"observations other than {expected[0]}, {expected[1]}, ...")
