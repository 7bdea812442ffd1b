"""The tables of a run folder: how its training went, and what it says about each patient."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cirrnb.data.errors import InputError

SLICES = "slice_predictions.csv"
"""What a run that answers slice by slice keeps beside predictions.csv."""


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


def _read(run: Path, name: str) -> pd.DataFrame:
    if not run.is_dir():
        raise InputError(run, "no folder", "a run folder written by cirrnb.train", "Name the folder, or train first.")
    try:
        # Ids stay text: "007" is another patient than "7".
        return pd.read_csv(run / name, dtype={"subject": str, "patient": str})
    except (OSError, ValueError) as error:
        raise InputError(
            run, f"no readable {name} ({type(error).__name__})", "a complete run folder", "Train again."
        ) from None
