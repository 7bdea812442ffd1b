"""Calibrating a stager of endless patients from a cohort, with the truth of its signs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from toy_patients import SETTINGS, toy_cohort

from cirrnb.data.errors import InputError
from cirrnb.model.calibrate import calibrate
from cirrnb.model.checkpoint import save_stager
from cirrnb.model.cross_validation import cross_validate
from cirrnb.model.prediction import predict
from cirrnb.model.settings import StagerSettings, TrainingSettings
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import load_model

NAMES = ("nodularity", "nodules_t1w", "ascites")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    stager = Stager(StagerSettings(width=16, pretrained=False, signs=NAMES), fetch=False).eval()
    save_stager(folder, stager, {"preparation": vars(SETTINGS), "simulated": True})
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("scans"), {"train": 110})


def latent(path, cohort):
    random = np.random.default_rng(0)
    subjects = [bag.subject for bag in cohort.bags()]
    table = pd.DataFrame({"subject": subjects} | {f"shown_{name}": random.random(len(subjects)) for name in NAMES})
    table.to_csv(path, index=False)
    return path


def test_everything_that_answers_need_is_learned(run, cohort, tmp_path):
    before = load_model(run)
    assert before.calibration is None and before.out_of_distribution is None and before.sign_intervals is None
    model = calibrate(run, cohort, truth=latent(tmp_path / "latent.csv", cohort))
    assert model.calibration.n == 110 and model.out_of_distribution is not None
    assert set(model.sign_intervals.bounds) == set(NAMES)
    assert load_model(run).fingerprint == model.fingerprint != before.fingerprint
    answers = predict(run, cohort)
    assert answers["set"].str.len().gt(0).all() and (answers["status"] == "answered").any()
    written = pd.read_csv(run / "training.csv")
    assert list(written) == ["stage", "mild", "moderate", "severe"] and len(written) == 110
    assert calibrate(run, cohort).calibration == model.calibration, "once more gives the same"


def test_without_truth_no_sign_has_an_interval(run, cohort):
    assert calibrate(run, cohort).sign_intervals is None


def test_too_few_patients_other_truth_and_cross_validations_are_refused(run, cohort, tmp_path):
    few = replace(cohort, scans=cohort.scans[:40])
    with pytest.raises(InputError, match="20 patients with a stage"):
        calibrate(run, few)
    other = pd.read_csv(latent(tmp_path / "latent.csv", cohort)).iloc[:50]
    other.to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(InputError, match="without a truth"):
        calibrate(run, cohort, truth=tmp_path / "other.csv")
    other.drop(columns="shown_ascites").to_csv(tmp_path / "third.csv", index=False)
    with pytest.raises(InputError, match="shown_ascites"):
        calibrate(run, cohort, truth=tmp_path / "third.csv")
    assert not (run / "calibration.json").exists(), "nothing is written where something is wrong"
    quick = TrainingSettings.preset("demo", epochs=1, slices=2)
    small = toy_cohort(tmp_path / "few", {"train": 9})
    crossed = cross_validate(small, tmp_path / "crossed", quick, folds=3, progress=False)
    with pytest.raises(InputError, match="cross-validation"):
        calibrate(crossed, cohort)
