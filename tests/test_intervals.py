"""Intervals against published values, scipy and cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cirrnb.evaluation.bootstrap import bootstrap, wilson


def test_wilson_by_hand():
    # 8 of 10 at 95 %: z = 1.959964, z^2 / n = 0.384146; centre (0.8 + 0.192073) / 1.384146 = 0.716740,
    # half sqrt(0.16 * 0.384146 + 0.384146^2 / 4) / 1.384146 = 0.226578.
    interval = wilson(8, 10)
    assert (interval.low, interval.high) == pytest.approx((0.490162, 0.943318), abs=2e-6)
    assert interval.method == "Wilson"


@given(trials=st.integers(1, 500), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(trials, share, confidence):
    successes = round(share * trials)
    expected = scipy.stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    interval = wilson(successes, trials, confidence)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= interval.low <= successes / trials <= interval.high <= 1


def test_wilson_at_the_ends_and_of_nobody():
    assert wilson(0, 7).low == 0 and wilson(7, 7).high == 1
    # all of n right: the lower limit is n / (n + z^2)
    assert wilson(7, 7).low == pytest.approx(7 / (7 + 1.959964**2), abs=1e-6)
    nobody = wilson(0, 0)
    assert math.isnan(nobody.low) and "nobody" in nobody.method


@pytest.mark.parametrize("name", ["mean", "std", "skewed"])
def test_bca_of_one_group_is_scipys(name):
    sample = np.random.default_rng(3).exponential(size=40)
    function = {"mean": np.mean, "std": np.std, "skewed": lambda part, axis=-1: np.exp(np.mean(part, axis=axis))}[name]
    expected = scipy.stats.bootstrap(
        (sample,), function, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1), vectorized=True
    ).confidence_interval
    interval = bootstrap(lambda chosen: float(function(sample[chosen])), np.zeros(40), resamples=20_000, seed=2)
    width = expected.high - expected.low
    assert interval.method == "BCa bootstrap"
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.05 * width)
    # The correction has to be there: a percentile interval would miss this tolerance for the skewed ones.
    if name != "mean":
        plain = scipy.stats.bootstrap(
            (sample,), function, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        assert abs(plain.high - interval.high) > 0.06 * width


def test_bca_of_two_groups_is_scipys():
    generator = np.random.default_rng(8)
    first, second = generator.exponential(size=15), generator.exponential(3.0, size=30)
    expected = scipy.stats.bootstrap(
        (first, second),
        lambda one, two, axis=-1: np.mean(two, axis=axis) / np.mean(one, axis=axis),
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(1),
        vectorized=True,
    ).confidence_interval
    values, strata = np.concatenate([second, first]), np.array(["b"] * 30 + ["a"] * 15)

    def ratio(chosen):
        return values[chosen][strata[chosen] == "b"].mean() / values[chosen][strata[chosen] == "a"].mean()

    interval = bootstrap(ratio, strata, resamples=20_000, seed=2)
    width = expected.high - expected.low
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.03 * width)


def test_groups_keep_their_size():
    strata = np.array([0] * 3 + [1] * 5 + [2])
    seen = []
    bootstrap(lambda chosen: seen.append(np.bincount(strata[chosen]).tolist()) or chosen.mean(), strata, resamples=50)
    assert all(sizes == [3, 5, 1] for sizes in seen[:51])


def test_the_seed_decides():
    values = np.random.default_rng(0).normal(size=20)
    calls = [
        bootstrap(lambda chosen: values[chosen].mean(), np.zeros(20), resamples=200, seed=seed) for seed in (4, 4, 5)
    ]
    assert calls[0] == calls[1] != calls[2]


def test_where_resamples_say_nothing_there_are_no_limits():
    alike = bootstrap(lambda chosen: 1.0, np.zeros(9), resamples=50)
    assert math.isnan(alike.low) and math.isnan(alike.high) and "alike" in alike.method
    undefined = bootstrap(lambda chosen: math.nan if 0 not in chosen else 1.0, np.zeros(5), resamples=50)
    assert math.isnan(undefined.low) and "undefined" in undefined.method


def test_a_value_beyond_all_resamples_falls_back_to_percentiles():
    # The number of different patients is 30 for the sample itself and never for a resample.
    interval = bootstrap(lambda chosen: len(set(chosen.tolist())), np.zeros(30), resamples=500)
    assert interval.method == "percentile bootstrap" and interval.high < 30


def test_about_95_in_100_intervals_hold_the_truth():
    generator = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        values = generator.exponential(size=40)
        interval = bootstrap(
            lambda chosen, values=values: values[chosen].mean(), np.zeros(40), resamples=300, seed=trial
        )
        held += interval.low <= 1.0 <= interval.high
    assert 176 <= held <= 198


@pytest.mark.parametrize("wrong", [{"confidence": 1.0}, {"resamples": 0}])
def test_arguments_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="confidence"):
        bootstrap(lambda chosen: 0.0, np.zeros(3), **wrong)
