"""Weights of strangers: judged by their header before memory is taken, and by their numbers before they are used."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.model import stager as network
from cirrnb.model.checkpoint import load_stager

SHIPPED = Path(cirrnb.__file__).parent / "model" / "shipped"
Weights = dict[str, np.ndarray]


def first(weights: Weights, part: str) -> str:
    return next(name for name in weights if part in name)


def of_type(kind: type) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value.astype(kind) for name, value in weights.items()}


def filled(part: str, value: float) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, first(weights, part): np.full_like(weights[first(weights, part)], value)}


HOSTILE: dict[str, Callable[[Weights], Weights]] = {
    "NaN": filled("weight", np.nan),
    "infinite": filled("weight", np.inf),
    "finite and absurd": filled("weight", 3e38),
    "negative variance": filled("running_var", -1),
    "negative count": filled("num_batches_tracked", -1),
    "float64": of_type(np.float64),
    "float64, infinite as float32": lambda w: {
        k: v.astype(np.float64) * 1e300 if v.dtype == "f4" else v for k, v in w.items()
    },
    "float16": of_type(np.float16),
    "int64": of_type(np.int64),
    "uint8": of_type(np.uint8),
    "another shape": lambda w: {**w, first(w, "weight"): np.zeros((1, 2), np.float32)},
    "one missing": lambda w: {k: v for k, v in w.items() if k != first(w, "weight")},
    "one more": lambda w: {**w, "more": np.zeros(3, np.float32)},
    "many more": lambda w: {**w, **{f"more {number}": np.zeros(0, np.float32) for number in range(50_000)}},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_weights_that_no_training_leaves_are_refused(tmp_path: Path, change: Callable[[Weights], Weights]) -> None:
    shutil.copy(SHIPPED / "config.json", tmp_path)
    save_file(change(load_file(SHIPPED / "model.safetensors")), tmp_path / "model.safetensors")
    with pytest.raises(InputError) as raised:
        load_stager(tmp_path)
    assert raised.value.where == str(tmp_path / "model.safetensors") and len(str(raised.value)) < 2000


@pytest.mark.parametrize("change", [{"backbone": "eva_giant_patch14_560"}, {"width": 4096, "encoders": "separate"}])
def test_a_giant_network_costs_nothing_before_its_weights_are_compared(
    tmp_path: Path, change: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(SHIPPED / "model.safetensors", tmp_path)
    config = json.loads((SHIPPED / "config.json").read_text())
    config["stager"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    made: list[int] = []

    def counted(self: network.Stager, *arguments: object, **more: object) -> None:
        plain(self, *arguments, **more)
        made.append(sum(one.nbytes for one in self.parameters() if one.device.type != "meta"))

    plain = network.Stager.__init__
    monkeypatch.setattr(network.Stager, "__init__", counted)
    began = time.monotonic()
    with pytest.raises(InputError) as raised:
        load_stager(tmp_path)
    assert raised.value.where.endswith("model.safetensors")
    assert made == [0] and time.monotonic() - began < 20
