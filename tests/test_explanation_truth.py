"""The truth behind a simulated patient: twins as the cohort's own, evidence in place, and maps scored against it."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.data.prepared import PreparationSettings
from cirrnb.explanation.explain import score_of_patient
from cirrnb.explanation.faithfulness import agreement, case
from cirrnb.explanation.localisation import (
    SCANNER,
    attributed_to_signs,
    body,
    liver_share,
    localisation,
    scanner_effect,
    sign_effects,
    signs_by_stage,
)
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager
from cirrnb.preparation.geometry import resample_like
from cirrnb.simulation.signs import SIGNS
from cirrnb.view.attribution import stage_signs_figure

PREPARED = PreparationSettings(view="liver", spacing=4.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("truth")
    people = cirrnb.simulate_cohort(
        root / "cohort", patients=3, seed=12, scale="tiny", healthy=0, twins=True, progress=False
    )
    return root / "cohort", cirrnb.prepare(people, root / "prepared", PREPARED, progress=False, workers=1)


@pytest.fixture(scope="module")
def truth(cohort):
    return SimulatedTruth(cohort[0])


@pytest.fixture(scope="module")
def sick(cohort, truth):
    """The patient with the most signs that also has both sequences."""
    bags = [bag for bag in cohort[1].bags() if len(bag.scans) == 2]
    return max(bags, key=lambda bag: len(truth.bears(bag)))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    stager = Stager(StagerSettings(pretrained=False, width=16)).eval()
    return TrainedStager(stager, PREPARED, True, "untrained", {})


def written_twin(root, bag, sequence, kind):
    path = root / "twins" / kind / sequence / f"{bag.patient}.nii.gz"
    prepared = bag.scans[sequence]
    values = np.asarray(nib.load(path).dataobj, dtype=np.float32)
    volume, inside = resample_like(prepared, values), resample_like(prepared, np.ones_like(values)) > 0
    low, high = prepared.measured["low"], prepared.measured["high"]
    return np.where(inside, np.clip((volume - low) / (high - low), -0.5, 2), 0)  # 0 outside of the file, as prepared


def test_twins_made_anew_are_those_that_the_cohort_wrote(cohort, truth, sick):
    root, _ = cohort
    (kind,) = {one.name for one in (root / "twins").iterdir() if (one / "T1W" / f"{sick.patient}.nii.gz").exists()} - {
        "severity_zero"
    }
    for sign, name in ((None, "severity_zero"), (kind.removeprefix("without_"), kind)):
        made = truth.without(sick, sign)
        for sequence in sick.scans:
            expected = written_twin(root, sick, sequence, name)
            # float16 and a whole-number file are all that lies between them.
            np.testing.assert_allclose(made[sequence], expected, atol=0.01)
            assert np.abs(made[sequence] - np.asarray(sick.scans[sequence].image, dtype=np.float32)).max() > 0.1 or sign


def test_evidence_is_where_patient_and_twin_differ(truth, sick):
    without = truth.without(sick)
    for sequence, prepared in sick.scans.items():
        labels = truth.evidence(prepared)
        apart = np.abs(without[sequence] - np.asarray(prepared.image, dtype=np.float32))
        assert labels.shape == prepared.grid.shape and labels.max() <= len(SIGNS)
        assert apart[labels > 0].mean() > 5 * apart[labels == 0].mean()


def test_a_map_of_the_evidence_itself_is_perfect_and_noise_is_chance(truth, sick):
    perfect = {name: (truth.evidence(one) > 0).astype(np.float32) for name, one in sick.scans.items()}
    found = localisation(perfect, sick, truth).set_index("sign")["auroc"]
    assert found["any"] == 1 and (found == 1).all()
    noise = np.random.default_rng(0)
    chance = {name: noise.random(one.grid.shape).astype(np.float32) for name, one in sick.scans.items()}
    assert localisation(chance, sick, truth).set_index("sign").loc["any", "auroc"] == pytest.approx(0.5, abs=0.03)


def test_what_each_sign_does_to_the_score(truth, sick, model):
    known = case(model, sick, "severity")
    effects = sign_effects(known.score, sick, truth)
    assert set(effects["sign"]) == set(truth.bears(sick)) and len(effects) > 2
    assert np.isfinite(effects["effect"]).all() and effects["total"].nunique() == 1
    alone = sign_effects(known.score, sick, truth, signs=[effects["sign"].iloc[0]])
    pd.testing.assert_frame_equal(alone, effects.iloc[:1])


def test_a_stager_of_one_sequence_sees_the_signs_of_that_sequence(truth, sick):
    stager = Stager(StagerSettings(pretrained=False, width=16, sequences=("T1W",))).eval()
    alone = TrainedStager(stager, PREPARED, True, "untrained", {})
    effects = sign_effects(case(alone, sick, "severity").score, sick, truth, signs=["nodularity"])
    assert np.isfinite(effects["total"]).all()


def test_what_is_attributed_to_signs_and_to_the_liver(truth, sick, model):
    told = cirrnb.explain(model, sick, "grad_cam", permutations=4)
    given = attributed_to_signs(told, sick, truth).set_index("sign")["attributed"]
    labels = truth.evidence(sick.scans["T1W"]), truth.evidence(sick.scans["T2W"])
    whole = sum(float(told.maps[n][mark > 0].sum()) for n, mark in zip(("T1W", "T2W"), labels, strict=True))
    assert given.sum() == pytest.approx(whole, abs=1e-4)
    inside = {name: np.asarray(one.mask, dtype=np.float32) * body(one) for name, one in sick.scans.items()}
    share, liver = liver_share(inside, sick)
    assert share == pytest.approx(1) and 0.05 < liver < 0.6


def test_what_is_used_by_stage(cohort, truth, model):
    table = signs_by_stage(model, cohort[1].bags(staged=True), truth, "grad_cam")
    assert set(table.columns) == {"stage", "sign", "patients", "effect", "attributed"}
    assert table["sign"].isin([*SIGNS, SCANNER]).all() and (table["patients"] >= 1).all()
    swapped = table[table["sign"] == SCANNER]
    assert set(swapped["stage"]) == set(table["stage"]) and swapped["attributed"].isna().all()
    bags = [bag for bag in cohort[1].bags(staged=True) if bag.stage == swapped["stage"].iloc[0]]
    effects = [scanner_effect(score_of_patient(model, bag), bag, truth) for bag in bags]
    assert swapped["effect"].iloc[0] == pytest.approx(np.mean(effects), abs=1e-4) and np.any(effects)
    figure = stage_signs_figure(table, method="it", simulated=True)
    bars = [bar for bar in figure.data if bar.name == "effect on the score"]
    assert sum(len(bar.x) for bar in bars) == len(table) and len(bars) == table["stage"].nunique()
    with pytest.raises(ValueError, match="nothing to draw"):
        stage_signs_figure(table.iloc[:0], method="it", simulated=True)


def test_baselines_are_compared(sick, model):
    told = {
        name: cirrnb.explain(model, sick, baseline=name, settings={"steps": 4}, permutations=4)
        for name in ("air", "blurred")
    }
    table = agreement(told, sick)
    assert table.loc["air", "air"] == table.loc["blurred", "blurred"] == 1
    assert table.loc["air", "blurred"] == table.loc["blurred", "air"] < 1


def test_another_simulator_or_nobody_of_that_name_is_refused(cohort, truth, sick, tmp_path):
    with pytest.raises(InputError, match="simulated"):
        SimulatedTruth(tmp_path)
    told = (cohort[0] / "SIMULATED.txt").read_text()
    request = json.loads(told[told.index("{") :])
    (tmp_path / "SIMULATED.txt").write_text(json.dumps({**request, "version": "0.9"}))
    with pytest.raises(InputError, match=r"version 0\.9"):
        SimulatedTruth(tmp_path)
    with pytest.raises(InputError, match="sign"):
        truth.without(sick, "fever")
