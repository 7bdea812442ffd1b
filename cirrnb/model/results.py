"""The tables of a run folder: how its training went, and what it says about each patient."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cirrnb.data.csv_file import read_csv, write_csv
from cirrnb.data.errors import InputError
from cirrnb.model.trained import FOLDS, TrainedModel, model_folder

SLICES = "slice_predictions.csv"
"""What a run that answers slice by slice keeps beside predictions.csv."""

_TEXT = ("subject", "patient", "source", "stage", "split", "predicted", "sex")


def read_history(run: Path | str) -> pd.DataFrame:
    """One row an epoch: epoch, learning_rate, {train,valid}_{loss,accuracy,kappa}, seconds. Raises InputError."""
    return _read(Path(run), "history.csv")


def read_predictions(run: Path | str) -> pd.DataFrame:
    """One row a patient, as `cirrnb.predict` returned it for the run's own cohort. Raises InputError."""
    return _read(Path(run), "predictions.csv")


def read_slice_predictions(run: Path | str) -> pd.DataFrame | None:
    """One row a slice: subject, split, stage, predicted. None if the run has no slice_predictions.csv.

    Only a stager of single slices, as the reference paper's, leaves one. Raises InputError.
    """
    return _read(Path(run), SLICES) if (Path(run) / SLICES).exists() else None


def write_answers(path: Path, table: pd.DataFrame) -> None:
    """Write predictions as CSV, so that no spreadsheet program takes an id for a formula; `read_predictions` and
    `read_slice_predictions` give back what was written."""
    write_csv(path, table)


def _read(run: Path, name: str) -> pd.DataFrame:
    if not run.is_dir():
        raise InputError(run, "no folder", "a run folder written by cirrnb.train", "Name the folder, or train first.")
    return read_csv(run / name, _TEXT, expected="a complete run folder", remedy="Train again.")


TRAINING = "training.csv"
"""Answers for training patients without their names, where a model is given away without predictions.csv."""


def read_training_answers(model: TrainedModel, run: Path | str) -> tuple[pd.DataFrame | None, str]:
    """What a model says of patients it learnt from, and in words how that was asked; None where it keeps no answers.

    Calibrated as the model's answers are. Columns stage and the probability of each stage; one row a patient with a
    stage. Of a cross-validation each patient was asked of the one stager that had not seen them.
    """
    folder = model_folder(run)
    name = next((name for name in (TRAINING, "predictions.csv") if (folder / name).is_file()), None)
    if name is None:
        return None, ""
    told, stages = _read(folder, name), list(model.stages)
    crossed = name == TRAINING or (folder / FOLDS).is_file()
    told = told if crossed else told[told["split"] == "train"]
    told = told.dropna(subset=["stage", *stages])
    if model.calibration and len(told):
        told = model.calibration.calibrate(told)
    asked = "Each of them was staged by a stager that had not seen them."
    seen = "The stager knew them already, so that they look easier than new patients are."
    return told[["stage", *stages]].reset_index(drop=True), asked if crossed else seen
