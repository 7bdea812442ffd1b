"""A trained stager in a run folder: settings as JSON, weights as safetensors, nothing that could run code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from cirrnb.data.errors import InputError, check_flag, check_number
from cirrnb.data.json_file import is_format, read_object
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.sequences import sequence_names
from cirrnb.data.stage_scale import StageScale, stage_scale
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager
from cirrnb.model.torch_context import isolated_torch

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 1
MAX_WEIGHT = 1e9
"""Largest weight that is taken for one: a network computes no probability with more."""

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".joblib")


@dataclass(frozen=True)
class TrainedStager:
    """A stager and what has to be known to use it.

    Attributes
    ----------
    stager : the network, in evaluation mode.
    preparation : how scans must have been prepared for it.
    simulated : True if it was trained on simulated images: its output then means nothing for a patient.
    name : of the run, as reports call it.
    config : everything in `config.json`.
    """

    stager: Stager
    preparation: PreparationSettings
    simulated: bool
    name: str
    config: Mapping[str, Any]


def save_stager(folder: Path, stager: Stager, config: Mapping[str, Any]) -> None:
    """Write `config.json` and `model.safetensors` into an existing folder.

    `config` holds at least `preparation` (the fields of PreparationSettings) and `simulated`; format, stages,
    sequences and the stager's settings are added.
    """
    described = {
        "format": FORMAT,
        "stages": stager.stages.stored(),
        "sequences": stager.sequences,
        "stager": stager.settings.stored(),
        "backbone_weights": stager.backbone_weights,
        **config,
    }
    (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    save_tensors(stager.state_dict(), folder / WEIGHTS)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors as safetensors, wherever and however they lie in memory."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


@isolated_torch()
def load_stager(run: Path | str) -> TrainedStager:
    """The trained stager of a run folder, on the CPU and in evaluation mode.

    Raises
    ------
    InputError
        If the folder or one of its files is missing, a pickle is given in its place (it is refused and not opened
        as one, since loading a pickle runs the code inside), or the files are damaged or do not fit each other.
    """
    run = Path(run)
    if run.suffix.lower() in _PICKLES and not run.is_dir():
        raise _pickle(run)
    if not run.is_dir():
        raise InputError(run, "no folder", "a run folder written by cirrnb.train", "Name the folder, or train first.")
    for name in (CONFIG, WEIGHTS):
        if not (run / name).is_file():
            others = [path.name for path in sorted(run.iterdir()) if path.suffix.lower() in _PICKLES]
            if name == WEIGHTS and others:
                raise _pickle(run / others[0])
            raise InputError(run, f"no {name}", "a complete run folder", "Copy the whole folder, or train again.")
    config = _read_config(run / CONFIG)
    try:
        settings = StagerSettings(**config["stager"])
        stages, sequences = _vocabulary(config)
        if not set(settings.sequences) <= set(sequences):
            raise ValueError(f"sequences {sequences} without some of {settings.sequences}")
        preparation = PreparationSettings(**config["preparation"])
        simulated = config["simulated"]
        check_flag("simulated", simulated)
        _check_origin(config)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            run / CONFIG, f"settings that do not fit ({error})", "those cirrnb.train writes", "Train again."
        ) from error
    require_weights_of(settings, run / WEIGHTS, stages, sequences)
    stager = Stager(settings, fetch=False, stages=stages, sequences=sequences)
    stager.backbone_weights = str(config.get("backbone_weights", "unknown"))[:200]
    fill(stager, read_tensors(run / WEIGHTS), run / WEIGHTS)
    stager.eval()
    return TrainedStager(stager, preparation, simulated, run.resolve().name, config)


def fill(stager: Stager, weights: Mapping[str, torch.Tensor], where: Path) -> None:
    """Put weights into a stager.

    Raises InputError if they belong to another architecture, have another type than the stager's own, or hold numbers
    that no training leaves: NaN, beyond `MAX_WEIGHT`, a negative variance.
    """
    state = stager.state_dict()
    _require_same(stager.settings, _forms(state), _forms(weights), where)
    for name, tensor in weights.items():
        # Also False for NaN.
        bounded = bool((tensor.abs() <= MAX_WEIGHT).all())
        if not bounded or (name.endswith(("running_var", "num_batches_tracked")) and bool((tensor < 0).any())):
            problem = f"weights that are not finite, or impossible ({name})"
            raise InputError(where, problem, f"numbers up to {MAX_WEIGHT:g}", "The training went astray; train again.")
    stager.load_state_dict(dict(weights))


def require_weights_of(settings: StagerSettings, path: Path, stages: StageScale, sequences: tuple[str, ...]) -> None:
    """Compare the header of a safetensors file with the stager that `settings` describe, without memory for either.

    Raises InputError as `fill` and `read_tensors` do.
    """
    with torch.device("meta"):  # tensors with a shape and no content
        expected = _forms(Stager(settings, False, stages, sequences).state_dict())
    with _telling(path), safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
        stored = {name: (_TYPES.get(tensor.get_dtype()), tuple(tensor.get_shape())) for name, tensor in slices.items()}
    _require_same(settings, expected, stored, path)


Form = tuple[torch.dtype | None, tuple[int, ...]]


def _forms(tensors: Mapping[str, torch.Tensor]) -> dict[str, Form]:
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def _require_same(
    settings: StagerSettings, expected: Mapping[str, Form], stored: Mapping[str, Form], where: Path
) -> None:
    wrong = [f"{name} missing" for name in expected if name not in stored]
    wrong += [f"{name:.80} unknown" for name in stored if name not in expected]
    wrong += [
        f"{name} {stored[name][1]} instead of {form[1]}"
        for name, form in expected.items()
        if name in stored and stored[name][1] != form[1]
    ]
    wrong += [
        f"{name} of type {stored[name][0]} instead of {form[0]}"
        for name, form in expected.items()
        if name in stored and stored[name][0] != form[0]
    ]
    if wrong:
        raise InputError(
            where,
            f"weights of another architecture ({len(wrong)} tensors differ: {', '.join(wrong[:3])}, ...)",
            f"those of a stager with {settings}",
            "Use the config.json and model.safetensors of one run.",
        )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises InputError if it is a pickle by another name, or damaged."""
    with _telling(path):
        return load_file(path)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Say in words why a safetensors file cannot be read."""
    try:
        yield
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        with path.open("rb") as file:
            start = file.read(4)
        if start[:1] == b"\x80" or start == b"PK\x03\x04":
            raise _pickle(path) from None
        raise InputError(
            path, f"no readable safetensors ({error})", "a whole file", "Copy it again, or train again."
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_object(path, "a whole file", "Copy it again, or train again.")
    except OSError as error:
        problem = f"a file that cannot be read ({error.strerror})"
        raise InputError(path, problem, "a readable file", "Copy it again.") from error
    if not is_format(config.get("format"), FORMAT):
        raise InputError(
            path,
            f"format {config.get('format')!r:.80}",
            f"format {FORMAT}",
            "It was written by another version of cirrnb; train again or install that version.",
        )
    return config


def _vocabulary(config: Mapping[str, Any]) -> tuple[StageScale, tuple[str, ...]]:
    """Stages, which older files hold as a list of names, and sequences. Raises ValueError for what cannot be either."""
    stages, sequences = config["stages"], config["sequences"]
    if not isinstance(stages, list | dict) or not isinstance(sequences, list):
        raise ValueError(f"stages {stages!r:.80} and sequences {sequences!r:.80}")
    try:
        return stage_scale(stages), sequence_names(sequences)
    except InputError as error:
        raise ValueError(f"{error.where}: {error.found}") from error


def _check_origin(config: Mapping[str, Any]) -> None:
    """Raise ValueError unless what a config says of its training, for cards and pages alone, can be shown."""
    for name in ("backbone_weights", "cohort"):
        if not isinstance(config.get(name, ""), str):
            raise ValueError(f"{name} is no text")
    splits = config.get("splits", {})
    if not isinstance(splits, dict) or not all(isinstance(counts, dict) for counts in splits.values()):
        raise ValueError("splits are no counts of patients by split and stage")
    for counts in splits.values():
        for stage, count in counts.items():
            check_number(f"splits: {stage:.80}", count, 0, 10**9, whole=True)


def _pickle(path: Path) -> InputError:
    return InputError(
        path,
        "a pickled checkpoint, which was not opened because that would run the code inside",
        f"a run folder with {CONFIG} and {WEIGHTS}",
        "Save its weights as safetensors where it came from.",
    )
