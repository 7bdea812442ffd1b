"""Every number that shapes a stager and its training, in one place, with presets by name."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cirrnb.data.dataset import Augmentation
from cirrnb.data.errors import InputError, check_flag, check_number
from cirrnb.data.plugins import Registry
from cirrnb.data.sequences import T1W_T2W, sequence_names
from cirrnb.model.heads_and_losses import HEADS, LOSSES

_CHOICES: dict[str, tuple[str, ...] | Registry[Any]] = {
    "attention": ("sequence", "shared", "none"),
    "encoders": ("shared", "separate"),
    "pooling": ("attention", "mean", "slice"),
    "fusion": ("cross", "weighted", "mean"),
    "head": HEADS,
    "loss": LOSSES,
    "schedule": ("one_cycle", "plateau"),
    "balance": ("none", "class_weights", "focal"),
    "keep": ("last", "best"),
    "watch": ("loss", "accuracy"),
    "precision": ("auto", "fp32", "bf16"),
}

_WHOLE_NUMBERS = {
    "epochs": (1, 100_000),
    "patients_per_step": (1, 4096),
    "slices": (1, 4096),
    "workers": (0, 256),
    "seed": (0, 2**32 - 1),
    "patience": (1, 100_000),
    "chunk": (1, 100_000),
}
_SIGN = re.compile(r"[a-z][a-z0-9_]{0,39}")
_BACKBONE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}(\.[A-Za-z0-9_]{1,99})?")
"""Name of a timm model and, after a dot, of its weights: neither a path nor an address."""


def _is_sign(name: object) -> bool:
    return isinstance(name, str) and _SIGN.fullmatch(name) is not None


@dataclass(frozen=True)
class StagerSettings:
    """What a stager is built of; together with its weights this is the whole model. Each part can be switched off.

    Attributes
    ----------
    backbone : name of a timm model or of a plug-in's backbone; `test_resnet` is timm's smallest residual network (0.4 M
        parameters) and made for two cores.
    pretrained : begin from timm's pretrained weights where they can be fetched (True), from random ones (False), or
        with "simulated" from the stager of the package, which learned from simulated patients.
    sequences : which sequences are looked at; the slices of others are left out.
    scales : how many of the backbone's feature maps are used, the coarsest first; 1 is an ordinary classifier's view.
    attention : channel and spatial gates at every scale, with weights of their own for each "sequence", "shared" by
        all, or "none" (plain means).
    encoders : one encoder "shared" by the sequences, or "separate" ones.
    width : length of a slice's embedding.
    pooling : of a sequence's slices: gated "attention", "mean", or "slice", which stages every slice by itself and
        averages the probabilities (the protocol of Zeng et al., arXiv 2502.18225).
    fusion : of the sequences: "cross" lets slices attend to those of other sequences near them and knows a learned
        stand-in for a missing one, "weighted" weighs the sequences by a learned score, "mean" alike.
    head : "corn" (conditional odds) and "cumulative" (proportional odds) know that the stages are ordered,
        "cross_entropy" does not; or the name of a plug-in's head.
    demographics : also use age and sex, where known.
    dropout : share of the embedding switched off in training, before the last layer.
    signs : names of signs whose strengths are outputs, on which the stage rests beside a free residual (a concept
        bottleneck: Koh et al., ICML 2020; the residual: Yuksekgonul et al., ICLR 2023); none by default.
    maps : also a map of each sign, which says where it is (`cirrnb.explanation.sign_maps` trains that part).
    residual : the stage also rests on what the signs do not say; False lets it rest on the signs alone.
    """

    backbone: str = "test_resnet"
    pretrained: bool | str = True
    sequences: tuple[str, ...] = T1W_T2W
    scales: int = 4
    attention: str = "sequence"
    encoders: str = "shared"
    width: int = 128
    pooling: str = "attention"
    fusion: str = "cross"
    head: str = "corn"
    demographics: bool = False
    dropout: float = 0.3
    signs: tuple[str, ...] = ()
    maps: bool = False
    residual: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.sequences, list | tuple):
            raise ValueError(f"sequences are names, not {self.sequences!r:.80}")
        try:
            object.__setattr__(self, "sequences", sequence_names(self.sequences))
        except InputError as error:
            raise ValueError(f"sequences: {error.found}") from error
        _check_choices(self)
        if not isinstance(self.backbone, str) or not _BACKBONE.fullmatch(self.backbone):
            raise ValueError(f"backbone is the name of a timm model, not {self.backbone!r:.80}")
        if self.pretrained != "simulated":
            check_flag("pretrained", self.pretrained)
        check_flag("demographics", self.demographics)
        check_flag("maps", self.maps)
        check_flag("residual", self.residual)
        check_number("width", self.width, 1, 4096, whole=True)
        check_number("scales", self.scales, 1, 4, whole=True)
        check_number("dropout", self.dropout, 0, 0.99)
        if not isinstance(self.signs, list | tuple) or not all(_is_sign(name) for name in self.signs):
            raise ValueError(f"signs are names, not {self.signs!r:.80}")
        object.__setattr__(self, "signs", tuple(self.signs))
        if len(set(self.signs)) < len(self.signs) or (self.signs and self.pooling == "slice"):
            raise ValueError("signs are named once, and are outputs of stagers of whole patients")
        if self.maps and not self.signs:
            raise ValueError("maps are of signs, and no signs are named")
        if not self.residual and not self.signs:
            raise ValueError("a stage rests on the signs alone, and no signs are named")

    def stored(self) -> dict[str, Any]:
        """The fields as files and fingerprints hold them. Later additions are absent at their default."""
        fields_ = asdict(self)
        for later, default in (("signs", ()), ("maps", False), ("residual", True)):
            if fields_[later] == default:
                del fields_[later]
        return fields_


@dataclass(frozen=True)
class TrainingSettings:
    """How a stager is trained.

    Attributes
    ----------
    stager : what is trained.
    epochs : most passes over the training patients.
    patients_per_step : patients in a step, over all devices together.
    slices : slices of each sequence drawn per patient and epoch; the same number, evenly spaced, validates.
    schedule : "one_cycle" up and down over all epochs, or "plateau": a tenth after 5 epochs without a better
        validation loss.
    learning_rate : peak of the schedule.
    weight_decay : of AdamW.
    loss : "likelihood" of the true stage, or the name of a plug-in's loss.
    balance : how rare stages are made to count: by "class_weights" or "focal" loss (Lin et al. 2017, gamma 2; both
        from the training patients), or not.
    sequence_dropout : share of training draws in which one of a patient's sequences, by chance, is left out.
    patience : epochs without a better validation `watch` after which training stops; None trains them all.
    watch : validation "loss" or "accuracy", for `patience` and `keep`.
    keep : the weights of the "last" epoch, since choosing on a few dozen validation patients is choosing by noise,
        or of the "best" by `watch`.
    augmentation : how far the slices are changed; None leaves them alone.
    chunk : slices encoded at a time, each chunk checkpointed, which bounds the memory; None takes a step at once.
    precision : "fp32", "bf16", or "auto": bf16 on a GPU, fp32 on a CPU, where bf16 is seldom faster.
    workers : processes that read slices ahead; 0 reads them in between.
    seed : of the first weights, the order of the patients, the slices drawn and dropout.
    """

    stager: StagerSettings = field(default_factory=StagerSettings)
    epochs: int = 20
    patients_per_step: int = 8
    slices: int = 8
    schedule: str = "one_cycle"
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    loss: str = "likelihood"
    balance: str = "none"
    sequence_dropout: float = 0.2
    patience: int | None = None
    watch: str = "loss"
    keep: str = "last"
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    chunk: int | None = None
    precision: str = "auto"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choices(self)
        for name, (least, most) in _WHOLE_NUMBERS.items():
            value = getattr(self, name)
            if value is not None or name not in ("patience", "chunk"):
                check_number(name, value, least, most, whole=True)
        check_number("learning_rate", self.learning_rate, 1e-9, 0.999)
        for name in ("weight_decay", "sequence_dropout"):
            check_number(name, getattr(self, name), 0, 0.999)

    def stored(self) -> dict[str, Any]:
        """The fields as files of a run hold them. Later additions are absent at their default, so that trainings begun
        before can be resumed."""
        stored = {**asdict(self), "stager": self.stager.stored()}
        if self.loss == "likelihood":
            del stored["loss"]
        return stored

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TrainingSettings:
        """Settings by name, any field changed: `TrainingSettings.preset("demo", epochs=3, backbone="resnet10t")`.

        "demo" trains on two cores in minutes, "standard" is meant for one GPU, "reference" is the slice protocol of
        Zeng et al. (arXiv 2502.18225). Names of `StagerSettings` are understood too.

        Raises InputError for an unknown preset or field, ValueError for a value that makes no sense.
        """
        if name not in PRESETS:
            raise InputError("preset", repr(name), f"one of {sorted(PRESETS)}", "Choose one and change single fields.")
        names, stagers = ({part.name for part in fields(kind)} for kind in (cls, StagerSettings))
        unknown = sorted(set(changes) - names - stagers)
        if unknown:
            raise InputError(
                "preset", f"unknown {unknown}", f"fields among {sorted(names | stagers)}", "Correct the name."
            )
        values = {**PRESETS[name], **changes}
        values["pretrained"] = FIRST_WEIGHTS.get(str(values.get("pretrained")), values.get("pretrained", True))
        stager = {key: values.pop(key) for key in list(values) if key in stagers}
        return cls(**{"stager": StagerSettings(**stager), **values})


def _check_choices(settings: StagerSettings | TrainingSettings) -> None:
    for part in fields(settings):
        allowed = _CHOICES.get(part.name)
        value = getattr(settings, part.name)
        if allowed and (not isinstance(value, str) or value not in allowed):
            known = allowed.names if isinstance(allowed, Registry) else allowed
            hint = "; load the plug-in that registers it first" if isinstance(allowed, Registry) else ""
            raise ValueError(f"{part.name} is one of {known}, not {value!r:.80}{hint}")


FIRST_WEIGHTS: dict[str, bool | str] = {"photographs": True, "none": False, "simulated": "simulated"}
"""What a stager's encoder begins with, by name."""

PRESETS: dict[str, dict[str, Any]] = {
    # Random first weights: the same figures with and without a network connection. At a peak rate of 2e-3 and 8
    # patients a step the loss only begins to fall when the rate does, after half of the epochs.
    "demo": {
        "backbone": "test_resnet",
        "pretrained": False,
        "epochs": 20,
        "patients_per_step": 4,
        "slices": 8,
        "learning_rate": 5e-4,
    },
    "standard": {"backbone": "resnet18", "width": 256, "epochs": 40, "slices": 16, "learning_rate": 1e-3, "workers": 4},
    # Batches of 32 slices, ImageNet weights, flips and rotations, the best epoch by validation accuracy.
    "reference": {
        "backbone": "vgg19",
        "sequences": ("T1W",),
        "scales": 1,
        "attention": "none",
        "pooling": "slice",
        "fusion": "mean",
        "head": "cross_entropy",
        "dropout": 0.0,
        "epochs": 100,
        "patients_per_step": 4,
        "slices": 8,
        "schedule": "plateau",
        "learning_rate": 1e-4,
        "weight_decay": 1e-5,
        "sequence_dropout": 0.0,
        "patience": 20,
        "watch": "accuracy",
        "keep": "best",
        "augmentation": Augmentation(rotation=10, shift=0, gain=0, gamma=0, noise=0, bias=0, flip=0.3),
    },
}
