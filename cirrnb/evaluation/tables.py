"""Tables of predictions, one row a patient: the columns they need, and the patients that count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.errors import InputError, listed
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale

SET = "set"
"""Column with a patient's set of stages, joined by "|": "mild|moderate"."""


def require_table(
    predictions: pd.DataFrame,
    columns: Sequence[str] = (),
    where: str = "predictions",
    stages: StageScale = CIRRHOSIS,
) -> None:
    """Raise InputError unless subject, stage, predicted and `columns` are there, stages known, patients single."""
    needed = ["subject", "stage", "predicted", *columns]
    missing = [name for name in needed if name not in predictions]
    if missing:
        raise InputError(where, f"no column {', '.join(missing)}", f"columns {needed}", "Use cirrnb.predict.")
    require_stages(predictions, where, stages)
    twice = predictions["subject"][predictions["subject"].duplicated()].unique()
    if len(twice):
        raise InputError(
            where,
            f"{len(twice)} patients more than once ({listed(twice, 5)})",
            "one row a patient: counted twice, a patient makes the intervals too narrow",
            "Evaluate one set of predictions at a time.",
        )


def require_stages(predictions: pd.DataFrame, where: str = "predictions", stages: StageScale = CIRRHOSIS) -> None:
    """Raise InputError if the columns stage and predicted hold anything but stages and nothing."""
    for name in ("stage", "predicted"):
        unknown = sorted(set(predictions[name].dropna().astype(str)) - set(stages))
        if unknown:
            remedy = "Correct the column, or name the stages of the table."
            raise InputError(where, f"{name} {unknown}", f"{list(stages)} or nothing", remedy)


def counted(
    predictions: pd.DataFrame,
    split: str | None,
    where: str = "predictions",
    stages: StageScale = CIRRHOSIS,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Patients of a split (None: of all) with a stage and a prediction, and in words who else there was.

    Raises InputError if the table is not as it should be or fewer than two patients can be counted.
    """
    require_table(predictions, ["split"] if split else [], where, stages)
    chosen = predictions if split is None else predictions[predictions["split"] == split]
    staged = chosen[chosen["stage"].notna()]
    answered = staged[staged["predicted"].notna()]
    if len(answered) < 2:
        raise InputError(
            f"{where} of split {split}" if split else where,
            f"{len(answered)} patients with a stage and a prediction among {len(chosen)}",
            "at least two",
            "Choose a split that holds patients with a stage, or split=None for all.",
        )
    notes = []
    if len(staged) > len(answered):
        names = listed(staged.loc[staged["predicted"].isna(), "subject"].astype(str))
        notes.append(f"{len(staged) - len(answered)} patients could not be staged and are not counted: {names}")
    if len(chosen) > len(staged):
        notes.append(f"{len(chosen) - len(staged)} patients have no known stage and are not counted")
    return answered, tuple(notes)


def stage_indices(names: pd.Series, stages: StageScale = CIRRHOSIS) -> NDArray[np.int64]:
    """Stage names as 0, 1, 2, ..., (patients,); every one has to be a stage."""
    return names.map(stages.index).to_numpy(dtype=np.int64)


def has_probabilities(predictions: pd.DataFrame, stages: StageScale = CIRRHOSIS) -> bool:
    """Whether the table has a column for each stage."""
    return all(stage in predictions for stage in stages)


def probabilities_of(
    predictions: pd.DataFrame, where: str = "predictions", stages: StageScale = CIRRHOSIS
) -> NDArray[np.float64]:
    """Stage probabilities (patients, stages). Raises InputError for rows that are not finite, negative or not one in
    sum."""
    missing = [stage for stage in stages if stage not in predictions]
    if missing:
        raise InputError(where, f"no column {', '.join(missing)}", "a probability a stage", "Use cirrnb.predict.")
    values = predictions[list(stages)].to_numpy(dtype=float)
    # Wide enough for probabilities written with three digits.
    wrong = ~np.isfinite(values).all(axis=1) | (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > 5e-3)
    if wrong.any():
        raise InputError(
            where,
            f"{int(wrong.sum())} patients without stage probabilities ({listed(predictions['subject'][wrong], 5)})",
            f"{stages.listed} from 0 to 1 that sum to one",
            "Use cirrnb.predict, or leave these columns out.",
        )
    return values


def is_simulated(predictions: pd.DataFrame) -> bool:
    """True if the model or any patient of the table is simulated."""
    return bool("simulated" in predictions and predictions["simulated"].any())


def training_shares(
    predictions: pd.DataFrame, counted_rows: pd.DataFrame, stages: StageScale = CIRRHOSIS
) -> tuple[NDArray[np.float64], str]:
    """Share (stages,) of each stage among the training patients, and a note which is commonest (the milder of two).

    Where the table holds no training patients, the counted patients are used instead, with a note.
    """
    training = predictions[predictions["split"] == "train"] if "split" in predictions else predictions.iloc[:0]
    known = training["stage"].notna().any()
    stages_seen = stage_indices((training if known else counted_rows)["stage"].dropna(), stages)
    shares = np.bincount(stages_seen, minlength=len(stages)) / len(stages_seen)
    of = "training patients" if known else "very patients counted, as no training patients are in the table"
    return shares, f"majority is {stages[int(shares.argmax())]}, the commonest stage of the {of}"
