"""The run folder: what a finished training leaves for everybody else."""

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
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.scan import SPLITS
from cirrnb.data.stage_scale import StageScale
from cirrnb.model.certainty.calibration import Calibration, fit_predictions
from cirrnb.model.certainty.familiarity import fit_familiarity
from cirrnb.model.checkpoint import TrainedStager, save_stager
from cirrnb.model.network.stager import Stager
from cirrnb.model.prediction import predict, predict_slices
from cirrnb.model.results import SLICES, write_answers
from cirrnb.model.unfinished import differences, writing

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
    (from the validation patients), familiarity.json and provenance.json; for a stager of single slices
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
    predictions = predict(trained, prepared, device=device)
    slices = predict_slices(trained, prepared.bags()) if stager.settings.pooling == "slice" else None
    calibration = _calibrated(predictions, stager.stages, provenance["training"])
    with writing(folder):
        folder.mkdir(exist_ok=True)
        save_stager(folder, stager, config)
        write_csv(folder / "history.csv", pd.DataFrame(history))
        write_answers(folder / "predictions.csv", predictions)
        calibration.save(folder)
        fit_familiarity(prepared.bags(split="train")).save(folder)
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
    found = Counter(bag.stage or "unstaged" for bag in prepared.bags(split=split))
    return {stage: found[stage] for stage in (*prepared.stages, "unstaged") if found[stage]}
