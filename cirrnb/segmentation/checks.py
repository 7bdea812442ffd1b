"""Four checks of any scan, one score each: is there a liver, is it the declared sequence, is it the right way round, do
two scans belong to one patient.

A score is a logarithm of odds (natural): above 0 the scan is more like right than like wrong input. Two thresholds a
check stand on simulated patients: below `refuse` 0.25 % of them lie, so that the four together refuse 1 %; below
`doubt` 1 %. No rule looks for a single kind of wrong input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError, check_number
from cirrnb.data.json_file import is_format, number_array, read_object
from cirrnb.data.sequences import sequence_names
from cirrnb.data.status import DOUBTFUL, REFUSED
from cirrnb.segmentation.observations import CANAL, OBSERVATIONS_VERSION, PLACED, SIGNALS, numbers
from cirrnb.segmentation.pairs import PAIR

OTHER = "other"
"""Class of contrasts that are no known sequence."""
FEWEST = 3
"""Signals without which a sequence is not judged."""
ADDITIVE = ("mean", "scale", "weights", "intercepts")
BOUND = 2.0
"""Standard deviations at which one observation of sequence or side stops counting more: on real scans an organ may be
found in the wrong place, and its signal be that of another."""
CHECKS = ("presence", "sequence", "side", "pair")
FORMAT = 4
PRESENCE = (
    *("size of the liver", "probability", "largest part", "share of the slice", "compactness", "extent z"),
    *("liver x in the body", "organs found"),
)
CONTRASTS = tuple(name for name in SIGNALS if name not in ("ascites", "darkest"))
SEQUENCE = (*CANAL, *(f"contrast {name}" for name in CONTRASTS), "range", "grain in the range")
KNOWN = (*SEQUENCE, *(f"signal {name}" for name in SIGNALS if name != "ascites"))
UPSIDE_DOWN = (
    *(f"{name} z from the liver" for name in PLACED if name not in ("vertebrae", "back muscle", "aorta")),
    "skewness of the liver z",
)
"""Observations that the checks of a scan use, for the sequence what `contrasts` gives; `PAIR` are those of a pair."""
PASSED = "passed"
"""Outcome of a check; the others are DOUBTFUL and REFUSED, as the status of an answer."""

Numbers = NDArray[np.float64]

REASONS = {
    "presence": ("no liver of a plausible size, shape and place was found", "Check that this is an abdominal MR scan."),
    "sequence": ("the signals are not those of the declared sequence", "Check which sequence this file is."),
    "side": ("the organs lie on the wrong side or upside down", "Check the file's orientation (affine)."),
    "pair": (
        "the two scans do not match: other patients, or one image twice",
        "Check that both scans are of this patient.",
    ),
}
"""What is wrong if a check fails, and what to do."""


@dataclass(frozen=True)
class Check:
    """Outcome of one check of one scan, or of the pair.

    Attributes
    ----------
    name : one of `CHECKS`.
    score : logarithm of the odds that the input is right; NaN where it cannot be judged.
    outcome : "passed", "doubtful" or "refused"; "passed" where it cannot be judged.
    reason, remedy : for a reader; empty if passed.
    """

    name: str
    score: float
    outcome: str
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Linear:
    """A logistic regression on standardised numbers; missing ones count as `absent`.

    `names` (features,), `weights`, `mean`, `scale`, `absent` the same length. `bound` in standard deviations is where
    a number stops counting more.
    """

    names: tuple[str, ...]
    weights: Numbers
    mean: Numbers
    scale: Numbers
    absent: Numbers
    intercept: float
    bound: float = 6.0

    def score(self, observed: Mapping[str, float]) -> float:
        values = numbers(observed, self.names)
        values = np.where(np.isfinite(values), values, self.absent)
        z = np.clip((values - self.mean) / self.scale, -self.bound, self.bound)
        return float(z @ self.weights + self.intercept)


def contrasts(observed: Mapping[str, float]) -> dict[str, float]:
    """What the sequence is told by, by the names in `KNOWN`; NaN where an organ is not there.

    A contrast is a signal less that of the liver, over the range of the body from its darkest tenth to its brightest
    hundredth: an offset, as of a CT, changes none of them. The range itself is a logarithm relative to the liver's
    signal, as the signals are.
    """
    signals = {name: observed.get(f"signal {name}", np.nan) for name in SIGNALS}
    ratio = {name: float(np.exp(signal)) for name, signal in signals.items()}
    span = max(ratio["brightest"] - ratio["darkest"], 1e-3)
    found = {f"contrast {name}": (ratio[name] - 1) / span for name in CONTRASTS}
    found |= {f"signal {name}": signal for name, signal in signals.items()}
    found |= {name: observed.get(name, np.nan) for name in CANAL}
    return found | {"range": float(np.log(span)), "grain in the range": observed.get("grain", np.nan) - np.log(span)}


@dataclass(frozen=True)
class Additive:
    """Scores that are sums over numbers, each of which counts within `BOUND`, by its square if asked, and by being
    missing; so that one odd signal of another scanner moves them by a bounded amount.

    `names` (numbers,), `mean` and `scale` the same length, `weights` (scores, 2 or, with squares, 3 times numbers),
    `intercepts` (scores,).
    """

    names: tuple[str, ...]
    mean: Numbers
    scale: Numbers
    weights: Numbers
    intercepts: Numbers

    def scores(self, values: Mapping[str, float]) -> Numbers:
        """(scores,) of the numbers by name."""
        squares = self.weights.shape[1] == 3 * len(self.names)
        terms = expanded(numbers(values, self.names)[None], self.mean, self.scale, squares)
        return np.asarray((self.weights * terms).sum(axis=1) + self.intercepts)


@dataclass(frozen=True)
class SequenceModel:
    """Which sequence signals are those of, and whether they are those of any.

    Attributes
    ----------
    classes : sequences, the last one `OTHER`.
    which : a score for each class, of a multinomial logistic regression without squares.
    known : one score, of a logistic regression with squares: other contrasts lie all around those of the sequences.
    """

    classes: tuple[str, ...]
    which: Additive
    known: Additive

    def score(self, observed: Mapping[str, float], declared: str) -> float:
        """Log odds of the declared sequence against all else, at most those of `any_known`.

        NaN for an unknown sequence and for too few signals.
        """
        values = contrasts(observed)
        if declared not in self.classes[:-1] or np.isfinite(numbers(values, self.which.names)).sum() < FEWEST:
            return float("nan")
        logs = self.which.scores(values)
        place = self.classes.index(declared)
        return min(float(logs[place] - np.logaddexp.reduce(np.delete(logs, place))), self.any_known(observed))

    def any_known(self, observed: Mapping[str, float]) -> float:
        """Log odds that the signals are those of any of the sequences."""
        return float(self.known.scores(contrasts(observed))[0])

    def likeliest(self, observed: Mapping[str, float]) -> str | None:
        """The sequence that a scan is most like, None for another contrast than all of them."""
        best = self.classes[int(self.which.scores(contrasts(observed)).argmax())]
        return None if best == OTHER or self.any_known(observed) < 0 else best


def expanded(values: Numbers, mean: Numbers, scale: Numbers, squares: bool = False) -> Numbers:
    """(rows, numbers) -> (rows, 2 or 3 times numbers): standardised within `BOUND`, its square, whether missing."""
    missing = ~np.isfinite(values)
    z = np.where(missing, 0.0, np.clip((values - mean) / scale, -BOUND, BOUND))
    return np.concatenate([z, *([np.where(missing, 0.0, z**2 - 1)] if squares else []), missing], axis=1)


@dataclass(frozen=True)
class Checker:
    """The four checks as they were fitted for one segmenter.

    Attributes
    ----------
    presence, upside_down, pair, sequence : regressions.
    turned : log odds a unit of "liver as it stands against mirrored" and "... front to back".
    thresholds : check -> (doubt, refuse).
    fingerprint : of the segmenter whose observations they were fitted on.
    fitted : what they were fitted on, for reading only.
    """

    presence: Linear
    sequence: SequenceModel
    upside_down: Linear
    turned: tuple[float, float]
    pair: Linear
    thresholds: Mapping[str, tuple[float, float]]
    fingerprint: str
    fitted: Mapping[str, Any]

    def check_scan(self, observed: Mapping[str, float], declared: str, drawn_by_person: bool = False) -> list[Check]:
        """Presence, sequence and side of one scan; presence only where no person drew the liver."""
        found = [] if drawn_by_person else [self._judged("presence", self.presence.score(observed))]
        score = self.sequence.score(observed, declared)
        sequence = self._judged("sequence", score, self.sequence.any_known(observed))
        if sequence.outcome != PASSED:
            like = self.sequence.likeliest(observed)
            told = f"they are those of {like}" if like and like != declared else "they are those of neither T1W nor T2W"
            sequence = Check(
                "sequence", sequence.score, sequence.outcome, f"declared as {declared}; {sequence.reason}: {told}",
                sequence.remedy,
            )  # fmt: skip
        return [*found, sequence, self._judged("side", self.side_score(observed))]

    def check_pair(self, compared: Mapping[str, float]) -> Check:
        """Whether two scans show one patient, from what `cirrnb.segmentation.pairs.compare` found."""
        known = np.isfinite(compared["overlap of the livers"])
        return self._judged("pair", self.pair.score(compared) if known else float("nan"))

    def side_score(self, observed: Mapping[str, float]) -> float:
        """The least of three log odds: not mirrored, not turned front to back, not upside down."""
        scores = [self.upside_down.score(observed)]
        for name, slope in zip(("mirrored", "front to back"), self.turned, strict=True):
            scores.append(slope * observed.get(f"liver as it stands against {name}", 0.0))
        return float(min(scores))

    def _judged(self, name: str, score: float, refusing: float | None = None) -> Check:
        """The outcome of a score; `refusing` is what refuses, if another score than that which doubts."""
        doubt, refuse = self.thresholds[name]
        if not np.isfinite(score) or score >= doubt:
            return Check(name, score, PASSED)
        refused = (score if refusing is None else refusing) < refuse
        return Check(name, score, REFUSED if refused else DOUBTFUL, *REASONS[name])


def worst(checks: Sequence[Check]) -> str:
    """The gravest outcome."""
    found = {check.outcome for check in checks}
    return next((outcome for outcome in (REFUSED, DOUBTFUL) if outcome in found), PASSED)


def save_checker(path: Path, checker: Checker) -> None:
    """Write the checks as JSON, atomically."""
    stored = {
        "format": FORMAT,
        "observations": OBSERVATIONS_VERSION,
        "presence": _linear_out(checker.presence),
        "upside_down": _linear_out(checker.upside_down),
        "pair": _linear_out(checker.pair),
        "turned": checker.turned,
        "sequence": {
            "classes": checker.sequence.classes,
            **{part: _additive_out(getattr(checker.sequence, part)) for part in ("which", "known")},
        },
        "thresholds": {name: list(pair) for name, pair in checker.thresholds.items()},
        "fingerprint": checker.fingerprint,
        "fitted": dict(checker.fitted),
    }
    atomic_write(path, json.dumps(stored, allow_nan=False) + "\n")


def load_checker(path: Path) -> Checker:
    """Read what `save_checker` wrote. Raises InputError for a file that is not one."""
    remedy = "Install the package again, or fit them: cirrnb fit-checks."
    stored = read_object(path, "the checks of a segmenter", remedy)
    try:
        if not is_format(stored["format"], FORMAT) or not is_format(stored["observations"], OBSERVATIONS_VERSION):
            raise ValueError("another format or other observations")
        thresholds = {name: _two(name, stored["thresholds"][name]) for name in CHECKS}
        if any(doubt < refuse for doubt, refuse in thresholds.values()):
            raise ValueError("a threshold of refusal above that of doubt")
        return Checker(
            presence=_linear_in(stored["presence"], PRESENCE),
            sequence=_sequence_in(stored["sequence"]),
            upside_down=_linear_in(stored["upside_down"], UPSIDE_DOWN),
            turned=_two("turned", stored["turned"]),
            pair=_linear_in(stored["pair"], PAIR),
            thresholds=thresholds,
            fingerprint=str(stored["fingerprint"]),
            fitted=dict(stored["fitted"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, np.linalg.LinAlgError) as error:
        raise InputError(path, f"no usable checks ({error})", "what cirrnb fit-checks writes", remedy) from error


def _two(name: str, stored: Any) -> tuple[float, float]:
    first, second = number_array(name, stored, (2,)).tolist()
    return first, second


def _linear_out(one: Linear) -> dict[str, Any]:
    arrays = {name: getattr(one, name).tolist() for name in ("weights", "mean", "scale", "absent")}
    return {"names": one.names, "intercept": one.intercept, "bound": one.bound, **arrays}


def _linear_in(stored: Mapping[str, Any], names: tuple[str, ...]) -> Linear:
    _require_names(stored["names"], names)
    keys = ("weights", "mean", "scale", "absent")
    weights, mean, scale, absent = (number_array(key, stored[key], (len(names),)) for key in keys)
    check_number("intercept", stored["intercept"], -1e15, 1e15)
    check_number("bound", stored["bound"], 0.1, 100)
    if scale.min() <= 0:
        raise ValueError("a scale that is not above 0")
    return Linear(names, weights, mean, scale, absent, float(stored["intercept"]), float(stored["bound"]))


def _additive_out(one: Additive) -> dict[str, Any]:
    return {"names": one.names, **{name: getattr(one, name).tolist() for name in ADDITIVE}}


def _additive_in(stored: Mapping[str, Any], names: tuple[str, ...], scores: int, terms: int) -> Additive:
    _require_names(stored["names"], names)
    shapes = ((len(names),),) * 2 + ((scores, terms * len(names)), (scores,))
    arrays = [number_array(key, stored[key], shape) for key, shape in zip(ADDITIVE, shapes, strict=True)]
    if arrays[1].min() <= 0:
        raise ValueError("a scale that is not above 0")
    return Additive(names, *arrays)


def _sequence_in(stored: Mapping[str, Any]) -> SequenceModel:
    classes = sequence_names(stored["classes"][:-1])
    if stored["classes"][-1] != OTHER:
        raise ValueError(f"classes without {OTHER!r} at the end")
    which = _additive_in(stored["which"], SEQUENCE, len(classes) + 1, 2)
    return SequenceModel((*classes, OTHER), which, _additive_in(stored["known"], KNOWN, 1, 3))


def _require_names(stored: Any, expected: tuple[str, ...]) -> None:
    """An observation of another name would be missing in every scan, and the check pass without a word."""
    if stored != list(expected):
        raise ValueError(f"observations other than {expected[0]}, {expected[1]}, ...")
