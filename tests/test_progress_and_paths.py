"""What a terminal sees of a training, callbacks of a plug-in, and addresses that are no paths."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
import torch
from toy_patients import SETTINGS, toy_cohort
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.errors import InputError
from cirrnb.data.progress import watched
from cirrnb.data.typed_paths import typed_path
from cirrnb.model.callbacks import CALLBACKS, Step, TrainingCallback, callbacks_named
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.settings import StagerSettings, TrainingSettings
from cirrnb.model.stager import Stager
from cirrnb.model.training import train
from cirrnb.model.training_progress import TrainingProgress
from cirrnb.run.streams import ProgressEcho

QUICK = TrainingSettings.preset("demo", epochs=2, width=16, slices=2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_a_file_gets_lines():
    told = "Epoch 1 of 4, step 5 of 10: loss 0.5\nmodel.safetensors 12 kB\nEpoch 3 of 4, step 10 of 10: loss 0.4\n"
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        echo = ProgressEcho(stream)
        for part in (told[:20], told[20:50], told[50:]):  # lines come in pieces
            echo.write(part)
        echo.close()
    assert "safetensors" not in terminal.getvalue() + file.getvalue()
    assert file.getvalue().splitlines() == told.splitlines()[::2]
    bars = terminal.getvalue().split("\r\x1b[K")[1:]
    assert [bar.count("#") for bar in bars] == [3, 18] and terminal.getvalue().endswith("\n")


def test_a_staging_is_followed_too(monkeypatch):
    """What a notebook tells of preparing and staging reaches the terminal as a bar."""
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr("cirrnb.data.progress.time.monotonic", lambda: float(next(clock)))
    terminal = Terminal()
    echo = ProgressEcho(terminal)
    items = watched("abcd", total=4, desc="Staging", unit="patient", progress=lambda line: echo.write(line + "\n"))
    assert list(items) == list("abcd")
    assert [bar.count("#") for bar in terminal.getvalue().split("\r\x1b[K")[1:]] == [6, 12, 18]


@pytest.mark.parametrize("ask", [cirrnb.predict, cirrnb.evaluate])
@pytest.mark.parametrize(
    ("terminal", "disabled", "progress", "shown"),
    [
        (True, "", None, True),
        (False, "", None, False),  # a file or a pipe
        (True, "1", None, False),  # as notebooks are executed
        (True, "", False, False),
        (False, "", True, True),
    ],
)
def test_prediction_and_evaluation_show_progress(tmp_path, monkeypatch, ask, terminal, disabled, progress, shown):
    torch.manual_seed(0)
    stager = TrainedStager(Stager(StagerSettings(width=16)).eval(), SETTINGS, False, "toy run", {})
    prepared = toy_cohort(tmp_path, {"test": 6})
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TQDM_DISABLE", disabled)
    ask(stager, prepared, progress=progress)
    assert ("6/6" in stream.getvalue()) is shown


def test_lines_tell_epoch_step_loss_kappa_and_time(monkeypatch):
    lines: list[str] = []
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr("cirrnb.model.training_progress.time.perf_counter", lambda: float(next(clock)))
    with TrainingProgress(lines.append, epochs=3, done=0) as told:
        told.step(Step(0, 0, 2, torch.tensor(0.75)))
        told.epoch({"seconds": 60.0, "train_loss": 1.0, "valid_loss": 1.0, "valid_kappa": 0.4})
        told.step(Step(1, 0, 2, torch.tensor(0.5)))
    assert lines[0] == "Epoch 1 of 3, step 1 of 2: loss 0.750"
    assert lines[-1] == "Epoch 2 of 3, step 1 of 2: loss 0.500, validation kappa 0.40, at most 90 s left"


def test_a_callback_of_a_plug_in_follows_and_the_history_grows(tmp_path: Path):
    seen: list[tuple[str, object]] = []

    class Follower(TrainingCallback):
        def __init__(self, run: Path):
            self.unfinished = run.with_name(f".{run.name}.unfinished")

        def begin(self, epochs: int, done: int) -> None:
            seen.append(("begin", (epochs, done)))

        def step(self, step: Step) -> None:
            seen.append(("step", step.loss > 0))

        def epoch(self, row) -> None:
            seen.append(("epoch", len(pd.read_csv(self.unfinished / "history.csv"))))

        def end(self) -> None:
            seen.append(("end", None))

    CALLBACKS.register("follower")(Follower)
    cohort = toy_cohort(tmp_path / "scans", {"train": 6, "valid": 3})
    train(cohort, tmp_path / "run", QUICK, progress=False, track="follower")
    assert seen[0] == ("begin", (2, 0)) and seen[-1] == ("end", None)
    assert [value for name, value in seen if name == "epoch"] == [1, 2]
    assert [value for name, value in seen if name == "step"] == [True] * 4
    with pytest.raises(InputError, match="nobody"):
        callbacks_named("nobody", tmp_path)


@pytest.mark.slow
def test_curves_for_tensorboard(tmp_path: Path):
    pytest.importorskip("tensorboard")
    cohort = toy_cohort(tmp_path / "scans", {"train": 6, "valid": 3})
    train(cohort, tmp_path / "run", QUICK, progress=False, track="tensorboard")
    assert list((tmp_path / "tensorboard" / "run").glob("events*"))


@pytest.mark.parametrize("address", ["s3://bucket/cohort", "gs://bucket/x", "https://example.org/scan.nii.gz"])
def test_addresses_are_refused(address: str):
    with pytest.raises(InputError, match="an address"):
        typed_path(address)
    with pytest.raises(InputError, match="an address"):
        typed_path(Path(address))
    assert CliRunner().invoke(app, ["train", "--cohort", address]).exit_code != 0
