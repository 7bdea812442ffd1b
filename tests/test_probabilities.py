"""Metrics of probabilities against scikit-learn and by hand; reliability; coverage of sets."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prediction_tables import drawn, table
from scipy.special import softmax
from sklearn import metrics as reference

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.evaluation.bootstrap import bootstrap, wilson
from cirrnb.evaluation.coverage import set_coverage
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.evaluation.metrics import area_under_curve, probability_metrics_of
from cirrnb.evaluation.reliability import bin_of, error_by_chance_alone, reliability_table

BY_NAME = {metric.name: metric for metric in probability_metrics_of()}
HAND = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.2, 0.6], [0.6, 0.1, 0.3]])
TRUTH = np.array([0, 0, 2, 1])


def test_every_metric_by_hand():
    found = {name: metric.value(HAND, TRUTH) for name, metric in BY_NAME.items()}
    assert found == pytest.approx(
        {
            "AUC mild": (2 + 1) / 4,  # 0.7 beats both others, 0.3 one of them
            "AUC moderate": 0 / 3,
            "AUC severe": 3 / 3,
            "Brier score": ((0.09 + 0.04 + 0.01) + (0.49 + 0.36 + 0.01) + (0.04 + 0.04 + 0.16) + (0.36 + 0.81 + 0.09))
            / 4,
            # cumulative: 0.7 0.9, 0.3 0.9, 0.2 0.4, 0.6 0.7 against 1 1, 1 1, 0 0, 0 1
            "ranked probability score": ((0.09 + 0.01) + (0.49 + 0.01) + (0.04 + 0.16) + (0.36 + 0.09)) / 2 / 4,
            # 0.7 alone and right; three at 0.6 of whom one is right
            "expected calibration error": (abs(1 - 0.7) + abs(1 - 3 * 0.6)) / 4,
        }
    )


def test_bins_are_closed_above():
    assert bin_of(np.array([0.0, 0.05, 0.1, 0.1001, 0.3, 0.6, 0.7, 0.95, 1.0])).tolist() == [0, 0, 0, 1, 2, 5, 6, 9, 9]


probabilities = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(lambda p: np.array(p) / sum(p))


@given(rows=st.lists(st.tuples(probabilities, st.integers(0, 2), st.integers(0, 3)), min_size=4, max_size=40))
def test_areas_and_brier_are_scikit_learns_whatever_the_weights(rows):
    given, truth, weights = (np.array([row[part] for row in rows]) for part in range(3))
    if weights.sum() == 0:
        return
    for stage in range(3):
        found = area_under_curve(stage, given, truth)(weights[None].astype(float))[0]
        here = weights > 0
        if len(np.unique(truth[here] == stage)) < 2:
            assert np.isnan(found)
        else:
            expected = reference.roc_auc_score(truth[here] == stage, given[here, stage], sample_weight=weights[here])
            assert found == pytest.approx(expected)
    expected = reference.brier_score_loss(truth, given, labels=[0, 1, 2], sample_weight=weights, scale_by_half=False)
    assert BY_NAME["Brier score"].prepare(given, truth)(weights[None].astype(float))[0] == pytest.approx(expected)


@pytest.mark.parametrize("name", BY_NAME)
def test_weights_count_patients_as_often_as_drawn(name):
    logits, truth = drawn(40)
    given = softmax(logits, axis=1)
    chosen = np.random.default_rng(0).integers(0, 40, 40)
    weights = np.bincount(chosen, minlength=40)[None].astype(float)
    found = BY_NAME[name].prepare(given, truth)(weights)[0]
    assert found == pytest.approx(BY_NAME[name].value(given[chosen], truth[chosen]))


@pytest.mark.parametrize("name", BY_NAME)
def test_metrics_say_which_way_is_up(name):
    logits, truth = drawn(400, seed=1)
    good, bad = (BY_NAME[name].value(softmax(one, axis=1), truth) for one in (logits, logits[::-1]))
    assert (good > bad) == BY_NAME[name].higher_is_better


def test_evaluate_takes_probabilities_in():
    predictions = pd.concat([table(*drawn(60)), table(*drawn(90, seed=1), "train", 500)], ignore_index=True)
    evaluation = evaluate(predictions, resamples=300, seed=4, ceiling=0.85)
    rows = evaluation.table.set_index("metric")
    assert list(rows.index[-6:]) == list(BY_NAME)
    logits, truth = drawn(60)
    given = softmax(logits, axis=1)
    auc = rows.loc["AUC severe"]
    assert auc["value"] == pytest.approx(reference.roc_auc_score(truth == 2, given[:, 2]))
    expected = bootstrap(
        lambda chosen: reference.roc_auc_score(truth[chosen] == 2, given[chosen, 2]), truth, resamples=300, seed=4
    )
    assert (auc["low"], auc["high"]) == pytest.approx((expected.low, expected.high))
    assert (auc["method"], auc["chance"], auc["majority"]) == ("BCa bootstrap", 0.5, 0.5)
    # Equal probabilities: 2 * (1/3)^2 + (2/3)^2; the training shares: 1 - 2 share of the truth + sum of squares.
    shares = np.bincount(drawn(90, seed=1)[1], minlength=3) / 90
    assert rows.loc["Brier score", "chance"] == pytest.approx(2 / 3)
    assert rows.loc["Brier score", "majority"] == pytest.approx((1 - 2 * shares[truth] + (shares**2).sum()).mean())
    error = rows.loc["expected calibration error"]
    assert error["chance"] == 0
    assert error["majority"] == pytest.approx(abs(shares.max() - (truth == shares.argmax()).mean()))
    assert rows.loc["accuracy", "ceiling"] == 0.85 and rows["ceiling"].drop("accuracy").isna().all()
    assert any("perfectly calibrated" in note for note in evaluation.notes)
    assert evaluation.coverage is None and evaluation.reliability["n"].sum() == 60


def test_without_probabilities_none_are_judged():
    evaluation = evaluate(table(*drawn(30)).drop(columns="mild"), resamples=50)
    assert "Brier score" not in set(evaluation.table["metric"]) and evaluation.reliability is None
    assert evaluation.table["ceiling"].isna().all()


@pytest.mark.parametrize("broken", [[0.5, 0.2, 0.1], [1.2, -0.1, -0.1], [np.nan, 0.5, 0.5]])
def test_probabilities_that_are_none_are_refused(broken):
    predictions = table(*drawn(20))
    predictions.loc[7, list(CIRRHOSIS)] = broken
    with pytest.raises(InputError, match=r"1 patients without stage probabilities \(cirrhotic/7\)"):
        evaluate(predictions, resamples=50)


def test_a_ceiling_is_a_share():
    with pytest.raises(ValueError, match="ceiling"):
        evaluate(table(*drawn(20)), ceiling=85, resamples=50)


def test_everything_is_saved(tmp_path):
    predictions = table(*drawn(60)).assign(set="mild|moderate|severe")
    saved = json.loads(evaluate(predictions, resamples=50, ceiling=0.9).save(tmp_path).read_text())
    by_name = {row["metric"]: row for row in saved["metrics"]}
    assert by_name["accuracy"]["ceiling"] == 0.9 and by_name["Brier score"]["ceiling"] is None
    assert len(saved["reliability"]) == 10 and saved["reliability"][0]["confidence"] is None
    assert [row["stage"] for row in saved["coverage"]] == ["all", *CIRRHOSIS]


def test_reliability_by_hand():
    names = np.array(CIRRHOSIS, dtype=object)
    predictions = pd.DataFrame(HAND, columns=list(CIRRHOSIS)).assign(
        subject=list("abcd"), split="test", stage=names[TRUTH], predicted=names[HAND.argmax(axis=1)]
    )
    rows = reliability_table(predictions)
    assert rows["n"].tolist() == [0, 0, 0, 0, 0, 3, 1, 0, 0, 0]
    row, expected = rows.loc[5], wilson(1, 3)
    assert tuple(row[["from", "to", "confidence", "accuracy"]]) == pytest.approx((0.5, 0.6, 0.6, 1 / 3))
    assert (row["low"], row["high"]) == (expected.low, expected.high)
    assert rows.loc[6, "accuracy"] == 1 and np.isnan(rows.loc[0, "accuracy"])


def test_a_calibrated_stager_is_as_far_off_as_chance_alone_says():
    errors, expected = [], []
    for seed in range(60):
        logits, truth = drawn(200, seed)
        given = softmax(logits, axis=1)
        errors.append(BY_NAME["expected calibration error"].value(given, truth))
        expected.append(error_by_chance_alone(given, draws=200))
    assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.1)
    assert 0.02 < np.mean(expected) < 0.08


def test_coverage_by_hand():
    predictions = pd.DataFrame(
        [
            ("a", "mild", "mild"),
            ("b", "mild", "moderate|severe"),
            ("c", "mild", "mild|moderate"),
            ("d", "severe", "mild|moderate|severe"),
        ],
        columns=["subject", "stage", "set"],
    ).assign(split="test", predicted="mild")
    rows = set_coverage(predictions).set_index("stage")
    assert list(rows.index) == ["all", *CIRRHOSIS]
    expected = wilson(2, 3)
    assert tuple(rows.loc["mild"]) == pytest.approx((3, 2, 2 / 3, expected.low, expected.high, 5 / 3, 1 / 3, 2 / 3, 0))
    assert tuple(rows.loc["all", ["n", "covered", "coverage", "mean_size"]]) == (4, 3, 0.75, 2)
    assert rows.loc["moderate", "n"] == 0 and np.isnan(rows.loc["moderate", "coverage"])
    for wrong in ("mild|severe", "severe|moderate", "", None, "F2"):
        with pytest.raises(InputError, match="neighbouring"):
            set_coverage(predictions.assign(set=wrong))
    with pytest.raises(InputError, match="no column set"):
        set_coverage(predictions.drop(columns="set"))
