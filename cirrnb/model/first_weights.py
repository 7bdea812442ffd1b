"""The weights a backbone begins with: random, fetched by timm, or from a safetensors file; and which keys were used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from cirrnb.data.errors import InputError, listed

CONVERT = (
    "python -c \"import torch, sys; from safetensors.torch import save_file; s = torch.load(sys.argv[1], 'cpu', "
    "weights_only=True); save_file({k: v.contiguous() for k, v in s.get('state_dict', s).items()}, sys.argv[2])\" "
    "WEIGHTS.pth WEIGHTS.safetensors"
)
"""Makes a safetensors file of a PyTorch checkpoint that holds tensors alone."""

LAST = ("head.", "classifier.", "fc.", "last_linear.", "head_dist.")
"""Beginnings of the names of a classifier's last layer, which is always a new one."""


@dataclass(frozen=True)
class FirstWeights:
    """`fetch` asks timm for pretrained weights; `file` is a safetensors file that takes their place."""

    fetch: bool = False
    file: Path | None = None


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises InputError for anything else; a pickle is not opened."""
    if not path.is_file():
        raise InputError(path, "no file", "a safetensors file of the backbone's weights", "Correct the path.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(path, f"no safetensors ({error})", "a safetensors file", f"Convert it: {CONVERT}") from error


def key_table(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """One row per tensor of the model or of the file: key, shape, used (bool), why.

    For a model of one channel, a first convolution of three channels is summed; its output is then that for three equal
    channels.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    rows = []
    for name, shape in shapes.items():
        if name not in weights:
            counter = name.endswith("num_batches_tracked")
            why = "a counter, which begins at 0" if counter else "not in the file: begins random"
            rows.append((name, shape, False, why))
        elif tuple(weights[name].shape) == shape:
            rows.append((name, shape, True, ""))
        elif _summed(tuple(weights[name].shape), shape):
            rows.append((name, shape, True, "three channels summed"))
        else:
            rows.append((name, shape, False, f"{tuple(weights[name].shape)} in the file"))
    for name, tensor in weights.items():
        if name not in shapes:
            why = "the last layer, which is a new one" if name.startswith(LAST) else "unknown to the model"
            rows.append((name, tuple(tensor.shape), False, why))
    return pd.DataFrame(rows, columns=["key", "shape", "used", "why"])


def take(model: nn.Module, weights: Mapping[str, torch.Tensor], where: Path) -> pd.DataFrame:
    """Put weights into a model and return `key_table`.

    Raises InputError if the model has tensors that the file lacks or has in another shape, or numbers are not finite:
    a network that is half random would pass for a pretrained one.
    """
    table = key_table(model, weights)
    require_keys(table, model, where)
    taken = {}
    for name, shape in ((name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()):
        if name in weights:
            tensor = weights[name].float() if weights[name].is_floating_point() else weights[name]
            taken[name] = tensor if tuple(tensor.shape) == shape else tensor.sum(dim=1, keepdim=True)
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise InputError(where, f"numbers that are not finite in {name}", "weights", "Copy the file again.")
    model.load_state_dict(taken, strict=False)
    return table


def require_keys(table: pd.DataFrame, model: nn.Module, where: Path) -> None:
    """Raise InputError unless every tensor of the model but counters is used, by a table of `key_table`."""
    keys = set(model.state_dict())
    wrong = table[~table["used"] & table["key"].isin(keys) & ~table["key"].str.endswith("num_batches_tracked")]
    if len(wrong):
        rows = [f"{row.key} ({row.why})" for row in wrong.itertuples()]
        used = int(table["used"].sum())
        problem = f"weights for {used} of the network's {len(keys)} tensors; without {listed(rows, 3)}"
        raise InputError(where, problem, "all of them, by timm's names", "Name the file of this network.")


def _summed(stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(stored) == 4 and stored[1] == 3 and wanted == (stored[0], 1, *stored[2:])
