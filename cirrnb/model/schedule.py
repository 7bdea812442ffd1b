"""What happens at which step: which patients, and how fast the weights move."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def steps_of_epoch(patients: int, per_step: int, seed: int, epoch: int) -> list[list[int]]:
    """Patients' indices in random order, in steps of nearly equal size: a last step of one patient would be noise."""
    order = np.random.default_rng((seed, epoch)).permutation(patients)
    return [part.tolist() for part in np.array_split(order, math.ceil(patients / per_step))]


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


def best_epoch(values: Sequence[float], higher_is_better: bool) -> int | None:
    """Index of the first best value, passing over NaN; None where there is none."""
    known = [(value if higher_is_better else -value, -index) for index, value in enumerate(values) if value == value]
    return -max(known)[1] if known else None


def _cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * way)) / 2
