"""The image that a patient is compared with: an attribution is always relative to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.prepared import PreparedScan

BASELINES = ("blurred", "air", "training", "counterfactual")
BLUR = 10.0
"""mm, standard deviation within the slice: septa, nodules and the liver's edge are gone, the organs' places are
left."""

AIR = 0.0
"""What preparation puts outside a scan's field of view."""

PATIENTS = 8
"""Training patients that "training" draws where more are given."""


def baseline(
    name: str,
    scans: Mapping[str, PreparedScan],
    references: Sequence[Bag] = (),
    counterfactual: Mapping[str, NDArray] | None = None,
    seed: int = 0,
) -> torch.Tensor:
    """Slices (baselines, slices, rows, columns) float32 to compare a patient's `scans` with, sequences after each
    other.

    Parameters
    ----------
    name : "blurred" is the patient without detail (Gaussian of 10 mm within the slice), "air" an empty field of view,
        "training" some patients that the model was trained on, at the same relative height, and "counterfactual" the
        same simulated patient without disease.
    references : the bags that "training" draws from.
    counterfactual : sequence -> (slices, rows, columns) on the prepared grid, for "counterfactual".

    Raises
    ------
    InputError
        For another name, or where what the baseline needs was not given.
    """
    if name == "blurred":
        return _stacked([_blurred(scan) for scan in scans.values()])[None]
    if name == "air":
        return _stacked([np.full(scan.grid.shape, AIR, np.float32) for scan in scans.values()])[None]
    if name == "training":
        return _training(scans, references, seed)
    if name == "counterfactual":
        return _counterfactual(scans, counterfactual)
    raise InputError("baseline", repr(name), f"one of {BASELINES}", "Choose one of these.")


def blurred(slices: NDArray[np.float32], spacing: float, width: float = BLUR) -> NDArray[np.float32]:
    """Slices (slices, rows, columns) blurred within the slice by a Gaussian of `width` mm."""
    return gaussian_filter(slices, (0, width / spacing, width / spacing), mode="nearest")


def _blurred(scan: PreparedScan) -> NDArray[np.float32]:
    return blurred(np.asarray(scan.image, dtype=np.float32), scan.settings.spacing)


def _stacked(parts: Sequence[NDArray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.asarray(part, dtype=np.float32) for part in parts]))


def _training(scans: Mapping[str, PreparedScan], references: Sequence[Bag], seed: int) -> torch.Tensor:
    complete = [bag for bag in references if all(name in bag.scans for name in scans)]
    if not complete:
        raise InputError(
            "baseline 'training'",
            f"no reference patient with {' and '.join(scans)}",
            "bags of patients that the model was trained on",
            "Hand them in as references=prepared.bags('train').",
        )
    order = np.random.default_rng(seed).permutation(len(complete))[:PATIENTS]
    return torch.stack(
        [_stacked([_at(complete[i].scans[name], len(scan.image)) for name, scan in scans.items()]) for i in order]
    )


def _at(reference: PreparedScan, slices: int) -> NDArray:
    """The reference's slices at the relative heights of a scan of `slices` slices."""
    heights = (np.arange(slices) + 0.5) / slices
    return reference.image[np.minimum((heights * len(reference.image)).astype(int), len(reference.image) - 1)]


def _counterfactual(scans: Mapping[str, PreparedScan], counterfactual: Mapping[str, NDArray] | None) -> torch.Tensor:
    if counterfactual is None:
        raise InputError(
            "baseline 'counterfactual'",
            "no counterfactual",
            "the simulated patient without disease, on the prepared grid",
            "Hand it in as counterfactual=...; only simulated patients have one (cirrnb.explanation.simulated_truth).",
        )
    for name, scan in scans.items():
        if name not in counterfactual or counterfactual[name].shape != scan.grid.shape:
            raise InputError(
                f"{scan.scan.subject} {name}",
                "a counterfactual on another grid, or none",
                f"{scan.grid.shape}",
                "Make it anew.",
            )
    return _stacked([counterfactual[name] for name in scans])[None]
