"""JSON files of strangers: one table of what is wrong with them, put before every reader of the package."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cirrnb
from cirrnb.course.progress import Progress
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import MAX_BYTES, parse_json, read_json
from cirrnb.explorer import panel
from cirrnb.measure.organs import _labels
from cirrnb.model.calibration import read_calibration
from cirrnb.model.checkpoint import load_stager
from cirrnb.model.out_of_distribution import read_out_of_distribution
from cirrnb.model.trained_model import load_model
from cirrnb.model.training_state import TrainingState
from cirrnb.run.demo import Record
from cirrnb.run.parameters import read_cells

SHIPPED = Path(cirrnb.__file__).parent / "model" / "shipped"
NESTED = "[" * 100_000 + "]" * 100_000
BROKEN = {
    "nested": NESTED,
    "nested inside": '{"format": 1, "folds": ' + NESTED + "}",
    "nested a little too deep": '{"format": 1, "a": ' + "[" * 60 + "]" * 60 + "}",
    "cut short": '{"format": 1',
    "empty": "",
    "a list": "[]",
    "a number": "5",
    "null": "null",
    "repeated key": '{"format": 1, "format": 1, "simulated": true, "simulated": false}',
    "long number": '{"format": 1, "folds": 1' + "0" * 100_000 + "}",
    "not finite": '{"format": 1, "temperature": 1e999}',
    "not a number": '{"format": 1, "temperature": NaN}',
    "half a character": '{"format": 1, "folds": ["\\ud800"]}',
    "not text": b"\xff\xfe\x00",
    "too long": b" " * (MAX_BYTES + 1) + b"{}",
}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def model_with(folder: Path, name: str, content: str | bytes) -> Path:
    for file in ("config.json", "model.safetensors"):
        shutil.copy(SHIPPED / file, folder / file)
    return write(folder / name, content)


def _stager(folder: Path, content: str | bytes) -> Any:
    model_with(folder, "config.json", content)
    return load_stager(folder)


def _folds(folder: Path, content: str | bytes) -> Any:
    model_with(folder, "folds.json", content)
    return load_model(folder)


def _unfinished(folder: Path, content: str | bytes) -> Any:
    run = TrainingState(folder / "run", {"seed": 1})
    write(run.folder / "identity.json", content)
    return run.begin(resume=True)


REFUSING: dict[str, Callable[[Path, str | bytes], Any]] = {
    "config.json": _stager,
    "folds.json": _folds,
    "calibration.json": lambda folder, content: read_calibration(write(folder / "calibration.json", content).parent),
    "out_of_distribution.json": lambda folder, content: read_out_of_distribution(
        write(folder / "out_of_distribution.json", content).parent
    ),
    "identity.json": _unfinished,
    "organs.json": lambda folder, content: _labels(write(folder / "organs.json", content).with_suffix(".nii.gz")),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", REFUSING)
def test_a_broken_file_is_refused_by_its_name(tmp_path: Path, name: str, content: str | bytes) -> None:
    began = time.monotonic()
    if name == "identity.json" and content in (
        '{"format": 1, "temperature": NaN}',
        '{"format": 1, "temperature": 1e999}',
    ):
        content = "{"  # what the package keeps for itself may hold NaN
    with pytest.raises(InputError) as raised:
        REFUSING[name](tmp_path, content)
    assert raised.value.where.endswith(name) and len(str(raised.value)) < 2000
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_kept_for_convenience_is_made_anew(tmp_path: Path, content: str | bytes, monkeypatch) -> None:
    progress = Progress(write(tmp_path / "progress.json", content))
    assert progress.attempts("a") == [{}] and (progress.problem or content == b"")
    record = Record(write(tmp_path / "record.json", content))
    assert isinstance(record._begun, dict)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    write(panel.preferences_file(), content)
    assert panel.answer_first() is False


@pytest.mark.parametrize(
    "content", [NESTED, '{"cells": ' + NESTED + "}", "null", b"\xff"], ids=["nested", "inside", "null", "no text"]
)
def test_a_notebook_that_is_none_is_refused(tmp_path: Path, content: str | bytes) -> None:
    path = write(tmp_path / "a.ipynb", content)
    with pytest.raises(InputError) as raised:
        read_cells(path)
    assert raised.value.where == str(path)


WRONG_TYPES = [
    *[(("simulated",), value) for value in (None, 0, 1, "false", "yes", [], {})],
    *[(("format",), value) for value in (1.0, True, "1")],
    *[(("stages",), value) for value in (None, 5, "mild", {"mild": 1, "moderate": 2, "severe": 3})],
    *[(("sequences",), value) for value in (None, "T1W")],
    *[(("stager", "pretrained"), value) for value in (None, 0, "x")],
    *[(("stager", "demographics"), value) for value in (None, 1, [])],
    *[(("stager", "width"), value) for value in (True, 1.5, -1, 10**6, 10**18, "128", [[1]])],
    *[(("stager", "scales"), value) for value in (0, 5, None, True)],
    *[(("stager", "dropout"), value) for value in (True, -0.1, 1, "x")],
    *[(("stager", "sequences"), value) for value in ("T1W", {"T1W": 1}, [["T1W"]], [], 5)],
    *[(("stager", "head"), value) for value in (None, [], {}, 5)],
    *[
        (("stager", "backbone"), value)
        for value in (
            None,
            5,
            "",
            ["resnet18"],
            "hf-hub:a/b",
            "../../x",
            "local-dir:x",
            "test_resnet.hf-hub:x",
            "a" * 1000,
        )
    ],
    *[(("preparation", "spacing"), value) for value in (True, "2", None, -1, 1e-9, 1e9, [2])],
    *[(("preparation", "margin"), value) for value in (True, -1, 1e308, None, "x")],
    *[
        (("preparation", "field_of_view"), value)
        for value in (5, "12", [1, 2, 3], [1e12, 1e12], [12000, 12000], [True, 9])
    ],
    *[(("preparation", "percentiles"), value) for value in (None, [0, 1e-9], [99, 1], [0, 1000], "ab", [True, 99])],
    *[(("preparation", "view"), value) for value in (None, [], {}, "head")],
    *[(("splits",), value) for value in (None, [], "x", {"train": []}, {"train": {"splits": -1}})],
    *[(("splits", "train"), value) for value in (None, {"mild, train": "3"}, {"mild, train": True})],
    *[(("cohort",), value) for value in (5, None, [])],
    (("backbone_weights",), 5),
    (("stager",), None),
    (("preparation",), []),
]


@pytest.mark.parametrize(("path", "value"), WRONG_TYPES, ids=lambda one: str(one)[:40])
def test_a_config_of_wrong_types_is_refused(tmp_path: Path, path: tuple[str, ...], value: Any) -> None:
    config = json.loads((SHIPPED / "config.json").read_text())
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    model_with(tmp_path, "config.json", json.dumps(config))
    with pytest.raises(InputError) as raised:
        load_model(tmp_path)
    assert raised.value.where == str(tmp_path / "config.json")
    assert path[-1] in str(raised.value) or value in (None, [])


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        *[("calibration.json", "temperature", value) for value in (True, 0, 1e-300, 1e300, "1", None)],
        *[("calibration.json", "n", value) for value in (True, -1, 1.5)],
        *[
            (name, "format", value)
            for name in ("calibration.json", "out_of_distribution.json")
            for value in (True, 1.0, "1", 2)
        ],
        *[("measured_stage.json", "weight", value) for value in (None, [], ["1"] * 8, [1e300] * 8, [[1.0]] * 8)],
        *[("measured_stage.json", "names", value) for value in (None, 7, ["network"] * 8, [1] * 8)],
        *[("signs.json", "n", value) for value in (True, -1, "1")],
        *[("calibration.json", "how", value) for value in (5, None, "x" * 5000)],
        *[
            ("out_of_distribution.json", "usual", value)
            for value in (None, 5, [], {"CT": {}}, {"T1W": None}, {"T1W": {"mean": 1}})
        ],
        *[("folds.json", "folds", value) for value in (None, 7, [], "abc", [".."], [""], ["."], ["a/b"], ["a"] * 3)],
        ("folds.json", "folds", ["a" * 5000]),
        ("folds.json", "folds", [f"fold-{number}" for number in range(1000)]),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_part_of_a_model_with_wrong_values_is_refused(tmp_path: Path, name: str, field: str, value: Any) -> None:
    shutil.copytree(SHIPPED, tmp_path / "model")
    path = tmp_path / "model" / name
    whole = {"folds": ["fold-1"]} if name == "folds.json" else json.loads(path.read_text())
    path.write_text(json.dumps({**whole, field: value}))
    with pytest.raises(InputError) as raised:
        load_model(tmp_path / "model")
    assert raised.value.where == str(path)


@pytest.mark.parametrize(
    ("field", "place", "value"),
    [
        *[("mean", (0,), value) for value in ("0.1", None, True, [0.1], 1e300)],
        *[("precision", (0, 0), value) for value in ("1", None, True, -1e6, 1e300)],
        ("precision", (0, 1), 1e9),
        *[("limit", (), value) for value in ("1", None, True, 0, -1, 1e300)],
    ],
)
def test_numbers_that_describe_no_training_scans_are_refused(
    tmp_path: Path, field: str, place: tuple[int, ...], value: Any
) -> None:
    stored = json.loads((SHIPPED / "out_of_distribution.json").read_text())
    inner, keys = stored["usual"]["T1W"], (field, *place)
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path = write(tmp_path / "out_of_distribution.json", json.dumps(stored))
    with pytest.raises(InputError) as raised:
        read_out_of_distribution(tmp_path)
    assert raised.value.where == str(path)


def test_what_stands_for_itself_is_read_as_it_was() -> None:
    told = {"a": [1, -2, 3.5, True, None, "\U0001f600é"], "b": {"c": 2**62}}
    assert parse_json(json.dumps(told)) == told
    assert math.isnan(parse_json("[NaN]", finite=False)[0])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(InputError):
        read_json(tmp_path / "a.json", "", "")
