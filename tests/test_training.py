"""The training loop: it learns, it cannot leak, it tells what it did, and wrong input is refused."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import binomtest
from toy_patients import toy_cohort

import cirrnb
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.model import provenance, training
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.training import train
from cirrnb.model.training_state import TrainingState

QUICK = TrainingSettings.preset("demo", epochs=3, slices=2, patients_per_step=4)
SPLITS = {"train": 9, "valid": 3, "test": 3}


@pytest.fixture
def prepared(tmp_path) -> PreparedCohort:
    return toy_cohort(tmp_path / "prepared", SPLITS)


def test_it_learns_what_can_be_seen(tmp_path):
    prepared = toy_cohort(tmp_path / "prepared", {"train": 18, "valid": 6, "test": 9})
    run = train(prepared, tmp_path / "run", replace(QUICK, epochs=14), progress=False)
    history = pd.read_csv(run / "history.csv")
    assert history["epoch"].tolist() == list(range(1, 15))
    # In training a step of four patients has its own batch statistics and dropout, so that its loss stays high.
    assert history["valid_loss"].iloc[-1] < 0.5 < history["valid_loss"].iloc[0]
    predictions = pd.read_csv(run / "predictions.csv")
    test = predictions[predictions["split"] == "test"]
    assert (test["stage"] == test["predicted"]).all()


def test_labels_that_are_noise_score_chance(tmp_path):
    """Each patient can be known again by a pattern of his own, so anything that carried a test patient's slices into
    training would show as accuracy."""
    prepared = toy_cohort(tmp_path / "prepared", {"train": 18, "test": 60}, signal=0, pattern=0.3)
    settings = replace(QUICK, epochs=30, augmentation=None, sequence_dropout=0.0)
    predictions = pd.read_csv(train(prepared, tmp_path / "run", settings, progress=False) / "predictions.csv")
    hits = (predictions["stage"] == predictions["predicted"]).groupby(predictions["split"]).sum()
    assert hits["train"] >= 15, "the patterns can be learnt by heart, or this test shows nothing"
    assert binomtest(int(hits["test"]), 60, 1 / 3).pvalue > 0.01


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "cumulative", "balance": "class_weights"},
        {"head": "cross_entropy", "balance": "focal", "encoders": "separate", "demographics": True},
        {"pooling": "slice", "fusion": "mean", "sequences": ("T2W",), "schedule": "plateau"},
        {"attention": "none", "scales": 1, "pooling": "mean", "fusion": "weighted", "chunk": 4},
    ],
)
def test_every_part_can_be_exchanged(prepared, tmp_path, changes):
    settings = TrainingSettings.preset("demo", epochs=2, slices=2, patients_per_step=4, **changes)
    run = train(prepared, tmp_path / "run", settings, progress=False)
    chances = pd.read_csv(run / "predictions.csv")[["mild", "moderate", "severe"]]
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-6)
    assert np.isfinite(pd.read_csv(run / "history.csv")["train_loss"]).all()


def test_training_stops_early_and_keeps_the_best(prepared, tmp_path, monkeypatch):
    accuracies = iter([0.3, 0.6, 0.5, 0.6, 0.4, 0.9])
    validate = training._validate
    monkeypatch.setattr(training, "_validate", lambda *args: validate(*args) | {"valid_accuracy": next(accuracies)})
    kept: list[dict[str, torch.Tensor]] = []
    save = TrainingState.save

    def keep(self, epoch, stager, *rest, **more):
        kept.append({name: value.clone() for name, value in stager.state_dict().items()})
        save(self, epoch, stager, *rest, **more)

    monkeypatch.setattr(TrainingState, "save", keep)
    settings = replace(QUICK, epochs=9, patience=3, watch="accuracy", keep="best")
    run = train(prepared, tmp_path / "run", settings, progress=False)
    assert len(pd.read_csv(run / "history.csv")) == 5, "three epochs after the second brought nothing better"
    assert all(torch.equal(kept[1][name], value) for name, value in load_file(run / "model.safetensors").items())


def test_weights_of_the_stages_by_hand(tmp_path):
    bags = toy_cohort(tmp_path, {"train": 4}).bags()  # mild, moderate, severe, mild
    weights = training.class_weights(bags, replace(QUICK, balance="class_weights"))
    assert weights.tolist() == pytest.approx([4 / 6, 4 / 3, 4 / 3])
    assert training.class_weights(bags, QUICK) is None


def test_calibration_tells_whether_its_patients_chose_the_epoch(prepared, tmp_path):
    plain = train(prepared, tmp_path / "plain", QUICK, progress=False)
    chosen = train(prepared, tmp_path / "chosen", replace(QUICK, keep="best"), progress=False)
    told = [json.loads((run / "calibration.json").read_text())["how"] for run in (plain, chosen)]
    assert ["who also chose the epoch" in how for how in told] == [False, True]


def test_the_callers_random_numbers_are_left_alone(prepared, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(prepared, tmp_path / "run", replace(QUICK, epochs=1), progress=False)
    assert torch.equal(torch.rand(2), expected)


def test_the_run_folder_tells_what_it_is_and_nothing_about_the_machine(prepared, tmp_path):
    run = train(prepared, tmp_path / "run", QUICK, progress=False)
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "model.safetensors",
        "calibration.json",
        "out_of_distribution.json",
        "history.csv",
        "predictions.csv",
        "provenance.json",
    }
    config = json.loads((run / "config.json").read_text())
    assert config["simulated"] is True and config["cohort"] == "toy"
    assert config["splits"]["train"] == {"mild": 3, "moderate": 3, "severe": 3}
    assert config["preparation"]["spacing"] == 8.0 and config["training"]["epochs"] == 3
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["versions"]["torch"] == torch.__version__.split("+")[0] and len(provenance["data"]) == 64
    assert provenance["training"]["seed"] == 0 and "commit" in provenance
    text = "".join((run / name).read_text() for name in ("config.json", "provenance.json", "history.csv"))
    for secret in (str(tmp_path), str(Path.home()), socket.gethostname(), f"/{getpass.getuser()}", "cirrhotic/"):
        assert secret not in text
    predictions = pd.read_csv(run / "predictions.csv")
    assert predictions["split"].value_counts().to_dict() == SPLITS
    assert predictions["simulated"].all()


def test_patients_on_both_sides_are_refused(prepared, tmp_path):
    last = prepared.scans[-1]
    leaking = replace(last, scan=replace(last.scan, split="train"))
    with pytest.raises(InputErrors, match="cirrhotic/15"):
        train(replace(prepared, scans=(*prepared.scans[:-1], leaking)), tmp_path / "run", QUICK, progress=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "prepared"]


def test_scans_prepared_otherwise_are_refused_before_training(prepared, tmp_path):
    other = replace(prepared.scans[-1], settings=replace(prepared.settings, margin=5.0))
    with pytest.raises(InputErrors, match=r"margin=5\.0"):
        train(replace(prepared, scans=(*prepared.scans[:-1], other)), tmp_path / "run", QUICK, progress=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "prepared"]


def test_the_commit_is_that_of_the_package_also_within_a_hook_of_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = provenance.commit()
    for name, value in (("GIT_DIR", str(tmp_path)), ("GIT_WORK_TREE", str(tmp_path)), ("GIT_INDEX_FILE", "none")):
        monkeypatch.setenv(name, value)
    assert provenance.commit() == before


def test_the_commit_is_told_only_in_a_checkout_of_ours(tmp_path, monkeypatch):
    found = provenance.commit()
    assert found is None or len(found.rstrip("+")) == 40
    # a copy installed inside somebody else's repository
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "cirrnb").mkdir()
    monkeypatch.setattr(provenance.cirrnb, "__file__", str(tmp_path / "cirrnb" / "__init__.py"))
    assert provenance.commit() is None


def with_stage(prepared: PreparedCohort, split: str, stage: str | None) -> PreparedCohort:
    scans = (
        replace(one, scan=replace(one.scan, stage=stage)) if one.scan.split == split else one for one in prepared.scans
    )
    return replace(prepared, scans=tuple(scans))


@pytest.mark.parametrize(
    ("split", "stage", "message"),
    [
        ("train", None, "split train, none of them with a stage"),
        ("valid", None, "split valid, none of them with a stage"),
        ("test", None, "split test, none of them with a stage"),
        ("train", "mild", "at least two stages"),
    ],
)
def test_what_cannot_be_learnt_is_refused(prepared, tmp_path, split, stage, message):
    with pytest.raises(InputError, match=message):
        train(with_stage(prepared, split, stage), tmp_path / "run", QUICK, progress=False)


def test_one_sequence_no_validation_and_unstaged_patients_will_do(tmp_path):
    prepared = toy_cohort(tmp_path / "prepared", {"train": 7, "test": 2}, sequences=["T2W"])
    nobody = replace(prepared.scans[-1].scan, stage=None, split=None)
    prepared = replace(prepared, scans=(*prepared.scans[:-1], replace(prepared.scans[-1], scan=nobody)))
    run = train(prepared, tmp_path / "run", replace(QUICK, epochs=1), progress=False)
    assert pd.read_csv(run / "history.csv")["valid_loss"].isna().all()
    predictions = pd.read_csv(run / "predictions.csv")
    assert predictions["sequences"].eq("T2W").all() and len(predictions) == 9
    assert predictions["stage"].isna().sum() == 1


def test_a_loss_that_is_no_number_stops_the_training(prepared, tmp_path):
    first = prepared.scans[0]
    image = np.array(first.image)
    image[:] = np.nan
    np.save(first.folder / "image.npy", image)
    fresh = replace(prepared, scans=(replace(first), *prepared.scans[1:]))
    with pytest.raises(InputError, match="not finite"):
        train(fresh, tmp_path / "run", QUICK, progress=False)


def test_one_line_an_epoch_in_the_log(prepared, tmp_path, caplog):
    with caplog.at_level("INFO", logger="cirrnb"):
        train(prepared, tmp_path / "run", replace(QUICK, epochs=2), progress=False)
    lines = [record.getMessage() for record in caplog.records if record.name == "cirrnb.model.training"]
    assert len(lines) == 2 and lines[1].startswith("epoch 2") and "valid_kappa" in lines[1]


def test_presets_by_name():
    changed = TrainingSettings.preset("demo", epochs=3, backbone="resnet10t")
    assert changed.epochs == 3 and changed.stager.backbone == "resnet10t"
    with pytest.raises(InputError, match="demo"):
        TrainingSettings.preset("standart")
    with pytest.raises(InputError, match="epoch"):
        TrainingSettings.preset("demo", epoch=3)
    for wrong in ({"epochs": 0}, {"epochs": 2.5}, {"precision": "fp8"}, {"learning_rate": -1.0}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TrainingSettings(**wrong)


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    """Steps of 4 and 3 patients shared by two processes; no batch normalisation, dropout or augmentation, which
    differ by process."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from toy_patients import LARGE, toy_cohort; from cirrnb.model.training import train\n"
        "from cirrnb.model.settings import TrainingSettings\n"
        "settings = TrainingSettings.preset('demo', backbone='convnext_atto', dropout=0.0, epochs=2, slices=2,\n"
        "    patients_per_step=4, augmentation=None, learning_rate=1e-4)\n"
        "cohort = toy_cohort(Path(sys.argv[1]), {'train': 7, 'valid': 3}, settings=LARGE)\n"
        "train(cohort, sys.argv[2], settings, progress=False)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    alone = [sys.executable, str(script), str(tmp_path / "prepared"), str(tmp_path / "one")]
    subprocess.run(alone, env=environment, check=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    shared = [*launch, str(script), str(tmp_path / "prepared"), str(tmp_path / "two")]
    environment["ACCELERATE_USE_CPU"] = "true"
    subprocess.run(shared, env=environment, check=True)
    assert json.loads((tmp_path / "two" / "provenance.json").read_text())["processes"] == 2
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=2e-4, rtol=1e-2)
    losses = [pd.read_csv(tmp_path / name / "history.csv")["train_loss"] for name in ("one", "two")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


@pytest.mark.slow
def test_the_command_trains_in_two_processes(tmp_path):
    """As under `torchrun`: both execute the notebook, one writes; weights as of one process."""
    cirrnb.simulate_cohort(tmp_path / "cohort", 10, scale="tiny", seed=3, healthy=0, workers=1, progress=False)
    words = ["cirrnb", "train", "--cohort", "cohort", "--backbone", "convnext_atto", "--pretrained", "none"]
    words += ["--dropout", "0", "--epochs", "1", "--slices", "2", "--sequence-dropout", "0", "--learning-rate", "1e-4"]
    words += ["--rotation", "0", "--shift", "0", "--gain", "0", "--gamma", "0", "--bias", "0", "--noise", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    alone = [sys.executable, "-m", *words, "--run", "one", "--out", "page-one"]
    subprocess.run(alone, env=environment, check=True, cwd=tmp_path)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "--"]
    subprocess.run([*launch, *words, "--run", "two", "--out", "page-two"], env=environment, check=True, cwd=tmp_path)
    assert json.loads((tmp_path / "two" / "provenance.json").read_text())["processes"] == 2
    assert len(list((tmp_path / "page-two").glob("*.html"))) == 1
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=2e-4, rtol=1e-2)
