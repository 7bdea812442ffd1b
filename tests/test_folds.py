"""Ensembles and cross-validation: means by hand, and no patient on both sides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.calibration import Calibration
from cirrnb.model.cross_validation import calibrated_mean, mean_of, out_of_fold

FIRST = pd.DataFrame(
    [
        ("a/1", "test", "mild", "mild", 0.6, 0.3, 0.1, False),
        ("a/2", "test", None, "severe", 0.0, 0.4, 0.6, False),
        ("a/3", "train", "severe", None, np.nan, np.nan, np.nan, False),
        ("a/4", "train", "mild", None, np.nan, np.nan, np.nan, False),
    ],
    columns=["subject", "split", "stage", "predicted", *CIRRHOSIS, "simulated"],
).assign(set="mild")
SECOND = FIRST.iloc[[2, 0, 3, 1]].reset_index(drop=True).copy()
SECOND[list(CIRRHOSIS)] = [[0.1, 0.2, 0.7], [0.1, 0.8, 0.1], [np.nan] * 3, [0.0, 0.8, 0.2]]


def test_the_mean_of_two_by_hand():
    mean = mean_of([FIRST, SECOND.assign(simulated=True)])
    assert list(mean["subject"]) == ["a/1", "a/2", "a/3", "a/4"]
    expected = [[0.35, 0.55, 0.1], [0, 0.6, 0.4], [0.1, 0.2, 0.7], [np.nan] * 3]
    np.testing.assert_allclose(mean[list(CIRRHOSIS)].to_numpy(float), expected)
    assert list(mean["predicted"][:3]) == ["moderate", "moderate", "severe"] and mean["predicted"].isna()[3]
    assert mean["simulated"].all() and "set" not in mean
    assert FIRST.loc[0, "mild"] == 0.6  # what was handed in stays


def test_the_mean_of_one_is_itself():
    pd.testing.assert_frame_equal(mean_of([FIRST])[list(CIRRHOSIS)], FIRST[list(CIRRHOSIS)])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([], "none"),
        ([FIRST, SECOND.iloc[1:]], r"table 2: found 1 patients .*a/3"),
        ([FIRST, SECOND.assign(stage="mild")], r"table 2: found another stage .*a/2, a/3"),
        ([FIRST, pd.concat([SECOND, SECOND[:1]])], r"table 2: found 1 patients more than once \(a/3\)"),
    ],
)
def test_means_of_what_does_not_belong_together_are_refused(tables, message):
    with pytest.raises(InputError, match=message):
        mean_of(tables)


def test_each_fold_gives_its_test_patients():
    splits = [["test", "train", "train", "train"], ["train", "test", "test", "train"], ["valid"] * 3 + ["test"]]
    result = out_of_fold([FIRST.assign(split=split) for split in splits])
    assert list(result["subject"]) == ["a/1", "a/2", "a/3", "a/4"] and list(result["fold"]) == [1, 2, 2, 3]


def test_folds_that_overlap_or_are_empty_are_refused():
    with pytest.raises(InputError, match=r"2 patients more than once \(a/1, a/2\)"):
        out_of_fold([FIRST, FIRST])
    with pytest.raises(InputError, match="nobody of split valid in fold 1, 2"):
        out_of_fold([FIRST, FIRST], split="valid")
    with pytest.raises(InputError, match="none"):
        out_of_fold([])


def test_the_calibrated_mean_has_the_sets_on_which_most_agree():
    calibration = Calibration(1.0, 0.6, 0.9, 100, "by hand")
    told = calibrated_mean([FIRST, SECOND, SECOND], calibration)
    # a/1: {mild, moderate} of the first, {moderate} of the others.
    assert told.loc[0, "set"] == "moderate" and told.loc[0, "predicted"] == "moderate"
    assert told.loc[1, "set"] == "moderate"
    # Nobody but the others staged a/3, and nobody at all a/4.
    assert told.loc[2, "set"] == "severe" and pd.isna(told.loc[3, "set"])
    np.testing.assert_allclose(told.loc[0, list(CIRRHOSIS)].astype(float), [0.8 / 3, 1.9 / 3, 0.3 / 3])
