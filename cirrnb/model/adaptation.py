"""Adaptation to a site: a monotone map from the site's distribution of severity to that of training.

On scans of another site, a stager often ranks patients correctly but puts all of them at one end of the scale, for
example all at severe. The map takes each quantile of severity at the site to the same quantile of the training
patients. It needs no stages. It assumes that stages are distributed at the site as in training; otherwise it moves all
patients in the wrong direction. If some stages are known, thresholds and scale are fitted to them too. With few
patients the map stays near the identity.

If a model's stage also depends on measurements, each measurement and the network's severity are mapped first, and
weighted by how they correlate at the site (`cirrnb.model.site_terms`); then the resulting severity is mapped.

Severity is the mean of the log-odds of a stage later than the first, later than the second, and so on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError, check_number
from cirrnb.data.json_file import is_format, read_object
from cirrnb.model.measured_stage import MeasuredStage
from cirrnb.model.site_terms import LEAST_PATIENTS, LEVELS, PRIOR_PATIENTS, SiteTerms, strictly_rising

ADAPTATION = "adaptation.json"
FORMAT = 2
OLDER = 1
"""Format whose terms are maps alone, and whose severity is mapped no further where there are terms."""
SMOOTHING = 0.12
"""Share of the reference patients over whom log-odds are averaged at each quantile."""
THRESHOLD_SPREAD, SCALE_SPREAD = 1.0, 0.35
"""Standard deviations of the prior of a threshold's shift (log-odds) and of the logarithm of the scale."""
_LIMIT = 12.0
"""Bound of log-odds."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Adaptation:
    """The map of one site, for one model.

    Attributes
    ----------
    site : name of the cohort it was fitted to.
    model : fingerprint of the model without it.
    patients : of the site, whose severities were used. staged : those among them whose stage was used.
    weight : of the map against the identity, 0 to 1.
    site_severity : severity at evenly spaced quantiles of the site, rising.
    reference_odds : (quantiles, stages - 1) log-odds of a later stage at the same quantiles of the training patients,
        rising along quantiles and falling along stages.
    shift : (stages - 1) added to the log-odds after the map; 0 without known stages.
    scale : log-odds are multiplied by it before the shift; 1 without known stages.
    stages : names of the model's stages, in order.
    terms : of a model that rests on measurements too: how each term is mapped and weighed at the site.
    """

    site: str
    model: str
    patients: int
    staged: int
    weight: float
    site_severity: tuple[float, ...]
    reference_odds: tuple[tuple[float, ...], ...]
    shift: tuple[float, ...]
    scale: float
    stages: tuple[str, ...]
    terms: SiteTerms = field(default_factory=SiteTerms)

    @property
    def sentence(self) -> str:
        """The sentence that accompanies every answer."""
        stages = f"and {self.staged} of their stages" if self.staged else "without stages"
        like = "; they are like those of training, so that little was changed" if self.terms.blend < 0.5 else ""
        return f"adapted to {self.patients} patients of {self.site}, {stages}{like}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its content, 64 hex digits."""
        return hashlib.sha256(json.dumps(self._stored(), sort_keys=True).encode()).hexdigest()

    def _stored(self) -> dict[str, Any]:
        """As a file holds it; terms are a later addition and absent where there are none."""
        stored = asdict(self)
        if not self.terms.quantiles:
            del stored["terms"]
        return stored

    def severity_terms(self, values: Mapping[str, float], measured: MeasuredStage) -> dict[str, float]:
        """Term -> log-odds that it adds towards later stages at this site, of what was measured."""
        return self.terms.contributions(values, measured.contributions(self.terms.mapped(values, self.patients)))

    def apply(self, probabilities: ArrayLike) -> Numbers:
        """Probabilities (patients, stages) from those of the model without it; rows sum to one."""
        odds = log_odds_above(probabilities)
        mapped = self._mapped(odds)
        return _probabilities(self.scale * mapped + np.asarray(self.shift))

    def _mapped(self, odds: Numbers) -> Numbers:
        """(patients, stages - 1) log-odds after the quantile map."""
        site, reference = np.asarray(self.site_severity), np.asarray(self.reference_odds)
        levels = np.linspace(0, 1, len(site))
        severity = odds.mean(axis=1)
        place = np.interp(severity, *strictly_rising(site, levels))
        mapped = np.stack([np.interp(place, levels, column) for column in reference.T], axis=1)
        # Beyond the site's range, the map continues from its end with slope one.
        beyond = severity - np.clip(severity, site[0], site[-1])
        return (1 - self.weight) * odds + self.weight * (mapped + beyond[:, None])

    def save(self, folder: Path | str) -> Path:
        """Write `adaptation.json` into a model's folder."""
        path = Path(folder) / ADAPTATION
        atomic_write(path, json.dumps({"format": FORMAT, **self._stored()}, indent=1, allow_nan=False) + "\n")
        return path


def log_odds_above(probabilities: ArrayLike) -> Numbers:
    """(patients, stages - 1) log-odds of a stage later than the first, the second, ..., within -12 and 12."""
    chances = np.atleast_2d(np.asarray(probabilities, dtype=float))
    later = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1][:, 1:] / chances.sum(axis=1, keepdims=True)
    edge = expit(-_LIMIT)
    return np.asarray(logit(np.clip(later, edge, 1 - edge)))


def severity_of(probabilities: ArrayLike) -> Numbers:
    """(patients,) severities of (patients, stages) probabilities."""
    return np.asarray(log_odds_above(probabilities).mean(axis=1))


def _probabilities(odds: Numbers) -> Numbers:
    """(patients, stages) of log-odds of a later stage; where they rise along the stages, as if they did not."""
    later = expit(np.minimum.accumulate(np.clip(odds, -_LIMIT, _LIMIT), axis=1))
    ones, zeros = np.ones((len(later), 1)), np.zeros((len(later), 1))
    return np.asarray(-np.diff(np.concatenate([ones, later, zeros], axis=1), axis=1))


def fit_adaptation(
    site: str,
    model: str,
    probabilities: pd.DataFrame,
    reference: pd.DataFrame,
    stages: Sequence[str],
    *,
    known: Mapping[str, str] | None = None,
    terms: SiteTerms | None = None,
) -> Adaptation:
    """Fit the map of a site.

    Parameters
    ----------
    site : its name. model : the fingerprint of the model that answered.
    probabilities : (patients of the site) indexed by subject, a column each stage, without adaptation.
    reference : the same columns for patients like those of training whom the model had not seen.
    stages : names in order.
    known : subject -> stage for some of the site's patients; thresholds and scale are fitted to them, with priors that
        keep a handful of stages from moving them far.
    terms : of a model that rests on measurements too; `probabilities` are then those after the terms were mapped and
        weighed. Severity is mapped only as far as the site counts as another one.

    Raises
    ------
    InputError
        If there are fewer than `LEAST_PATIENTS` patients at the site or in the reference, or a known stage is none of
        the model's or of nobody among the patients.
    """
    names, known = list(stages), dict(known or {})
    table = probabilities[names].dropna()
    _enough(site, len(table), "patients of the site that the model answers for")
    _enough("the model's own patients", len(reference), "answers for patients like those of training")
    if unknown := [subject for subject in known if subject not in table.index]:
        raise InputError(unknown[0], "a stage of nobody at the site", "subjects of the cohort", "Correct the table.")
    if wrong := [stage for stage in known.values() if stage not in names]:
        raise InputError(site, f"the stage {wrong[0]!r:.40}", " or ".join(names), "Correct the table.")
    levels = np.linspace(0, 1, LEVELS)
    plain = Adaptation(
        site=site,
        model=model,
        patients=len(table),
        staged=len(known),
        weight=(terms.blend if terms else 1.0) * len(table) / (len(table) + PRIOR_PATIENTS),
        site_severity=tuple(np.quantile(severity_of(table), levels).tolist()),
        reference_odds=_reference_odds(log_odds_above(reference[names]), levels),
        shift=(0.0,) * (len(names) - 1),
        scale=1.0,
        stages=tuple(names),
        terms=terms or SiteTerms(),
    )
    if not known:
        return plain
    mapped = plain._mapped(log_odds_above(table.loc[list(known)]))
    truth = np.array([names.index(stage) for stage in known.values()])
    shift, scale = _thresholds(mapped, truth)
    return replace(plain, shift=shift, scale=scale)


def _enough(name: str, count: int, what: str) -> None:
    if count < LEAST_PATIENTS:
        remedy = "Use a larger cohort of the site; stages are not needed."
        raise InputError(name, f"{count} {what}", f"{LEAST_PATIENTS} or more", remedy)


def _reference_odds(odds: Numbers, levels: Numbers) -> tuple[tuple[float, ...], ...]:
    """Log-odds of a later stage at quantiles of severity, averaged over neighbours, rising."""
    severity = odds.mean(axis=1)
    order = severity.argsort(kind="stable")
    places = (np.arange(len(order)) + 0.5) / len(order)
    # The gaps between the thresholds are averaged over neighbours; severity itself keeps its quantiles.
    gaps = (odds - severity[:, None])[order]
    weights = np.exp(-0.5 * ((levels[:, None] - places[None, :]) / SMOOTHING) ** 2)
    smooth = (weights / weights.sum(axis=1, keepdims=True)) @ gaps
    log_odds = np.maximum.accumulate(np.quantile(severity, levels)[:, None] + smooth, axis=0)
    return tuple(tuple(row) for row in np.minimum.accumulate(log_odds, axis=1).tolist())


def _thresholds(odds: Numbers, truth: NDArray[np.int64]) -> tuple[tuple[float, ...], float]:
    """Shift of each threshold and scale at the largest posterior probability of the true stages."""

    def loss(parameters: Numbers) -> float:
        shift, scale = parameters[:-1], float(np.exp(parameters[-1]))
        chances = _probabilities(scale * odds + shift)[np.arange(len(truth)), truth]
        prior = (shift**2).sum() / (2 * THRESHOLD_SPREAD**2) + parameters[-1] ** 2 / (2 * SCALE_SPREAD**2)
        return float(prior - np.log(np.maximum(chances, 1e-6)).sum())

    start = np.zeros(odds.shape[1] + 1)
    optimum = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-4, "fatol": 1e-6}).x
    shift = np.clip(optimum[:-1], -_LIMIT, _LIMIT)
    return tuple(shift.tolist()), float(np.clip(np.exp(optimum[-1]), 0.2, 5.0))


def read_adaptation(folder: Path | str) -> Adaptation | None:
    """The adaptation in a model's folder, or None where there is none. Raises InputError if the file is damaged."""
    path = Path(folder) / ADAPTATION
    if not path.is_file():
        return None
    expected, remedy = f"format {FORMAT}", "Run cirrnb adapt again."
    try:
        stored = read_object(path, expected, remedy)
        version = stored.pop("format")
        if is_format(version, OLDER):
            stored["terms"] = {"quantiles": stored.get("terms", {}), "weights": {}, "blend": 1.0}
        elif not is_format(version, FORMAT):
            raise ValueError("another format")
        return _checked(stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"no readable adaptation ({error})", expected, remedy) from error


def _checked(stored: Mapping[str, Any]) -> Adaptation:
    """Raises ValueError, KeyError or TypeError for what no adaptation holds."""
    stored = {"terms": {"quantiles": {}, "weights": {}, "blend": 1.0}, **stored}
    if set(stored) != {field.name for field in fields(Adaptation)}:
        raise ValueError("other fields")
    for name in ("site", "model"):
        if not isinstance(stored[name], str) or len(stored[name]) > 300:
            raise ValueError(f"{name} is no text")
    check_number("patients", stored["patients"], LEAST_PATIENTS, 10_000_000, whole=True)
    check_number("staged", stored["staged"], 0, stored["patients"], whole=True)
    check_number("weight", stored["weight"], 0, 1)
    check_number("scale", stored["scale"], 0.2, 5.0)
    names = stored["stages"]
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ValueError("stages are names")
    site = _numbers("site_severity", stored["site_severity"], (LEVELS,))
    reference = _numbers("reference_odds", stored["reference_odds"], (LEVELS, len(names) - 1))
    shift = _numbers("shift", stored["shift"], (len(names) - 1,))
    if (np.diff(site) < 0).any() or (np.diff(reference, axis=0) < 0).any() or (np.diff(reference, axis=1) > 0).any():
        raise ValueError("quantiles that do not rise")
    return Adaptation(
        stored["site"],
        stored["model"],
        stored["patients"],
        stored["staged"],
        float(stored["weight"]),
        tuple(site.tolist()),
        tuple(tuple(row) for row in reference.tolist()),
        tuple(shift.tolist()),
        float(stored["scale"]),
        tuple(names),
        _terms(stored["terms"]),
    )


def _terms(stored: Mapping[str, Any]) -> SiteTerms:
    if set(stored) != {field.name for field in fields(SiteTerms)}:
        raise ValueError("terms have quantiles, weights and a blend")
    quantiles = {str(name): _term(name, pair) for name, pair in stored["quantiles"].items()}
    if unknown := set(stored["weights"]) - set(quantiles):
        raise ValueError(f"a weight of {sorted(unknown)[0]:.40}, which has no quantiles")
    for name, value in (*stored["weights"].items(), ("blend", stored["blend"])):
        check_number(str(name), value, *((0, 1) if name == "blend" else (-_LIMIT, _LIMIT)))
    return SiteTerms(quantiles, dict(stored["weights"]), float(stored["blend"]))


def _term(name: str, pair: object) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not isinstance(pair, list) or len(pair) != 2 or len(name) > 100:
        raise ValueError("a term is the quantiles of the site and of the reference")
    site, reference = (
        _numbers(f"a term's {where}", values, (LEVELS,)) for where, values in zip(("site", "home"), pair, strict=True)
    )
    if (np.diff(site) < 0).any() or (np.diff(reference) < 0).any():
        raise ValueError("quantiles that do not rise")
    return tuple(site.tolist()), tuple(reference.tolist())


def _numbers(name: str, values: object, shape: tuple[int, ...]) -> Numbers:
    numbers = np.array(values, dtype=float)
    if numbers.shape != shape or not np.isfinite(numbers).all() or np.abs(numbers).max() > 4 * _LIMIT:
        raise ValueError(f"{name} is not {shape} numbers")
    return numbers


def site_of(name: str, subjects: Collection[str]) -> str:
    """A cohort's name as an adaptation keeps it: one line, at most 80 characters; "a site" where it has none."""
    line = " ".join(str(name).split())[:80]
    return line or f"a site of {len(subjects)} patients"
