"""A network of its own that reads the signs: it gives strengths and maps, and leaves the stage as it is."""

import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from toy_patients import SETTINGS, toy_cohort

from cirrnb.data.errors import InputError
from cirrnb.explanation.explain import explain
from cirrnb.explanation.faithfulness import randomised
from cirrnb.explanation.model import Model
from cirrnb.explanation.sign_maps import own_sign_maps, train_sign_maps
from cirrnb.model import sign_reader
from cirrnb.model.adaptation import ADAPTATION
from cirrnb.model.calibrate import calibrate
from cirrnb.model.checkpoint import save_stager
from cirrnb.model.measured_signs import MEASURED_SIGNS
from cirrnb.model.model_card import card
from cirrnb.model.prediction import predict, predict_patient
from cirrnb.model.settings import StagerSettings
from cirrnb.model.sign_reader import add_sign_reader
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import SIGN_READER, load_model, model_folder
from cirrnb.view.sentences import reasons_html
from cirrnb.view.sign_sentences import signs_html

NAMES = ("nodularity", "nodules_t1w", "ascites")
SIGNED = StagerSettings(width=16, pretrained=False, signs=NAMES, maps=True)
STAGES = ["mild", "moderate", "severe"]


def untrained(folder, settings=SIGNED, seed=0, **changes):
    folder.mkdir()
    torch.manual_seed(seed)
    config = {"preparation": vars(replace(SETTINGS, **changes)), "simulated": True}
    save_stager(folder, Stager(settings, fetch=False).eval(), config)
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("scans"), {"train": 110})


@pytest.fixture(scope="module")
def truth(tmp_path_factory, cohort):
    random, subjects = np.random.default_rng(0), [bag.subject for bag in cohort.bags()]
    table = pd.DataFrame({"subject": subjects} | {f"shown_{name}": random.random(len(subjects)) for name in NAMES})
    path = tmp_path_factory.mktemp("truth") / "latent.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory, cohort, truth):
    """The model, the network that reads, and the model with it."""
    root = tmp_path_factory.mktemp("models")
    model, reader = untrained(root / "model"), untrained(root / "reader", seed=1)
    calibrate(model, cohort, truth=truth)
    add_sign_reader(model, reader, cohort, truth=truth, out=root / "both")
    return model, reader, root / "both"


def test_signs_are_those_of_the_reader_and_the_stage_is_the_model_s(folders, cohort):
    bags = cohort.bags()[:6]
    own, alone, both = (predict(folder, bags, progress=False) for folder in folders)
    pd.testing.assert_frame_equal(both[[*STAGES, "set"]], own[[*STAGES, "set"]])
    signs = [f"sign {name}" for name in NAMES]
    pd.testing.assert_frame_equal(both[signs], alone[signs])
    assert (both[signs] - own[signs]).abs().to_numpy().min() > 1e-4
    model, _, with_reader = (load_model(folder) for folder in folders)
    assert with_reader.fingerprint != model.fingerprint
    assert with_reader.sign_intervals.n == 110 and with_reader.sign_intervals != model.sign_intervals


def test_a_changed_sign_changes_the_stage_by_the_signs(folders, cohort):
    bag = cohort.bags()[0]
    seen, changed = (predict_patient(folders[2], bag, signs) for signs in (None, {"ascites": 1.0}))
    assert {sign.name: sign.strength for sign in changed.signs}["ascites"] == pytest.approx(1, abs=2e-3)
    assert changed.stage_by_signs != seen.stage_by_signs


@dataclass(frozen=True)
class Ruler:
    """Stands for measured signs: one of them, always as strong."""

    signs: tuple[str, ...] = ("ascites",)
    usual: bool = True

    def strengths(self, scans):
        return {"ascites": 0.75} if self.usual else {}


def test_a_model_says_who_reads_its_signs(folders, cohort, truth):
    model, _, both = map(load_model, folders)
    assert "signs read by a network of their own" in repr(both) and "own" not in repr(model)
    assert "second network" in card(both)["Signs"] and "second network" not in card(model)["Signs"]
    shipped = card(load_model("shipped"))["Signs"]
    assert "Measured by the texture of the liver: nodules, T1W." in shipped and "By the stager: ascites" in shipped
    assert "450 bodies, and 280 simulated patients of a cohort" in shipped


def test_a_model_that_lost_its_measured_signs_does_not_load(tmp_path):
    shutil.copytree(model_folder("shipped"), tmp_path / "copy")
    assert load_model(tmp_path / "copy").measured_signs is not None
    (tmp_path / "copy" / MEASURED_SIGNS).unlink()
    with pytest.raises(InputError, match="no measured signs nodules_t1w"):
        load_model(tmp_path / "copy")


@pytest.mark.parametrize("named", [7, "nodularity", ["halo"], [["nodularity"]]])
def test_a_reader_that_names_no_signs_is_refused(folders, tmp_path, named):
    shutil.copytree(folders[2], tmp_path / "copy")
    path = tmp_path / "copy" / SIGN_READER / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"measured": named}))
    with pytest.raises(InputError, match="measured: "):
        load_model(tmp_path / "copy")


def test_a_wrong_truth_is_told_before_anything_is_prepared(folders, cohort, truth, tmp_path, monkeypatch):
    def prepares(*_, **__):
        raise AssertionError("prepared")

    monkeypatch.setattr(sign_reader, "prepared_for", prepares)
    other = tmp_path / "latent.csv"
    pd.read_csv(truth).drop(columns="shown_ascites").to_csv(other, index=False)
    for given in ({"truth": other}, {"truth": truth, "independent": (cohort, other)}):
        with pytest.raises(InputError, match="no column shown_ascites"):
            add_sign_reader(*folders[:2], cohort, out=tmp_path / "out", **given)


def test_maps_are_trained_of_the_network_that_reads(folders, cohort, tmp_path):
    with pytest.raises(InputError, match="sign_reader"):
        train_sign_maps(folders[2], cohort.bags()[:1], None, out=tmp_path / "out")


def test_the_score_of_a_measured_sign_is_not_called_its_strength(folders, cohort):
    bag, both = cohort.bags()[0], load_model(folders[2])
    ruled = replace(both, measured_signs=Ruler())
    for model, words in ((both, "strength on another scale"), (ruled, "what the network sees of the sign")):
        explanation = explain(model, bag, "grad_cam", "ascites", permutations=1)
        assert words in reasons_html(explanation, predict_patient(model, bag))


def test_measured_strengths_take_the_place_of_the_network_s(folders, cohort):
    bag, both = cohort.bags()[0], load_model(folders[2])
    ruled = replace(both, measured_signs=Ruler())
    seen, plain = predict_patient(ruled, bag), predict_patient(both, bag)
    ascites = next(sign for sign in seen.signs if sign.name == "ascites")
    assert ascites.strength == pytest.approx(0.75) and ascites.measured
    assert "Measured" in signs_html(seen) and "Measured" not in signs_html(plain)
    assert seen.probabilities == plain.probabilities and seen.stage_by_signs != plain.stage_by_signs
    tried = predict_patient(ruled, bag, {"ascites": 0.25})
    assert {sign.name: sign.strength for sign in tried.signs}["ascites"] == pytest.approx(0.25)
    notes = explain(ruled, bag, "grad_cam", "ascites", permutations=1).notes
    assert any("measured" in note for note in notes)


def test_a_sign_that_is_left_to_the_stager_is_its_own(folders, cohort, truth, tmp_path):
    model, reader, both = folders
    out = tmp_path / "left"
    left = add_sign_reader(model, reader, cohort, truth=truth, out=out, leave=["ascites"])
    assert left.own_signs == ("ascites",) and left.fingerprint != load_model(both).fingerprint
    bags = cohort.bags()[:3]
    own, alone, told = (predict(folder, bags, progress=False) for folder in (model, reader, out))
    pd.testing.assert_series_equal(told["sign ascites"], own["sign ascites"], atol=2e-3)
    pd.testing.assert_series_equal(told["sign nodularity"], alone["sign nodularity"])
    maps = [own_sign_maps(load_model(folder), bags[0])["T1W"] for folder in (model, reader, out)]
    np.testing.assert_array_equal(maps[2]["ascites"], maps[0]["ascites"])
    np.testing.assert_array_equal(maps[2]["nodularity"], maps[1]["nodularity"])
    scores = [explain(folder, bags[0], "grad_cam", "ascites", permutations=1).score for folder in (model, out)]
    assert scores[0] == pytest.approx(scores[1])
    with pytest.raises(InputError, match="left_to"):
        add_sign_reader(model, reader, cohort, truth=truth, out=tmp_path / "other", leave=["halo"])


def test_a_sign_that_cannot_be_measured_is_not_known(folders, cohort):
    ruled = replace(load_model(folders[2]), measured_signs=Ruler(usual=False))
    seen = predict_patient(ruled, cohort.bags()[0])
    assert "ascites" in seen.signs_unknown and "ascites" not in [sign.name for sign in seen.signs]
    assert "not measured" in signs_html(seen)
    notes = explain(ruled, cohort.bags()[0], "grad_cam", "ascites", permutations=1).notes
    assert any("could not be measured" in note for note in notes)


def test_a_sign_that_is_left_as_told_leaves_the_stage(folders, cohort):
    bag, both = cohort.bags()[0], load_model(folders[2])
    seen = predict_patient(both, bag)
    told = {sign.name: sign.strength for sign in seen.signs}["ascites"]
    same, more, less = (
        predict_patient(both, bag, {"ascites": min(max(told + step, 0.01), 0.99)}) for step in (0, 0.3, -0.3)
    )
    assert same.probabilities == pytest.approx(dict(seen.probabilities), abs=1e-4)
    (one, other), middle = ([p.probabilities["severe"] for p in (more, less)]), seen.probabilities["severe"]
    assert (one - middle) * (other - middle) <= 0, "up and down move the stage to either side"


def test_maps_and_explanations_of_a_sign_are_the_reader_s(folders, cohort):
    bag = cohort.bags()[0]
    _, reader, both = (load_model(folder) for folder in folders)
    for sequence, maps in own_sign_maps(both, bag).items():
        for name, values in maps.items():
            np.testing.assert_array_equal(values, own_sign_maps(reader, bag)[sequence][name])
    told = {
        name: explain(which, bag, "grad_cam", target, permutations=1)
        for name, which, target in (
            ("sign", both, "ascites"),
            ("reader", reader, "ascites"),
            ("severity", both, "severity"),
            ("model", load_model(folders[0]), "severity"),
        )
    }
    assert told["sign"].score == pytest.approx(told["reader"].score)
    assert told["severity"].score == pytest.approx(told["model"].score)


def test_randomising_weights_reaches_the_reader(folders):
    *_, (_, last) = randomised(load_model(folders[2]))
    before = dict(load_model(folders[2]).sign_reader.stager.named_parameters())
    after = dict(last.sign_reader.stager.named_parameters())
    assert not torch.equal(before["signs.strength.weight"], after["signs.strength.weight"])


def test_a_copy_keeps_the_reader(folders, tmp_path):
    Model.load(folders[2]).save(tmp_path / "copy")
    assert load_model(tmp_path / "copy").fingerprint == load_model(folders[2]).fingerprint


def test_calibrating_again_keeps_the_reader(folders, cohort, truth, tmp_path):
    shutil.copytree(folders[2], tmp_path / "again")
    assert calibrate(tmp_path / "again", cohort, truth=truth).sign_intervals == load_model(folders[2]).sign_intervals


@pytest.mark.parametrize(
    ("settings", "changes", "wrong"),
    [
        (replace(SIGNED, signs=NAMES[:2]), {}, "signs"),
        (replace(SIGNED, signs=(), maps=False), {}, "signs"),
        (replace(SIGNED, maps=False), {}, "maps"),
        (SIGNED, {"spacing": 3.0}, "preparation"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(folders, cohort, truth, tmp_path, settings, changes, wrong):
    other = untrained(tmp_path / "other", settings, **changes)
    with pytest.raises(InputError, match=wrong):
        add_sign_reader(folders[0], other, cohort, truth=truth, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.copytree(folders[2], tmp_path / "both")
    shutil.rmtree(tmp_path / "both" / SIGN_READER)
    shutil.copytree(other, tmp_path / "both" / SIGN_READER)
    with pytest.raises(InputError, match=wrong):
        load_model(tmp_path / "both")


def test_neither_an_existing_folder_nor_an_adapted_model_is_taken(folders, cohort, truth, tmp_path):
    model, reader, both = folders
    with pytest.raises(InputError, match="exists"):
        add_sign_reader(model, reader, cohort, truth=truth, out=both)
    shutil.copytree(model, tmp_path / "adapted")
    (tmp_path / "adapted" / ADAPTATION).write_text("{}")
    with pytest.raises(InputError, match="adapted"):
        add_sign_reader(tmp_path / "adapted", reader, cohort, truth=truth, out=tmp_path / "out")
