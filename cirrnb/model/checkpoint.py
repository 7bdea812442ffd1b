"""A trained stager in a run folder: settings as JSON, weights as safetensors, nothing that could run code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cirrnb.data.errors import InputError
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import SEQUENCES, STAGES
from cirrnb.model.network.stager import Stager
from cirrnb.model.settings import StagerSettings

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 1
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
        "stages": STAGES,
        "sequences": SEQUENCES,
        "stager": asdict(stager.settings),
        "backbone_weights": stager.backbone_weights,
        **config,
    }
    (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    save_tensors(stager.state_dict(), folder / WEIGHTS)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors as safetensors, wherever and however they lie in memory."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


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
        preparation = PreparationSettings(**config["preparation"])
        simulated = bool(config["simulated"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            run / CONFIG, f"settings that do not fit ({error})", "those cirrnb.train writes", "Train again."
        ) from error
    stager = Stager(settings, fetch=False)
    stager.backbone_weights = str(config.get("backbone_weights", "unknown"))
    fill(stager, read_tensors(run / WEIGHTS), run / WEIGHTS)
    stager.eval()
    return TrainedStager(stager, preparation, simulated, run.resolve().name, config)


def fill(stager: Stager, weights: Mapping[str, torch.Tensor], where: Path) -> None:
    """Put weights into a stager. Raises InputError if they belong to another architecture or are not finite."""
    own = stager.state_dict()
    wrong = [f"{name} missing" for name in own if name not in weights]
    wrong += [f"{name} unknown" for name in weights if name not in own]
    wrong += [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if wrong:
        raise InputError(
            where,
            f"weights of another architecture ({len(wrong)} tensors differ: {', '.join(wrong[:3])}, ...)",
            f"those of a stager with {stager.settings}",
            "Use the config.json and model.safetensors of one run.",
        )
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise InputError(where, "weights that are not finite", "numbers", "The training went astray; train again.")
    stager.load_state_dict(dict(weights))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises InputError if it is a pickle by another name, or damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        with path.open("rb") as file:
            start = file.read(4)
        if start[:1] == b"\x80" or start == b"PK\x03\x04":
            raise _pickle(path) from None
        raise InputError(
            path, f"no readable safetensors ({error})", "a whole file", "Copy it again, or train again."
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            path, f"no readable JSON ({error})", "a whole file", "Copy it again, or train again."
        ) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(
            path,
            f"format {config.get('format')!r}" if isinstance(config, dict) else "no settings",
            f"format {FORMAT}",
            "It was written by another version of cirrnb; train again or install that version.",
        )
    for name, ours in (("stages", STAGES), ("sequences", SEQUENCES)):
        if tuple(config.get(name, ())) != ours:
            raise InputError(path, f"{name} {config.get(name)}", f"{list(ours)}", "Train again with this version.")
    return config


def _pickle(path: Path) -> InputError:
    return InputError(
        path,
        "a pickled checkpoint, which was not opened because that would run the code inside",
        f"a run folder with {CONFIG} and {WEIGHTS}",
        "Save its weights as safetensors where it came from.",
    )
