"""Four checks of any scan, one score each: is there a liver, is it the declared sequence, is it the right way round, do
two scans belong to one patient.

A score is a logarithm of odds (natural): above 0 the scan is more like right than like wrong input. Two thresholds a
check stand on simulated patients: below `refuse` 0.25 % of them lie, so that the four together refuse 1 %; below
`doubt` 1 %. The check of the sequence has two scores: which sequence, and whether any. No rule looks for a single kind
of wrong input.
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
from cirrnb.data.status import DOUBTFUL, REFUSED
from cirrnb.segmentation.observations import OBSERVATIONS_VERSION, PLACED, numbers
from cirrnb.segmentation.pairs import PAIR
from cirrnb.segmentation.sequence_model import SequenceModel, require_names, sequence_in, sequence_out

CHECKS = ("presence", "sequence", "side", "pair")
ANY = "any sequence"
"""Names the thresholds of whether a scan is one of any sequence: they belong to the check of the sequence."""
FORMAT = 5
PRESENCE = (
    *("size of the liver", "probability", "largest part", "share of the slice", "compactness", "extent z"),
    *("liver x in the body", "organs found"),
)
UPSIDE_DOWN = (
    *(f"{name} z from the liver" for name in PLACED if name not in ("vertebrae", "back muscle", "aorta")),
    "skewness of the liver z",
)
"""Observations that the checks of presence and side use; `PAIR` are those of a pair."""
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


@dataclass(frozen=True)
class Checker:
    """The four checks as they were fitted for one segmenter.

    Attributes
    ----------
    presence, upside_down, pair, sequence : regressions.
    turned : log odds a unit of "liver as it stands against mirrored" and "... front to back".
    thresholds : check, or `ANY` -> (doubt, refuse).
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
        """Presence, sequence and side of one scan; presence only if the liver was not drawn by a person."""
        checks = [] if drawn_by_person else [self._judged("presence", self.presence.score(observed))]
        return [*checks, self._sequence(observed, declared), self._judged("side", self.side_score(observed))]

    def _sequence(self, observed: Mapping[str, float], declared: str) -> Check:
        """Doubted for the signals of another sequence; doubted or refused for those of no known sequence."""
        which, known = self.sequence.score(observed, declared), self.sequence.any_known(observed)
        outcome = PASSED
        if np.isfinite(which):
            doubt, refuse = self.thresholds[ANY]
            doubted = which < self.thresholds["sequence"][0] or known < doubt
            outcome = REFUSED if known < refuse else DOUBTFUL if doubted else PASSED
        if outcome == PASSED:
            return Check("sequence", min(which, known), outcome)
        like = self.sequence.likeliest(observed)
        finding = f"they are those of {like}" if like and like != declared else "they are those of neither T1W nor T2W"
        if (declared, like) == ("T1W", "T2W"):
            finding += "; T1W without fat suppression looks so too"
        reason, remedy = REASONS["sequence"]
        return Check("sequence", min(which, known), outcome, f"declared as {declared}; {reason}: {finding}", remedy)

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

    def _judged(self, name: str, score: float) -> Check:
        """The outcome of a score."""
        doubt, refuse = self.thresholds[name]
        if not np.isfinite(score) or score >= doubt:
            return Check(name, score, PASSED)
        return Check(name, score, REFUSED if score < refuse else DOUBTFUL, *REASONS[name])


def worst(checks: Sequence[Check]) -> str:
    """The most severe outcome."""
    outcomes = {check.outcome for check in checks}
    return next((outcome for outcome in (REFUSED, DOUBTFUL) if outcome in outcomes), PASSED)


def save_checker(path: Path, checker: Checker) -> None:
    """Write the checks as JSON, atomically."""
    stored = {
        "format": FORMAT,
        "observations": OBSERVATIONS_VERSION,
        "presence": _linear_out(checker.presence),
        "upside_down": _linear_out(checker.upside_down),
        "pair": _linear_out(checker.pair),
        "turned": checker.turned,
        "sequence": sequence_out(checker.sequence),
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
        thresholds = {name: _two(name, stored["thresholds"][name]) for name in (*CHECKS, ANY)}
        if any(doubt < refuse for doubt, refuse in thresholds.values()):
            raise ValueError("a threshold of refusal above that of doubt")
        return Checker(
            presence=_linear_in(stored["presence"], PRESENCE),
            sequence=sequence_in(stored["sequence"]),
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


def _linear_out(linear: Linear) -> dict[str, Any]:
    arrays = {name: getattr(linear, name).tolist() for name in ("weights", "mean", "scale", "absent")}
    return {"names": linear.names, "intercept": linear.intercept, "bound": linear.bound, **arrays}


def _linear_in(stored: Mapping[str, Any], names: tuple[str, ...]) -> Linear:
    require_names(stored["names"], names)
    keys = ("weights", "mean", "scale", "absent")
    weights, mean, scale, absent = (number_array(key, stored[key], (len(names),)) for key in keys)
    check_number("intercept", stored["intercept"], -1e15, 1e15)
    check_number("bound", stored["bound"], 0.1, 100)
    if scale.min() <= 0:
        raise ValueError("a scale that is not above 0")
    return Linear(names, weights, mean, scale, absent, float(stored["intercept"]), float(stored["bound"]))
