"""Every number that shapes a training, in one place, with presets by name."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from cirrnb.data.augmentation import Augmentation
from cirrnb.data.errors import InputError
from cirrnb.model.stager import StagerSettings

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TrainingSettings:
    """How a stager is trained.

    Attributes
    ----------
    stager : what is trained.
    epochs : passes over the training patients; the last one is kept, since choosing an epoch on a few dozen
        validation patients is choosing by noise.
    patients_per_step : patients in a step, over all devices together.
    slices : slices of each sequence drawn per patient and epoch; the same number, evenly spaced, validates.
    learning_rate : peak of the one-cycle schedule.
    weight_decay : of AdamW.
    augmentation : how far the slices are changed; None leaves them alone.
    precision : "fp32", or "bf16" where the device computes in it (most CPUs are slower with it).
    workers : processes that read slices ahead; 0 reads them in between.
    seed : of the first weights, the order of the patients, the slices drawn and dropout.
    """

    stager: StagerSettings = field(default_factory=StagerSettings)
    epochs: int = 20
    patients_per_step: int = 8
    slices: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    precision: str = "fp32"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("patients_per_step", 1), ("slices", 1), ("workers", 0), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is a whole number of at least {least}, not {value!r}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is between 0 and 1, not {self.learning_rate}")
        if not 0 <= self.weight_decay < 1:
            raise ValueError(f"weight_decay is between 0 and 1, not {self.weight_decay}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {PRECISIONS}, not {self.precision!r}")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TrainingSettings:
        """Settings by name, any field changed: `TrainingSettings.preset("demo", epochs=3, backbone="resnet10t")`.

        "demo" trains on two cores in minutes. Names of `StagerSettings` are understood too.

        Raises InputError for an unknown preset or field.
        """
        if name not in PRESETS:
            raise InputError("preset", repr(name), f"one of {sorted(PRESETS)}", "Choose one and change single fields.")
        own, stagers = ({part.name for part in fields(kind)} for kind in (cls, StagerSettings))
        unknown = sorted(set(changes) - own - stagers)
        if unknown:
            raise InputError(
                "preset", f"unknown {unknown}", f"fields among {sorted(own | stagers)}", "Correct the name."
            )
        values = {**PRESETS[name], **changes}
        stager = {key: values.pop(key) for key in list(values) if key in stagers}
        return cls(**{"stager": StagerSettings(**stager), **values})


PRESETS: dict[str, dict[str, Any]] = {"demo": {"backbone": "test_resnet", "epochs": 20, "slices": 8}}
