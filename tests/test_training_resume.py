"""A training that is repeated, interrupted or finds a run folder: the same run as an undisturbed one, or an error."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toy_patients import toy_cohort

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.model import run_folder, training
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.training import train
from cirrnb.model.training_state import TrainingState

QUICK = TrainingSettings.preset("demo", epochs=3, slices=2, patients_per_step=4)
SPLITS = {"train": 9, "valid": 3, "test": 3}


@pytest.fixture
def prepared(tmp_path) -> PreparedCohort:
    return toy_cohort(tmp_path / "prepared", SPLITS)


def outcome(run: Path) -> tuple[bytes, str, pd.DataFrame]:
    """What must be equal where two runs are."""
    history = pd.read_csv(run / "history.csv").drop(columns="seconds")
    return (run / "model.safetensors").read_bytes(), (run / "predictions.csv").read_text(), history


def assert_equal_runs(one: Path, other: Path) -> None:
    (weights, predictions, history), (weights2, predictions2, history2) = outcome(one), outcome(other)
    assert weights == weights2 and predictions == predictions2
    pd.testing.assert_frame_equal(history, history2, check_exact=True)


def test_the_best_epoch_survives_a_kill(prepared, tmp_path, monkeypatch):
    settings = replace(QUICK, epochs=4, watch="loss", keep="best")
    undisturbed = train(prepared, tmp_path / "undisturbed", settings, progress=False)
    for epochs in (1, 2, 3):
        with monkeypatch.context() as patch:
            stop_after_saving(patch, epochs)
            with pytest.raises(KeyboardInterrupt):
                train(prepared, tmp_path / "run", settings, progress=False)
    assert_equal_runs(undisturbed, train(prepared, tmp_path / "run", settings, progress=False))


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_mean_of_the_weights_survives_a_kill(keep, prepared, tmp_path, monkeypatch):
    """Bit by bit: the mean that is kept, and with it what is validated; the states hold the same mean and the same
    weights that are trained on."""
    settings = replace(QUICK, epochs=2, ema=0.9, keep=keep, watch="loss")
    states: list[dict[str, torch.Tensor]] = []
    save = TrainingState.save

    def save_and_keep(self, epoch, stager, optimizer, history, best=None, mean=None):
        save(self, epoch, stager, optimizer, history, best, mean)
        kept = {f"mean.{name}": value.clone() for name, value in mean.stored().items()}
        states.append(kept | {name: value.clone() for name, value in stager.state_dict().items()})

    monkeypatch.setattr(TrainingState, "save", save_and_keep)
    undisturbed = train(prepared, tmp_path / "undisturbed", settings, progress=False)
    with monkeypatch.context() as patch:
        stop_within_epoch(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, tmp_path / "run", settings, progress=False)
    assert_equal_runs(undisturbed, train(prepared, tmp_path / "run", settings, progress=False))
    (_, whole), (_, resumed) = states[:2], states[2:]
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not torch.equal(whole["head.score.weight"], whole["mean.head.score.weight"]), "two sets of weights"


def test_the_same_call_gives_the_same_run_and_another_seed_another(prepared, tmp_path):
    first = train(prepared, tmp_path / "first", QUICK, progress=False)
    torch.rand(3)
    np.random.default_rng().random()
    second = train(prepared, tmp_path / "second", QUICK, progress=False)
    assert_equal_runs(first, second)
    third = train(prepared, tmp_path / "third", replace(QUICK, seed=1), progress=False)
    assert outcome(first)[0] != outcome(third)[0]


def stop_after_saving(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    save = TrainingState.save

    def save_and_stop(self, epoch, *rest, **more):
        save(self, epoch, *rest, **more)
        if epoch == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "save", save_and_stop)


def stop_within_epoch(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    validate, calls = training._validate, []

    def validate_or_stop(*arguments):
        calls.append(1)
        if len(calls) > epochs:
            raise KeyboardInterrupt
        return validate(*arguments)

    monkeypatch.setattr(training, "_validate", validate_or_stop)


def stop_before_renaming(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, "predict_own_cohort", stop)


@pytest.mark.parametrize(
    ("stop", "epochs"),
    [
        (stop_after_saving, 1),
        (stop_after_saving, 2),
        (stop_within_epoch, 0),
        (stop_within_epoch, 2),
        (stop_before_renaming, 3),
    ],
)
def test_a_resumed_run_equals_an_undisturbed_one(prepared, tmp_path, monkeypatch, stop, epochs):
    undisturbed = train(prepared, tmp_path / "undisturbed", QUICK, progress=False)
    with monkeypatch.context() as patch:
        stop(patch, epochs)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, tmp_path / "run", QUICK, progress=False)
    assert not (tmp_path / "run").exists()
    kept = sorted(path.name for path in (tmp_path / ".run.unfinished").glob("epoch-*"))
    assert kept == ([f"epoch-000{epochs}"] if epochs else [])
    half = tmp_path / ".run.unfinished" / "writing"  # as a kill while saving leaves it
    half.mkdir(exist_ok=True)
    (half / "model.safetensors").write_bytes(b"half")
    trained = []
    with monkeypatch.context() as patch:
        run = training._Epoch.run
        patch.setattr(training._Epoch, "run", lambda *args: trained.append(args[1]) or run(*args))
        resumed = train(prepared, tmp_path / "run", QUICK, progress=False)
    assert trained == list(range(epochs, 3)), "only what was missing is trained again"
    assert_equal_runs(undisturbed, resumed)
    assert not (tmp_path / ".run.unfinished").exists()


@pytest.mark.slow
def test_a_run_shot_at_any_moment_equals_an_undisturbed_one(prepared, tmp_path):
    undisturbed = train(prepared, tmp_path / "undisturbed", QUICK, progress=False)
    script = (
        "from pathlib import Path; import sys; from toy_patients import toy_cohort\n"
        "from cirrnb.model.training import train; from test_training_resume import QUICK, SPLITS\n"
        "train(toy_cohort(Path(sys.argv[1]), SPLITS), sys.argv[2], QUICK, progress=False)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", script, str(tmp_path / "prepared"), str(tmp_path / "run")]
    for attempt in range(30):
        process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 6 + 1.3 * attempt
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == 0
    assert_equal_runs(undisturbed, tmp_path / "run")


def test_a_complete_run_is_returned_and_never_overwritten(prepared, tmp_path):
    run = train(prepared, tmp_path / "run", QUICK, progress=False)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.iterdir()}
    assert train(prepared, run, QUICK, progress=False) == run
    with pytest.raises(InputError, match="epochs 3 then, 2 now"):
        train(prepared, run, replace(QUICK, epochs=2), progress=False)
    with pytest.raises(InputError, match="data"):
        train(replace(prepared, scans=prepared.scans[:-1]), run, QUICK, progress=False)
    assert before == {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.iterdir()}
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match="no run folder"):
        train(prepared, tmp_path / "notes", QUICK, progress=False)


def test_a_run_that_another_process_completes_meanwhile_is_returned(prepared, tmp_path, monkeypatch):
    run = train(prepared, tmp_path / "run", replace(QUICK, epochs=1), progress=False)

    @contextmanager
    def completed_by_another(path):
        shutil.copytree(run, path, dirs_exist_ok=True)
        yield

    monkeypatch.setattr(training, "claimed", completed_by_another)
    monkeypatch.setattr(training, "_fit", lambda *_: pytest.fail("trained again"))
    out = tmp_path / "out"
    assert train(prepared, out, replace(QUICK, epochs=1), progress=False) == out
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="epochs 1 then, 2 now"):
        train(prepared, tmp_path / "other", replace(QUICK, epochs=2), progress=False)


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are POSIX")
def test_a_full_disk_is_told_and_costs_no_epoch(prepared, tmp_path, monkeypatch):
    import resource

    undisturbed = train(prepared, tmp_path / "undisturbed", QUICK, progress=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        validate, calls = training._validate, []

        def validate_and_fill_the_disk(*arguments):
            calls.append(1)
            if len(calls) == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
            return validate(*arguments)

        patch.setattr(training, "_validate", validate_and_fill_the_disk)
        try:
            with pytest.raises(InputError, match=r"cannot be written[\s\S]*call again"):
                train(prepared, tmp_path / "run", QUICK, progress=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / ".run.unfinished").glob("epoch-*")] == ["epoch-0001"]
    assert_equal_runs(undisturbed, train(prepared, tmp_path / "run", QUICK, progress=False))


def test_an_unfinished_run_is_not_continued_with_other_settings(prepared, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after_saving(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, tmp_path / "run", QUICK, progress=False)
    other = replace(QUICK, slices=1)
    with pytest.raises(InputError, match="slices 2 then, 1 now"):
        train(prepared, tmp_path / "run", other, progress=False)
    again = train(prepared, tmp_path / "run", other, progress=False, resume=False)
    assert_equal_runs(again, train(prepared, tmp_path / "fresh", other, progress=False))
