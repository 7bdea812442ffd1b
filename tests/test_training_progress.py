"""What a training says: that a hub is asked, once, and how long it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from toy_patients import toy_cohort

from cirrnb.data.errors import InputError
from cirrnb.model import backbones
from cirrnb.model.callbacks import Step
from cirrnb.model.first_weights import FirstWeights
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.training import train
from cirrnb.model.training_progress import TrainingProgress, duration

QUICK = TrainingSettings.preset("demo", epochs=3, width=16, slices=2)


@pytest.fixture
def busy_hub() -> Iterator[tuple[str, list[str]]]:
    """Address of a hub that answers 503 to everything, and the paths that it was asked for."""
    asked: list[str] = []

    class Busy(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(503)
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def test_a_hub_is_asked_once_and_that_is_said_before(busy_hub: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = busy_hub
    code = f"""
import sys, warnings
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from toy_patients import toy_cohort
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.training import train
warnings.simplefilter("ignore")
settings = TrainingSettings.preset("demo", epochs=1, width=16, slices=2, pretrained=True)
train(toy_cohort(Path("scans"), {{"train": 4}}), "run", settings, progress=lambda line: print(line, flush=True))
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode and "InputError" in done.stderr and "could not be fetched" in done.stderr
    assert done.stdout.splitlines()[0].startswith("Asking the Hugging Face hub for weights of test_resnet")
    assert len([path for path in asked if "resolve" in path]) == 1
    assert "Retrying" not in done.stderr


def test_weights_of_the_cache_are_taken_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    weights = timm.create_model("test_resnet").state_dict()
    save_file(weights, tmp_path / "model.safetensors")
    monkeypatch.setattr(backbones, "fetched", lambda repository: tmp_path / "model.safetensors")
    made, _, told = backbones.build_backbone("test_resnet", FirstWeights(fetch=True))
    assert told.startswith("pretrained")
    name = "layer1.0.conv1.weight"
    torch.testing.assert_close(dict(made.model.named_parameters())[name], weights[name])


@pytest.mark.parametrize("name", ["resnet18.nope", "resnet999"])
def test_a_backbone_that_does_not_exist_is_told_before_a_hub_is_asked(name: str, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = TrainingSettings.preset("demo", epochs=1, backbone=name, pretrained=True)
    with pytest.raises(InputError, match="backbone"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(toy_cohort(tmp_path / "scans", {"train": 4}), tmp_path / "run", settings, progress=lines.append)
    assert lines == []


def test_a_training_says_how_long_it_takes(tmp_path: Path) -> None:
    lines: list[str] = []
    train(toy_cohort(tmp_path / "scans", {"train": 12}), tmp_path / "run", QUICK, progress=lines.append)
    assert len(lines) == 2 and "3 left" in lines[0] and "2 left" in lines[1]
    assert not any("hub" in line for line in lines), "random first weights need no hub"
    train(toy_cohort(tmp_path / "scans", {"train": 12}), tmp_path / "run", QUICK, progress=lines.append)
    assert len(lines) == 2, "a complete run takes no time"


def test_the_time_is_told_after_a_few_steps_and_after_the_first_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("cirrnb.model.training_progress.time.perf_counter", lambda: float(next(clock)))
    with TrainingProgress(lines.append, epochs=5, done=1) as told:
        for number in range(12):
            told.step(Step(1, number, 12, torch.tensor(0.5)))
        lines[:] = [line for line in lines if "An epoch" in line]
        assert len(lines) == 1 and "2 minutes" in lines[0] and "4 left about 8 minutes" in lines[0]
        row = {"seconds": 61.0, "train_loss": 1.0, "valid_loss": float("nan")}
        for _ in range(4):
            told.epoch(row)
    assert len(lines) == 2 and "61 s" in lines[1] and "3 left about 3 minutes" in lines[1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (99, "99 s"), (150, "2 minutes"), (5990, "100 minutes"), (9000, "2.5 hours")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
