"""Two stagers on the same patients: differences, McNemar and Holm against hand, scipy and published values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from prediction_tables import drawn, table
from sklearn import metrics as reference

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.evaluation.bootstrap import bootstrap
from cirrnb.evaluation.comparison import COMPARED, compare, compare_all, holm, mcnemar


def noisy(predictions: pd.DataFrame, share: float, seed: int = 0) -> pd.DataFrame:
    """A stager that guesses for some patients, its table in another order."""
    generator = np.random.default_rng(seed)
    guessed = generator.random(len(predictions)) < share
    guess = generator.choice(CIRRHOSIS, len(predictions))
    return predictions.assign(predicted=np.where(guessed, guess, predictions["predicted"])).sample(
        frac=1, random_state=1
    )


GOOD = table(*drawn(120, seed=3))
POOR = noisy(GOOD, 0.5)


def test_values_differences_and_paired_intervals():
    rows = compare(GOOD, POOR, resamples=400, seed=6).set_index("metric")
    assert list(rows.index) == list(COMPARED) and (rows["n"] == 120).all()
    truth, good = GOOD["stage"].to_numpy(), GOOD["predicted"].to_numpy()
    poor = POOR.set_index("subject").loc[GOOD["subject"], "predicted"].to_numpy()
    for name, score in (
        ("accuracy", reference.accuracy_score),
        ("balanced accuracy", reference.balanced_accuracy_score),
    ):
        row = rows.loc[name]
        assert (row["a"], row["b"]) == pytest.approx((score(truth, good), score(truth, poor)))
        assert row["difference"] == pytest.approx(row["a"] - row["b"])
        expected = bootstrap(
            lambda one, score=score: score(truth[one], good[one]) - score(truth[one], poor[one]),
            truth,
            resamples=400,
            seed=6,
        )
        assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    only_good, only_poor = ((good == truth) & (poor != truth)).sum(), ((good != truth) & (poor == truth)).sum()
    assert tuple(rows.loc["accuracy", ["only_a", "only_b"]]) == (only_good, only_poor)
    assert rows.loc["accuracy", "p"] == pytest.approx(mcnemar(only_good, only_poor))
    assert list(rows["test"]) == ["randomisation", "McNemar, exact", "randomisation"]


def test_the_other_way_round_only_the_sign_changes():
    one, other = compare(GOOD, POOR, resamples=200), compare(POOR, GOOD, resamples=200)
    np.testing.assert_allclose(one["difference"], -other["difference"])
    np.testing.assert_allclose(one["p"], other["p"])


def test_mcnemar_by_hand_and_by_scipy():
    # 1 of 6 and less, or 5 of 6 and more: 2 * (1 + 6) / 64
    assert mcnemar(1, 5) == pytest.approx(14 / 64)
    assert mcnemar(0, 0) == 1 and mcnemar(3, 3) == 1
    assert mcnemar(4, 13) == pytest.approx(scipy.stats.binomtest(4, 17).pvalue)


def test_the_randomisation_test_is_scipys():
    truth, good = GOOD["stage"].to_numpy(), GOOD["predicted"].to_numpy()
    slight = noisy(GOOD, 0.12, seed=5).set_index("subject").loc[GOOD["subject"], "predicted"].to_numpy()
    codes = [pd.Series(one).map(CIRRHOSIS.index).to_numpy() for one in (truth, good, slight)]

    def difference(one, other):
        return reference.balanced_accuracy_score(codes[0], one) - reference.balanced_accuracy_score(codes[0], other)

    expected = scipy.stats.permutation_test(
        (codes[1], codes[2]), difference, permutation_type="samples", n_resamples=1500, vectorized=False, rng=0
    ).pvalue
    found = (
        compare(GOOD, GOOD.assign(predicted=slight), resamples=4000).set_index("metric").loc["balanced accuracy", "p"]
    )
    assert 0.001 < expected < 0.9
    assert found == pytest.approx(expected, abs=0.04)


def test_no_difference_is_none():
    rows = compare(GOOD, GOOD, resamples=100)
    assert (rows["difference"] == 0).all() and (rows["p"] == 1).all() and rows["low"].isna().all()


def test_of_equal_stagers_few_differ():
    """Two stagers that guess alike often: about one in twenty comparisons finds what is not there, and not more."""
    small = 0
    covered = 0
    for seed in range(150):
        start = table(*drawn(80, seed=100 + seed))
        one, other = noisy(start, 0.4, seed=2 * seed), noisy(start, 0.4, seed=2 * seed + 1)
        rows = compare(one, other, resamples=200, seed=seed).set_index("metric")
        small += rows.loc["quadratic weighted kappa", "p"] <= 0.05
        covered += rows.loc["balanced accuracy", "low"] <= 0 <= rows.loc["balanced accuracy", "high"]
    assert small <= scipy.stats.binom.ppf(0.999, 150, 0.05)
    assert covered >= scipy.stats.binom.ppf(0.001, 150, 0.95) - 2


def test_holm_is_that_of_the_paper():
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, and never falling
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.9]), [1, np.nan, 1])
    assert holm([]).size == 0


def test_several_baselines_are_corrected_for():
    models = {"T1W": noisy(GOOD, 0.5, 1), "fused": GOOD, "T2W": noisy(GOOD, 0.2, 2), "guess": noisy(GOOD, 1, 3)}
    rows = compare_all(models, "fused", resamples=200)
    assert list(rows["baseline"].unique()) == ["T1W", "T2W", "guess"] and len(rows) == 9
    accuracy = rows[rows["metric"] == "accuracy"]
    np.testing.assert_allclose(accuracy["p_holm"], holm(accuracy["p"]))
    single = compare(GOOD, models["T2W"], resamples=200)
    np.testing.assert_allclose(rows[rows["baseline"] == "T2W"]["low"], single["low"])
    assert (accuracy["a"] == accuracy["a"].iloc[0]).all()
    for wrong, reference_name in ((models, "T3W"), ({"fused": GOOD}, "fused"), ({}, "fused")):
        with pytest.raises(InputError, match="at least one other"):
            compare_all(wrong, reference_name)


def test_patients_whom_one_could_not_stage_are_left_out_and_counted():
    unstaged = POOR.copy()
    unstaged.loc[unstaged["subject"].isin(["cirrhotic/3", "cirrhotic/4"]), "predicted"] = None
    rows = compare(GOOD, unstaged, resamples=50)
    assert (rows["n"] == 118).all() and (rows["left_out"] == 2).all()


def test_other_patients_or_another_truth_are_refused():
    with pytest.raises(InputError, match=r"fused and T1W: found 1 patients who are in one table only \(cirrhotic/7\)"):
        compare(GOOD, POOR[POOR["subject"] != "cirrhotic/7"], names=("fused", "T1W"))
    turned = GOOD.copy()
    turned.loc[5, "stage"] = CIRRHOSIS[(CIRRHOSIS.index(turned.loc[5, "stage"]) + 1) % 3]
    with pytest.raises(InputError, match=r"two different stages for 1 patients \(cirrhotic/5\)"):
        compare(turned, POOR)
    with pytest.raises(InputError, match="0 patients"):
        compare(GOOD, POOR.assign(split="test"), split="valid")
    with pytest.raises(InputError, match=r"b: found no column predicted"):
        compare(GOOD, POOR.drop(columns="predicted"))
