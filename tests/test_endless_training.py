"""Training patients of many populations, their views, sign outputs, and a training that resumes exactly."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from toy_bodies import coarse_bodies
from toy_patients import toy_cohort

from cirrnb.data.augmentation import Augmentation, Changes
from cirrnb.data.averaged_training import AveragedTraining, schedule
from cirrnb.data.errors import InputError
from cirrnb.data.sequences import T1W_T2W
from cirrnb.model.checkpoint import load_stager
from cirrnb.model.endless import (
    CHANNEL_NAMES,
    PREPARATION,
    STATE,
    EndlessSettings,
    build_training_patients,
    loss_of,
    patient_numbers,
    stage_by_signs,
    train_endless,
    visit,
)
from cirrnb.model.heads_and_losses import sign_loss
from cirrnb.model.known_patients import known_patients
from cirrnb.model.organ_naming import NOT_LABELLED, OrganNaming, moved
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager
from cirrnb.simulation import stored_views, training_patients
from cirrnb.simulation.ceiling import stage_posteriors
from cirrnb.simulation.populations import BENCHMARK
from cirrnb.simulation.signs import CHANNELS
from cirrnb.simulation.stored_views import STORED_SLICES, read_view, view_file, write_views
from cirrnb.simulation.tissue_shares import LIVER, ORGANS
from cirrnb.simulation.training_patients import (
    draw_training_patient,
    files_of,
    population_of_patient,
    read_training_patient,
)
from cirrnb.simulation.views import draw_view

TINY = StagerSettings(width=16, pretrained=False, signs=CHANNEL_NAMES, dropout=0.2)
QUICK = EndlessSettings(stager=TINY, steps=4, patients=2, occasions=0, patients_per_step=2, slices=2, keep_every=2)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    return coarse_bodies(tmp_path_factory.mktemp("bodies"))


def test_patients_come_from_many_populations():
    names = [population_of_patient(number).name for number in range(800)]
    shares = {name: names.count(name) / 800 for name in set(names)}
    assert 0.43 < shares["independent"] < 0.57 and 0.14 < shares["benchmark"] < 0.26
    assert len(shares) == 26


def test_the_patient_of_a_number_is_always_the_same():
    first, body = draw_training_patient(7)
    again, same = draw_training_patient(7)
    assert first == again and body.own == same.own
    other, _ = draw_training_patient(8)
    assert other.shown != first.shown


def test_content_belongs_to_the_version():
    """Whoever changes what a number gives raises TRAINING_VERSION and these figures."""
    drawn = [draw_training_patient(number)[0] for number in range(3)]
    assert training_patients.TRAINING_VERSION == 2
    assert [patient.population for patient in drawn] == ["drawn 3", "independent", "drawn 20"]
    assert [round(patient.liver_volume) for patient in drawn] == [941, 2250, 2176]
    assert drawn[2].shown["spleen"] == pytest.approx(0.27, abs=0.005)


def test_stored_patients_are_read_back(bodies, tmp_path):
    patient, anatomy = read_training_patient(bodies, 1)
    assert patient == draw_training_patient(1)[0]
    assert np.isin(anatomy.label, LIVER).any() and (anatomy.label == ORGANS.index("spleen") + 1).any()
    liver = np.isin(anatomy.label, LIVER)
    assert not liver[[0, -1]].any(), "the whole liver is stored"
    _, path = files_of(bodies, 1)
    for text in ("{}", json.dumps({**json.loads(path.read_text()), "version": 0}), "[1]"):
        wrong = files_of(tmp_path, 1)[1]
        wrong.write_text(text)
        with pytest.raises(InputError, match=r"000001\.json"):
            read_training_patient(tmp_path, 1)


@pytest.mark.parametrize("sequence", T1W_T2W)
def test_views_look_as_preparation_leaves_scans(bodies, sequence):
    _, anatomy = read_training_patient(bodies, 1)
    random = np.random.default_rng(3)
    shares = []
    for _ in range(6):
        view = draw_view(anatomy, random, sequence, 5)
        assert view.image.shape == view.label.shape == (len(view.position), 112, 128)
        assert 1 <= len(view.position) <= 5 and (view.position.diff() > 0).all()
        assert torch.isfinite(view.image).all() and view.image.min() >= -0.5 and view.image.max() <= 2
        inside = view.image[view.label > 0]
        assert float((inside.clamp(-0.05, 1.05) == inside).float().mean()) > 0.9
        shares.append(float(np.isin(view.label.numpy(), LIVER).mean()))
    assert np.median(shares) > 0.05, "views are centred on the liver"


def test_two_visits_of_a_patient_differ_and_a_visit_repeats(bodies):
    first, again, other = visit(bodies, QUICK, 0), visit(bodies, QUICK, 0), visit(bodies, QUICK, 1)
    assert torch.equal(first.batch.slices, again.batch.slices)
    assert first.batch.slices.shape != other.batch.slices.shape or not torch.equal(
        first.batch.slices, other.batch.slices
    )
    assert first.stage.shape == (2, 3) and first.shown.shape == first.known.shape == (2, 8)
    torch.testing.assert_close(first.stage.sum(dim=1), torch.ones(2))


def test_stored_scans_are_what_was_drawn_and_change_a_little_at_each_visit(bodies):
    write_views(bodies, 0, 2)
    write_views(bodies, 1, 2)
    path = view_file(bodies, 0, "T1W", 1)
    before = path.read_bytes()
    stored = read_view(bodies, 0, "T1W", 1)
    path.unlink()
    write_views(bodies, 0, 2)
    assert path.read_bytes() == before, "what is drawn depends on the numbers alone"
    _, anatomy = read_training_patient(bodies, 0)
    drawn = draw_view(anatomy, np.random.default_rng([training_patients.STREAM, 3, 0, 0, 1]), "T1W", STORED_SLICES)
    torch.testing.assert_close(stored.image, drawn.image, atol=0.0051, rtol=0)
    assert not torch.equal(stored.image, read_view(bodies, 0, "T1W", 0).image)
    settings = replace(QUICK, occasions=2, sequence_dropout=0.0)
    first, again, other = visit(bodies, settings, 0), visit(bodies, settings, 0), visit(bodies, settings, 1)
    assert torch.equal(first.batch.slices, again.batch.slices)
    assert not torch.equal(first.batch.slices, other.batch.slices)
    assert first.batch.slices.min() >= -0.5 and first.batch.slices.max() <= 2


def test_stored_scans_that_cannot_be_used(bodies, tmp_path):
    for content in (b"", b"not a scan"):
        view_file(tmp_path, 0, "T1W", 0).write_bytes(content)
        with pytest.raises(InputError, match="000000-T1W-00"):
            read_view(tmp_path, 0, "T1W", 0)
    with pytest.raises(InputError, match="000000-T2W-00"):
        read_view(tmp_path, 0, "T2W", 0)
    write_views(bodies, 0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_views, "_VERSION", "0.0")
        with pytest.raises(InputError, match="version"):
            read_view(bodies, 0, "T1W", 0)


def test_the_rate_rises_and_falls():
    rates = [schedule(step, 1000, 0.5) for step in range(1000)]
    assert rates[0] < 0.05 and rates[100] == rates[499] == 1 and rates[-1] < 0.01
    assert rates[750] == pytest.approx(0.5)
    assert schedule(999, 1000) == 1, "without a fall the rate stays"


@pytest.mark.parametrize("wrong", [{"precision": "float16"}, {"patients": 1}, {"fall": 1.5}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(QUICK, **wrong)


def test_signs_of_a_sequence_that_was_not_drawn_are_unknown(bodies):
    settings = replace(QUICK, sequence_dropout=1.0)
    for step in range(6):
        seen = visit(bodies, settings, step)
        for patient in range(2):
            sequence = T1W_T2W[int(seen.batch.sequence[seen.batch.patient == patient][0])]
            known = dict(zip(CHANNEL_NAMES, seen.known[patient].tolist(), strict=True))
            assert known["nodules_t1w"] == float(sequence == "T1W") != known["nodules_t2w"]
            assert known["spleen"] == 1


def test_the_target_is_what_bayes_rule_says_of_the_signs():
    drawn = BENCHMARK.draw(np.random.default_rng(0), 300)
    everything = np.ones(drawn.shown.shape, bool)
    found = stage_by_signs(drawn.shown, everything)
    capped = np.minimum(drawn.channels, 2.4)  # beyond, a sign cannot show more
    np.testing.assert_allclose(found, stage_posteriors(capped, range(len(CHANNELS))), atol=0.02)
    assert (found.argmax(axis=1) == drawn.stage).mean() > 0.8


def test_unknown_signs_weigh_nothing():
    odds = torch.tensor([[3.0, -3.0]])
    shown, known = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(sign_loss(odds, shown, known)) == pytest.approx(
        float(torch.nn.functional.softplus(torch.tensor(-3.0)))
    )
    assert float(sign_loss(odds, shown, torch.zeros(1, 2))) == 0


def test_a_stager_with_signs_gives_strengths_and_the_stage_by_them_alone(bodies):
    torch.manual_seed(0)
    stager = Stager(TINY, fetch=False).eval()
    said = stager.stage(visit(bodies, QUICK, 0).batch)
    assert said.signs.shape == (2, 8)
    torch.testing.assert_close(said.signs_log_probabilities.exp().sum(dim=1), torch.ones(2))
    assert Stager(replace(TINY, signs=()), fetch=False).signs is None


def test_the_stage_rests_on_the_signs(bodies):
    """Changing a strength changes the stage: the bottleneck is part of the network, not beside it."""
    torch.manual_seed(0)
    stager = Stager(TINY, fetch=False).eval()
    seen = visit(bodies, QUICK, 0)
    before = stager.stage(seen.batch).log_probabilities
    with torch.no_grad():
        stager.signs.strength.bias[3] += 5
    after = stager.stage(seen.batch).log_probabilities
    assert not torch.allclose(before, after)


def test_every_part_is_trained(bodies):
    torch.manual_seed(0)
    stager = Stager(TINY, fetch=False).train()
    seen = visit(bodies, replace(QUICK, sequence_dropout=0.0), 0)
    loss_of(stager.stage(seen.batch), seen, 1.0).backward()
    without = [name for name, p in stager.named_parameters() if p.grad is None]
    assert not [name for name in without if "stand_in" not in name]


@pytest.mark.parametrize("signs", ["lobes", ["Lobes"], ["a b"], [1], ["lobes", "lobes"]])
def test_names_that_are_no_signs(signs):
    with pytest.raises(ValueError, match="signs"):
        StagerSettings(signs=signs)


def test_a_stager_of_single_slices_has_no_signs():
    with pytest.raises(ValueError, match="signs"):
        StagerSettings(signs=("lobes",), pooling="slice")


def test_settings_without_signs_are_stored_as_before():
    assert "signs" not in StagerSettings().stored()
    assert StagerSettings(**TINY.stored()) == TINY


@pytest.mark.parametrize("settings", [QUICK, replace(QUICK, occasions=1, precision="bfloat16", fall=0.5)])
def test_a_training_that_was_stopped_gives_the_same_weights(bodies, tmp_path, settings):
    whole = train_endless(tmp_path / "whole", settings, bodies=bodies, readers=0)

    class Stop(Exception):
        pass

    def stop_after_three(items, total, what):
        for number, item in enumerate(items):
            if what == "training" and number == 3:
                raise Stop
            yield item

    part = tmp_path / "part"
    with pytest.raises(Stop):
        train_endless(part, settings, bodies=bodies, readers=0, minutes=0, progress=stop_after_three)
    assert (part / STATE).is_file() and not (part / "model.safetensors").exists()
    train_endless(part, settings, bodies=bodies, readers=0, minutes=0)
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, part))
    assert all(torch.equal(first[name], second[name]) for name in first)
    kept = load_stager(whole / "step-2")
    assert kept.stager.settings == TINY and kept.simulated and kept.config["training"]["done"] == 2
    assert load_stager(whole).stager.settings.signs == CHANNEL_NAMES


def test_another_training_in_the_same_folder_is_refused(bodies, tmp_path):
    train_endless(tmp_path / "run", QUICK, bodies=bodies, readers=0)
    with pytest.raises(InputError, match="rate"):
        train_endless(tmp_path / "run", replace(QUICK, rate=0.5), bodies=bodies, readers=0)


def test_a_training_begins_with_the_weights_that_both_have(bodies, tmp_path):
    first = train_endless(tmp_path / "first", QUICK, bodies=bodies, readers=0)
    settings = replace(QUICK, rate=1e-9, steps=1)
    second = train_endless(tmp_path / "second", settings, bodies=bodies, start=first, readers=0)
    own, given = (load_file(folder / "model.safetensors") for folder in (second, first))
    name = "encoders.shared.join.weight"
    torch.testing.assert_close(own[name], given[name], atol=1e-5, rtol=0)
    stored = json.loads((second / "request.json").read_text())
    assert len(stored["start"]) == 64
    other = replace(QUICK, stager=replace(TINY, backbone="test_efficientnet"))
    with pytest.raises(InputError, match="test_efficientnet"):
        train_endless(tmp_path / "third", other, bodies=bodies, start=first, readers=0)


def test_a_training_of_signs_alone_sees_independent_signs_and_leaves_the_stage(bodies):
    settings = replace(QUICK, population="independent", stage_weight=0.0)
    numbers = patient_numbers(settings)
    assert len(numbers) == settings.patients and numbers != patient_numbers(QUICK)
    assert {population_of_patient(number).name for number in numbers} == {"independent"}
    torch.manual_seed(0)
    stager, seen = Stager(TINY, fetch=False), visit(bodies, QUICK, 0)
    loss_of(stager.stage(seen.batch), seen, 1.0, stage_weight=0.0).backward()
    assert not any(one.grad.any() for one in stager.head.parameters() if one.grad is not None)
    assert stager.signs.strength.weight.grad.any() and stager.signs.hidden.weight.grad.any()
    with pytest.raises(ValueError, match="population"):
        EndlessSettings(population="healthy")


def test_organs_are_named_pixel_by_pixel_and_teach_the_encoder(bodies):
    settings = replace(QUICK, occasions=1, organ_weight=1.0)
    build_training_patients(bodies, range(QUICK.patients), 1)
    seen = visit(bodies, settings, 0)
    assert seen.organs.shape == seen.batch.slices[:, 0].shape and seen.organs.max() <= len(ORGANS)
    torch.manual_seed(0)
    stager = Stager(TINY, fetch=False)
    naming = OrganNaming(stager)
    stager.stage(seen.batch)
    naming.loss(seen.organs).backward()
    assert next(stager.encoders["shared"].backbone.parameters()).grad.abs().sum() > 0
    stager.stage(seen.batch)
    assert naming.loss(torch.full_like(seen.organs, NOT_LABELLED)) == 0, "nothing is known of these"
    with pytest.raises(ValueError, match="occasions"):
        replace(QUICK, organ_weight=1.0)


def test_labels_move_with_the_image():
    label = torch.zeros(2, 40, 60, dtype=torch.uint8)
    label[:, 10:20, 12:30] = 4
    bounds = Augmentation(rotation=20, shift=0.1, gain=0.1, gamma=0.1, noise=0.01, bias=0.1)
    changes = Changes.draw(2, bounds, torch.Generator().manual_seed(3))
    alone = replace(changes, bounds=Augmentation(20, 0.1, gain=0, gamma=0, noise=0, bias=0))
    image = alone.apply((label == 4).float()[:, None])[:, 0]
    turned = moved(label, changes)
    assert ((turned == 4) == (image > 0.5)).float().mean() > 0.995 and not torch.equal(turned, label)


def test_a_training_with_organs_resumes_exactly(bodies, tmp_path, monkeypatch):
    settings = replace(QUICK, occasions=1, organ_weight=0.5)
    whole = train_endless(tmp_path / "whole", settings, bodies=bodies, readers=0)
    parts, stored = tmp_path / "parts", []
    real = AveragedTraining.store

    def stop(self, path, step):
        real(self, path, step)
        stored.append(step)
        if len(stored) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(AveragedTraining, "store", stop)
    with pytest.raises(KeyboardInterrupt):
        train_endless(parts, settings, bodies=bodies, readers=0, minutes=0)
    train_endless(parts, settings, bodies=bodies, readers=0, minutes=0)
    first, again = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any("organs" in name for name in first), "the part that names organs is not kept"


def test_known_patients_are_visited_beside_the_training_s_own(bodies, tmp_path):
    bags = toy_cohort(tmp_path, {"train": 4}, settings=PREPARATION).bags()
    truth = tmp_path / "latent.csv"
    columns = {f"shown_{name}": 0.125 * np.arange(1, len(bags) + 1) for name in CHANNEL_NAMES}
    pd.DataFrame({"subject": [bag.subject for bag in bags]} | columns).to_csv(truth, index=False)
    known = known_patients(bags, truth, CHANNEL_NAMES, T1W_T2W)
    settings = replace(QUICK, patients_per_step=2, known_share=0.5)
    seen = visit(bodies, settings, 0, known=known)
    own = [read_training_patient(bodies, number)[0].shown["lobes"] for number in range(QUICK.patients)]
    lobes = seen.shown[:, CHANNEL_NAMES.index("lobes")]
    assert any(float(lobes[0]) == pytest.approx(value) for value in own)
    assert float(lobes[1]) in known.shown[:, 0]
    assert (seen.organs[seen.batch.patient == 1] == NOT_LABELLED).all()
    assert not torch.equal(seen.batch.slices, visit(bodies, settings, 1, known=known).batch.slices)
    truth.write_text(truth.read_text().replace(bags[0].subject, "somebody"), encoding="utf-8")
    with pytest.raises(InputError, match="without a truth"):
        known_patients(bags, truth, CHANNEL_NAMES, T1W_T2W)
