"""Stage probabilities for patients, from all their slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cirrnb.data.dataset import draw
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.prepared import Bag, PreparedCohort, PreparedScan
from cirrnb.data.scan import SEQUENCES, STAGES
from cirrnb.model.batch import collate
from cirrnb.model.checkpoint import TrainedStager, load_stager

CHUNK = 32
"""Slices encoded at a time: 400 slices need no more memory than these."""

COLUMNS = ("subject", "patient", "source", "split", "stage", "predicted", *STAGES, "sequences", "notes", "simulated")


@dataclass(frozen=True)
class Prediction:
    """What a stager says about one patient.

    Attributes
    ----------
    subject : source and id of the patient.
    probabilities : stage -> probability, summing to one.
    predicted : the most probable stage.
    slice_weights : sequence -> (slices,) share of each slice, summing to one.
    sequence_weights : sequence -> share in the patient, summing to one over those used.
    notes : what was missing or unusual, in words for a reader.
    model : name of the run the stager comes from.
    simulated : True if the stager was trained on simulated images, or these are.
    """

    subject: str
    probabilities: Mapping[str, float]
    predicted: str
    slice_weights: Mapping[str, np.ndarray]
    sequence_weights: Mapping[str, float]
    notes: tuple[str, ...]
    model: str
    simulated: bool


def predict(
    model: TrainedStager | Path | str,
    patients: PreparedCohort | Sequence[Bag],
    *,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> pd.DataFrame:
    """Stage every patient with all slices of every usable sequence.

    Parameters
    ----------
    model : a run folder, or what `load_stager` read from one.
    patients : a prepared cohort, or the bags of those patients who are wanted.

    Returns
    -------
    One row a patient: subject, patient, source, split, stage (the truth, or None), predicted, mild, moderate,
    severe (probabilities), sequences ("T1W+T2W"), notes, simulated (True if the model learned from simulated images
    or the patients are). A patient without a usable sequence has no predicted stage and a note that says why.

    Raises
    ------
    InputErrors
        If scans were prepared otherwise than for training, or no patient can be staged.
    """
    trained = model if isinstance(model, TrainedStager) else load_stager(model)
    bags = patients.bags() if isinstance(patients, PreparedCohort) else list(patients)
    simulated = trained.simulated or (isinstance(patients, PreparedCohort) and patients.simulated)
    if not all(bag.scans for bag in bags):
        raise InputError(
            "bags", "a patient without a scan", "at least one sequence a patient", "Leave the patient out."
        )
    mismatched = [error for bag in bags for error in _prepared_otherwise(bag, trained)]
    if mismatched:
        raise InputErrors(mismatched)
    trained.stager.to(device)
    rows, failures = [], []
    for bag in tqdm(bags, desc="staging", unit="patient", disable=not progress):
        row: dict[str, Any] = {"subject": bag.subject, "patient": bag.patient, "source": _source(bag)}
        row |= {"split": bag.split, "stage": bag.stage, "simulated": simulated}
        try:
            prediction = predict_patient(trained, bag)
        except InputError as error:
            failures.append(error)
            rows.append(row | {"predicted": None, "sequences": "", "notes": f"not staged: {error.found}"})
        else:
            used = "+".join(prediction.slice_weights)
            notes = "; ".join(prediction.notes)
            rows.append(row | {"predicted": prediction.predicted, "sequences": used, "notes": notes})
            rows[-1] |= prediction.probabilities
    if failures and len(failures) == len(bags):
        raise InputErrors(failures)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def predict_patient(trained: TrainedStager, bag: Bag) -> Prediction:
    """Stage one patient on the device where the stager is; deterministic.

    Raises InputError if no sequence of the patient can be used.
    """
    wanted = trained.stager.settings.sequences
    own = {name: scan for name, scan in bag.scans.items() if name in wanted}
    unusable = {name: reason for name, scan in own.items() if (reason := _unusable(scan))}
    notes = [f"{name} left out: {reason}" for name, reason in unusable.items()]
    used = {name: scan for name, scan in own.items() if name not in unusable}
    notes += [f"{name} missing" for name in wanted if name not in own]
    if not used:
        raise InputError(
            bag.subject,
            "; ".join(notes),
            "at least one usable sequence",
            "Look at the patient's files, or leave it out.",
        )
    notes += [f"{name} has one slice" for name, scan in used.items() if scan.grid.shape[0] == 1]
    stager = trained.stager.eval()
    batch = collate([draw(Bag(used))])
    with torch.inference_mode():
        said = stager.stage(batch.to(next(stager.parameters()).device), chunk=CHUNK)
    # Normalised once more, since log-probabilities in float32 add up to one only nearly.
    probabilities = said.log_probabilities[0].cpu().double().softmax(dim=0).tolist()
    weights = said.slice_weights.cpu().numpy()
    return Prediction(
        subject=bag.subject,
        probabilities=dict(zip(STAGES, probabilities, strict=True)),
        predicted=STAGES[int(np.argmax(probabilities))],
        slice_weights={name: weights[batch.sequence.numpy() == SEQUENCES.index(name)] for name in used},
        sequence_weights={name: float(said.sequence_weights[0, SEQUENCES.index(name)]) for name in used},
        notes=tuple(notes),
        model=trained.name,
        simulated=trained.simulated,
    )


def _unusable(scan: PreparedScan) -> str | None:
    """Why nothing can be read from a scan, or None."""
    low, high = float(scan.image.min()), float(scan.image.max())
    if not np.isfinite([low, high]).all():
        return "values that are not finite"
    if low == high:
        return f"a constant image (every voxel {low:g})"
    return None


def _source(bag: Bag) -> str:
    return next(iter(bag.scans.values())).scan.source


def _prepared_otherwise(bag: Bag, trained: TrainedStager) -> list[InputError]:
    return [
        InputError(
            scan.scan.name,
            f"a scan prepared with {scan.settings}",
            f"{trained.preparation}, as the model of {trained.name} was trained",
            "Prepare it with the settings in the run's config.json.",
        )
        for scan in bag.scans.values()
        if scan.settings != trained.preparation
    ]
