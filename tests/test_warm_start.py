"""Training that begins with the weights of another stager."""

import pytest
import torch
from toy_patients import toy_cohort

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.model.checkpoint import load_stager
from cirrnb.model.settings import StagerSettings, TrainingSettings
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import SHIPPED, load_model
from cirrnb.model.warm_start import begin_as_asked, begin_with


def test_weights_that_both_have_are_taken_over():
    shipped = load_model(SHIPPED).members[0].stager
    torch.manual_seed(0)
    stager = Stager(StagerSettings(pretrained="simulated", head="cross_entropy"), fetch=False)
    before = {name: value.clone() for name, value in stager.state_dict().items()}
    begin_as_asked(stager)
    given, now = shipped.state_dict(), stager.state_dict()
    same = [name for name in now if name in given and torch.equal(now[name], given[name])]
    assert {name for name in now if ".backbone." in name} <= set(same)
    assert torch.equal(now["head.score.weight"], before["head.score.weight"]), "three outputs are not two"
    assert "shipped" in stager.backbone_weights


@pytest.mark.parametrize("pretrained", [True, False])
def test_others_begin_as_before(pretrained):
    torch.manual_seed(0)
    stager = Stager(StagerSettings(pretrained=pretrained), fetch=False)
    before = {name: value.clone() for name, value in stager.state_dict().items()}
    begin_as_asked(stager)
    assert all(torch.equal(value, before[name]) for name, value in stager.state_dict().items())


def test_another_backbone_is_refused():
    shipped = load_model(SHIPPED).members[0].stager
    other = Stager(StagerSettings(backbone="test_efficientnet", pretrained=False), fetch=False)
    with pytest.raises(InputError, match="test_efficientnet"):
        begin_with(other, shipped, SHIPPED)


def test_a_training_begins_there_and_says_so(tmp_path):
    prepared = toy_cohort(tmp_path / "scans", {"train": 6, "valid": 3})
    settings = TrainingSettings.preset("demo", pretrained="simulated", epochs=1, slices=2, learning_rate=1e-8)
    run = cirrnb.train(prepared, tmp_path / "run", settings, progress=False)
    trained = load_stager(run)
    assert "shipped" in trained.config["backbone_weights"] and trained.stager.settings.pretrained == "simulated"
    name = "encoders.shared.join.weight"
    given = load_model(SHIPPED).members[0].stager.state_dict()[name]
    torch.testing.assert_close(trained.stager.state_dict()[name], given, atol=1e-5, rtol=0)


def test_names_of_first_weights():
    for name, kept in {"photographs": True, "none": False, "simulated": "simulated"}.items():
        assert TrainingSettings.preset("demo", pretrained=name).stager.pretrained is kept
    assert TrainingSettings.preset("demo").stager.pretrained is False
    assert TrainingSettings.preset("standard").stager.pretrained is True
    with pytest.raises((InputError, ValueError), match="pretrained"):
        TrainingSettings.preset("demo", pretrained="imagination")
