"""Folds: nobody judged by a stager that knew them, one model of all, and an interruption that costs nothing."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from other_processes import held_by_another
from toy_patients import toy_cohort

from cirrnb.data.errors import InputError
from cirrnb.model import cross_validation
from cirrnb.model.calibration import read_calibration
from cirrnb.model.cross_validation import calibrated_mean, cross_validate
from cirrnb.model.prediction import predict
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.trained_model import load_model

QUICK = TrainingSettings.preset("demo", epochs=1, slices=2, patients_per_step=4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("prepared"), {"train": 12})


@pytest.fixture(scope="module")
def crossed(prepared, tmp_path_factory):
    return cross_validate(prepared, tmp_path_factory.mktemp("runs") / "crossed", QUICK, folds=3, progress=False)


def test_every_patient_is_judged_by_a_stager_that_had_not_seen_them(prepared, crossed):
    table = pd.read_csv(crossed / "predictions.csv")
    assert sorted(table["subject"]) == sorted(bag.subject for bag in prepared.bags())
    for fold, rows in table.groupby("fold"):
        own = pd.read_csv(crossed / f"fold-{fold}" / "predictions.csv").set_index("subject")
        assert (own.loc[rows["subject"], "split"] == "test").all()
        np.testing.assert_allclose(own.loc[rows["subject"], "mild"], rows["mild"])
    assert read_calibration(crossed).n == 12


def test_the_folds_answer_together(prepared, crossed):
    together = predict(crossed, prepared)
    apart = [predict(crossed / f"fold-{number}", prepared) for number in (1, 2, 3)]
    assert len(load_model(crossed).members) == 3 and load_model(crossed).name == "crossed"
    mean = np.mean([table[["mild", "moderate", "severe"]].to_numpy() for table in apart], axis=0)
    logits = np.log(mean) / read_calibration(crossed).temperature
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(together[["mild", "moderate", "severe"]], expected, atol=1e-6)
    assert together["set"].str.split("|").map(set).map(len).between(1, 3).all()
    agreed = calibrated_mean(apart, read_calibration(crossed))
    assert list(agreed["set"]) == list(together["set"]) and list(agreed["predicted"]) == list(together["predicted"])


def test_an_interrupted_one_goes_on(prepared, crossed, tmp_path, monkeypatch):
    done = []

    def stop_after_one(*arguments, **options):
        if done:
            raise KeyboardInterrupt
        done.append(crossvalidation_train(*arguments, **options))

    crossvalidation_train = cross_validation.train
    with monkeypatch.context() as patch:
        patch.setattr(cross_validation, "train", stop_after_one)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(prepared, tmp_path / "crossed", QUICK, folds=3, progress=False)
    assert not (tmp_path / "crossed").exists()
    again = cross_validate(prepared, tmp_path / "crossed", QUICK, folds=3, progress=False)
    assert (again / "predictions.csv").read_text() == (crossed / "predictions.csv").read_text()


def test_a_complete_one_is_returned_and_another_refused(prepared, crossed, tmp_path):
    assert cross_validate(prepared, crossed, QUICK, folds=3, progress=False) == crossed
    with pytest.raises(InputError, match="slices 2 then, 1 now"):
        cross_validate(prepared, crossed, replace(QUICK, slices=1), folds=3, progress=False)
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="no cross-validation"):
        cross_validate(prepared, tmp_path / "mine", QUICK, folds=3, progress=False)


def test_a_fold_that_another_process_trains_is_refused_and_the_others_are_kept(prepared, crossed, tmp_path):
    out = tmp_path / "crossed"
    held = tmp_path / ".crossed.unfinished" / "fold-2"
    with held_by_another("claimed", held), held_by_another("claimed", tmp_path / "other"):
        with pytest.raises(InputError) as raised:
            cross_validate(prepared, out, QUICK, folds=3, progress=False)
        assert raised.value.where == str(held)
        assert (held.with_name("fold-1") / "predictions.csv").is_file() and not held.exists()
    first = (held.with_name("fold-1") / "model.safetensors").stat().st_mtime_ns
    cross_validate(prepared, out, QUICK, folds=3, progress=False)
    assert (out / "fold-1" / "model.safetensors").stat().st_mtime_ns == first
    assert (out / "predictions.csv").read_text() == (crossed / "predictions.csv").read_text()


@pytest.mark.parametrize("when", ["before the last fold", "while it waits to complete the folder"])
def test_a_folder_that_another_process_completes_meanwhile_is_returned(prepared, crossed, tmp_path, monkeypatch, when):
    out, trained, claim = tmp_path / "crossed", [], cross_validation.claimed
    crossvalidation_train = cross_validation.train

    def train_and_complete(divided, folder, *rest, **options):
        trained.append(crossvalidation_train(divided, folder, *rest, **options))
        if len(trained) == 2 and when == "before the last fold":
            shutil.copytree(crossed, out)
        return trained[-1]

    @contextmanager
    def complete_and_claim(path):
        with claim(path):
            if not out.exists():
                shutil.copytree(crossed, out)
            yield

    monkeypatch.setattr(cross_validation, "train", train_and_complete)
    monkeypatch.setattr(cross_validation, "claimed", complete_and_claim)
    before = {path: path.stat().st_mtime_ns for path in crossed.rglob("*")}
    assert cross_validate(prepared, out, QUICK, folds=3, progress=False) == out
    assert (trained[-1].parent == out) == (when == "before the last fold")
    assert {(out / path.relative_to(crossed)).stat().st_mtime_ns for path in before if path.is_file()} == {
        time for path, time in before.items() if path.is_file()
    }


@pytest.mark.parametrize("listed", ['{"folds": []}', '{"folds": ["../elsewhere"]}', "{", '{"folds": 3}'])
def test_a_damaged_list_of_folds_is_refused(crossed, tmp_path, listed):
    copy = tmp_path / "copy"
    shutil.copytree(crossed, copy)
    (copy / "folds.json").write_text(listed)
    with pytest.raises(InputError, match=r"folds\.json"):
        load_model(copy)
