"""Parts of a stager that learns from endless simulated patients, each trained and asked alike."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from toy_bodies import coarse_bodies
from toy_patients import toy_cohort

from cirrnb.benchmark import endless_ablation
from cirrnb.benchmark.ablation import BASELINE
from cirrnb.benchmark.endless_ablation import (
    DESIGNS,
    RANK,
    SIGNS,
    SLICE_PROTOCOL,
    choose_designs,
    endless_ablation_table,
    run_endless_ablation,
    sign_table,
)
from cirrnb.data.errors import InputError
from cirrnb.model.endless import CHANNEL_NAMES, PREPARATION, EndlessSettings, visit
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager

WHOLE = EndlessSettings(
    stager=StagerSettings(width=16, pretrained=False, signs=CHANNEL_NAMES),
    steps=2,
    patients=2,
    occasions=0,
    patients_per_step=2,
    slices=2,
    precision="float32",
)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    return coarse_bodies(tmp_path_factory.mktemp("bodies"))


def test_every_design_changes_one_thing_and_builds():
    whole = EndlessSettings()
    described = set()
    for design in DESIGNS.values():
        settings = design.settings(whole, seed=3)
        Stager(settings.stager, fetch=False)
        assert settings.seed == 3 and settings.steps == whole.steps
        described.add(str(dataclasses.asdict(settings)))
        if design.changes is not SLICE_PROTOCOL:  # a protocol of its own, not a part
            assert len(design.changes) == (0 if design.name == BASELINE else 1)
    assert len(described) == len(DESIGNS)
    assert [one.name for one in choose_designs(["T1W"])] == [BASELINE, "T1W"]
    with pytest.raises(InputError, match="T3W"):
        choose_designs(["T3W"])


def test_one_sequence_alone_is_all_that_is_drawn(bodies):
    for name in ("T1W", "T2W"):
        seen = visit(bodies, DESIGNS[name].settings(WHOLE, 0), 0)
        assert seen.batch.sequences == (name,) and set(seen.batch.sequence.tolist()) == {0}
        assert (seen.known == 0).any(), "nodules of the other sequence are unknown"


def test_without_a_residual_the_stage_rests_on_the_signs_alone(bodies):
    settings = DESIGNS["signs_alone"].settings(WHOLE, 0)
    batch = visit(bodies, settings, 0).batch
    torch.manual_seed(0)
    alone = Stager(settings.stager, fetch=False).eval()
    whole = Stager(WHOLE.stager, fetch=False).eval()
    whole.load_state_dict(alone.state_dict())
    strengths = torch.full((2, len(CHANNEL_NAMES)), 0.3)
    with torch.no_grad():
        [first, second] = alone.stage(batch, strengths=strengths).scores
        assert torch.equal(first, second), "equal signs, equal stage"
        [first, second] = whole.stage(batch, strengths=strengths).scores
        assert not torch.equal(first, second)


def test_designs_are_trained_once_and_asked_about_the_same_patients(bodies, tmp_path, monkeypatch):
    people = toy_cohort(tmp_path / "prepared", {"test": 78}, slices=(2, 1), settings=PREPARATION)
    designs = choose_designs(["T1W", "slices"])
    answers = run_endless_ablation(tmp_path / "out", people, designs, [0], WHOLE, bodies=bodies, readers=0)
    assert list(answers) == [BASELINE, "slices", "T1W"]
    asked = [list(tables[0]["subject"]) for tables in answers.values()]
    assert asked[0] == asked[1] == asked[2] and len(asked[0]) == 78
    for [table] in answers.values():
        assert np.allclose(table[["mild", "moderate", "severe"]].sum(axis=1), 1)

    def again(*_, **__):
        raise AssertionError("asked again")

    monkeypatch.setattr(endless_ablation.cirrnb, "predict", again)
    second = run_endless_ablation(tmp_path / "out", people, designs, [0], WHOLE, bodies=bodies, readers=0)
    pd.testing.assert_frame_equal(second["T1W"][0], answers["T1W"][0], check_exact=False, check_dtype=False)
    table = endless_ablation_table(designs, answers, resamples=50)
    assert list(table.index) == list(answers)
    random = np.random.default_rng(0)
    latent = pd.DataFrame({"subject": asked[0]} | {f"shown_{name}": random.random(78) * 0.3 for name in CHANNEL_NAMES})
    signs = sign_table(answers, latent)
    assert signs[RANK].notna().all()
    assert signs[SIGNS].isna().to_dict() == {BASELINE: False, "slices": True, "T1W": False}, "slices have no signs"
