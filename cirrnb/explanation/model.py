"""The front door to a trained model: load it, ask it, ask it why, save it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Cohort
from cirrnb.data.typed_paths import typed_path
from cirrnb.explanation.explain import explain
from cirrnb.explanation.explanation import Explanation
from cirrnb.model.checkpoint import TrainedStager, save_stager
from cirrnb.model.prediction import predict
from cirrnb.model.trained_model import FOLDS, SIGN_READER, SITE, TrainedModel, load_model, on_device


class Model(TrainedModel):
    """A trained model: load it, predict, explain, save.

    It has `stages` (its `StageScale`), `sequences`, `preparation` (how it needs scans prepared), `device`, and
    `fingerprint` (SHA-256 of weights and settings).

    Examples
    --------
    >>> model = cirrnb.Model.load("shipped")  # or a run folder, or hf:owner/name
    >>> model.sequences
    ('T1W', 'T2W')
    >>> answers = model.predict("cohorts/mine")
    """

    def __init__(self, members: tuple[TrainedStager, ...], name: str = "", *parts: Any, **named: Any):
        """As `TrainedModel`. Raises InputError for the name of a model, which `load` takes."""
        if isinstance(members, str | Path):
            remedy = f'Call cirrnb.Model.load("{Path(members).name}").'
            raise InputError("Model", "the name of a model", "its stagers", remedy)
        super().__init__(members, name, *parts, **named)

    @classmethod
    def load(cls, run: Path | str = "shipped", device: torch.device | str | None = None) -> Model:
        """Load a run folder, the folder of a cross-validation, "shipped", or hf:owner/name from the Hugging Face hub.

        `device` is "cpu" or "cuda"; None takes the CPU. Raises InputError if something is missing or damaged.
        """
        trained = load_model(run)
        model = cls(**{part.name: getattr(trained, part.name) for part in fields(trained)})
        return model if device is None else model.to(device)

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(self.members[0].stager.parameters()).device

    def to(self, device: torch.device | str) -> Model:
        """Move the weights; returns the model. Raises InputError if there is no such device."""
        on_device(self, device)
        return self

    def predict(self, patients: PreparedCohort | Cohort | Path | str | Sequence[Bag], **options: Any) -> pd.DataFrame:
        """`cirrnb.predict` with this model, on its device. `options` are the other parameters of that function."""
        return predict(self, patients, device=self.device, **options)

    def explain(
        self,
        patients: PreparedCohort | Cohort | Path | str | Bag,
        subject: str | None = None,
        *args: Any,
        **options: Any,
    ) -> Explanation:
        """`cirrnb.explain` with this model, for one patient of a cohort (`subject`, by default the first) or for a bag.

        `options` are the other parameters of that function. Raises as it does.
        """
        return explain(self, patients, *args, subject=subject, **options)

    def save(self, folder: Path | str) -> Path:
        """Write the model into a new folder, as JSON and safetensors, and return the folder. `load` reads it.

        Raises InputError if the folder is not empty.
        """
        folder = typed_path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise InputError(folder, "a folder with files", "a new folder", "Give another one.")
        names = [f"fold-{number}" for number in range(1, len(self.members) + 1)]
        places = [folder / name for name in names] if len(names) > 1 else [folder]
        for member, place in zip(self.members, places, strict=True):
            place.mkdir(parents=True, exist_ok=True)
            save_stager(place, member.stager, member.config)
        if self.sign_reader is not None:
            (folder / SIGN_READER).mkdir()
            save_stager(folder / SIGN_READER, self.sign_reader.stager, self.sign_reader.config)
        for part in (self.calibration, self.out_of_distribution, self.sign_intervals):
            if part is not None:
                part.save(folder)
        for fitted in (self.measured, self.measured_signs, self.adaptation):
            if fitted is not None:
                fitted.save(folder)
        if self.site is not None:
            (folder / SITE).mkdir(exist_ok=True)
            self.site.save(folder / SITE)
        if len(names) > 1:
            atomic_write(folder / FOLDS, json.dumps({"folds": names}, indent=1) + "\n")
        return folder
