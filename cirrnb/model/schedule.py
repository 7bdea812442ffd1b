"""When a training's rate falls, when it stops, and which epoch is the best: functions of the step and of the history,
so that a resumed training needs no further state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cirrnb.model.settings import TrainingSettings


def has_stopped(history: Sequence[dict[str, Any]], settings: TrainingSettings) -> bool:
    """True if `patience` epochs since the best one brought no better validation value than it had.

    With `patience_counts` "worse", epochs that are as good as the best one are not counted.
    """
    values, higher = watched(history, settings), settings.watch == "accuracy"
    best = best_epoch(values, higher)
    if settings.patience is None or best is None:
        return False
    since = values[best + 1 :]
    if settings.patience_counts == "worse":
        since = [value for value in since if (value < values[best] if higher else value > values[best])]
    return len(since) >= settings.patience


def watched(history: Sequence[dict[str, Any]], settings: TrainingSettings) -> list[float]:
    """The validation value of each epoch that `patience` and `keep` go by."""
    return [row[f"valid_{settings.watch}"] for row in history]


def best_epoch(values: Sequence[float], higher_is_better: bool) -> int | None:
    """Index of the first best value, passing over NaN; None where there is none."""
    known = [(value if higher_is_better else -value, -index) for index, value in enumerate(values) if value == value]
    return -max(known)[1] if known else None


def steps_of_epoch(patients: int, per_step: int, seed: int, epoch: int) -> list[list[int]]:
    """Patients' indices in random order, in steps of nearly equal size: a last step of one patient would be noise."""
    order = np.random.default_rng((seed, epoch)).permutation(patients)
    return [part.tolist() for part in np.array_split(order, math.ceil(patients / per_step))]


def batches_of_epoch(slices: int, batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Slices' indices in random order, in steps of `batch`; the last one has the rest."""
    order = np.random.default_rng((seed, epoch)).permutation(slices).tolist()
    return [order[start : start + batch] for start in range(0, slices, batch)]


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of step 0 to `steps` - 1: up along a cosine for three tenths of them from peak / 25, then down to
    nearly nothing. Smith and Topin, *Super-Convergence*, arXiv 1708.07120, in the form of torch's OneCycleLR; being a
    function of the step it leaves no state to save."""
    top = 0.3 * steps - 1
    if step <= top:
        return _cosine(peak / 25, peak, step / top)
    return _cosine(peak, peak / 25e4, (step - top) / (steps - 1 - top))


def plateau(losses: Sequence[float], peak: float, patience: int = 5) -> float:
    """Learning rate after epochs with these validation losses: a tenth whenever more than `patience` epochs brought no
    better one. What torch's ReduceLROnPlateau does, as a function of the history."""
    rate, best, waited = peak, math.inf, 0
    for loss in losses:
        if math.isnan(loss):
            continue  # nobody validates, and nothing is known to have come to a halt
        if loss < best * (1 - 1e-4):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            rate, waited = rate / 10, 0
    return rate


def _cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * way)) / 2
