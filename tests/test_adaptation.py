"""Adaptation to a site: the map, what it assumes, its file, and the command that writes an adapted model."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from toy_patients import toy_cohort

import cirrnb
from cirrnb.cli import main
from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.adaptation import (
    ADAPTATION,
    fit_adaptation,
    log_odds_above,
    read_adaptation,
    severity_of,
)
from cirrnb.model.measured_stage import NETWORK, MeasuredStage
from cirrnb.model.out_of_distribution import OUT_OF_DISTRIBUTION
from cirrnb.model.settings import StagerSettings, TrainingSettings
from cirrnb.model.signs import SignIntervals
from cirrnb.model.trained_model import load_model
from cirrnb.simulation.cohort import simulate_cohort

STAGES = list(CIRRHOSIS)


def answers(severity, spread=1.0, offset=0.0):
    """Probabilities of a stager that reads severity on a scale of its own."""
    read = spread * np.asarray(severity) + offset
    later = expit(4 * (read[:, None] - np.array([-0.2, 0.7])))
    chances = -np.diff(np.column_stack([np.ones(len(read)), later, np.zeros(len(read))]), axis=1)
    return pd.DataFrame(chances, columns=STAGES, index=[f"site/{number}" for number in range(len(read))])


def stage_of(severity):
    return np.searchsorted([-0.2, 0.7], severity)


def accuracy(probabilities, severity):
    return float((np.asarray(probabilities).argmax(axis=1) == stage_of(severity)).mean())


def patients(count, seed):
    return np.random.default_rng(seed).standard_normal(count)


REFERENCE = answers(patients(300, 0))


def fitted(count=200, seed=1, known=None, **scale):
    return fit_adaptation("A", "f" * 64, answers(patients(count, seed), **scale), REFERENCE, STAGES, known=known)


@pytest.mark.parametrize("scale", [{"offset": 2.0}, {"offset": -1.5, "spread": 0.6}, {"spread": 2.0}])
def test_a_site_on_another_scale_is_staged_as_at_home(scale):
    severity = patients(1000, 2)
    plain, adapted = answers(severity, **scale), fitted(**scale).apply(answers(severity, **scale))
    np.testing.assert_allclose(adapted.sum(axis=1), 1)
    assert accuracy(answers(severity), severity) > 0.98
    assert accuracy(adapted, severity) > max(0.85, accuracy(plain, severity) + 0.04)


def test_the_order_of_patients_stays():
    severity = np.sort(patients(300, 3))
    adapted = fitted(offset=1.0).apply(answers(severity, offset=1.0))
    assert (np.diff(severity_of(adapted)) > -1e-9).all()


def test_at_home_little_changes():
    severity = patients(500, 4)
    change = fitted().apply(answers(severity)) - answers(severity).to_numpy()
    assert np.abs(change).mean() < 0.06


def test_few_patients_move_less_than_many():
    there = answers([0.0], offset=3.0)
    before = float(severity_of(there)[0])
    few, many = (float(severity_of(fitted(count, offset=3.0).apply(there))[0]) for count in (30, 1000))
    assert before > few > many


def test_a_site_that_is_more_ill_is_told_too_well():
    """The assumption, and what it costs where it is wrong."""
    random = np.random.default_rng(5)
    severity = random.standard_normal(400) + 1
    site = answers(severity, offset=2.0)
    adapted = fit_adaptation("A", "f" * 64, site, REFERENCE, STAGES).apply(site)
    assert accuracy(adapted, severity) < 0.7
    assert adapted[:, 2].mean() < (stage_of(severity) == 2).mean() - 0.15


def test_known_stages_correct_the_assumption():
    random = np.random.default_rng(5)
    severity = random.standard_normal(400) + 1
    site = answers(severity, offset=2.0)
    known = {site.index[place]: STAGES[stage_of(severity)[place]] for place in range(0, 400, 8)}
    plain = fit_adaptation("A", "f" * 64, site, REFERENCE, STAGES)
    staged = fit_adaptation("A", "f" * 64, site, REFERENCE, STAGES, known=known)
    others = np.setdiff1d(np.arange(400), np.arange(0, 400, 8))
    with_stages, without = (accuracy(one.apply(site)[others], severity[others]) for one in (staged, plain))
    assert with_stages > without + 0.15
    assert staged.staged == 50 and "50 of their stages" in staged.sentence
    assert "200 patients of A, without stages" in fitted().sentence


def test_one_known_stage_moves_little():
    site = answers(patients(100, 6), offset=2.0)
    plain = fit_adaptation("A", "f" * 64, site, REFERENCE, STAGES)
    one = fit_adaptation("A", "f" * 64, site, REFERENCE, STAGES, known={site.index[0]: "severe"})
    assert np.abs(one.apply(site) - plain.apply(site)).mean() < 0.15


def test_log_odds_of_certain_answers_are_finite():
    found = log_odds_above([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert np.isfinite(found).all() and (found[0] < -10).all() and (found[1] > 10).all()


def test_too_few_patients_and_stages_of_others_are_refused():
    with pytest.raises(InputError, match="29 patients of the site"):
        fitted(29)
    with pytest.raises(InputError, match="29 answers"):
        fit_adaptation("A", "f" * 64, REFERENCE, REFERENCE.iloc[:29], STAGES)
    with pytest.raises(InputError, match="nobody at the site"):
        fitted(known={"site/9999": "mild"})
    with pytest.raises(InputError, match="F4"):
        fitted(known={"site/1": "F4"})


def test_patients_without_an_answer_do_not_count():
    site = answers(patients(40, 7))
    site.iloc[::2] = np.nan
    with pytest.raises(InputError, match="20 patients"):
        fit_adaptation("A", "f" * 64, site, REFERENCE, STAGES)


def test_a_site_where_everybody_looks_alike_changes_nothing_wild():
    site = answers(np.full(50, 0.3))
    adapted = fit_adaptation("A", "f" * 64, site, REFERENCE, STAGES).apply(site)
    assert np.isfinite(adapted).all() and np.ptp(adapted, axis=0).max() < 1e-9


def test_the_file_gives_back_what_was_written(tmp_path):
    adaptation = fitted(offset=1.0, known={"site/3": "mild"})
    adaptation.save(tmp_path)
    again = read_adaptation(tmp_path)
    assert again == adaptation and again.fingerprint == adaptation.fingerprint
    assert replace(again, scale=1.5).fingerprint != again.fingerprint
    assert read_adaptation(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 3),
        ("site", 3),
        ("patients", 3),
        ("patients", True),
        ("staged", 10**9),
        ("weight", 1.5),
        ("scale", 0),
        ("scale", "1"),
        ("site_severity", [1.0] * 40),
        ("site_severity", [2.0, 1.0] + [3.0] * 39),
        ("site_severity", [1e30] * 41),
        ("reference_odds", [[1.0, 2.0]] * 41),
        ("reference_odds", "none"),
        ("shift", [0.0]),
        ("shift", [None, 0.0]),
        ("stages", ["mild"]),
        ("stages", [1, 2, 3]),
        ("further", 1),
    ],
)
def test_files_that_are_no_adaptation(tmp_path, field, value):
    path = fitted().save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(InputError, match=ADAPTATION.replace(".", r"\.")):
        read_adaptation(tmp_path)


QUICK = TrainingSettings(
    StagerSettings(width=16, pretrained=False), epochs=3, patients_per_step=6, slices=3, augmentation=None
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    home = toy_cohort(folder / "scans", {"train": 30, "valid": 33, "test": 3})
    return cirrnb.train(home, folder / "run", QUICK, progress=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Scans of the same patients' kind that are brighter by as much as a stage."""
    prepared = toy_cohort(tmp_path_factory.mktemp("site"), {"train": 33, "test": 9}, signal=1.0)
    for scan in prepared.scans:
        np.save(scan.folder / "image.npy", scan.image + np.float16(0.25))
    return replace(prepared, name="St. Elsewhere")


def test_an_adapted_model_is_a_model(run, site, tmp_path):
    adapted = cirrnb.adapt(run, site, tmp_path / "adapted")
    again = load_model(tmp_path / "adapted")
    plain = load_model(run)
    assert again.fingerprint == adapted.fingerprint != plain.fingerprint
    assert again.without_adaptation.fingerprint == plain.fingerprint
    assert again.adaptation.patients == 42 and again.adaptation.staged == 0
    table = cirrnb.predict(tmp_path / "adapted", site)
    assert table["notes"].str.contains("adapted to 42 patients of St. Elsewhere, without stages").all()
    np.testing.assert_allclose(table[STAGES].sum(axis=1), 1)
    before = cirrnb.predict(run, site)
    assert not before["notes"].str.contains("adapted").any()
    assert (before[STAGES].to_numpy() != table[STAGES].to_numpy()).any()
    assert set(table["set"].str.split("|").explode()) <= set(STAGES)


def test_the_front_door_opens_and_saves_an_adapted_model_whole(run, site, tmp_path):
    adapted = cirrnb.adapt(run, site, tmp_path / "adapted")
    intervals = SignIntervals({"ascites": (0.5,)}, {"ascites": (0.1, 0.2)}, {"ascites": (0.3, 0.4)}, 9)
    whole = cirrnb.Model(**{name: getattr(adapted, name) for name in adapted.__dataclass_fields__})
    assert whole.fingerprint == adapted.fingerprint == cirrnb.Model.load(tmp_path / "adapted").fingerprint
    assert "adapted" in repr(whole) and len(repr(adapted)) < 300
    measured = MeasuredStage((NETWORK,), (0.0,), (1.0,), (2.0,), (-1.0, 1.0), 40)
    home = replace(adapted.without_adaptation, sign_intervals=intervals, measured=measured)
    adaptation = replace(adapted.adaptation, model=home.fingerprint)
    told = replace(adapted, sign_intervals=intervals, measured=measured, adaptation=adaptation)
    parts = {name: getattr(told, name) for name in told.__dataclass_fields__}
    assert {name for name, part in parts.items() if part is None} == {"sign_reader", "measured_signs"}
    again = cirrnb.Model.load(cirrnb.Model(**parts).save(tmp_path / "saved"))
    assert again.fingerprint == told.fingerprint
    for name in ("sign_intervals", "measured", "adaptation"):
        assert getattr(again, name) == parts[name]
    assert again.site is not None


def test_scans_like_those_of_the_site_are_usual_for_the_adapted_model(run, site, tmp_path):
    before = cirrnb.predict(run, site)
    assert before["reasons"].str.contains("unusual").mean() > 0.9
    cirrnb.adapt(run, site, tmp_path / "adapted")
    after = cirrnb.predict(tmp_path / "adapted", site)
    assert (after["status"] == "answered").mean() > 0.9


def test_an_adapted_model_holds_no_patient(run, site, tmp_path):
    cirrnb.adapt(run, site, tmp_path / "adapted")
    files = {path.relative_to(tmp_path / "adapted").as_posix() for path in (tmp_path / "adapted").rglob("*.*")}
    assert "predictions.csv" not in files and {"training.csv", "adaptation.json", "model.safetensors"} <= files
    assert "cirrhotic/" not in (tmp_path / "adapted" / "training.csv").read_text()


def test_an_adapted_model_is_adapted_anew_from_the_one_it_came_from(run, site, tmp_path):
    first = cirrnb.adapt(run, site, tmp_path / "first")
    second = cirrnb.adapt(tmp_path / "first", site, tmp_path / "second")
    assert second.without_adaptation.fingerprint == first.without_adaptation.fingerprint
    np.testing.assert_allclose(second.adaptation.reference_odds, first.adaptation.reference_odds, atol=0.01)


def test_stages_that_may_be_used_are_used(run, site, tmp_path):
    subjects = [bag.subject for bag in site.bags()]
    adapted = cirrnb.adapt(run, site, tmp_path / "adapted", stages_of=subjects[:20])
    assert adapted.adaptation.staged == 20
    with pytest.raises(InputError, match="cirrhotic/999"):
        cirrnb.adapt(run, site, tmp_path / "other", stages_of=["cirrhotic/999"])


def test_nothing_is_replaced_and_the_wrong_model_is_noticed(run, site, tmp_path):
    cirrnb.adapt(run, site, tmp_path / "adapted")
    with pytest.raises(InputError, match="adapted"):
        cirrnb.adapt(run, site, tmp_path / "adapted")
    path = tmp_path / "adapted" / ADAPTATION
    path.write_text(json.dumps({**json.loads(path.read_text()), "model": "0" * 64}))
    with pytest.raises(InputError, match="an adaptation of the model"):
        load_model(tmp_path / "adapted")


def test_out_of_distribution_files_of_before_are_read(run, tmp_path):
    shutil.copytree(run, tmp_path / "old")
    (tmp_path / "old" / OUT_OF_DISTRIBUTION).rename(tmp_path / "old" / "familiarity.json")
    assert load_model(tmp_path / "old").fingerprint == load_model(run).fingerprint


def test_the_command_adapts_the_model_of_the_package(tmp_path, capsys, monkeypatch):
    """A small site is refused in words, before anything is written."""
    simulate_cohort(tmp_path / "site", 4, 3, "tiny", healthy=0, workers=1, progress=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["cirrnb", "adapt", "site", "adapted"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "30 or more" in capsys.readouterr().err and not (tmp_path / "adapted").exists()
