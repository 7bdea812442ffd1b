"""The stage from the network's severity and from measurements of the organs, added up.

The errors of a network and of measurements differ. Severity is the network's plus a term for each measurement: a
logistic regression with ordered stages (proportional odds; McCullagh, JRSS B 1980;42:109), whose terms can be read one
by one. It is fitted to patients that the network was not trained on. What was not measured adds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError, check_number
from cirrnb.data.json_file import read_part
from cirrnb.measure.measurement import Measurement

MEASURED_STAGE = "measured_stage.json"
FORMAT = 1
NETWORK = "network"
"""Name of the network's severity among the terms: the mean of its log-odds of a later stage."""
LOGARITHM = {
    "liver volume": 0.0,
    "spleen volume": 0.0,
    "ascites volume": 50.0,
    "surface nodularity": 0.0,
    "sphericity": 0.0,
}
"""Measurements of the body, averaged over the sequences; of each the logarithm is used, after so much is added. Less
than 50 mL of fluid cannot be distinguished from none."""
BY_SEQUENCE = ("signal heterogeneity",)
"""Measurements that are taken by sequence."""
REACH = 2.5
"""Standard deviations from the mean beyond which a measurement adds no more: outlines that failed lie far out."""
SPREAD = 0.7
"""Standard deviation of the prior of a measurement's weight, in log-odds for a standard deviation of it."""
LEAST_PATIENTS = 60
"""Patients below which nothing is fitted."""
PARTS = 5
"""Parts of the cross-validation that gives answers for patients who were not fitted on."""
_LIMIT = 1e4

Numbers = NDArray[np.float64]


def measured_values(measurements: Mapping[str, Sequence[Measurement]]) -> dict[str, float]:
    """Term -> value, of sequence -> measurements; terms that were not measured are absent."""
    terms: dict[str, list[float]] = {}
    for sequence, rows in measurements.items():
        for measurement in rows:
            if measurement.value is None or not np.isfinite(measurement.value):
                continue
            if measurement.name in LOGARITHM and measurement.value + LOGARITHM[measurement.name] > 0:
                terms.setdefault(measurement.name, []).append(
                    float(np.log(measurement.value + LOGARITHM[measurement.name]))
                )
            elif measurement.name in BY_SEQUENCE and measurement.value > 0:
                terms[f"{sequence} {measurement.name}"] = [float(np.log(measurement.value))]
    return {name: float(np.mean(values)) for name, values in terms.items()}


@dataclass(frozen=True)
class MeasuredStage:
    """A sum of terms, cut where stages change.

    Attributes
    ----------
    names : of the terms, the network's first.
    centre, spread : mean and standard deviation of each among the patients fitted on.
    weight : log-odds that a standard deviation adds.
    thresholds : severities that part the stages, rising.
    n : patients fitted on.
    """

    names: tuple[str, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    weight: tuple[float, ...]
    thresholds: tuple[float, ...]
    n: int

    def contributions(self, values: Mapping[str, float]) -> dict[str, float]:
        """Term -> log-odds that it adds towards later stages, against a patient of average severity; only terms that
        have a value."""
        terms = zip(self.names, self.centre, self.spread, self.weight, strict=True)
        return {
            name: weight * _within(name, (values[name] - centre) / spread)
            for name, centre, spread, weight in terms
            if name in values
        }

    def probabilities(self, values: Mapping[str, float]) -> Numbers:
        """(stages,) that sum to one."""
        return self.of_severity(sum(self.contributions(values).values()))

    def of_severity(self, severity: float) -> Numbers:
        """(stages,) that sum to one, of a sum of contributions."""
        later = expit(severity - np.asarray(self.thresholds))
        return np.asarray(-np.diff(np.concatenate([[1.0], later, [0.0]])))

    def save(self, folder: Path | str) -> Path:
        """Write `measured_stage.json` into a model's folder."""
        path = Path(folder) / MEASURED_STAGE
        atomic_write(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False) + "\n")
        return path


def _within(name: str, deviation: float) -> float:
    """Standard deviations from the mean that count."""
    return deviation if name == NETWORK else min(max(deviation, -REACH), REACH)


def fit_measured_stage(values: pd.DataFrame, truth: NDArray[np.int64], stages: int) -> MeasuredStage:
    """Fit the terms.

    Parameters
    ----------
    values : (patients, terms) with a column `NETWORK`; NaN where something was not measured.
    truth : (patients,) numbers of the stages.

    Raises
    ------
    InputError
        If there are fewer than `LEAST_PATIENTS` patients, or a stage that nobody has.
    """
    missing = [number for number in range(stages) if not (truth == number).any()]
    if len(values) < LEAST_PATIENTS or missing:
        problem = f"{len(values)} patients" + (f", none of stage number {missing[0] + 1}" if missing else "")
        expected = f"{LEAST_PATIENTS} or more, of every stage"
        raise InputError("patients with measurements", problem, expected, "Use a larger cohort.")
    usable = [name for name in values if name == NETWORK or values[name].notna().mean() >= 0.5]
    names = [NETWORK, *(str(name) for name in usable if name != NETWORK and values[name].std() > 0)]
    table = values[names]
    centre, spread = table.mean(), table.std().clip(lower=1e-6)
    terms = ((table - centre) / spread).fillna(0.0).to_numpy(float).copy()
    terms[:, 1:] = terms[:, 1:].clip(-REACH, REACH)
    shares = np.cumsum([(truth == number).mean() for number in range(stages)])[:-1]
    start = np.concatenate([[1.0], np.zeros(len(names) - 1), [logit(shares[0])], np.diff(logit(shares))])
    optimum = minimize(_loss, start, (terms, truth, stages), method="L-BFGS-B").x
    weights, cuts = optimum[: len(names)], _cuts(optimum[len(names) :])
    return MeasuredStage(
        tuple(names),
        tuple(centre.tolist()),
        tuple(spread.tolist()),
        tuple(weights.tolist()),
        tuple(cuts.tolist()),
        len(table),
    )


def _cuts(parameters: Numbers) -> Numbers:
    """Thresholds of the first one and the gaps between them."""
    return np.cumsum([parameters[0], *np.maximum(parameters[1:], 1e-3)])


def _loss(parameters: Numbers, terms: Numbers, truth: NDArray[np.int64], stages: int) -> float:
    count = terms.shape[1]
    later = expit((terms @ parameters[:count])[:, None] - _cuts(parameters[count:]))
    ends = np.ones((len(terms), 1)), np.zeros((len(terms), 1))
    chances = -np.diff(np.concatenate([ends[0], later, ends[1]], axis=1), axis=1)
    prior = (parameters[1:count] ** 2).sum() / (2 * SPREAD**2)
    return float(prior - np.log(np.maximum(chances[np.arange(len(truth)), truth], 1e-9)).sum())


def unseen_probabilities(values: pd.DataFrame, truth: NDArray[np.int64], stages: int, seed: int = 0) -> Numbers:
    """(patients, stages) probabilities of each patient from a fit to the other parts of a cross-validation.

    Raises InputError as `fit_measured_stage`.
    """
    order = np.random.default_rng(seed).permutation(len(values))
    order = order[np.argsort(truth[order], kind="stable")]  # every part has patients of every stage
    part = np.empty(len(values), int)
    part[order] = np.arange(len(values)) % PARTS
    probabilities = np.empty((len(values), stages))
    for number in range(PARTS):
        fitted = fit_measured_stage(values[part != number], truth[part != number], stages)
        for place in np.flatnonzero(part == number):
            row = values.iloc[place].dropna()
            probabilities[place] = fitted.probabilities({str(name): float(value) for name, value in row.items()})
    return probabilities


def read_measured_stage(folder: Path | str) -> MeasuredStage | None:
    """The sum of terms in a model's folder, None where there is none. Raises InputError if the file is damaged."""
    return read_part(Path(folder) / MEASURED_STAGE, FORMAT, "terms", _measured_stage)


def _measured_stage(stored: dict[str, Any]) -> MeasuredStage:
    if set(stored) != {field.name for field in fields(MeasuredStage)}:
        raise ValueError("other fields")
    names = stored["names"]
    if not isinstance(names, list) or not all(isinstance(name, str) and len(name) < 100 for name in names):
        raise ValueError("names are texts")
    if names[:1] != [NETWORK] or len(set(names)) < len(names):
        raise ValueError("names that do not begin with the network's, or one twice")
    numbers = {name: numbers_of(stored[name], len(names)) for name in ("centre", "spread", "weight")}
    thresholds = numbers_of(stored["thresholds"], None)
    if min(numbers["spread"]) <= 0 or list(thresholds) != sorted(thresholds):
        raise ValueError("spreads are positive, and thresholds rise")
    check_number("n", stored["n"], 0, 10_000_000, whole=True)
    return MeasuredStage(tuple(names), **numbers, thresholds=thresholds, n=stored["n"])


def numbers_of(values: object, count: int | None) -> tuple[float, ...]:
    """A list of finite numbers that was read from a file, `count` of them. Raises ValueError otherwise."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError("a list of numbers is expected")
    numbers = np.array(values, dtype=float)
    if numbers.ndim != 1 or (len(numbers) != count if count else not 0 < len(numbers) < 50):
        raise ValueError("numbers that do not fit the names")
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > _LIMIT:
        raise ValueError("numbers out of range")
    return tuple(numbers.tolist())
