"""Several predictions made one: of an ensemble for the same patients, and of folds for different ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cirrnb.data.errors import InputError, listed
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.certainty.calibration import Calibration, set_text


def mean_of(tables: Sequence[pd.DataFrame], stages: Sequence[str] = CIRRHOSIS.names) -> pd.DataFrame:
    """The ensemble's answer: the mean of several stagers' probabilities for the same patients.

    Parameters
    ----------
    tables : predictions as `cirrnb.predict` returns, in any order of patients.
    stages : names of the stages, in order.

    Returns
    -------
    A table as the first one, with the mean probabilities and the stage that is most probable by them. A patient whom
    one of the stagers could not stage gets the mean of the others. Sets are left out: they belong to one calibration,
    and not to a mean. Simulated if one of them is.

    Raises
    ------
    InputError
        If there is no table, patients or their stages differ, or a patient occurs twice.
    """
    if not tables:
        raise InputError("tables", "none", "at least one table of predictions", "Hand in what the stagers predicted.")
    first = tables[0].reset_index(drop=True)
    _require_once(tables)
    aligned = [_like(first, table, number) for number, table in enumerate(tables, start=1)]
    stacked = np.array([table[list(stages)].to_numpy(dtype=float) for table in aligned])
    missing = np.isnan(stacked).any(axis=2)
    votes = (~missing).sum(axis=0)
    summed = np.where(missing[..., None], 0.0, stacked).sum(axis=0)
    mean = np.divide(summed, votes[:, None], out=np.full(summed.shape, np.nan), where=votes[:, None] > 0)
    result = first.drop(columns="set", errors="ignore")
    result[list(stages)] = mean
    told = [stages[int(row.argmax())] if vote else None for row, vote in zip(mean, votes, strict=True)]
    result["predicted"] = pd.Series(told, dtype=object)
    if all("simulated" in table for table in aligned):
        result["simulated"] = np.any([table["simulated"].to_numpy(dtype=bool) for table in aligned], axis=0)
    return result


def calibrated_mean(tables: Sequence[pd.DataFrame], calibration: Calibration) -> pd.DataFrame:
    """`mean_of` stagers' uncalibrated predictions, calibrated, with the sets on which most of them agree: what
    `cirrnb.predict` says of the folder of a cross-validation. Every stager must have staged the same patients."""
    names = list(calibration.stages)
    mean = mean_of(tables, names)
    result = calibration.calibrate(mean)
    aligned = [table.set_index("subject").loc[mean["subject"], names].to_numpy(dtype=float) for table in tables]
    stacked = np.array(aligned)
    known = np.flatnonzero(~np.isnan(stacked).any(axis=(0, 2)))
    told = result["set"].to_numpy(dtype=object, copy=True)
    told[known] = [set_text(stages) for stages in calibration.agreed_sets(stacked[:, known])]
    return result.assign(set=told)


def out_of_fold(tables: Sequence[pd.DataFrame], split: str = "test") -> pd.DataFrame:
    """What each patient was told by the one stager that had not been trained on them.

    Parameters
    ----------
    tables : predictions of the stagers of a cross-validation, each for the whole cohort.
    split : which rows of each are kept: those of the patients who were not trained on.

    Returns
    -------
    The kept rows of all of them after one another, with a column fold (1 for the first table).

    Raises
    ------
    InputError
        If there is no table, a fold keeps nobody, or a patient would be kept twice: then somebody was in training who
        is counted as a test.
    """
    if not tables:
        raise InputError("tables", "none", "at least one table of predictions", "Hand in what the folds predicted.")
    kept = [table[table["split"] == split].assign(fold=fold) for fold, table in enumerate(tables, start=1)]
    empty = [fold for fold, table in enumerate(kept, start=1) if table.empty]
    if empty:
        raise InputError(
            "tables", f"nobody of split {split} in fold {listed(empty)}", "patients in every fold", "Name the split."
        )
    result = pd.concat(kept, ignore_index=True)
    _require_once([result])
    return result


def _like(first: pd.DataFrame, table: pd.DataFrame, number: int) -> pd.DataFrame:
    """The table with its rows in the order of the first one."""
    wanted, found = set(first["subject"]), set(table["subject"])
    if wanted != found:
        odd = sorted(wanted ^ found)
        raise InputError(
            f"table {number}",
            f"{len(odd)} patients who are in it or in the first table, and not in both ({listed(odd, 5)})",
            "the same patients in all tables",
            "Predict the same cohort with every stager.",
        )
    aligned = table.set_index("subject").loc[first["subject"]].reset_index()
    one, other = first["stage"].fillna(""), aligned["stage"].fillna("")
    if (one != other).any():
        raise InputError(
            f"table {number}",
            f"another stage than the first table has for {listed(first['subject'][one != other], 5)}",
            "one truth for each patient",
            "Predict the same cohort with every stager.",
        )
    return aligned


def _require_once(tables: Sequence[pd.DataFrame]) -> None:
    for number, table in enumerate(tables, start=1):
        twice = table["subject"][table["subject"].duplicated()].unique()
        if len(twice):
            raise InputError(
                f"table {number}" if len(tables) > 1 else "tables",
                f"{len(twice)} patients more than once ({listed(twice, 5)})",
                "every patient once",
                "Make the folds with cirrnb.data.splits.kfold, and hand each of them in once.",
            )
