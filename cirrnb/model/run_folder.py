"""The run folder: what a finished training writes, and how its tables are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.csv_file import read_csv, write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.scan import SPLITS
from cirrnb.data.stage_scale import StageScale
from cirrnb.model.calibration import Calibration, fit_predictions
from cirrnb.model.checkpoint import TrainedStager, save_stager
from cirrnb.model.out_of_distribution import fit_out_of_distribution
from cirrnb.model.prediction import predict_own_cohort
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import FOLDS, TrainedModel, model_folder
from cirrnb.model.training_state import differences, writing

SLICES = "slice_predictions.csv"
"""What a run that answers slice by slice keeps beside predictions.csv."""

_TEXT = ("subject", "patient", "source", "stage", "split", "predicted", "sex")


def read_history(run: Path | str) -> pd.DataFrame:
    """One row an epoch: epoch, learning_rate, {train,valid}_{loss,accuracy,kappa}, seconds. Raises InputError."""
    return _read_table(Path(run), "history.csv")


def read_predictions(run: Path | str) -> pd.DataFrame:
    """One row a patient, as `cirrnb.predict` returned it for the run's own cohort. Raises InputError."""
    return _read_table(Path(run), "predictions.csv")


def read_slice_predictions(run: Path | str) -> pd.DataFrame | None:
    """One row a slice: subject, split, stage, predicted. None if the run has no slice_predictions.csv.

    Only a stager of single slices, as the reference paper's, leaves one. Raises InputError.
    """
    return _read_table(Path(run), SLICES) if (Path(run) / SLICES).exists() else None


def write_answers(path: Path, table: pd.DataFrame) -> None:
    """Write predictions as CSV, so that no spreadsheet program takes an id for a formula; `read_predictions` and
    `read_slice_predictions` give back what was written."""
    write_csv(path, table)


def _read_table(run: Path, name: str) -> pd.DataFrame:
    if not run.is_dir():
        raise InputError(run, "no folder", "a run folder written by cirrnb.train", "Name the folder, or train first.")
    return read_csv(run / name, _TEXT, expected="a complete run folder", remedy="Train again.")


TRAINING = "training.csv"
"""Answers for training patients without their names, where a model is given away without predictions.csv."""


TERM = "term "
"""Begins the columns of TRAINING that hold what a stage rests on (`cirrnb.model.measured_stage`)."""


def read_terms(run: Path | str) -> pd.DataFrame | None:
    """(patients, terms) of those patients whom a model's terms were fitted to; None where it keeps none."""
    path = model_folder(run) / TRAINING
    if not path.is_file():
        return None
    table = _read_table(path.parent, TRAINING)
    names = [name for name in table if str(name).startswith(TERM)]
    return table[names].rename(columns=lambda name: name.removeprefix(TERM)).astype(float) if names else None


def read_training_answers(model: TrainedModel, run: Path | str) -> tuple[pd.DataFrame | None, str]:
    """Predictions of a model for its training patients, and a sentence on how they were made; None if it keeps none.

    Calibrated as the model's predictions are. Columns stage and the probability of each stage; one row per patient with
    a stage. In a cross-validation, each patient was staged by the one stager that had not seen them.
    """
    table, crossed = _answers(model, run, "train")
    unseen = "Each of them was staged by a stager that had not seen them."
    seen = "The stager knew them already, so that they look easier than new patients are."
    return _calibrated_answers(model, table), "" if table is None else unseen if crossed else seen


def read_unseen_answers(model: TrainedModel, run: Path | str) -> pd.DataFrame | None:
    """What a model says of patients like those of training whom it had not seen; None where it keeps no answers.

    As `read_training_answers`; of a single stager, its validation patients.
    """
    return _calibrated_answers(model, _answers(model, run, "valid")[0])


def nameless_answers(model: TrainedModel, run: Path | str) -> pd.DataFrame | None:
    """Those of `read_unseen_answers` uncalibrated, sorted, so that not even their order tells who they are."""
    table = _answers(model, run, "valid")[0]
    return None if table is None else table.round(4).sort_values(["stage", *model.stages])


def _answers(model: TrainedModel, run: Path | str, split: str) -> tuple[pd.DataFrame | None, bool]:
    """Uncalibrated answers of a split, and whether they are of a cross-validation, whose patients are all taken."""
    folder = model_folder(run)
    name = next((name for name in (TRAINING, "predictions.csv") if (folder / name).is_file()), None)
    if name is None:
        return None, False
    table, stages = _read_table(folder, name), list(model.stages)
    crossed = name == TRAINING or (folder / FOLDS).is_file()
    table = table if crossed else table[table["split"] == split]
    return table.dropna(subset=["stage", *stages])[["stage", *stages]].reset_index(drop=True), crossed


def _calibrated_answers(model: TrainedModel, table: pd.DataFrame | None) -> pd.DataFrame | None:
    if table is None or model.calibration is None or table.empty:
        return table
    return model.calibration.calibrate(table)[list(table)]


PROVENANCE = "provenance.json"


def write_run(
    folder: Path,
    name: str,
    stager: Stager,
    prepared: PreparedCohort,
    history: list[dict[str, Any]],
    provenance: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Write config.json, model.safetensors, history.csv, predictions.csv (all patients, uncalibrated), calibration.json
    (from the validation patients), out_of_distribution.json and provenance.json; for a stager of single slices
    slice_predictions.csv.

    `provenance` holds at least `training`, `preparation` and `data`, by which the run is known again.
    """
    config = {
        "training": provenance["training"],
        "preparation": provenance["preparation"],
        "cohort": prepared.name,
        "simulated": prepared.simulated,
        "splits": {split: _counts(prepared, split) for split in SPLITS},
    }
    trained = TrainedStager(stager.eval(), prepared.settings, prepared.simulated, name, config)
    predictions, slices = predict_own_cohort(trained, prepared, provenance["training"].get("steps"), device)
    calibration = _calibrated(predictions, stager.stages, provenance["training"])
    with writing(folder):
        folder.mkdir(exist_ok=True)
        save_stager(folder, stager, config)
        write_csv(folder / "history.csv", pd.DataFrame(history))
        write_answers(folder / "predictions.csv", predictions)
        calibration.save(folder)
        fit_out_of_distribution(prepared.bags(split="train")).save(folder)
        if slices is not None:
            write_answers(folder / SLICES, slices)
        (folder / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def _calibrated(predictions: pd.DataFrame, stages: StageScale, training: Mapping[str, Any]) -> Calibration:
    """How sure the stager may be, by the validation patients, whom it was not trained on."""
    calibration = fit_predictions(predictions[predictions["split"] == "valid"], stages=stages.names)
    chosen = training["keep"] == "best" or training["patience"] is not None
    # Patients by whom the epoch was chosen look a little better staged than others would.
    return replace(calibration, how=f"{calibration.how}, who also chose the epoch") if chosen else calibration


def require_same_run(out: Path, identity: Mapping[str, Any]) -> None:
    """Raise InputError unless `out` is the complete run of this training, preparation and data."""
    try:
        stored = read_object(out / PROVENANCE, "a whole file", "Train again.")
        different = differences({key: stored[key] for key in identity}, json.loads(json.dumps(identity)))
    except (OSError, ValueError, KeyError, TypeError):
        different = ["it is no run folder, or not a whole one"]
    if different:
        raise InputError(
            out,
            f"a folder that is another run or something else ({'; '.join(different)})",
            "nothing there, or the same run",
            "Train into another folder, or move that one away.",
        )


def _counts(prepared: PreparedCohort, split: str) -> dict[str, int]:
    counts = Counter(bag.stage or "unstaged" for bag in prepared.bags(split=split))
    return {stage: counts[stage] for stage in (*prepared.stages, "unstaged") if counts[stage]}
