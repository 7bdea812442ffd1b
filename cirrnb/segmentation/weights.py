"""A segmenter's folder: settings as JSON, weights as safetensors in half precision, a card; nothing that runs code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cirrnb.data.atomic_files import atomic_file, atomic_write
from cirrnb.data.errors import InputError, check_number
from cirrnb.data.json_file import is_format, read_object
from cirrnb.segmentation.network import NetworkSettings, OrganNetwork
from cirrnb.simulation.rendering import PIXEL
from cirrnb.simulation.tissue_shares import ORGANS

CONFIG, WEIGHTS = "config.json", "segmenter.safetensors"
FORMAT = 1
CERTAIN = 0.99
"""Probability from which a voxel of ascites is certain."""
LARGEST = 64 << 20
"""Bytes a file of weights may have; the shipped one has about 3 MB."""
_TYPES = (torch.float16, torch.float32, torch.int64)
_TRAIN = "Train it again: cirrnb train-segmenter."


@dataclass(frozen=True)
class SegmenterConfig:
    """What has to be known of a segmenter beside its weights.

    Attributes
    ----------
    network : widths of its levels.
    version : of the segmenter, for tables and figures.
    trained : how it was trained: steps, anatomies, versions, cohorts by name. For reading only.
    certain_ascites : mL that have to be ascites with a probability of `CERTAIN`, or the scan has none; 0 asks for none.
        Thin rims look like much else: a network that finds them finds some in everybody, but nowhere for certain.
    """

    network: NetworkSettings
    version: str
    trained: Mapping[str, Any] = field(default_factory=dict)
    certain_ascites: float = 0.0


def shipped_folder() -> Path:
    """Folder of the segmenter that comes with the package."""
    return Path(__file__).with_name("shipped")


def save_network(folder: Path, weights: Mapping[str, Tensor], config: SegmenterConfig) -> None:
    """Write `config.json` and `segmenter.safetensors` into a folder, each atomically; kernels in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    small = {
        name: (value.half() if value.ndim > 1 else value.float() if value.is_floating_point() else value).contiguous()
        for name, value in weights.items()
    }
    with atomic_file(folder / WEIGHTS) as partial:
        partial.write_bytes(save(small))
    described = {
        "format": FORMAT,
        "organs": ORGANS,
        "pixel_mm": PIXEL,
        "version": config.version,
        "network": asdict(config.network),
        "trained": dict(config.trained),
        "certain_ascites_ml": config.certain_ascites,
    }
    atomic_write(folder / CONFIG, json.dumps(described, indent=2) + "\n")


def load_network(folder: Path) -> tuple[OrganNetwork, SegmenterConfig]:
    """The network of a folder, in evaluation mode, in single precision.

    Raises InputError if a file is missing, damaged, of another format, or does not fit the other.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(folder, f"no {name}", "a folder that cirrnb train-segmenter wrote", _TRAIN)
    config = _read_config(folder / CONFIG)
    path = folder / WEIGHTS
    if path.stat().st_size > LARGEST:
        raise InputError(path, f"{path.stat().st_size >> 20} MB", f"at most {LARGEST >> 20} MB", _TRAIN)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(path, f"no readable safetensors ({error})", "a whole file", _TRAIN) from error
    with torch.device("meta"):
        network = OrganNetwork(config.network)
    expected = {name: value.shape for name, value in network.state_dict().items()}
    stored = {name: value.shape for name, value in tensors.items()}
    if expected != stored:
        wrong = sorted(name for name in {*expected, *stored} if expected.get(name) != stored.get(name))
        raise InputError(path, f"weights of another network ({', '.join(wrong[:3])}, ...)", "those of one run", _TRAIN)
    if any(value.dtype not in _TYPES for value in tensors.values()):
        raise InputError(path, "weights of another type", "half or single precision", _TRAIN)
    weights = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    if not all(bool(torch.isfinite(value).all()) for value in weights.values() if value.is_floating_point()):
        raise InputError(path, "weights that are not finite", "numbers", _TRAIN)
    if any(bool((value < 0).any()) for name, value in weights.items() if name.endswith("running_var")):
        raise InputError(path, "a negative variance", "0 or more", _TRAIN)
    network.load_state_dict(weights, assign=True)
    return network.eval(), config


def fingerprint(network: OrganNetwork, certain_ascites: float = 0.0) -> str:
    """SHA-256 of a network's settings and weights in half precision, 64 hex digits: equal for equal behaviour."""
    digest = hashlib.sha256(json.dumps(asdict(network.settings), sort_keys=True).encode())
    if certain_ascites:
        digest.update(f"ascites from {certain_ascites:g} mL".encode())
    for name, value in sorted(network.state_dict().items()):
        if value.is_floating_point():
            digest.update(name.encode() + value.detach().cpu().half().numpy().tobytes())
    return digest.hexdigest()


def _read_config(path: Path) -> SegmenterConfig:
    stored = read_object(path, "a whole file", _TRAIN)
    if not is_format(stored.get("format"), FORMAT) or stored.get("organs") != list(ORGANS):
        raise InputError(path, "another format or other organs", f"format {FORMAT} and the same organs", _TRAIN)
    widths = stored.get("network", {}).get("widths") if isinstance(stored.get("network"), dict) else None
    fits = isinstance(widths, list) and 2 <= len(widths) <= 8 and all(type(w) is int and 1 <= w <= 1024 for w in widths)
    if not fits or stored.get("pixel_mm") != PIXEL or not isinstance(stored.get("version"), str):
        raise InputError(path, "settings that do not fit", "those that cirrnb train-segmenter writes", _TRAIN)
    trained, certain = stored.get("trained"), stored.get("certain_ascites_ml", 0.0)
    try:
        check_number("certain_ascites_ml", certain, 0, 10_000)
    except ValueError as error:
        raise InputError(path, str(error), "mL, 0 or more", _TRAIN) from error
    settings = NetworkSettings(widths=tuple(widths))  # type: ignore[arg-type]
    return SegmenterConfig(settings, stored["version"], trained if isinstance(trained, dict) else {}, float(certain))
