"""Sixty mutated model folders from one seed: each is refused with an InputError, in bounded time and memory."""

from __future__ import annotations

import json
import math
import resource
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.model.trained_model import load_model

SHIPPED = Path(cirrnb.__file__).parent / "model" / "shipped"
COUNT, SEED = 60, 20
SECONDS, MEGABYTES = 30, 600
"""For one folder. Reading the model itself takes well below a second and 100 MB."""

Random = np.random.Generator
FOREIGN: tuple[Any, ...] = (None, [], {}, [[]], [{}], "", "x" * 300, -1, 0.5, 10**15, 1e300, -1e300, True, math.nan)


def fields(config: dict[str, Any]) -> list[tuple[str, ...]]:
    """Paths of all fields of a config that decide what is built or how scans are prepared."""
    outer = [(name,) for name in ("format", "stages", "sequences", "stager", "preparation", "simulated")]
    return [*outer, *((part, name) for part in ("stager", "preparation") for name in config[part])]


def put(config: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        config = config[name]
    config[path[-1]] = value


def wrong_value(random: Random, folder: Path) -> str:
    """A value of another type, or far out of range; those that the field might take are passed over."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    path = fields(config)[random.integers(len(fields(config)))]
    held = config
    for name in path:
        held = held[name]
    same = [one for one in FOREIGN if type(one) is type(held) or (held is None and one is None)]
    value = [one for one in FOREIGN if one not in same and not may_be(path, one)][random.integers(len(FOREIGN) - 5)]
    put(config, path, value)
    file.write_text(json.dumps(config))
    return f"{'.'.join(path)} = {value!r:.40}"


def may_be(path: tuple[str, ...], value: Any) -> bool:
    """Whether a field might take a value of another type than the one it has: None, whole numbers, empty text."""
    optional = value is None and path[-1] in ("field_of_view", "slice_spacing", "chunk")
    return optional or (isinstance(value, float) and value == 0.5)


def missing_or_unknown(random: Random, folder: Path) -> str:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    part = ("stager", "preparation")[random.integers(2)]
    if random.random() < 0.5:
        name = ("format", "stages", "sequences", "stager", "preparation", "simulated")[random.integers(6)]
        del config[name]
    else:
        name = "".join(map(chr, random.integers(97, 123, 9)))
        config[part][name] = 1
    file.write_text(json.dumps(config))
    return f"{name} missing or unknown"


def nested(random: Random, folder: Path) -> str:
    file = folder / "config.json"
    config, depth = json.loads(file.read_text()), int(random.choice([50, 900, 30_000, 200_000]))
    path = fields(config)[random.integers(len(fields(config)))]
    put(config, path, "HERE")
    file.write_text(json.dumps(config).replace('"HERE"', "[" * depth + "]" * depth))
    return f"{'.'.join(path)} nested {depth} deep"


def repeated_key(random: Random, folder: Path) -> str:
    file = folder / "config.json"
    text, part = file.read_text(), ("", "stager", "preparation")[random.integers(3)]
    if not part:
        text = text.rstrip().removesuffix("}") + ', "simulated": false}'
    else:
        name = next(iter(json.loads(text)[part]))
        text = text.replace(f'"{part}": {{', f'"{part}": {{"{name}": 5, ', 1)
    file.write_text(text)
    return f"a key twice in {part or 'the whole'}"


def huge_number(random: Random, folder: Path) -> str:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    names = [
        (part, name)
        for part in ("stager", "preparation")
        for name, one in config[part].items()
        if isinstance(one, int | float) and not isinstance(one, bool)
    ]
    path = names[random.integers(len(names))]
    put(config, path, "HERE")
    number = ["1e999", "1" + "0" * 5000, "-1e999", "1" + "0" * 25, "NaN", "99999999999", "-7"][random.integers(7)]
    file.write_text(json.dumps(config).replace('"HERE"', number))
    return f"{'.'.join(path)} = {number:.20}"


def damaged_bytes(random: Random, folder: Path) -> str:
    """Bytes of the JSON that are cut off or are no text."""
    file = folder / "config.json"
    content = bytearray(file.read_bytes())
    place = int(random.integers(1, len(content) - 3))
    if random.random() < 0.5:
        content = content[:place]
    else:
        content[place : place + 1] = bytes([random.choice([0, 255, 192, 10 if content[place] != 10 else 1])]) + b'"\x00'
    file.write_bytes(content)
    return f"config.json damaged at byte {place}"


def changed_weights(random: Random, folder: Path) -> str:
    """NaN, absurd numbers, a negative variance, another type or shape, one tensor more or fewer."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    real = [name for name, one in weights.items() if one.dtype == np.float32 and one.size]
    name = real[random.integers(len(real))]
    kind = random.integers(8)
    if kind <= 2:
        weights[name] = weights[name].copy()
        weights[name].flat[random.integers(weights[name].size)] = (np.nan, -np.inf, 3e38)[kind]
    elif kind == 3:
        name = next(one for one in weights if one.endswith("running_var"))
        weights[name] = weights[name].copy()
        weights[name].flat[random.integers(weights[name].size)] = -1e-3
    elif kind == 4:
        weights[name] = weights[name].astype([np.float64, np.float16, np.int64, np.uint8, np.bool_][random.integers(5)])
    elif kind == 5:
        weights[name] = np.zeros((*weights[name].shape, 2), np.float32)
    elif kind == 6:
        del weights[name]
    else:
        weights[f"{name}.more"] = np.zeros(int(random.integers(0, 9)), np.float32)
    save_file(weights, file)
    return f"{name}, kind {kind}"


def lying_header(random: Random, folder: Path) -> str:
    """Sizes, shapes and offsets that the file does not hold."""
    file = folder / "model.safetensors"
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__" and header[name]["shape"]]
    name, kind = names[random.integers(len(names))], random.integers(6)
    if kind == 0:
        file.write_bytes(struct.pack("<Q", int(random.choice([2**62, 2**40, 10**8, 0, 3]))) + content[8:])
        return "a length of the header that is not so"
    if kind == 1:
        header[name]["shape"] = [2**40, 2**40]
    elif kind == 2:
        header[name]["data_offsets"] = [0, 2**50]
    elif kind == 3:
        header[name]["dtype"] = "F8_E4M3"
    elif kind == 4:
        header[name]["shape"] = [-1, *header[name]["shape"]]
    else:
        file.write_bytes(content[: int(random.integers(0, len(content)))])
        return "weights cut short"
    told = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(told)) + told + content[8 + length :])
    return f"header of {name}, kind {kind}"


def giant(random: Random, folder: Path) -> str:
    """A network that would take gigabytes."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    kinds = [{"backbone": "eva_giant_patch14_560"}, {"backbone": "vit_giant_patch14_224"}, {"width": 4096}]
    change = kinds[random.integers(len(kinds))] | {"encoders": "separate"}
    config["stager"] |= change
    if random.random() < 0.5:
        config["preparation"] |= {"field_of_view": [12000, 12000]}
    file.write_text(json.dumps(config))
    return str(change)


def pickled(random: Random, folder: Path) -> str:
    file = folder / ("model.safetensors", "config.json")[random.integers(2)]
    file.write_bytes((b"\x80\x04cposix\nsystem\n", b"PK\x03\x04" + bytes(100), b"")[random.integers(3)])
    return f"{file.name} is something else"


def folds(random: Random, folder: Path) -> str:
    names = [["a"] * 2, [".."], ["a/b"], [""], [5], "abc", {"x": 1}, [], ["x" * 5000], None, ["a\0"]]
    (folder / "folds.json").write_text(json.dumps({"folds": names[random.integers(len(names))]}))
    return (folder / "folds.json").read_text()[:60]


def side_file(random: Random, folder: Path) -> str:
    """Calibration and out_of_distribution of wrong types."""
    name = ("calibration.json", "out_of_distribution.json")[random.integers(2)]
    told = json.loads((SHIPPED.parent / name).read_text())
    field = {"calibration.json": ("temperature", "n", "how"), "out_of_distribution.json": ("usual", "format")}[name]
    key = field[random.integers(len(field))]
    wrong = [None, [], {"CT": 1}, True, -1, 1e300, [[1]]]
    (folder / name).write_text(json.dumps({**told, key: wrong[random.integers(len(wrong))]}))
    return f"{name}, {key}"


KINDS: tuple[Callable[[Random, Path], str], ...] = (
    *(wrong_value, missing_or_unknown, nested, repeated_key, huge_number, damaged_bytes, changed_weights, lying_header),
    *(giant, pickled, folds, side_file),
)


def mutated(root: Path) -> Iterator[tuple[str, Path]]:
    """What was changed, and the folder."""
    random = np.random.default_rng(SEED)
    for number in range(COUNT):
        folder = root / str(number)
        folder.mkdir()
        for file in ("config.json", "model.safetensors"):
            shutil.copy(SHIPPED / file, folder)
        kind = KINDS[number % len(KINDS)]
        yield f"{number} {kind.__name__}: {kind(random, folder)}", folder
        shutil.rmtree(folder)


def peak() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read as POSIX has it")
def test_every_mutated_model_is_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    assert load_model(SHIPPED).members
    faults = []
    for what, folder in mutated(tmp_path):
        began, before = time.process_time(), peak()
        try:
            load_model(folder)
        except InputError as error:
            if len(str(error)) > 2000:
                faults.append(f"{what}: a message of {len(str(error))} characters")
        else:
            faults.append(f"{what}: loaded")
        if time.process_time() - began > SECONDS or peak() - before > MEGABYTES:
            faults.append(f"{what}: {time.process_time() - began:.0f} s, {peak() - before:.0f} MB more")
    assert faults == []
