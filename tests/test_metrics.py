"""Metrics against scikit-learn and by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from cirrnb.evaluation.metrics import confusion_matrix, metrics_of

# 10 mild (8 right, 1 called moderate, 1 severe), 6 moderate (1, 3, 2), 4 severe (0, 1, 3)
HAND = np.array([[8, 1, 1], [1, 3, 2], [0, 1, 3]], dtype=float)
BY_HAND = {
    # observed 1*1 + 1*4 + 1*1 + 2*1 + 0*4 + 1*1 = 9; columns hold 9, 5, 6, so that by chance
    # (10*5 + 6*9 + 6*6 + 4*5 + 4*(10*6 + 4*9)) / 20 = 27.2 are expected
    "quadratic weighted kappa": 1 - 9 / 27.2,
    "accuracy": 14 / 20,
    "balanced accuracy": (0.8 + 0.5 + 0.75) / 3,
    "macro F1": (16 / 19 + 6 / 11 + 6 / 10) / 3,
    "mean absolute stage error": (1 + 2 + 1 + 2 + 1) / 20,
    "sensitivity mild": 0.8,
    "sensitivity moderate": 0.5,
    "sensitivity severe": 0.75,
    "specificity mild": 9 / 10,
    "specificity moderate": 12 / 14,
    "specificity severe": 13 / 16,
}


def test_every_metric_by_hand():
    assert {metric.name: metric.value(HAND) for metric in metrics_of()} == pytest.approx(BY_HAND)


def test_the_headline_comes_first_and_every_metric_says_which_way_is_up():
    assert metrics_of()[0].name == "quadratic weighted kappa"
    assert [metric.name for metric in metrics_of() if not metric.higher_is_better] == ["mean absolute stage error"]
    worse = np.array([[5, 3, 2], [3, 1, 2], [3, 1, 0]], dtype=float)
    for metric in metrics_of():
        better = metric.value(HAND) > metric.value(worse)
        assert better == metric.higher_is_better, metric.name


def test_proportions_say_what_they_count():
    counted = {metric.name: metric.counts(HAND) for metric in metrics_of() if metric.counts}
    assert counted == {
        "accuracy": (14, 20),
        "sensitivity mild": (8, 10),
        "sensitivity moderate": (3, 6),
        "sensitivity severe": (3, 4),
        "specificity mild": (9, 10),
        "specificity moderate": (12, 14),
        "specificity severe": (13, 16),
    }


stages = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60)


@given(pairs=stages)
def test_metrics_are_scikit_learns(pairs):
    truth, predicted = np.array(pairs).T
    confusion = confusion_matrix(truth, predicted)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(truth, predicted, labels=[0, 1, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "quadratic weighted kappa": reference.cohen_kappa_score(
                truth, predicted, labels=[0, 1, 2], weights="quadratic"
            ),
            "accuracy": reference.accuracy_score(truth, predicted),
            "balanced accuracy": reference.balanced_accuracy_score(truth, predicted),
            "macro F1": reference.f1_score(truth, predicted, average="macro"),
            "mean absolute stage error": reference.mean_absolute_error(truth, predicted),
        }
        for stage, name in enumerate(("mild", "moderate", "severe")):
            is_stage, said = truth == stage, predicted == stage
            expected[f"sensitivity {name}"] = reference.recall_score(is_stage, said, zero_division=np.nan)
            expected[f"specificity {name}"] = reference.recall_score(~is_stage, ~said, zero_division=np.nan)
    assert {metric.name: metric.value(confusion) for metric in metrics_of()} == pytest.approx(expected, nan_ok=True)


def test_kappa_of_one_stage_throughout_is_undefined():
    only = confusion_matrix([1, 1, 1], [1, 1, 1])
    assert math.isnan(metrics_of()[0].value(only))
    assert math.isnan(next(metric for metric in metrics_of() if metric.name == "sensitivity mild").value(only))
