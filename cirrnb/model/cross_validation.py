"""Cross-validation, and several predictions made one: the mean of an ensemble, the out-of-fold table of folds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cirrnb.data import splits
from cirrnb.data.atomic_files import atomic_write, move_into_place
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError, listed
from cirrnb.data.locks import claimed
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.data.typed_paths import typed_path
from cirrnb.model.calibration import COVERAGE, Calibration, fit_predictions, set_text
from cirrnb.model.out_of_distribution import fit_out_of_distribution
from cirrnb.model.run_folder import read_predictions, write_answers
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.torch_context import isolated_torch
from cirrnb.model.trained_model import FOLDS
from cirrnb.model.training import train
from cirrnb.model.training_progress import Tell
from cirrnb.model.training_state import writing


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
    predicted = [stages[int(row.argmax())] if vote else None for row, vote in zip(mean, votes, strict=True)]
    result["predicted"] = pd.Series(predicted, dtype=object)
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
    sets = result["set"].to_numpy(dtype=object, copy=True)
    sets[known] = [set_text(stages) for stages in calibration.agreed_sets(stacked[:, known])]
    return result.assign(set=sets)


def out_of_fold(tables: Sequence[pd.DataFrame], split: str = "test") -> pd.DataFrame:
    """The predictions for each patient of the one stager that had not been trained on them.

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
    wanted, subjects = set(first["subject"]), set(table["subject"])
    if wanted != subjects:
        odd = sorted(wanted ^ subjects)
        raise InputError(
            f"table {number}",
            f"{len(odd)} patients who are in it or in the first table, and not in both ({listed(odd, 5)})",
            "the same patients in all tables",
            "Predict the same cohort with every stager.",
        )
    aligned = table.set_index("subject").loc[first["subject"]].reset_index()
    first_stages, aligned_stages = first["stage"].fillna(""), aligned["stage"].fillna("")
    if (first_stages != aligned_stages).any():
        raise InputError(
            f"table {number}",
            f"another stage than the first table has for {listed(first['subject'][first_stages != aligned_stages], 5)}",
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


@isolated_torch()
def cross_validate(
    prepared: PreparedCohort,
    out: Path | str,
    settings: TrainingSettings | None = None,
    *,
    folds: int = 5,
    coverage: float = COVERAGE,
    progress: bool | Tell = True,
) -> Path:
    """Train one stager for each fold of the patients with a stage, and write them to `out` as one model.

    Stager k is tested on fold k and trained on the others, with seed `settings.seed` + k - 1: the spread between folds
    includes the spread between seeds. `out` appears when it is complete; an interrupted cross-validation resumes. A
    second process that comes to a fold in training stops with an error; finished folds are reused.

    `out` holds fold-1, fold-2, ... (run folders), predictions.csv (each patient as staged by the stager that was not
    trained on them, uncalibrated), calibration.json (fitted to these predictions), out_of_distribution.json and
    folds.json.

    Parameters
    ----------
    prepared : prepared scans of patients with stages. Splits are ignored.
    out : folder for the model.
    settings : network and training, as for `cirrnb.train`.
    folds : number of folds, 2 or more.
    coverage : coverage of the prediction sets, above 0 and below 1.
    progress : as for `cirrnb.train`.

    Returns
    -------
    `out`, as a path.

    Raises
    ------
    InputError, InputErrors
        As `cirrnb.train`; and if `out` holds something else, or another process completes the folder and does not end.

    Examples
    --------
    >>> prepared = cirrnb.prepare("cohorts/mine", progress=False)
    >>> run = cirrnb.cross_validate(prepared, "runs/folds", folds=2, progress=False)
    >>> answers = cirrnb.predict(run, "cohorts/mine")  # the mean of the folds
    """
    settings, out = settings or TrainingSettings(), typed_path(out)
    names = [f"fold-{number}" for number in range(1, folds + 1)]
    if not isinstance(prepared, PreparedCohort):
        remedy = "Hand in what cirrnb.prepare returns."
        raise InputError("prepared", f"a {type(prepared).__name__}", "a prepared cohort", remedy)
    if out.exists() and not _is_complete(out):
        raise InputError(out, "a folder that is no cross-validation", "nothing there", "Choose another folder.")
    unfinished = out.with_name(f".{out.name}.unfinished")
    people = prepared.cohort
    for number, (name, fold) in enumerate(zip(names, splits.kfold(people, folds, settings.seed), strict=True)):
        divided = prepared.with_splits({scan.subject: scan.split for scan in fold.scans})
        # A complete fold is recognised and returned as it is, one with other settings or data is refused. Another
        # process may complete the whole folder meanwhile, so where it lies is looked up for each fold.
        home = out if _is_complete(out) else unfinished
        train(divided, home / name, replace(settings, seed=settings.seed + number), progress=progress)
    with claimed(out):
        if not _is_complete(out):
            _complete(prepared, unfinished, out, names, coverage)
    return out


def _is_complete(out: Path) -> bool:
    return (out / FOLDS).is_file()


def _complete(prepared: PreparedCohort, home: Path, out: Path, names: list[str], coverage: float) -> None:
    """Write the files that all folds share, and rename the folder to `out`."""
    table = out_of_fold([read_predictions(home / name) for name in names])
    with writing(home):
        write_answers(home / "predictions.csv", table)
        fit_predictions(table, coverage, prepared.stages.names).save(home)
        fit_out_of_distribution(prepared.bags(staged=True)).save(home)
        atomic_write(home / FOLDS, json.dumps({"folds": names}, indent=1) + "\n")
        move_into_place(home, out)
