"""Saving and loading: equal predictions, and nothing that runs code."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_patients import SETTINGS, toy_cohort

from cirrnb.data.errors import InputError
from cirrnb.model.checkpoint import TrainedStager, load_stager, save_stager
from cirrnb.model.prediction import predict
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager

CONFIG = {"preparation": {"spacing": 8.0, "field_of_view": [160.0, 192.0]}, "simulated": True}


@pytest.fixture
def saved(tmp_path) -> tuple[Stager, Path]:
    torch.manual_seed(0)
    stager = Stager(StagerSettings(pretrained=False, width=16, fusion="weighted")).eval()
    run = tmp_path / "run"
    run.mkdir()
    save_stager(run, stager, CONFIG)
    return stager, run


@pytest.fixture
def run(saved) -> Path:
    return saved[1]


def test_a_loaded_stager_predicts_the_same(saved, tmp_path):
    stager, run = saved
    prepared = toy_cohort(tmp_path / "prepared", {"test": 3})
    loaded = load_stager(run)
    assert loaded.stager.settings == stager.settings and not loaded.stager.training
    assert loaded.preparation == SETTINGS and loaded.simulated and loaded.name == "run"
    before = TrainedStager(stager, SETTINGS, True, "run", {})
    one, other = predict(before, prepared), predict(run, prepared)
    assert one.equals(other)


def test_a_pretrained_stager_loads_without_the_net(tmp_path, monkeypatch):
    stager = Stager(StagerSettings(pretrained=True), fetch=False)
    stager.backbone_weights = "pretrained: from somewhere"
    save_stager(tmp_path, stager, CONFIG)
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_, **__: pytest.fail("the net was asked"))
    loaded = load_stager(tmp_path)
    assert loaded.stager.settings.pretrained and loaded.stager.backbone_weights == "pretrained: from somewhere"


class Dangerous:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def dangerous(tmp_path) -> tuple[bytes, Path]:
    sign = tmp_path / "executed"
    content = pickle.dumps(Dangerous(sign))
    pickle.loads(content)  # noqa: S301 -- it does what it threatens
    assert sign.exists()
    sign.unlink()
    return content, sign


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "last.ckpt", "model.pkl", "pytorch_model.bin"])
def test_a_pickle_is_refused_by_its_name(tmp_path, dangerous, name):
    content, sign = dangerous
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="pickled"):
        load_stager(tmp_path / name)
    assert not sign.exists()


def test_a_pickle_in_place_of_the_weights_is_refused(run, dangerous):
    content, sign = dangerous
    (run / "model.safetensors").unlink()
    (run / "model.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pt.*pickled"):
        load_stager(run)
    assert not sign.exists()


def test_a_pickle_under_the_name_of_the_weights_is_refused(run, dangerous):
    content, sign = dangerous
    (run / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="pickled"):
        load_stager(run)
    archive = io.BytesIO()
    torch.save({"head.weight": torch.zeros(3)}, archive)
    (run / "model.safetensors").write_bytes(archive.getvalue())
    with pytest.raises(InputError, match="pickled"):
        load_stager(run)
    (run / "config.json").write_bytes(content)
    with pytest.raises(InputError, match="JSON"):
        load_stager(run)
    assert not sign.exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(InputError, match=f"no {name}"):
        load_stager(run)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        load_stager(tmp_path / "nowhere")


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_cut_off_weights_are_refused(run, kept):
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="safetensors"):
        load_stager(run)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 99}', '{"format": 1}'])
def test_a_damaged_config_is_refused(run, content):
    (run / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        load_stager(run)


def change(run: Path, **changes: object) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stager": {"backbone": "resnet10t", "width": 16, "fusion": "weighted"}}, "another architecture"),
        ({"stager": {"width": 8, "fusion": "weighted"}}, r"instead of \(8,"),
        ({"stager": {"width": 16}}, "crossing.* missing"),
        ({"stager": {"width": 16, "depth": 3}}, "depth"),
        ({"stager": {"width": 16, "fusion": "sum"}}, "fusion"),
        ({"stager": None}, "settings that do not fit"),
        ({"preparation": {"spacing": -1}}, "spacing"),
        ({"stages": ["mild", "severe"]}, "another architecture"),
        ({"stages": ["mild"]}, "stages"),
        ({"sequences": ["T1W"]}, "sequences"),
    ],
)
def test_a_config_of_something_else_is_refused(run, changes, message):
    change(run, **changes)
    with pytest.raises(InputError, match=message):
        load_stager(run)


def test_weights_that_are_no_numbers_are_refused(run):
    weights = load_file(run / "model.safetensors")
    weights["head.score.bias"][1] = float("nan")
    save_file(weights, run / "model.safetensors")
    with pytest.raises(InputError, match="not finite"):
        load_stager(run)


def test_a_model_is_recognised_by_what_it_holds_and_not_by_its_name(tmp_path: Path) -> None:
    import json
    import shutil

    from cirrnb.model.trained_model import load_model, model_folder

    copy = tmp_path / "another-name"
    shutil.copytree(model_folder("shipped"), copy)
    shipped = load_model("shipped")
    assert load_model(copy).fingerprint == shipped.fingerprint and len(shipped.fingerprint) == 64
    calibration = copy / "calibration.json"
    stored = json.loads(calibration.read_text())
    number = next(name for name, value in stored.items() if isinstance(value, float))
    calibration.write_text(json.dumps(stored | {number: stored[number] * 1.01}))
    assert load_model(copy).fingerprint != shipped.fingerprint
