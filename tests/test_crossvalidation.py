"""Folds: nobody judged by a stager that knew them, one model of all, and an interruption that costs nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy_patients import toy_cohort

from cirrnb.data.errors import InputError
from cirrnb.model import crossvalidation
from cirrnb.model.certainty.calibration import read_calibration
from cirrnb.model.crossvalidation import cross_validate
from cirrnb.model.folds import calibrated_mean
from cirrnb.model.prediction import predict
from cirrnb.model.settings import TrainingSettings
from cirrnb.model.trained import load_model

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

    crossvalidation_train = crossvalidation.train
    with monkeypatch.context() as patch:
        patch.setattr(crossvalidation, "train", stop_after_one)
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


@pytest.mark.parametrize("listed", ['{"folds": []}', '{"folds": ["../elsewhere"]}', "{", '{"folds": 3}'])
def test_a_damaged_list_of_folds_is_refused(crossed, tmp_path, listed):
    copy = tmp_path / "copy"
    shutil.copytree(crossed, copy)
    (copy / "folds.json").write_text(listed)
    with pytest.raises(InputError, match=r"folds\.json"):
        load_model(copy)
