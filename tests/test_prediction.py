"""Staging patients: all slices, the same every time, and a plain word for what cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from toy_patients import LARGE, SETTINGS, toy_cohort, write_scan

import cirrnb
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model import prediction as module
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.prediction import columns, predict, predict_patient
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager


@pytest.fixture(scope="module")
def trained() -> TrainedStager:
    torch.manual_seed(0)
    return TrainedStager(Stager(StagerSettings(width=16)).eval(), SETTINGS, False, "toy run", {})


def bag_of(tmp_path: Path, patient: str = "1", **slices: int | np.ndarray) -> Bag:
    """A bag with so many slices of noise, or the image given, for each sequence."""
    scans = {}
    for sequence, given in slices.items():
        image = given
        if not isinstance(given, np.ndarray):
            image = np.random.default_rng(given).random((given, 20, 24))
        scan = Scan(patient, sequence, Path("1.nii.gz"), stage="mild")
        scans[sequence] = write_scan(tmp_path / f"{patient}-{sequence}", scan, image.astype(np.float16))
    return Bag(scans)


def test_one_row_a_patient(trained, tmp_path):
    prepared = toy_cohort(tmp_path, {"train": 4, "test": 2})
    table = predict(trained, prepared)
    assert tuple(table.columns) == columns(CIRRHOSIS)
    assert table["subject"].tolist() == [f"cirrhotic/{number}" for number in range(1, 7)]
    assert table["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert table["stage"].tolist() == ["mild", "moderate", "severe", "mild", "mild", "moderate"]
    probabilities = table[list(CIRRHOSIS)].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert table["predicted"].tolist() == [CIRRHOSIS[index] for index in probabilities.argmax(axis=1)]
    assert table["sequences"].eq("T1W+T2W").all() and table["notes"].eq("").all()
    assert table["simulated"].all(), "the toy cohort is simulated"
    assert not predict(trained, prepared.bags())["simulated"].any()
    assert predict(replace(trained, simulated=True), prepared.bags())["simulated"].all()


def test_the_same_every_time_and_whoever_else_is_staged(trained, tmp_path):
    bags = toy_cohort(tmp_path, {"test": 5}).bags()
    trained.stager.train()  # as a caller may leave it
    table = predict(trained, bags)
    pd.testing.assert_frame_equal(table, predict(trained, bags), check_exact=True)
    pd.testing.assert_frame_equal(table, predict(trained, bags[::-1])[::-1].reset_index(drop=True), check_exact=True)


def test_weights_are_told_slice_by_slice(trained, tmp_path):
    said = predict_patient(trained, bag_of(tmp_path, T1W=7, T2W=3))
    assert {name: len(weights) for name, weights in said.slice_weights.items()} == {"T1W": 7, "T2W": 3}
    assert all(weights.sum() == pytest.approx(1, abs=1e-5) for weights in said.slice_weights.values())
    assert set(said.sequence_weights) == {"T1W", "T2W"} and sum(said.sequence_weights.values()) == pytest.approx(1)
    assert said.model == "toy run" and said.subject == "cirrhotic/1" and said.notes == ()
    assert sum(said.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("sequence", T1W_T2W)
def test_a_missing_sequence_is_told(trained, tmp_path, sequence):
    table = predict(trained, [bag_of(tmp_path, **{sequence: 4})])
    other = T1W_T2W[1 - T1W_T2W.index(sequence)]
    assert table.loc[0, "sequences"] == sequence and table.loc[0, "notes"] == f"{other} missing"


def test_one_slice_is_staged_and_told(trained, tmp_path):
    said = predict_patient(trained, bag_of(tmp_path, T1W=5, T2W=1))
    assert said.slice_weights["T2W"] == pytest.approx([1.0])
    assert said.notes == ("T2W has one slice",)


def test_what_preparation_noted_and_a_doubtful_mask_are_told_once(trained, tmp_path):
    bag = bag_of(tmp_path, T1W=5, T2W=4)
    noted = replace(bag.scans["T1W"], notes=("no liver mask; the view is centred on the body",))
    doubted = replace(bag.scans["T2W"], scan=replace(bag.scans["T2W"].scan, extra={"mask_doubts": "3 parts"}))
    said = predict_patient(trained, Bag({"T1W": noted, "T2W": doubted}))
    wanted = ("T1W: no liver mask; the view is centred on the body", "T2W: doubtful liver mask (3 parts)")
    assert said.notes == wanted and said.in_distribution


def test_400_slices_go_through_in_chunks(trained, tmp_path, monkeypatch):
    sizes = []
    hook = trained.stager.encoders["shared"].backbone.register_forward_pre_hook(
        lambda _, given: sizes.append(len(given[0]))
    )
    bag = bag_of(tmp_path, T1W=400, T2W=30)
    said = predict_patient(trained, bag)
    hook.remove()
    assert max(sizes) == module.CHUNK and sum(sizes) == 430
    monkeypatch.setattr(module, "CHUNK", 1000)
    assert predict_patient(trained, bag).probabilities == pytest.approx(said.probabilities, abs=1e-5)


def test_a_constant_image_is_left_out_and_told(trained, tmp_path):
    said = predict_patient(trained, bag_of(tmp_path, T1W=np.full((4, 20, 24), 0.25), T2W=3))
    assert list(said.slice_weights) == ["T2W"]
    assert said.notes == ("T1W left out: a constant image (every voxel 0.25)",)
    alone = predict_patient(trained, bag_of(tmp_path / "alone", T2W=3))
    assert said.probabilities == alone.probabilities


def test_nobody_usable_and_the_rest_goes_on(trained, tmp_path):
    constant = bag_of(tmp_path, "1", T1W=np.zeros((2, 20, 24)))
    broken = np.random.default_rng(0).random((2, 20, 24))
    broken[0, 3, 3] = np.nan
    infinite = bag_of(tmp_path, "2", T2W=broken)
    good = bag_of(tmp_path, "3", T1W=3)
    table = predict(trained, [constant, infinite, good])
    assert table["predicted"].isna().tolist() == [True, True, False]
    assert table[list(CIRRHOSIS)].isna().all(axis=1).tolist() == [True, True, False]
    assert "T1W left out: a constant image" in table.loc[0, "notes"] and "not finite" in table.loc[1, "notes"]
    with pytest.raises(InputErrors, match=r"cirrhotic/1[\s\S]*cirrhotic/2"):
        predict(trained, [constant, infinite])
    with pytest.raises(InputError, match="constant"):
        predict_patient(trained, constant)


def test_scans_prepared_otherwise_are_refused(trained, tmp_path):
    prepared = toy_cohort(tmp_path, {"test": 2}, settings=LARGE)
    with pytest.raises(InputError, match="512"):
        predict(trained, prepared)
    with pytest.raises(InputErrors) as raised:
        predict(trained, prepared.bags())
    # What is equal but for the scan is told once.
    assert len(raised.value.errors) == 4 and "and 3 more" in str(raised.value)
    assert str(raised.value).count("512") == str(raised.value).count("toy run") == 1


def test_a_prepared_cohort_is_prepared(tmp_path):
    prepared = toy_cohort(tmp_path / "toy", {"test": 2})
    assert cirrnb.prepare(prepared, tmp_path / "out") is prepared
    assert cirrnb.prepare(prepared, tmp_path / "out", prepared.settings) is prepared
    with pytest.raises(InputError, match="512"):
        cirrnb.prepare(prepared, tmp_path / "out", LARGE)
    assert not (tmp_path / "out").exists()


def test_a_model_is_evaluated_on_a_cohort(trained, tmp_path):
    prepared = toy_cohort(tmp_path / "toy", {"train": 3, "test": 6})
    asked, table = cirrnb.evaluate(trained, prepared, resamples=50), predict(trained, prepared)
    expected = cirrnb.evaluate(table, resamples=50)
    pd.testing.assert_frame_equal(asked.table, expected.table)
    assert (asked.split, asked.n) == ("test", 6)
    # A cohort without splits has no training patients: everybody is counted.
    undivided = prepared.with_splits({})
    assert cirrnb.evaluate(trained, undivided, resamples=50).n == 9
    for wrong in ((trained,), (table, prepared)):
        with pytest.raises(InputError, match="patients"):
            cirrnb.evaluate(*wrong)


def test_no_patient_and_no_scan(trained):
    assert list(predict(trained, []).columns) == list(columns(CIRRHOSIS))
    with pytest.raises(InputError, match="without a scan"):
        predict(trained, [Bag({})])


def test_bags_are_simulated_where_their_files_lie_in_a_simulated_cohort(trained, tmp_path):
    bag = bag_of(tmp_path / "prepared", T1W=5, T2W=4)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "SIMULATED.txt").write_text("These images are SIMULATED.")
    for folder, simulated in (("real", False), ("made", True)):
        (tmp_path / folder / "images").mkdir(parents=True)
        scans = {
            name: replace(one, scan=replace(one.scan, image=tmp_path / folder / "images" / "1.nii.gz"))
            for name, one in bag.scans.items()
        }
        for bags in ([Bag(scans)], (Bag(scans),), iter([Bag(scans)])):
            assert predict(trained, bags)["simulated"].tolist() == [simulated]


WRONG_PATIENTS: dict[str, Callable[[PreparedCohort], Any]] = {
    "a scan alone": lambda prepared: prepared.scans[0],
    "prepared scans": lambda prepared: list(prepared.scans),
    "a cohort that is not prepared": lambda prepared: Cohort(tuple(one.scan for one in prepared.scans)).scans,
    "a dictionary": lambda prepared: {bag.subject: bag for bag in prepared.bags()},
    "nothing": lambda prepared: None,
    "a patient twice": lambda prepared: [*prepared.bags(), prepared.bags()[0]],
}


@pytest.mark.parametrize("make", WRONG_PATIENTS.values(), ids=WRONG_PATIENTS)
def test_what_are_no_prepared_patients_is_one_clear_error(trained, tmp_path, make):
    with pytest.raises(InputError) as raised:
        predict(trained, make(toy_cohort(tmp_path, {"test": 2})))
    assert raised.value.where in ("patients", "bags")
