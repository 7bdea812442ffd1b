"""A trained model: one stager or the folds of a cross-validation, loaded from a folder, the package or the hub."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cirrnb.data.errors import InputError
from cirrnb.data.json_file import COPY_AGAIN, read_object
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import StageScale, stage_scale
from cirrnb.data.typed_paths import typed_path
from cirrnb.model.adaptation import ADAPTATION, Adaptation, read_adaptation
from cirrnb.model.calibration import Calibration, read_calibration
from cirrnb.model.checkpoint import CONFIG, TrainedStager, load_stager
from cirrnb.model.measured_signs import MEASURED_SIGNS, MeasuredSigns, read_measured_signs
from cirrnb.model.measured_stage import MEASURED_STAGE, MeasuredStage, read_measured_stage
from cirrnb.model.out_of_distribution import OutOfDistribution, read_out_of_distribution
from cirrnb.model.signs import SignIntervals, read_sign_intervals
from cirrnb.model.torch_context import usable_device, usual_device

HUB_PREFIX = "hf:"
HUB_FILES = ("*.json", "*.safetensors", "*.csv", "*.md")
"""Files that are fetched; nothing among them runs code."""

_HUB_NAME = re.compile(r"hf:(?P<repository>[\w.-]{1,96}/[\w.-]{1,96})(?:@(?P<revision>[\w./-]{1,100}))?")


def is_hub_name(run: Path | str) -> bool:
    """True for text that names a model on the hub."""
    return isinstance(run, str) and run.startswith(HUB_PREFIX)


def fetch_model(name: str) -> Path:
    """Folder of a model on the hub, fetched into the hub's cache if needed; without a network the cache is used.

    The server is that of `HF_ENDPOINT`, the cache that of `HF_HOME`; a private model needs `HF_TOKEN`, which is never
    written anywhere.

    Raises InputError for a name that is none, a model that does not exist, or a server that cannot be reached while
    nothing lies in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    match = _HUB_NAME.fullmatch(name)
    if match is None:
        raise InputError(
            name, "no name of a model on the hub", "hf:owner/name or hf:owner/name@revision", "Correct it."
        )
    try:
        folder = snapshot_download(match["repository"], revision=match["revision"], allow_patterns=list(HUB_FILES))
    except HFValidationError as error:
        raise InputError(name, f"a name that the hub refuses ({error})", "hf:owner/name", "Correct it.") from error
    except LocalEntryNotFoundError as error:
        raise InputError(
            name, "no answer of the hub, and nothing in the cache", "a network", "Try again, or give a folder."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise InputError(
            name,
            f"nothing that can be fetched ({status})",
            "a model that exists, and HF_TOKEN for a private one",
            "Correct the name, or give a folder.",
        ) from error
    return Path(folder)


FOLDS = "folds.json"
MAX_FOLDS = 50
_FOLD = re.compile(r"\w[\w.-]{0,99}")
SIGN_READER = "sign_reader"
"""Folder within a model: the network that reads the signs, where it is one of its own."""
LEFT = "left_to_the_stager"
"""In config.json of such a network: signs that the stager goes on giving itself."""
MEASURED = "measured"
"""In config.json of such a network: signs that are measured instead, as measured_signs.json beside it says."""
SITE = "site"
"""Folder within an adapted model: what the site's scans look like."""
SHIPPED = "shipped"
"""Stands for the model that comes with the package, wherever a run folder is asked for."""


@dataclass(frozen=True)
class TrainedModel:
    """One stager, or several whose probabilities are averaged.

    Attributes
    ----------
    members : at least one, all for scans prepared alike; their probabilities are averaged.
    name : of the run, as reports call it.
    calibration : fitted to patients that none of them was trained on; None: raw probabilities, and no prediction sets.
    out_of_distribution : features of the training scans; None: no out-of-distribution score.
    adaptation : to a site, applied to calibrated probabilities; None for the model as it was trained.
    site : features of that site's scans, which are then not unusual.
    sign_intervals : errors of the strengths of signs; None if they were not fitted.
    measured : contribution of measurements to the stage; None: the stage depends on the network only.
    measured_signs : signs whose strengths are measured, and not given by the sign reader; only beside a sign reader.
    sign_reader : network that gives strengths and maps of the signs, and not the stage; None: the members give them.
    """

    members: tuple[TrainedStager, ...]
    name: str
    calibration: Calibration | None = None
    out_of_distribution: OutOfDistribution | None = None
    adaptation: Adaptation | None = None
    site: OutOfDistribution | None = None
    sign_intervals: SignIntervals | None = None
    measured: MeasuredStage | None = None
    sign_reader: TrainedStager | None = None
    measured_signs: MeasuredSigns | None = None

    def __repr__(self) -> str:
        kind = f"{len(self.members)} stagers" if len(self.members) > 1 else "one stager"
        parts = [
            f"{kind} of {self.members[0].stager.settings.backbone}",
            f"{', '.join(self.sequences)} to {self.stages.listed}",
            "calibrated" if self.calibration else "not calibrated",
            *(["signs read by a network of their own"] if self.sign_reader else []),
            *(["adapted"] if self.adaptation else []),
            *(["trained on simulated patients"] if self.simulated else []),
        ]
        return f"{type(self).__name__}({self.name!r}: {'; '.join(parts)})"

    def _repr_html_(self) -> str:
        """The model's card, and its scale of stages in their colours."""
        from cirrnb.data.summary_html import bars, summary
        from cirrnb.model.model_card import card

        trained = self.members[0].config.get("splits", {}).get("train", {})
        total = sum(trained.values())
        shares = {name: trained.get(name, 0) / total for name in self.stages} if total else {}
        pictures = [f"<div>Stages of the training patients:</div>{bars(shares, self.stages.colour)}"] if shares else []
        if self.measured is not None:
            whole = sum(map(abs, self.measured.weight))
            parts = {
                name: abs(weight) / whole
                for name, weight in zip(self.measured.names, self.measured.weight, strict=True)
            }
            pictures.append(f"<div>What the stage rests on, by weight:</div>{bars(parts, {})}")
        return summary(f"Model {self.name}", card(self), simulated=self.simulated, tables=pictures)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that an answer depends on, 64 hex digits: weights, settings, preparation, stages, calibration,
        what scans are usual, and the adaptation. Never of a name: a copied or renamed model keeps it."""
        digest = hashlib.sha256()
        for member in (*self.members, *([self.sign_reader] if self.sign_reader else [])):
            stager = member.stager
            settings = (stager.settings.stored(), member.preparation.stored(), stager.stages.stored())
            described = (*settings, stager.sequences, member.simulated)
            digest.update(json.dumps(described, sort_keys=True, default=str).encode())
            for name, tensor in sorted(stager.state_dict().items()):
                values = tensor.detach().cpu().contiguous()
                digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
                digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
        for part in (self.calibration, self.out_of_distribution):
            digest.update(_hashable(part))
        if self.sign_intervals is not None:
            stored = {key: value for key, value in asdict(self.sign_intervals).items() if key != "read"}
            digest.update(json.dumps(stored, sort_keys=True).encode())
        if self.measured is not None:
            digest.update(json.dumps(asdict(self.measured), sort_keys=True).encode())
        if self.own_signs:
            digest.update(json.dumps(self.own_signs).encode())
        if self.measured_signs is not None:
            digest.update(json.dumps(asdict(self.measured_signs), sort_keys=True).encode())
        if self.adaptation is not None:
            digest.update(self.adaptation.fingerprint.encode() + _hashable(self.site))
        return digest.hexdigest()

    @property
    def without_adaptation(self) -> TrainedModel:
        """The model as it was trained."""
        return replace(self, adaptation=None, site=None)

    @property
    def for_signs(self) -> TrainedModel:
        """The networks that give strengths and maps of the signs, as a model."""
        return (
            replace(self, members=(self.sign_reader,), sign_reader=None, measured_signs=None)
            if self.sign_reader
            else self
        )

    @property
    def own_signs(self) -> tuple[str, ...]:
        """Signs whose strengths and maps the members give although there is a sign reader."""
        return tuple(self.sign_reader.config.get(LEFT, ())) if self.sign_reader else ()

    @property
    def signs(self) -> tuple[str, ...]:
        """Names of the signs whose strengths are given; none for a stager without sign outputs."""
        return self.for_signs.members[0].stager.settings.signs

    @property
    def preparation(self) -> PreparationSettings:
        return self.members[0].preparation

    @property
    def stages(self) -> StageScale:
        """Its stage scale."""
        return self.members[0].stager.stages

    @property
    def sequences(self) -> tuple[str, ...]:
        """The sequences it uses."""
        return self.members[0].stager.settings.sequences

    def vocabulary(self, sequences: str | None = None) -> dict[str, Any]:
        """What `cirrnb.read_cohort` takes to read a cohort for this model: `stages` and `sequences`, the latter as
        named, or the model's."""
        usual = set(self.sequences) <= set(T1W_T2W)
        return {"stages": self.stages, "sequences": sequences or (None if usual else self.sequences)}

    @property
    def simulated(self) -> bool:
        """True if one of them was trained on simulated images."""
        return any(member.simulated for member in (*self.members, *self.for_signs.members))


def _hashable(part: Calibration | OutOfDistribution | None) -> bytes:
    """A calibration or reference as bytes that are equal for equal content."""

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else str(value)

    return b"" if part is None else json.dumps(asdict(part), sort_keys=True, default=plain).encode()


def stages_of_run(run: Path | str) -> StageScale:
    """The scale of the model in a run folder, read from its settings alone; the usual one where there are none.

    Raises InputError for settings that cannot be read.
    """
    folder = model_folder(run)
    config = next((path for path in (folder / CONFIG, folder / "fold-1" / CONFIG) if path.is_file()), None)
    return stage_scale(read_object(config, "a whole file", "Train again.").get("stages") if config else None)


def names_model(run: Path | str) -> bool:
    """Whether a name or path is one of a model: "shipped", hf:owner/name, or a run folder that exists."""
    if str(run) == SHIPPED or is_hub_name(run):
        return True
    folder = typed_path(run)
    return any((folder / name).is_file() for name in (FOLDS, CONFIG))


def model_folder(run: Path | str) -> Path:
    """Where a model lies: the folder itself, that of the model in the package, or what the hub has (hf:owner/name)."""
    if is_hub_name(run):
        return fetch_model(str(run))
    return Path(__file__).parent / SHIPPED if str(run) == SHIPPED else typed_path(run)


def load_model(run: Path | str) -> TrainedModel:
    """The model of a run folder, of a cross-validation's folder, "shipped" for the one in the package, or hf:owner/name
    for one on the Hugging Face hub.

    Its networks are on the CPU, or where `cirrnb.model.torch_context.choose_device` says.

    Raises InputError where something is missing or damaged, or a pickle stands in its place.
    """
    folder = model_folder(run)
    listed = folder / FOLDS
    if not listed.is_file():
        return _together((load_stager(folder),), folder, run)
    try:
        names = read_object(listed, "a list of folds", "Train again.")["folds"]
        if not isinstance(names, list) or not 0 < len(names) <= MAX_FOLDS:
            raise ValueError(f"not a list of 1 to {MAX_FOLDS} folds")
        if not all(isinstance(name, str) and _FOLD.fullmatch(name) for name in names):
            raise ValueError("no names of folders beside it")
        if len(set(names)) < len(names):
            raise ValueError("a fold that is named twice")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(listed, f"no readable list of folds ({error})", "a whole file", "Train again.") from error
    members = tuple(load_stager(folder / name) for name in names)
    kinds = {
        (member.preparation, member.stager.settings, member.stager.stages, member.stager.sequences)
        for member in members
    }
    if len(kinds) > 1:
        raise InputError(folder, "folds trained otherwise", "folds of one cross-validation", "Train again.")
    return _together(members, folder, run)


def as_model(model: TrainedModel | TrainedStager | Path | str) -> TrainedModel:
    """Whatever stands for a model, as the model itself. Raises InputError for anything else."""
    if isinstance(model, TrainedModel):
        return model
    if not isinstance(model, TrainedStager | Path | str):
        remedy = 'The model comes first, as in cirrnb.predict("shipped", cohort); perhaps the two were exchanged.'
        raise InputError("model", f"a {type(model).__name__}", 'a run folder, "shipped" or a loaded model', remedy)
    return TrainedModel((model,), model.name) if isinstance(model, TrainedStager) else load_model(model)


def on_device(trained: TrainedModel, device: torch.device | str | None) -> TrainedModel:
    """The model with its networks moved to a device; None leaves them where they are.

    Raises InputError if there is no such device.
    """
    if device is not None:
        target = usable_device(device)
        for member in (*trained.members, *trained.for_signs.members):
            member.stager.to(target)
    return trained


def _together(members: tuple[TrainedStager, ...], folder: Path, run: Path | str) -> TrainedModel:
    for member in members:
        member.stager.to(usual_device())
    calibration, stages = read_calibration(folder), members[0].stager.stages
    if calibration is not None and calibration.stages != stages.names:
        problem = f"a calibration of the stages {', '.join(calibration.stages)}"
        raise InputError(folder, problem, stages.listed, "Copy the whole run folder again, or train again.")
    name = str(run).removeprefix(HUB_PREFIX) if is_hub_name(run) else folder.resolve().name
    model = TrainedModel(
        members,
        name,
        calibration,
        read_out_of_distribution(folder),
        sign_intervals=read_sign_intervals(folder),
        measured=read_measured_stage(folder),
        sign_reader=_sign_reader(folder, members[0]),
        measured_signs=read_measured_signs(folder),
    )
    measured_signs = model.measured_signs
    named = model.sign_reader.config.get(MEASURED, []) if model.sign_reader else []
    if lost := sorted(set(named) - set(measured_signs.signs if measured_signs else {})):
        problem = f"no measured signs {', '.join(lost)}"
        raise InputError(folder / MEASURED_SIGNS, problem, "those that the model had", COPY_AGAIN)
    if measured_signs and (model.sign_reader is None or not set(measured_signs.signs) <= set(model.signs)):
        problem = f"signs {', '.join(measured_signs.signs)}, and no network that reads them"
        raise InputError(folder / MEASURED_SIGNS, problem, f"a folder {SIGN_READER}", COPY_AGAIN)
    if model.measured is not None and len(model.measured.thresholds) != len(stages.names) - 1:
        problem = f"terms for {len(model.measured.thresholds) + 1} stages"
        raise InputError(folder / MEASURED_STAGE, problem, stages.listed, COPY_AGAIN)
    adaptation = read_adaptation(folder)
    if adaptation is None:
        return model
    if adaptation.model != model.fingerprint or adaptation.stages != stages.names:
        raise InputError(
            folder / ADAPTATION,
            f"an adaptation of the model {adaptation.model[:16]}",
            f"one of the model beside it, {model.fingerprint[:16]}",
            "Run cirrnb adapt again.",
        )
    return replace(model, adaptation=adaptation, site=read_out_of_distribution(folder / SITE))


def _sign_reader(folder: Path, member: TrainedStager) -> TrainedStager | None:
    """The network in a model's folder that reads the signs, None where there is none."""
    if not (folder / SIGN_READER).is_dir():
        return None
    reader = load_stager(folder / SIGN_READER)
    require_sign_reader(reader, member)
    reader.stager.to(usual_device())
    return reader


def require_sign_reader(reader: TrainedStager, member: TrainedStager) -> None:
    """Raise InputError for a network that cannot read the signs of a model's patients in place of a member."""
    remedy = "Train it with cirrnb train-simulated, with the sequences and the preparation of the model."
    expected, given = (
        {
            "signs": network.stager.settings.signs,
            "sequences": network.stager.sequences,
            "stages": network.stager.stages.names,
            "preparation": network.preparation,
            "scales": network.stager.scales,
            "maps": network.stager.settings.maps,
        }
        for network in (member, reader)
    )
    for field in (LEFT, MEASURED):
        names = reader.config.get(field, [])
        if not isinstance(names, list) or not all(name in member.stager.settings.signs for name in names):
            raise InputError(reader.name, f"{field}: {names!r:.80}", f"some of the signs {expected['signs']}", remedy)
    for what, wanted in expected.items():
        if given[what] != wanted or not expected["signs"]:
            raise InputError(reader.name, f"{what}: {given[what]}", f"those of the model: {wanted}", remedy)
