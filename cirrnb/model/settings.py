"""Every number that shapes a stager and its training, in one place, with presets by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cirrnb.data.augmentation import Augmentation
from cirrnb.data.errors import InputError, check_flag, check_number
from cirrnb.data.plugins import Registry
from cirrnb.data.prepared import WHOLE, PreparationSettings
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
    "unit": ("patients", "slices"),
    "decay": ("all", "matrices"),
    "patience_counts": ("no_better", "worse"),
}

_WHOLE_NUMBERS = {
    "epochs": (1, 100_000),
    "patients_per_step": (1, 4096),
    "slices": (1, 4096),
    "workers": (0, 256),
    "seed": (0, 2**32 - 1),
    "patience": (1, 100_000),
    "batch": (1, 4096),
    "steps": (1, 10**9),
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
    sequences : sequences that are used; slices of others are ignored.
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
    classifier : the backbone as its authors classify with it, in place of the encoder described above: three equal grey
        channels, mean and standard deviation 0.5, its own layers before the last one, which is replaced. `pooling` is
        then "slice"; scales, attention, encoders, width and fusion play no part.
    maps : also a map of each sign, which says where it is (`cirrnb.explanation.sign_maps` trains that part).
    residual : the stage also rests on what the signs do not say; False lets it rest on the signs alone.
    """

    backbone: str = "test_resnet"
    pretrained: bool | str = False
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
    classifier: bool = False

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
        check_flag("classifier", self.classifier)
        if self.classifier and (self.pooling != "slice" or self.encoders != "shared"):
            raise ValueError('a classifier stages every slice by itself: pooling "slice", encoders "shared"')
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
        for later, default in (("signs", ()), ("maps", False), ("residual", True), ("classifier", False)):
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
    unit : what an epoch is made of: "patients", some `slices` of each, or all "slices", shuffled over the patients.
    patients_per_step : patients in a step, over all devices together.
    batch : slices in a step where the unit is "slices", over all devices together; the last step has the rest.
    slices : slices of each sequence drawn per patient and epoch; the same number, evenly spaced, validates.
    schedule : "one_cycle" up and down over all epochs, or "plateau": a tenth after 5 epochs without a better
        validation loss.
    learning_rate : peak of the schedule.
    weight_decay : of AdamW.
    decay : what decays: "all" parameters, or "matrices" alone and neither biases nor the scales of normalisations.
    loss : "likelihood" of the true stage, or the name of a plug-in's loss.
    balance : how rare stages are made to count: by "class_weights" or "focal" loss (Lin et al. 2017, gamma 2; both
        from the training patients), or not.
    sequence_dropout : share of training draws in which one of a patient's sequences, by chance, is left out.
    patience : epochs without a better validation `watch` after which training stops; None trains them all.
    patience_counts : epochs that are "no_better" than the best one, or only those that are "worse".
    watch : validation "loss" or "accuracy", for `patience` and `keep`.
    keep : the weights of the "last" epoch, since choosing on a few dozen validation patients is choosing by noise,
        or of the "best" by `watch`.
    augmentation : how far the slices are changed; None leaves them alone.
    chunk : slices encoded at a time, each chunk checkpointed, which bounds the memory; None takes a step at once.
    precision : "fp32", "bf16", or "auto": bf16 on a GPU, fp32 on a CPU, where bf16 is seldom faster.
    workers : processes that read slices ahead; 0 reads them in between.
    ema : share of the running mean of the weights that stays at each step (0.999); the mean is validated and kept.
        0 for none.
    weights : safetensors file of the backbone's first weights, in place of those that `pretrained` fetches.
    steps : steps of an epoch and of a validation, and slices of each scan that are scored at the end, at most; None for
        all. For rehearsals.
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
    unit: str = "patients"
    batch: int = 32
    decay: str = "all"
    patience_counts: str = "no_better"
    ema: float = 0.0
    weights: str | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        _check_choices(self)
        for name, (least, most) in _WHOLE_NUMBERS.items():
            value = getattr(self, name)
            if value is not None or name not in ("patience", "chunk", "steps"):
                check_number(name, value, least, most, whole=True)
        check_number("learning_rate", self.learning_rate, 1e-9, 0.999)
        for name in ("weight_decay", "sequence_dropout", "ema"):
            check_number(name, getattr(self, name), 0, 0.9999)
        if self.unit == "slices" and self.stager.pooling != "slice":
            raise ValueError('an epoch of slices trains a stager of slices: pooling "slice"')
        if self.weights is not None and not isinstance(self.weights, str):
            raise ValueError(f"weights is the path of a file, not {self.weights!r:.80}")

    def stored(self) -> dict[str, Any]:
        """The fields as files of a run hold them. Later additions are absent at their default, so that trainings begun
        before can be resumed."""
        stored = {**asdict(self), "stager": self.stager.stored()}
        for later in fields(TrainingSettings):
            if later.name in _LATER and stored[later.name] == later.default:
                del stored[later.name]
        if self.weights is not None:  # which weights, and not where they lay
            stored["weights"] = hashlib.sha256(Path(self.weights).read_bytes()).hexdigest()
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
        if isinstance(values.get("augmentation"), Mapping):
            preset = PRESETS[name].get("augmentation", Augmentation())
            values["augmentation"] = replace(preset, **values["augmentation"])
        values["pretrained"] = FIRST_WEIGHTS.get(str(values.get("pretrained")), values.get("pretrained", True))
        stager = {key: values.pop(key) for key in list(values) if key in stagers}
        return cls(**{"stager": StagerSettings(**stager), **values})

    @staticmethod
    def preparation(name: str, **changes: Any) -> PreparationSettings:
        """How a preset has scans prepared, fields changed: `TrainingSettings.preparation("demo", spacing=1.5)`.

        Where whole slices take the place of a field of view, or the other way, the rest is left to the defaults.
        Raises InputError for an unknown preset, ValueError as `PreparationSettings`.
        """
        if name not in PREPARATIONS:
            raise InputError("preset", repr(name), f"one of {sorted(PREPARATIONS)}", "Choose one.")
        values = dict(PREPARATIONS[name])
        if (changes.get("view", values["view"]) == WHOLE) != (values["view"] == WHOLE):
            values = {}
        return PreparationSettings(**{**values, **changes})


def given_settings(preset: str, given: Mapping[str, Any]) -> tuple[TrainingSettings, PreparationSettings]:
    """A preset's settings with those that are given by name and not None; other names are passed over.

    A notebook hands in its parameters. `sequences` may be a text ("T1W,T2W", "both"), `pixels` one number for both
    sides, `field_of_view` and `percentiles` two numbers in a text ("224x256"). Raises ValueError and InputError as the
    settings do.
    """

    def of(kind: type[Any]) -> dict[str, Any]:
        names = {part.name for part in fields(kind)}
        return {name: value for name, value in given.items() if name in names and value is not None}

    changes = of(TrainingSettings) | of(StagerSettings)
    if isinstance(sequences := changes.get("sequences"), str):
        changes["sequences"] = sequence_names(None if sequences == "both" else sequences)
    if amounts := of(Augmentation):
        changes["augmentation"] = amounts
    looks = of(PreparationSettings)
    for name in ("field_of_view", "percentiles"):
        if isinstance(text := looks.get(name), str):
            looks[name] = _two_numbers(name, text)
    if isinstance(side := looks.get("pixels"), int):
        looks["pixels"] = (side, side)
    return TrainingSettings.preset(preset, **changes), TrainingSettings.preparation(preset, **looks)


def _two_numbers(name: str, text: str) -> tuple[float, float]:
    """Of "224x256" or "1,99"."""
    parts = re.split(r"[x,]", text.replace(" ", ""))
    try:
        first, second = map(float, parts)
    except ValueError:
        raise InputError(name, repr(text), "two numbers, as 224x256", "Correct it.") from None
    return first, second


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

_LATER = frozenset(("loss", "ema", "unit", "batch", "decay", "patience_counts", "weights", "steps"))
"""Fields that files hold only where they differ from the default."""

PREPARATIONS: dict[str, dict[str, Any]] = {
    "demo": {"view": "liver", "spacing": 2.0},
    "standard": {"view": "liver", "spacing": 2.0},
    "reference": {"view": WHOLE},
}
"""How each preset has scans prepared."""

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
    "standard": {
        "pretrained": True,
        "backbone": "resnet18",
        "width": 256,
        "epochs": 40,
        "slices": 16,
        "learning_rate": 1e-3,
        "workers": 4,
        "decay": "matrices",
    },
    # Zeng et al. 2025 (arXiv 2502.18225) as their released code trains; `cirrnb.benchmark.protocol` compares the two.
    "reference": {
        "backbone": "vgg19",
        "pretrained": True,
        "classifier": True,
        "sequences": ("T1W",),
        "scales": 1,
        "attention": "none",
        "pooling": "slice",
        "fusion": "mean",
        "head": "cross_entropy",
        "dropout": 0.0,
        "epochs": 100,
        "unit": "slices",
        "batch": 32,
        "schedule": "plateau",
        "learning_rate": 1e-4,
        "weight_decay": 1e-5,
        "decay": "matrices",
        "sequence_dropout": 0.0,
        "patience": 20,
        "patience_counts": "worse",
        "seed": 42,
        "watch": "accuracy",
        "keep": "best",
        "augmentation": Augmentation(rotation=10, shift=0, gain=0, gamma=0, noise=0, bias=0, flip=0.3),
    },
}
