"""How sure a stager may be: its temperature and its sets of stages, learned from patients it was not trained on.

Neural networks are surer than they are right. One number, the temperature, divides the raw scores before they become
probabilities: Guo et al., *On calibration of modern neural networks*, ICML 2017. It changes no answer, only how sure
it is. Sets of stages then say which stages a patient may have, `cirrnb.model.prediction_sets`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import check_number
from cirrnb.data.json_file import read_part
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.model.prediction_sets import EVERYTHING, in_set, rank_needed, threshold

CALIBRATION = "calibration.json"
FORMAT = 1
COVERAGE = 0.90
TEMPERATURES = (0.1, 10.0)
"""What a temperature may be; beyond, calibrators who are all right, or all wrong, would drive it anywhere."""

_LEAST = 1e-12
"""Probabilities below this count as this much, so that each has a logarithm."""


@dataclass(frozen=True)
class Calibration:
    """What turns raw scores into probabilities and sets of stages that mean what they say.

    Attributes
    ----------
    temperature : raw scores are divided by it; above 1 the stager was too sure.
    threshold : how much probability a set may have gathered and still take in the next stage; 1 takes in all.
    coverage : share of patients whose set is to hold the true stage.
    n : calibrators it was learned from.
    how : in words, for a report.
    stages : names of the model's stages, in order.
    """

    temperature: float
    threshold: float
    coverage: float
    n: int
    how: str
    stages: tuple[str, ...] = field(default=CIRRHOSIS.names, repr=False)

    def apply(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Calibrated probabilities from raw scores, both (stages,) or (patients, stages); `logits_of` makes raw scores
        of probabilities."""
        return np.asarray(softmax(np.asarray(logits, dtype=float) / self.temperature, axis=-1))

    def prediction_set(self, probabilities: ArrayLike) -> tuple[str, ...]:
        """The stages that one patient may have, neighbours, mildest first, from calibrated probabilities (stages,)."""
        return self.prediction_sets(np.atleast_2d(np.asarray(probabilities, dtype=float)))[0]

    def prediction_sets(self, probabilities: ArrayLike) -> list[tuple[str, ...]]:
        """`prediction_set` of many patients, from calibrated probabilities (patients, stages)."""
        chosen = in_set(probabilities, self.threshold)
        return [tuple(stage for stage, inside in zip(self.stages, row, strict=True) if inside) for row in chosen]

    def agreed_sets(self, members: ArrayLike) -> list[tuple[str, ...]]:
        """Prediction sets of patients staged by several stagers, from their uncalibrated probabilities (members,
        patients, stages).

        A stage is in the set if it is in the sets of more than half of the members, if it is the most probable stage of
        their mean, or if it lies between two such stages. The calibration patients were staged by single stagers, so
        coverage holds for the members' sets. The mean is more accurate, and its sets would be wider than necessary.
        Majority vote: Gasparin and Ramdas, *Merging uncertainty sets via majority vote*, arXiv 2401.09379.
        """
        probabilities = np.asarray(members, dtype=float)
        chosen = np.array([in_set(self.apply(logits_of(member)), self.threshold) for member in probabilities])
        inside = chosen.mean(axis=0) > 0.5
        inside[np.arange(probabilities.shape[1]), probabilities.mean(axis=0).argmax(axis=1)] = True
        # Every stage between the first and the last one of a set is in the set.
        inside = np.logical_or.accumulate(inside, axis=1) & np.logical_or.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
        return [tuple(stage for stage, member in zip(self.stages, row, strict=True) if member) for row in inside]

    def calibrate(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """A table of uncalibrated predictions with calibrated probabilities of the stages, and the column set.

        Patients without probabilities keep none, and have no set.
        """
        result = predictions.copy()
        names = list(self.stages)
        known = predictions[names].notna().all(axis=1).to_numpy()
        probabilities = self.apply(logits_of(predictions.loc[known, names]))
        result.loc[known, names] = probabilities
        sets = np.full(len(result), None, dtype=object)
        sets[known] = [set_text(stages) for stages in self.prediction_sets(probabilities)]
        return result.assign(set=pd.Series(sets, index=result.index, dtype=object))

    def save(self, run: Path | str) -> Path:
        """Write `calibration.json` into a run folder."""
        path = Path(run) / CALIBRATION
        stored = {"format": FORMAT, **asdict(self)}
        atomic_write(path, json.dumps(stored, indent=2, allow_nan=False) + "\n")
        return path


def fit(
    logits: ArrayLike, truth: ArrayLike, coverage: float = COVERAGE, stages: Sequence[str] = CIRRHOSIS.names
) -> Calibration:
    """Learn temperature and sets from patients whom the stager, or the fold's stager, was not trained on.

    The sets cover exactly as `prediction_sets` says but for one thing: the same patients give the temperature, one
    number. With a hundred or more of them that is lost in the noise. With out-of-fold calibrators, and a stager
    trained on all of them, coverage rests on the folds' stagers being about as good as that one.

    Parameters
    ----------
    logits : (patients, stages) raw scores; probabilities by `logits_of`.
    truth : (patients,) indices of the true stages.
    coverage : share of patients whose set shall hold the true stage.
    stages : their names in order.

    Returns
    -------
    Calibration. With too few patients for the coverage (fewer than 9 for 0.9) the temperature stays 1 and every set
    holds every stage.

    Raises
    ------
    ValueError
        If shapes do not fit, a stage or a coverage is none, or scores are not finite.
    """
    scores, true, count = np.asarray(logits, dtype=float), np.asarray(truth), len(stages)
    if scores.ndim != 2 or scores.shape[1] != count or true.shape != scores.shape[:1]:
        raise ValueError(f"logits are (patients, {count}) and truth (patients,), not {scores.shape} and {true.shape}")
    if not np.isfinite(scores).all() or not np.isin(true, range(count)).all():
        raise ValueError(f"logits are finite and the truth is from 0 to {count - 1}")
    if not 0 < coverage < 1:
        raise ValueError(f"coverage lies between 0 and 1, not {coverage}")
    n, names = len(true), tuple(stages)
    if rank_needed(n, coverage) > n:
        how = f"not calibrated: {n} patients are too few for sets that cover {coverage:.0%}; every stage is possible"
        return Calibration(1.0, EVERYTHING, coverage, n, how, names)
    temperature = _temperature(scores, true.astype(np.int64))
    at = threshold(softmax(scores / temperature, axis=1), true, coverage)
    how = f"temperature by log loss, sets of neighbouring stages by ordinal conformal prediction, {n} patients"
    return Calibration(temperature, at, coverage, n, how, names)


def fit_predictions(
    predictions: pd.DataFrame, coverage: float = COVERAGE, stages: Sequence[str] = CIRRHOSIS.names
) -> Calibration:
    """`fit` from a table of uncalibrated predictions, one row a patient, all made out of fold.

    Patients without a stage or without probabilities are left out. Raises ValueError as `fit` does.
    """
    names = list(stages)
    known = predictions[predictions["stage"].notna() & predictions[names].notna().all(axis=1)]
    truth = known["stage"].map(names.index).to_numpy(dtype=np.int64)
    return fit(logits_of(known[names]), truth, coverage, names)


def logits_of(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Raw scores that give these probabilities, of any shape: their logarithms."""
    return np.log(np.maximum(np.asarray(probabilities, dtype=float), _LEAST))


def set_text(stages: tuple[str, ...]) -> str:
    """A set as tables hold it: "mild|moderate"."""
    return "|".join(stages)


def read_calibration(run: Path | str) -> Calibration | None:
    """The calibration of a run folder, or None if it has none. Raises InputError if the file is damaged."""

    def made(stored: dict[str, Any]) -> Calibration:
        values = {field.name: stored[field.name] for field in fields(Calibration)}
        return _checked({**values, "stages": StageScale(stored["stages"]).names})

    return read_part(
        Path(run) / CALIBRATION, FORMAT, "calibration", made, "Copy the whole run folder again, or train again."
    )


def _checked(stored: dict[str, Any]) -> Calibration:
    calibration = Calibration(**stored)
    check_number("temperature", calibration.temperature, *TEMPERATURES)
    check_number("threshold", calibration.threshold, 0, 1)
    check_number("coverage", calibration.coverage, 0.01, 0.999)
    check_number("n", calibration.n, 0, 10**9, whole=True)
    if not isinstance(calibration.how, str) or len(calibration.how) > 1000:
        raise ValueError("how is no short text")
    return calibration


def _temperature(scores: NDArray[np.float64], stages: NDArray[np.int64]) -> float:
    """Where the log loss is smallest; it has one valley in the logarithm of the temperature."""
    patients = np.arange(len(stages))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(scores / np.exp(log_temperature), axis=1)[patients, stages].mean())

    bounds = tuple(np.log(TEMPERATURES))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))
