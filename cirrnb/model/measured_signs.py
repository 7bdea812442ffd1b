"""Strengths of signs that are measured, where a ruler reads a sign better than the network does.

A linear regression on measurements of the sign itself (for nodules, the texture of the liver on the sequence that shows
them), fitted to simulated patients whose signs are independent of each other: no other sign can enter. Where the
texture is unlike that of these patients, nothing is measured: real scans may differ by their protocol or their vessels.
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
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import RidgeCV

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError, check_number
from cirrnb.data.json_file import read_part
from cirrnb.data.prepared import PreparedScan
from cirrnb.measure.liver_texture import liver_texture, texture_names
from cirrnb.model.measured_stage import numbers_of
from cirrnb.model.signs import shown_on

MEASURED_SIGNS = "measured_signs.json"
FORMAT = 1
BY_TEXTURE = {"nodules_t1w": "T1W"}
"""Signs that are measured, and the sequence on whose texture they are. Nodules on T2W are not: livers of real healthy
people have much of the texture that they have in the simulation (docs/stager_trials.md)."""
COVERED = 0.99
"""Share of the patients fitted on whose texture counts as usual."""
PENALTIES = tuple(np.logspace(-1, 3, 9).tolist())
"""Of the ridge regression; chosen by leaving each patient out in turn."""
LEAST_PATIENTS = 60
"""Patients below which nothing is fitted."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredSign:
    """One sign as a weighted sum of measurements.

    Attributes
    ----------
    sequence : whose texture is measured.
    names : of the measurements. centre, spread : mean and standard deviation among the patients fitted on.
    weight : strength that a standard deviation adds. constant : strength at the mean of all.
    precision : (measurements, measurements) inverse covariance of the standardised measurements, row by row.
    limit : squared Mahalanobis distance beyond which a texture is unlike those of these patients.
    n : patients fitted on.
    """

    sequence: str
    names: tuple[str, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    weight: tuple[float, ...]
    constant: float
    precision: tuple[float, ...]
    limit: float
    n: int

    def strength(self, values: Mapping[str, float]) -> float | None:
        """Strength, 0 to 1; None if a measurement is missing, or they are unlike those of the patients fitted on."""
        if not set(self.names) <= set(values):
            return None
        scores = (np.array([values[name] for name in self.names]) - self.centre) / np.asarray(self.spread)
        if squared_distance(scores[None], np.reshape(self.precision, (len(scores), -1)))[0] > self.limit:
            return None
        return float(np.clip(self.constant + scores @ np.asarray(self.weight), 0, 1))


@dataclass(frozen=True)
class MeasuredSigns:
    """The signs that are measured, by name."""

    signs: Mapping[str, MeasuredSign]

    def strengths(self, scans: Mapping[str, PreparedScan]) -> dict[str, float]:
        """Sign -> strength, 0 to 1, of a patient's scans by sequence; without the signs that cannot be measured."""
        textures = {sign.sequence: liver_texture(scans[sign.sequence]) for sign in self._of(scans).values()}
        strengths = {name: sign.strength(textures[sign.sequence]) for name, sign in self._of(scans).items()}
        return {name: value for name, value in strengths.items() if value is not None}

    def _of(self, scans: Mapping[str, PreparedScan]) -> dict[str, MeasuredSign]:
        return {name: sign for name, sign in self.signs.items() if sign.sequence in scans}

    def save(self, folder: Path | str) -> Path:
        """Write `measured_signs.json` into a model's folder."""
        path = Path(folder) / MEASURED_SIGNS
        stored = {"format": FORMAT, "signs": {name: asdict(sign) for name, sign in self.signs.items()}}
        atomic_write(path, json.dumps(stored, indent=1, allow_nan=False) + "\n")
        return path


def fit_measured_signs(
    scans: Sequence[Mapping[str, PreparedScan]], truth: pd.DataFrame, by_texture: Mapping[str, str] = BY_TEXTURE
) -> MeasuredSigns:
    """Fit the signs that can be measured.

    Parameters
    ----------
    scans : of each patient, by sequence; liver masks as later scans will have them.
    truth : (patients, signs) strengths, 0 to 1, of patients whose signs are independent of each other.
    by_texture : signs to measure, and the sequence of each.

    Raises InputError if fewer than `LEAST_PATIENTS` patients have a texture.
    """
    signs = {}
    for name, sequence in by_texture.items():
        if name not in truth:
            continue
        rows = [liver_texture(patient[sequence]) if sequence in patient else {} for patient in scans]
        table = pd.DataFrame(rows, index=truth.index, columns=list(texture_names())).dropna()
        if len(table) < LEAST_PATIENTS:
            wanted = f"{LEAST_PATIENTS} or more"
            raise InputError(name, f"{len(table)} patients with a measured liver", wanted, "Use a larger cohort.")
        centre, spread = table.mean(), table.std().clip(lower=1e-6)
        scores = ((table - centre) / spread).to_numpy()
        fitted = RidgeCV(PENALTIES).fit(scores, truth.loc[table.index, name].to_numpy())
        precision = LedoitWolf(assume_centered=True).fit(scores).precision_
        signs[name] = MeasuredSign(
            sequence,
            tuple(map(str, table)),
            tuple(centre.tolist()),
            tuple(spread.tolist()),
            tuple(fitted.coef_.tolist()),
            float(fitted.intercept_),
            tuple(precision.ravel().tolist()),
            float(np.quantile(squared_distance(scores, precision), COVERED)),
            len(table),
        )
    return MeasuredSigns(signs)


def squared_distance(scores: Numbers, precision: Numbers) -> Numbers:
    """(patients,) squared Mahalanobis distance from the mean, of standardised measurements (patients, measurements)."""
    return np.asarray(np.einsum("ni,ij,nj->n", scores, precision, scores))


def read_measured_signs(folder: Path | str) -> MeasuredSigns | None:
    """The measured signs in a model's folder, None where there are none. Raises InputError if the file is damaged."""

    def made(stored: dict[str, Any]) -> MeasuredSigns:
        return MeasuredSigns({str(name): _sign(str(name), sign) for name, sign in stored["signs"].items()})

    return read_part(Path(folder) / MEASURED_SIGNS, FORMAT, "measured signs", made)


def _sign(sign: str, stored: dict[str, Any]) -> MeasuredSign:
    if set(stored) != {field.name for field in fields(MeasuredSign)}:
        raise ValueError("other fields")
    names = stored["names"]
    if not isinstance(names, list) or not names or not set(names) <= set(texture_names()):
        raise ValueError("names of no measurement")
    if len(set(names)) < len(names) or stored["sequence"] not in shown_on(sign):
        raise ValueError(f"a name twice, or {sign!r:.40} on another sequence")
    numbers = {name: numbers_of(stored[name], len(names)) for name in ("centre", "spread", "weight")}
    if min(numbers["spread"]) <= 0:
        raise ValueError("spreads are positive")
    precision = numbers_of(stored["precision"], len(names) ** 2)
    check_number("constant", stored["constant"], -100, 100)
    check_number("limit", stored["limit"], 0, 1e9)
    check_number("n", stored["n"], 0, 10_000_000, whole=True)
    return MeasuredSign(
        stored["sequence"],
        tuple(names),
        **numbers,
        constant=stored["constant"],
        precision=precision,
        limit=stored["limit"],
        n=stored["n"],
    )
