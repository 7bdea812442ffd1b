"""Views of training patients that are drawn once and kept, because drawing costs several times what a step costs.

A scan is kept as bytes, so that a step of the training reads its slices in milliseconds and changes them a little
(`cirrnb.data.dataset.augment`); every few visits the same scan comes back, turned, shifted and shaded otherwise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cirrnb.data.atomic_files import atomic_file
from cirrnb.data.errors import InputError
from cirrnb.data.sequences import T1W_T2W
from cirrnb.simulation.training_patients import STREAM, TRAINING_VERSION, read_training_patient
from cirrnb.simulation.views import CLIP, VIEWS_VERSION, PreparedView, draw_view

STORED_SLICES = 12
"""Slices of a stored scan, from evenly spaced stretches of the liver."""
_VERSION = f"{TRAINING_VERSION}.{VIEWS_VERSION}"
_STEP = (CLIP[1] - CLIP[0]) / 255


def view_file(folder: Path, number: int, sequence: str, occasion: int) -> Path:
    """Where a patient's scan of one occasion is kept."""
    return folder / f"{number:06d}-{sequence}-{occasion:02d}.safetensors"


def write_views(folder: Path, number: int, occasions: int) -> None:
    """Draw the scans of a stored patient that are missing, `occasions` of each sequence."""
    missing = [
        (index, occasion)
        for index, sequence in enumerate(T1W_T2W)
        for occasion in range(occasions)
        if not view_file(folder, number, sequence, occasion).is_file()
    ]
    if not missing:
        return
    _, anatomy = read_training_patient(folder, number)
    for index, occasion in missing:
        random = np.random.default_rng([STREAM, 3, number, index, occasion])
        view = draw_view(anatomy, random, T1W_T2W[index], STORED_SLICES)
        tensors = {
            "image": ((view.image - CLIP[0]) / _STEP).round().to(torch.uint8),
            "position": view.position,
            "label": view.label,
        }
        with atomic_file(view_file(folder, number, T1W_T2W[index], occasion)) as partial:
            save_file(tensors, partial, metadata={"version": _VERSION})


def read_view(folder: Path, number: int, sequence: str, occasion: int) -> PreparedView:
    """A scan that `write_views` kept, its intensities to within 0.005. Raises InputError for files that are damaged or
    of another version."""
    path = view_file(folder, number, sequence, occasion)
    try:
        with safe_open(path, "pt") as file:
            if (version := (file.metadata() or {}).get("version")) != _VERSION:
                raise ValueError(f"version {version}")
            image = file.get_tensor("image").float() * _STEP + CLIP[0]
            return PreparedView(image, file.get_tensor("position"), file.get_tensor("label"))
    except (OSError, SafetensorError, ValueError) as error:
        expected = f"slices of a training patient, version {_VERSION}"
        raise InputError(path, f"not readable ({error})", expected, "Remove it; it is drawn again.") from error
