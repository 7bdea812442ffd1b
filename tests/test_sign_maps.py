"""A map of each sign as an output: trained on known pixels, the stage untouched, asked for by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.errors import InputError
from cirrnb.data.prepared import PreparationSettings
from cirrnb.explanation.explain import explain
from cirrnb.explanation.sign_maps import map_loss, score_sign_maps, train_sign_maps
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.model.checkpoint import load_stager, save_stager
from cirrnb.model.prediction import patient_batch, predict, predict_patient
from cirrnb.model.settings import StagerSettings
from cirrnb.model.signs import SignReading
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import load_model
from cirrnb.reports.compute import slices_with_signs
from cirrnb.simulation.signs import CHANNELS, SIGNS

NAMES = tuple(channel.name for channel in CHANNELS)
PREPARED = PreparationSettings(view="liver", spacing=4.0)
SIGNED = StagerSettings(width=16, pretrained=False, signs=NAMES)


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    root = tmp_path_factory.mktemp("maps")
    people = cirrnb.simulate_cohort(root / "cohort", patients=3, seed=12, scale="tiny", healthy=0, progress=False)
    prepared = cirrnb.prepare(people, root / "prepared", PREPARED, progress=False, workers=1)
    return prepared.bags(), SimulatedTruth(root / "cohort")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "signs"
    folder.mkdir()
    config = {"preparation": vars(PREPARED), "simulated": True, "cohort": "none", "splits": {}}
    save_stager(folder, Stager(SIGNED, fetch=False), config)
    return folder


@pytest.fixture(scope="module")
def mapped(run, patients, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "maps"
    return train_sign_maps(run, *patients, out=out, passes=25), out


def test_maps_learn_where_signs_are(mapped, patients):
    bags, truth = patients
    model, out = mapped
    after = score_sign_maps(model, bags, truth)
    assert set(after["sign"]) <= set(SIGNS) and (after["pixels"] > 0).all()
    weighed = float(np.average(after["auroc"], weights=after["pixels"]))
    torch.manual_seed(1)
    stager = load_stager(out).stager
    torch.nn.init.normal_(stager.maps.place.weight)
    member = model.members[0]
    random = load_model(out)
    random.members[0].stager.load_state_dict(stager.state_dict())
    before = score_sign_maps(random, bags, truth)
    assert weighed > 0.65 > float(np.average(before["auroc"], weights=before["pixels"]))
    assert member.stager.settings.maps


def test_the_stage_stays_as_it_was(mapped, run, patients):
    columns = ["mild", "moderate", "severe", *(f"sign {name}" for name in NAMES)]
    was, now = (predict(model, patients[0]).set_index("subject")[columns] for model in (run, mapped[0]))
    np.testing.assert_allclose(was.to_numpy(float), now.to_numpy(float), atol=1e-6)


def test_the_map_is_asked_for_by_sign(mapped, patients):
    bag = next(bag for bag in patients[0] if len(bag.scans) == 2)
    told = explain(mapped[0], bag, "sign_map", target="nodules_t1w", permutations=2)
    assert not told.signed and told.maps["T1W"].shape == bag.scans["T1W"].grid.shape
    assert told.maps["T1W"].max() > 0 and (told.maps["T2W"] == 0).all(), "no T2W shows what T1W alone shows"
    batch = patient_batch(mapped[0], bag.scans)
    whole, parts = (mapped[0].members[0].stager.sign_maps(batch, chunk) for chunk in (None, 3))
    torch.testing.assert_close(whole, parts)
    assert whole.shape == (len(batch.slices), 8, *batch.slices.shape[-2:])
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1
    with pytest.raises(InputError, match="severity"):
        explain(mapped[0], bag, "sign_map", permutations=2)


def test_pictures_of_a_report_say_which_signs_are_doubtful(mapped, patients):
    bag = next(bag for bag in patients[0] if len(bag.scans) == 2)
    seen = predict_patient(mapped[0], bag)
    signs = (
        SignReading("ascites", 0.8, 0.6, 0.9),
        SignReading("fossa", 0.5, 0.0, 0.9),
        SignReading("portal", 0.3, 0.2, 0.9, read=0.55),
    )
    rows = slices_with_signs(mapped[0], bag, replace(seen, signs=signs))
    captions = [one.caption for one in rows["T2W"]]
    assert [words.partition(", ")[2] for words in captions[:2]] == ["", "uncertain"]
    assert captions[2].endswith("hardly read"), "though its interval begins above nothing"


def test_a_stager_without_maps_has_none(run, patients):
    bags, truth = patients
    assert load_stager(run).stager.sign_maps(patient_batch(load_model(run), bags[0].scans)) is None
    with pytest.raises(InputError, match="without maps"):
        explain(run, bags[0], "sign_map", target="ascites", permutations=2)
    with pytest.raises(InputError, match="without maps"):
        score_sign_maps(load_model(run), bags, truth)


def test_only_slices_that_can_show_a_sign_teach_it(mapped, patients):
    stager = mapped[0].members[0].stager
    bag = next(bag for bag in patients[0] if len(bag.scans) == 2)
    batch = patient_batch(mapped[0], {"T2W": bag.scans["T2W"]})
    evidence = torch.zeros(batch.slices[:, 0].shape, dtype=torch.uint8)
    stager.zero_grad()
    map_loss(stager, batch, evidence).backward()
    gradient = stager.maps.place.bias.grad
    assert gradient[NAMES.index("nodules_t1w")] == 0 and gradient[NAMES.index("nodules_t2w")] != 0
    assert all(p.grad is None for p in stager.encoders.parameters())


def test_settings(tmp_path, run, patients):
    assert "maps" not in SIGNED.stored()
    with pytest.raises(ValueError, match="signs"):
        StagerSettings(maps=True)
    with pytest.raises(InputError, match="exists"):
        train_sign_maps(run, *patients, out=tmp_path)
    plain = tmp_path / "plain"
    plain.mkdir()
    config = {"preparation": vars(PREPARED), "simulated": True, "cohort": "none", "splits": {}}
    save_stager(plain, Stager(StagerSettings(width=16, pretrained=False), fetch=False), config)
    with pytest.raises(InputError, match="without sign outputs"):
        train_sign_maps(plain, *patients, out=tmp_path / "out")


def test_the_command(run, patients, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ["train-sign-maps", str(run), str(patients[1].root), str(tmp_path / "out"), "--passes", "1"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert load_stager(tmp_path / "out").stager.settings.maps
