"""The reference paper's figures, accuracy by slice as it counts, and the obstacles to a comparison.

Zeng et al., *Liver cirrhosis stage estimation from MRI with deep learning*, arXiv 2502.18225, 2025, report the share of
slices that got their patient's stage. Slices of one patient are right or wrong together, a patient with many slices
counts more, and a share of slices does not say how many patients are staged right. The interval here draws patients,
with all their slices, and not slices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from cirrnb.data.errors import InputError, listed
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.bootstrap import resample, weighted_bootstrap
from cirrnb.evaluation.evaluation import Evaluation
from cirrnb.evaluation.tables import require_stages

SLICE_ACCURACY = "slice accuracy, as the reference paper counts"


def slice_accuracy(
    slices: pd.DataFrame,
    *,
    split: str | None = "test",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """Share of slices that got their patient's stage.

    Parameters
    ----------
    slices : one row a slice: subject, stage, predicted, and split where one is named.
    split : whose slices to count; None counts those of every patient with a stage.
    confidence, resamples, seed : of the interval, a BCa bootstrap over patients stratified by stage.
    stages : the scale of the table.

    Returns
    -------
    One row with the columns of `Evaluation.table`: metric (`SLICE_ACCURACY`), value, low, high, method, chance,
    majority (the commonest stage of the training patients' slices, or of those counted where there are none, for all),
    ceiling (NaN), higher_is_better, n (slices); and patients.

    Raises
    ------
    InputError
        If columns are missing, a stage is unknown, slices of a patient have different stages, or there are fewer than
        two patients.
    """
    needed = ["subject", "stage", "predicted", *(["split"] if split else [])]
    missing = [name for name in needed if name not in slices]
    if missing:
        raise InputError("slices", f"no column {', '.join(missing)}", f"columns {needed}", "Predict slice by slice.")
    require_stages(slices, "slices", stages)
    chosen = slices if split is None else slices[slices["split"] == split]
    known = chosen[chosen["stage"].notna() & chosen["predicted"].notna()]
    patients = _patients(known)
    right, count = patients["right"].to_numpy(dtype=float), patients["slices"].to_numpy(dtype=float)
    interval = weighted_bootstrap(
        lambda weights: (weights @ right) / (weights @ count),
        resample(patients["stage"], resamples, seed),
        confidence,
    )
    row = {"metric": SLICE_ACCURACY, "value": right.sum() / count.sum(), **asdict(interval)}
    row["method"] = f"{interval.method} over patients"
    row |= {"chance": 1 / len(stages), "majority": (known["stage"] == _commonest(slices, known, stages)).mean()}
    row |= {"ceiling": np.nan, "higher_is_better": True, "n": len(known), "patients": len(patients)}
    return pd.DataFrame([row])


def _patients(known: pd.DataFrame) -> pd.DataFrame:
    """One row per patient: stage, slices (number of slices), right (number of correct slices)."""
    grouped = known.assign(hit=known["stage"] == known["predicted"]).groupby("subject")
    table = grouped.agg(
        stage=("stage", "first"), stages=("stage", "nunique"), slices=("hit", "size"), right=("hit", "sum")
    )
    ambiguous = table.index[table["stages"] > 1]
    if len(ambiguous):
        raise InputError(
            "slices",
            f"more than one stage for {listed(ambiguous, 5)}",
            "one stage a patient",
            "Correct the column stage.",
        )
    if len(table) < 2:
        raise InputError(
            "slices", f"slices of {len(table)} patients with a stage", "at least two patients", "Choose another split."
        )
    return table


def _commonest(slices: pd.DataFrame, known: pd.DataFrame, stages: StageScale) -> str:
    """The stage of most training slices, or of most slices counted; the milder one if two are alike."""
    training = slices[slices["split"] == "train"] if "split" in slices else slices.iloc[:0]
    counts = (training if training["stage"].notna().any() else known)["stage"].value_counts()
    return max(stages, key=lambda stage: counts.get(stage, 0))


SOURCE = "Zeng et al. 2025, arXiv 2502.18225"

BEST: dict[str, float] = {"T1W": 0.728, "T2W": 0.638}
"""Best accuracy of the paper for each sequence: the share of slices, given without an interval."""

MILD: dict[str, float] = {"T1W": 0.560, "T2W": 0.516}
"""Share of the paper's test slices that are mild, its commonest stage."""

TESTED = 29
"""Test patients of the paper."""


def beside_published(
    evaluation: Evaluation, slices: pd.DataFrame | None = None, comparable: str = "not known"
) -> pd.DataFrame:
    """Accuracy of the stager and of the reference paper, the unit of counting, and whether the two are comparable.

    Parameters
    ----------
    evaluation : of the stager, by patient.
    slices : the row of `slice_accuracy`, if the stager predicts slice by slice.
    comparable : whether its accuracy by slice is comparable with the paper's, see `cirrnb.benchmark.protocol`.

    Returns
    -------
    One row per accuracy: who, accuracy, low, high (NaN without a published interval), majority, counted ("slice" or
    "patient"), n (number of these), patients ("real" or "simulated"), comparable (with the paper, in words).
    """
    rows: list[dict[str, Any]] = [
        {"who": f"{SOURCE}, {sequence}", "accuracy": value, "majority": MILD[sequence], "counted": "slice"}
        | {"n": f"{TESTED} patients", "patients": "real", "comparable": ""}
        for sequence, value in BEST.items()
    ]
    kind = "simulated" if evaluation.simulated else "real"
    by_patient = evaluation.table[evaluation.table["metric"] == "accuracy"].iloc[0]
    reasons = ["counted by patient", *(["simulated patients"] if evaluation.simulated else [])]
    rows.append({"who": "this stager", "accuracy": by_patient["value"], "low": by_patient["low"]})
    rows[-1] |= {"high": by_patient["high"], "counted": "patient", "patients": kind}
    rows[-1] |= {"majority": by_patient["majority"], "n": f"{by_patient['n']} patients"}
    rows[-1] |= {"comparable": f"no: {' and '.join(reasons)}"}
    if slices is not None:
        row = slices.iloc[0]
        rows.append({"who": "this stager, as the paper counts", "accuracy": row["value"], "low": row["low"]})
        rows[-1] |= {"high": row["high"], "counted": "slice", "patients": kind, "majority": row["majority"]}
        rows[-1] |= {"n": f"{row['n']} slices of {row['patients']} patients"}
        rows[-1] |= {"comparable": "no: simulated patients" if evaluation.simulated else comparable}
    columns = ["who", "accuracy", "low", "high", "majority", "counted", "n", "patients", "comparable"]
    return pd.DataFrame(rows, columns=columns)
