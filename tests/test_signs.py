"""Signs that a stager saw: degrees, what a sequence can show, intervals and their file, answers with signs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_patients import SETTINGS, toy_cohort

from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.explanation.explain import explain
from cirrnb.explanation.score import targets, targets_of
from cirrnb.model.checkpoint import TrainedStager, save_stager
from cirrnb.model.prediction import predict, predict_patient
from cirrnb.model.settings import StagerSettings
from cirrnb.model.signs import (
    SIGNS_FILE,
    SignReading,
    fit_sign_intervals,
    no_sign,
    read_sign_intervals,
    visible,
)
from cirrnb.model.stager import Stager
from cirrnb.model.trained_model import TrainedModel, load_model
from cirrnb.view.sentences import prediction_html, target_words
from cirrnb.view.sign_sentences import signs_html, what_if_html

NAMES = ("nodularity", "nodules_t1w", "nodules_t2w", "ascites")
SHIPPED = "7f0927635eb8e5cf"
SIGNED = StagerSettings(width=16, pretrained=False, signs=NAMES)


@pytest.fixture
def trained():
    torch.manual_seed(0)
    return TrainedStager(Stager(SIGNED, fetch=False).eval(), SETTINGS, True, "toy run", {})


def drawn(count, seed, noise=0.1):
    random = np.random.default_rng(seed)
    truth = random.uniform(0, 1, (count, len(NAMES)))
    return np.clip(truth + noise * random.standard_normal(truth.shape), 0, 1), truth


@pytest.mark.parametrize(
    ("strength", "degree"), [(0.0, "absent"), (0.0999, "absent"), (0.1, "slight"), (0.25, "clear"), (0.9, "strong")]
)
def test_degrees(strength, degree):
    assert SignReading("ascites", strength).degree == degree


@pytest.mark.parametrize(
    ("strength", "low", "high", "degree", "words"),
    [
        (0.30, 0.11, 0.61, "slight", "at least slight"),
        (0.70, 0.30, 0.90, "clear", "at least clear"),
        (0.80, 0.60, 0.95, "strong", "strong"),
        (0.26, 0.02, 0.68, "uncertain", "uncertain"),
        (0.05, 0.00, 0.15, "absent", "absent"),
        (0.09, 0.00, 0.31, "uncertain", "uncertain"),
    ],
)
def test_the_word_for_a_sign_holds_over_its_whole_interval(strength, low, high, degree, words):
    sign = SignReading("ascites", strength, low, high)
    assert (sign.degree, sign.degree_words) == (degree, words)
    assert sign.seen == (strength >= 0.1)


def test_words_are_a_radiologists_and_of_unknown_signs_their_name():
    assert SignReading("spleen", 0.3).words == "large spleen"
    assert SignReading("iron_overload", 0.3).words == "iron overload"


def test_no_sign_means_all_of_them():
    assert no_sign([SignReading("ascites", 0.09), SignReading("spleen", 0.01)]) is True
    assert no_sign([SignReading("ascites", 0.1), SignReading("spleen", 0.01)]) is False
    assert no_sign([]) is None


def test_what_a_sequence_can_show():
    assert visible(NAMES, ["T1W"]) == [True, True, False, True]
    assert visible(NAMES, ["T2W"]) == [True, False, True, True]
    assert visible(("iron_overload",), ["DWI"]) == [True]


def test_intervals_cover_new_patients():
    intervals = fit_sign_intervals(NAMES, *drawn(400, 0))
    seen, truth = drawn(4000, 1)
    for column, name in enumerate(NAMES):
        readings = [intervals.reading(name, float(strength)) for strength in seen[:, column]]
        inside = np.array([one.low <= true <= one.high for one, true in zip(readings, truth[:, column], strict=True)])
        assert 0.86 < inside.mean() < 0.96
        assert all(0 <= one.low <= one.strength <= one.high <= 1 for one in readings)


def test_intervals_are_wider_where_strengths_are_less_certain():
    sure, unsure = (fit_sign_intervals(NAMES, *drawn(400, 0, noise)) for noise in (0.03, 0.3))
    width = [one.reading("ascites", 0.5).high - one.reading("ascites", 0.5).low for one in (sure, unsure)]
    assert width[1] > 3 * width[0]


def test_too_few_patients_give_no_interval():
    seen, truth = drawn(99, 0)
    reading = fit_sign_intervals(NAMES, seen, truth).reading("ascites", 0.4)
    assert reading.low is None and reading.high is None
    seen, truth = drawn(150, 0)
    seen[60:, 1] = np.nan
    intervals = fit_sign_intervals(NAMES, seen, truth)
    assert intervals.reading("nodules_t1w", 0.4).low is None and intervals.reading("ascites", 0.4).low is not None


def test_the_file_gives_back_what_was_written(tmp_path):
    intervals = fit_sign_intervals(NAMES, *drawn(200, 0))
    intervals.save(tmp_path)
    assert read_sign_intervals(tmp_path) == intervals
    assert read_sign_intervals(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"n": "many"},
        {"n": True},
        {"bounds": []},
        {"bounds": {"ascites": [0.5, 0.4, 0.6, 0.7]}},
        {"bounds": {"ascites": [2.0]}},
        {"below": {}},
        {"above": {"ascites": [0.1]}},
    ],
)
def test_files_that_hold_no_intervals(tmp_path, change):
    path = fit_sign_intervals(NAMES, *drawn(200, 0)).save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=r"signs\.json"):
        read_sign_intervals(tmp_path)


def test_an_answer_tells_the_signs_that_its_sequences_can_show(trained, tmp_path):
    bag = toy_cohort(tmp_path, {"test": 1}).bags()[0]
    said = predict_patient(trained, bag)
    assert [sign.name for sign in said.signs] == list(NAMES)
    assert all(0 <= sign.strength <= 1 and sign.low is None for sign in said.signs)
    assert sum(said.stage_by_signs.values()) == pytest.approx(1) and said.no_sign is False
    alone = predict_patient(trained, Bag({"T2W": bag.scans["T2W"]}))
    assert [sign.name for sign in alone.signs] == ["nodularity", "nodules_t2w", "ascites"]
    assert alone.signs_unknown == ("nodules_t1w",) and said.signs_unknown == ()
    html = signs_html(alone)
    assert "Not known: nodules and septa on T1W (no T1W)" in html and "Not known" not in signs_html(said)


def test_a_sign_that_only_a_missing_sequence_shows_is_no_score(trained, tmp_path):
    bag = toy_cohort(tmp_path, {"test": 1}).bags()[0]
    alone = Bag({"T2W": bag.scans["T2W"]})
    assert set(targets(trained.stager)) - set(targets_of(trained.stager, ("T2W",))) == {"nodules_t1w"}
    assert targets_of(trained.stager, ("T1W", "T2W")) == targets(trained.stager)
    with pytest.raises(InputError, match="T1W alone shows"):
        explain(trained, alone, "grad_cam", target="nodules_t1w")
    assert explain(trained, alone, "grad_cam", target="nodules_t2w", permutations=2).target == "nodules_t2w"


def test_signs_that_are_not_excluded_are_told_apart_from_those_not_seen(trained, tmp_path):
    said = predict_patient(trained, toy_cohort(tmp_path, {"test": 1}).bags()[0])
    signs = (
        SignReading("ascites", 0.6, 0.3, 0.8),
        SignReading("portal", 0.08, 0, 0.3),
        SignReading("spleen", 0.02, 0, 0.1),
    )
    html = signs_html(replace(said, signs=signs))
    assert "Not seen: large spleen." in html and "not excluded: wide portal vein and extra vessels (up to 0.30)" in html
    assert "no length or volume" in html


def test_a_table_has_a_column_a_sign_and_stays_empty_where_nothing_is_known(trained, tmp_path):
    prepared = toy_cohort(tmp_path, {"test": 3})
    table = predict(trained, [Bag({"T1W": bag.scans["T1W"]}) for bag in prepared.bags()])
    assert table["sign nodules_t2w"].isna().all() and table["sign nodules_t1w"].between(0, 1).all()
    assert (table["no_sign"] == False).all()  # noqa: E712
    plain = replace(trained, stager=Stager(replace(SIGNED, signs=()), fetch=False).eval())
    assert not [name for name in predict(plain, prepared) if name.startswith(("sign", "no_sign"))]
    assert predict_patient(plain, prepared.bags()[0]).no_sign is None


def test_intervals_in_a_models_folder_are_used_and_belong_to_its_fingerprint(trained, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"preparation": vars(SETTINGS), "simulated": True}
    save_stager(folder, trained.stager, config)
    before = load_model(folder)
    fit_sign_intervals(NAMES, *drawn(200, 0)).save(folder)
    after = load_model(folder)
    assert (folder / SIGNS_FILE).is_file() and after.fingerprint != before.fingerprint
    bag = toy_cohort(tmp_path / "scans", {"test": 1}).bags()[0]
    assert all(sign.low <= sign.strength <= sign.high for sign in predict_patient(after, bag).signs)


def test_members_are_averaged(trained, tmp_path):
    torch.manual_seed(1)
    other = replace(trained, stager=Stager(SIGNED, fetch=False).eval())
    bag = toy_cohort(tmp_path, {"test": 1}).bags()[0]
    parts = [predict_patient(one, bag).signs[0].strength for one in (trained, other)]
    both = predict_patient(TrainedModel((trained, other), "both"), bag)
    assert both.signs[0].strength == pytest.approx(np.mean(parts))


def test_the_model_of_the_package_keeps_its_fingerprint():
    """Fields that came later leave models of before as they were: caches and adaptations go by it."""
    assert load_model("shipped").fingerprint.startswith(SHIPPED)


def test_the_answers_html_lists_signs_by_strength_and_what_was_not_seen(trained, tmp_path):
    bag = toy_cohort(tmp_path, {"test": 1}).bags()[0]
    said = predict_patient(trained, bag)
    signs = (SignReading("ascites", 0.2, 0.05, 0.4), SignReading("spleen", 0.8), SignReading("lobes", 0.02))
    text = signs_html(replace(said, signs=signs))
    assert text.index("large spleen") < text.index("ascites") < text.index("Not seen: right lobe small")
    assert "0.05 to 0.40" in text and "strong (0.80)" in text and "By these signs alone" in text
    none = signs_html(replace(said, signs=(SignReading("<b>x</b>", 0.01),)))
    assert "No sign of cirrhosis seen" in none and "<table" not in none
    assert "<b>x" not in signs_html(replace(said, signs=(SignReading("<b>x</b>", 0.5),)))
    learnt = replace(said, signs=signs, simulated=True)
    caveat = "a sign that is not seen may be there"
    assert caveat in signs_html(learnt) and "../docs/stager.md" in signs_html(learnt)
    assert caveat not in signs_html(learnt, simulated=True), "of a simulated patient not seen is not there"
    assert caveat not in signs_html(replace(learnt, signs=signs[:2]))
    assert signs_html(replace(said, signs=())) == ""
    assert "Signs that the model saw" in prediction_html(said, recorded=None, coverage=None, simulated=True)


def test_a_sign_is_explained_like_a_stage(trained, tmp_path):
    bag = toy_cohort(tmp_path, {"test": 1}).bags()[0]
    assert targets(trained.stager)[-4:] == NAMES
    explanation = explain(trained, bag, "integrated_gradients", target="ascites")
    said = predict_patient(trained, bag)
    strength = next(sign.strength for sign in said.signs if sign.name == "ascites")
    assert explanation.score == pytest.approx(np.log(strength / (1 - strength)), rel=1e-3)
    assert target_words("ascites") == "the sign: ascites"
    plain = replace(trained, stager=Stager(replace(SIGNED, signs=()), fetch=False).eval())
    with pytest.raises(InputError, match="ascites"):
        explain(plain, bag, "integrated_gradients", target="ascites")


def test_what_if_a_sign_were_different(trained, tmp_path):
    bag = toy_cohort(tmp_path, {"train": 1}).bags()[0]
    seen = predict_patient(trained, bag)
    as_seen = {sign.name: sign.strength for sign in seen.signs}
    same = predict_patient(trained, bag, as_seen)
    assert same.probabilities == pytest.approx(seen.probabilities, abs=1e-5)
    changed = predict_patient(trained, bag, {"ascites": 1.0})
    assert changed.probabilities != pytest.approx(seen.probabilities, abs=1e-5)
    assert {sign.name: sign.strength for sign in changed.signs} == pytest.approx(
        {**as_seen, "ascites": 0.999}, abs=1e-5
    )
    assert changed.stage_by_signs != pytest.approx(seen.stage_by_signs, abs=1e-5)
    html = what_if_html(seen, changed)
    for stage, share in changed.stage_by_signs.items():
        assert f"{seen.stage_by_signs[stage]:.0%} → {share:.0%}" in html
    for wrong in ({"iron": 0.5}, {"ascites": 1.5}, {"ascites": float("nan")}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            predict_patient(trained, bag, wrong)
    plain = TrainedStager(
        Stager(StagerSettings(width=16, pretrained=False), fetch=False).eval(), SETTINGS, True, "", {}
    )
    with pytest.raises(InputError, match="ascites"):
        predict_patient(plain, bag, {"ascites": 0.5})


def test_how_well_signs_are_read_is_kept_and_changes_no_answer(tmp_path):
    intervals = fit_sign_intervals(NAMES, *drawn(400, 1))
    told = replace(intervals, read={NAMES[0]: 0.52, NAMES[1]: 0.9})
    told.save(tmp_path)
    again = read_sign_intervals(tmp_path)
    assert again == told
    guessed, read, unknown = (again.reading(name, 0.4) for name in (NAMES[0], NAMES[1], "another"))
    assert guessed.hardly_read and not read.hardly_read and not unknown.hardly_read and unknown.read is None
    shipped = load_model("shipped")
    assert shipped.sign_intervals.read, "the shipped model says which signs it reads"
    without = replace(shipped, sign_intervals=replace(shipped.sign_intervals, read={}))
    assert without.fingerprint == shipped.fingerprint


@pytest.mark.parametrize("read", ["0.5", -0.1, 1.5, None])
def test_a_damaged_note_of_how_well_signs_are_read_is_refused(tmp_path, read):
    path = fit_sign_intervals(NAMES, *drawn(400, 1)).save(tmp_path)
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "read": {NAMES[0]: read}}))
    with pytest.raises(InputError):
        read_sign_intervals(tmp_path)


def test_a_sign_that_is_hardly_read_says_so_beside_its_strength(trained, tmp_path):
    answer = predict_patient(trained, toy_cohort(tmp_path, {"test": 1}).bags()[0])
    signs = (SignReading("portal", 0.6, 0.3, 0.8, read=0.5), SignReading("ascites", 0.5, 0.3, 0.8, read=0.96))
    told = signs_html(replace(answer, signs=signs))
    row, other = told.split("<tr>")[2:4]
    assert "<small>hardly read" in row and "portal" in row and "<small>hardly" not in other
    assert "chance" in told
    assert "chance" not in signs_html(replace(answer, signs=signs[1:]))


def test_no_sign_is_said_of_the_signs_that_are_read():
    absent, faint = SignReading("ascites", 0.02, read=0.97), SignReading("portal", 0.3, read=0.55)
    assert no_sign((absent, faint)) and not no_sign((absent, replace(faint, read=0.9)))
