"""Temperature and sets of stages: known answers, promises kept on simulated patients, files that come back."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prediction_tables import drawn, table
from scipy.special import softmax
from scipy.stats import binom

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.calibration import Calibration, fit, fit_predictions, logits_of, read_calibration
from cirrnb.model.prediction_sets import EVERYTHING, in_set, mass_before, threshold

probabilities = st.lists(st.floats(0.001, 1), min_size=3, max_size=3).map(lambda p: np.array(p) / sum(p))


def test_mass_before_by_hand():
    before = mass_before([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.25, 0.5, 0.25]])
    expected = [[0.8, 0, 0.5], [0, 0.6, 0.7], [0.9, 0.7, 0], [0.7, 0.4, 0], [0.5, 0, 0.75]]
    np.testing.assert_allclose(before, expected)


def test_the_threshold_by_hand():
    # Masses before the truth, of nine calibrators: 0 five times, then 0.5, 0.6, 0.7 and 0.8.
    rows = [[0.8, 0.1, 0.1]] * 5 + [[0.2, 0.5, 0.3]] + [[0.6, 0.1, 0.3]] + [[0.1, 0.2, 0.7]] + [[0.2, 0.5, 0.3]]
    truth = [0] * 5 + [2, 1, 1, 0]
    # of nine the ceil(10 * 0.9) = 9th, the ceil(10 * 0.7) = 7th and the ceil(10 * 0.5) = 5th
    assert threshold(rows, truth, 0.9) == pytest.approx(0.8)
    assert threshold(rows, truth, 0.7) == pytest.approx(0.6)
    assert threshold(rows, truth, 0.5) == 0
    assert threshold(rows, truth, 0.91) == EVERYTHING
    assert threshold(rows[:8], truth[:8], 0.9) == EVERYTHING
    with pytest.raises(ValueError, match="between 0 and 1"):
        threshold(rows, truth, 1)


@given(given=probabilities, at=st.floats(0, 1), more=st.floats(0, 1))
def test_sets_are_neighbours_around_the_mode_and_grow_with_the_threshold(given, at, more):
    chosen = in_set(given, at)[0]
    inside = np.flatnonzero(chosen)
    assert chosen[given.argmax()]
    assert inside[-1] - inside[0] + 1 == len(inside)
    assert (in_set(given, max(at, more))[0] >= chosen).all()
    assert in_set(given, EVERYTHING).all()
    # What is left out would have been taken in last: the set gathered more than the threshold.
    assert chosen.all() or given[chosen].sum() >= at - 1e-12


@given(
    rows=st.lists(st.tuples(probabilities, st.integers(0, 2)), min_size=1, max_size=40),
    coverages=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
)
def test_more_coverage_makes_no_set_smaller(rows, coverages):
    given, truth = np.array([row for row, _ in rows]), np.array([stage for _, stage in rows])
    low, high = (threshold(given, truth, coverage) for coverage in sorted(coverages))
    assert low <= high
    # The calibrators themselves are covered at least as promised.
    assert in_set(given, high)[np.arange(len(truth)), truth].mean() >= max(coverages) - 1e-9


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    logits, truth = drawn(20_000, seed=1, temperature=temperature)
    assert fit(logits, truth).temperature == pytest.approx(temperature, rel=0.04)


def test_the_temperature_is_where_a_fine_grid_has_its_least_log_loss():
    logits, truth = drawn(60, seed=4, temperature=1.7)
    grid = np.linspace(0.3, 6, 5701)
    losses = [-np.log(softmax(logits / one, axis=1)[np.arange(60), truth]).mean() for one in grid]
    assert fit(logits, truth).temperature == pytest.approx(grid[np.argmin(losses)], abs=0.002)


def test_probabilities_do_as_well_as_scores():
    logits, truth = drawn(200, seed=2, temperature=2)
    one, other = fit(logits, truth), fit(logits_of(softmax(logits, axis=1)), truth)
    assert other.temperature == pytest.approx(one.temperature, rel=1e-4)
    np.testing.assert_allclose(one.apply(logits), softmax(logits / one.temperature, axis=1))
    assert one.apply(logits[0]).shape == (3,)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize("calibrators", [19, 150])
def test_new_patients_are_covered_as_promised(calibrators, coverage):
    """Over many calibrations and new patients the promise holds and is not kept by sets far too large."""
    hits = 0
    trials = 1500
    for trial in range(trials):
        logits, truth = drawn(calibrators + 1, seed=trial, temperature=1.8)
        found = fit(logits[:-1], truth[:-1], coverage)
        said = found.prediction_set(found.apply(logits[-1]))
        hits += CIRRHOSIS[truth[-1]] in said
    low = binom.ppf(0.001, trials, coverage)
    # Ties aside, coverage exceeds what was asked for by 1 / (n + 1) at most.
    high = binom.ppf(0.999, trials, coverage + 1 / (calibrators + 1))
    assert low <= hits <= high


def test_with_too_few_calibrators_every_stage_is_possible():
    logits, truth = drawn(8)
    found = fit(logits, truth, 0.9)
    assert found.temperature == 1 and found.n == 8 and "too few" in found.how
    assert found.prediction_set(found.apply([50.0, 0, -50])) == CIRRHOSIS.names
    nobody = fit(np.empty((0, 3)), np.empty(0, dtype=int))
    assert nobody.prediction_set([1, 0, 0]) == CIRRHOSIS.names
    enough = fit(*drawn(9), 0.9)
    assert "too few" not in enough.how


def test_calibrators_who_are_all_right_leave_the_temperature_within_bounds():
    found = fit(np.eye(3)[[0, 1, 2] * 10] * 5, [0, 1, 2] * 10)
    assert 0.1 <= found.temperature < 0.2
    assert found.prediction_set([0.4, 0.35, 0.25]) == ("mild",)


def test_a_table_is_calibrated_row_by_row():
    predictions = table(*drawn(300, seed=5, temperature=2))
    found = fit_predictions(predictions)
    assert found.n == 300 and found.temperature == pytest.approx(2, rel=0.25)
    missing = predictions.copy()
    missing.loc[3, ["mild", "moderate", "severe"]] = np.nan
    missing.loc[4, "stage"] = None
    assert fit_predictions(missing).n == 298
    told = found.calibrate(missing)
    assert told.loc[3, "set"] is None and told.loc[3, list(CIRRHOSIS)].isna().all()
    expected = found.apply(logits_of(predictions[list(CIRRHOSIS)]))
    np.testing.assert_allclose(told.drop(3)[list(CIRRHOSIS)].to_numpy(float), np.delete(expected, 3, axis=0))
    assert told.loc[0, "set"] == "|".join(found.prediction_set(expected[0]))
    assert (told["predicted"] == predictions["predicted"]).all()
    assert "set" not in missing


@pytest.mark.parametrize(
    ("logits", "truth", "coverage", "message"),
    [
        (np.zeros((4, 2)), [0] * 4, 0.9, "patients, 3"),
        (np.zeros((4, 3)), [0] * 3, 0.9, "patients, 3"),
        (np.zeros((4, 3)), [0, 1, 2, 3], 0.9, "from 0 to 2"),
        (np.full((4, 3), np.nan), [0] * 4, 0.9, "finite"),
        (np.zeros((4, 3)), [0] * 4, 90, "between 0 and 1"),
    ],
)
def test_calibrators_without_sense_are_refused(logits, truth, coverage, message):
    with pytest.raises(ValueError, match=message):
        fit(logits, truth, coverage)


def test_saved_and_read_back(tmp_path):
    assert read_calibration(tmp_path) is None
    found = fit(*drawn(100))
    path = found.save(tmp_path)
    assert path == tmp_path / "calibration.json" and [p.name for p in tmp_path.iterdir()] == ["calibration.json"]
    assert read_calibration(tmp_path) == found
    nobody = fit(np.empty((0, 3)), [])
    nobody.save(tmp_path)
    assert read_calibration(tmp_path) == nobody


GOOD = {
    "format": 1,
    "stages": list(CIRRHOSIS),
    "temperature": 1.2,
    "threshold": 0.5,
    "coverage": 0.9,
    "n": 30,
    "how": "-",
}


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"stages": ["mild"]},
        {"temperature": -1.0},
        {"temperature": None},
        {"threshold": 1.5},
        {"coverage": "0.9"},
        {"n": -1},
        {"how": 3},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(GOOD))
    assert read_calibration(tmp_path) == Calibration(1.2, 0.5, 0.9, 30, "-")
    path.write_text(json.dumps(GOOD | damage))
    with pytest.raises(InputError, match=r"calibration\.json.*no readable calibration"):
        read_calibration(tmp_path)
    for text in (json.dumps(GOOD)[:40], "[]", "null", "", "\x80\x04pickle"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match="no readable calibration"):
            read_calibration(tmp_path)


def test_a_table_read_from_csv_calibrates_the_same(tmp_path):
    predictions = table(*drawn(50, seed=5))
    predictions.to_csv(tmp_path / "predictions.csv", index=False)
    assert fit_predictions(pd.read_csv(tmp_path / "predictions.csv")) == fit_predictions(predictions)


def agreed(threshold: float, *members: list[float]) -> tuple[str, ...]:
    calibration = Calibration(1.0, threshold, 0.9, 100, "by hand")
    return calibration.agreed_sets(np.array(members)[:, None])[0]


def test_members_agree_by_majority():
    sure, torn, other = [0.9, 0.08, 0.02], [0.5, 0.45, 0.05], [0.1, 0.8, 0.1]
    # At 0.6 a set takes in what comes after at most 0.6: sure {mild}, torn {mild, moderate}, other {moderate}.
    assert agreed(0.6, sure) == ("mild",)
    assert agreed(0.6, torn) == ("mild", "moderate")
    assert agreed(0.6, sure, sure, torn) == ("mild",)
    assert agreed(0.6, sure, torn, torn) == ("mild", "moderate")
    assert agreed(0.6, sure, other, other) == ("moderate",)
    assert agreed(1.0, sure, other, other) == CIRRHOSIS.names


def test_a_set_agreed_on_has_no_gap_and_holds_the_answer():
    mild, severe, every = [0.98, 0.01, 0.01], [0.01, 0.01, 0.98], [0.34, 0.33, 0.33]
    # Mild and severe have three votes of five each, moderate one.
    assert agreed(0.7, mild, mild, severe, severe, every) == CIRRHOSIS.names
    # Two against two: no stage has a majority, and the most probable one by the mean stands.
    assert agreed(0.6, mild, mild, severe, [0.0, 0.1, 0.9]) == ("mild",)


def test_one_member_alone_agrees_with_itself():
    random = np.random.default_rng(0)
    said = random.dirichlet((1, 1, 1), size=200)
    calibration = Calibration(1.3, 0.7, 0.9, 100, "by hand")
    assert calibration.agreed_sets(said[None]) == calibration.prediction_sets(calibration.apply(logits_of(said)))


def test_sets_of_members_cover_as_aimed_where_their_mean_covers_more():
    """Members are the truth's scores with noise of their own; calibrators see one member, new patients five."""
    random = np.random.default_rng(1)

    def patients(count: int, members: int) -> tuple[np.ndarray, np.ndarray]:
        clear = random.normal(0, 2, (count, 3))
        chances = np.exp(clear) / np.exp(clear).sum(axis=1, keepdims=True)
        truth = np.array([random.choice(3, p=row) for row in chances])
        noisy = clear + random.normal(0, 1.5, (members, count, 3))
        return np.exp(noisy) / np.exp(noisy).sum(axis=2, keepdims=True), truth

    said, truth = patients(4000, 1)
    calibration = fit(logits_of(said[0]), truth)
    said, truth = patients(4000, 5)
    agreed_on = calibration.agreed_sets(said)
    of_mean = calibration.prediction_sets(calibration.apply(logits_of(said.mean(axis=0))))
    covered = [
        np.mean([CIRRHOSIS[t] in one for t, one in zip(truth, sets, strict=True)]) for sets in (agreed_on, of_mean)
    ]
    assert 0.88 < covered[0] < covered[1]
