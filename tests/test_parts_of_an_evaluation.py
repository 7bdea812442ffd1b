"""By slice, by group and by seed: each against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from prediction_tables import drawn, table

from cirrnb.data.errors import InputError
from cirrnb.evaluation.bootstrap import bootstrap, wilson
from cirrnb.evaluation.comparison import spread
from cirrnb.evaluation.evaluation import by_group, evaluate
from cirrnb.evaluation.reference_paper import SLICE_ACCURACY, slice_accuracy
from cirrnb.model.run_folder import SLICES, read_slice_predictions


def slices() -> pd.DataFrame:
    """24 test patients with 1 to 12 slices, who are wholly right or wholly wrong; severe ones train."""
    rows = [
        (f"a/{i}", "test", ("mild", "severe")[i % 2], ("mild", "moderate")[i % 2 if i % 3 else 0])
        for i in range(24)
        for _ in range(1 + i % 12)
    ]
    return pd.DataFrame(
        [*rows, ("a/99", "train", "severe", "severe")], columns=["subject", "split", "stage", "predicted"]
    )


def test_slice_accuracy_counts_slices_and_draws_patients():
    told = slices()
    [row] = slice_accuracy(told, resamples=400, seed=2).to_dict(orient="records")
    test = told[told["split"] == "test"]
    right = (test["stage"] == test["predicted"]).to_numpy()
    assert row["metric"] == SLICE_ACCURACY == "slice accuracy, as the reference paper counts"
    assert (row["n"], row["patients"]) == (len(test), 24) and row["value"] == pytest.approx(right.mean())
    assert row["majority"] == pytest.approx((test["stage"] == "severe").mean()) and row["chance"] == pytest.approx(
        1 / 3
    )
    patients = [right[test["subject"] == f"a/{i}"] for i in range(24)]
    expected = bootstrap(
        # in the order of their names, as the slices are grouped
        lambda chosen: np.concatenate([patients[int(sorted(map(str, range(24)))[i])] for i in chosen]).mean(),
        [("mild", "severe")[int(name) % 2] for name in sorted(map(str, range(24)))],
        resamples=400,
        seed=2,
    )
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["method"] == "BCa bootstrap over patients"
    # Slices are right together, so that counting them as if each were a patient would be far too sure.
    as_if = wilson(right.sum(), len(right))
    assert row["high"] - row["low"] > 1.5 * (as_if.high - as_if.low)


def test_majority_of_slices_without_training_slices():
    alone = slices().drop(columns="split").iloc[:-1]
    assert slice_accuracy(alone, split=None, resamples=50).loc[0, "majority"] == pytest.approx(
        max((alone["stage"] == stage).mean() for stage in ("mild", "severe"))
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda told: told.drop(columns="predicted"), "no column predicted"),
        (lambda told: told.assign(stage="F3"), "stage .'F3'."),
        (lambda told: told.assign(subject="a/1"), "more than one stage for a/1"),
        (lambda told: told[told["subject"] == "a/2"], "1 patients"),
        (lambda told: told[:0], "0 patients"),
    ],
)
def test_slices_that_cannot_be_counted_are_refused(spoil, message):
    with pytest.raises(InputError, match=message):
        slice_accuracy(spoil(slices()), resamples=50)


def test_slices_are_read_where_a_run_has_them(tmp_path):
    assert read_slice_predictions(tmp_path) is None
    slices().assign(subject="own/007").to_csv(tmp_path / SLICES, index=False)
    assert read_slice_predictions(tmp_path)["subject"].unique() == ["own/007"]


def test_groups_are_evaluated_on_their_own():
    predictions = pd.concat([table(*drawn(60)), table(*drawn(90, seed=1), "train", 500)], ignore_index=True)
    predictions.loc[:39, "sequences"] = "T1W+T2W"
    predictions.loc[40:58, "sequences"] = "T1W"
    predictions.loc[59, "sequences"] = None
    rows = by_group(predictions, "sequences", resamples=100)
    assert list(rows["group"].unique()) == ["T1W+T2W", "T1W"] and rows.attrs["left_out"] == ["unknown"]
    alone = evaluate(
        predictions[(predictions["sequences"] == "T1W") | (predictions["split"] == "train")], resamples=100
    )
    found = rows[rows["group"] == "T1W"].drop(columns="group").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, alone.table)
    everyone = by_group(predictions.assign(scanner=1.0), "scanner", split=None, resamples=50)
    assert list(everyone["group"].unique()) == ["1.0"] and everyone["n"].max() == 150


def test_groups_that_cannot_be_told_apart_are_refused():
    predictions = table(*drawn(5))
    with pytest.raises(InputError, match="no column scanner"):
        by_group(predictions, "scanner")
    alone = by_group(predictions, "subject")
    assert alone.empty and len(alone.attrs["left_out"]) == 5 and {"group", "metric", "value"} <= set(alone)


def test_the_spread_over_seeds_by_hand():
    columns = ["metric", "value", "low", "high", "chance", "majority", "higher_is_better", "n"]
    values = {"accuracy": [(0.7, 0.6, 0.8), (0.8, 0.7, 0.9), (0.75, 0.62, 0.82)], "kappa": [(0.5, 0.2, 0.6)] * 3}
    tables = [
        pd.DataFrame([(name, *told[run], 1 / 3, 0.4, True, 50) for name, told in values.items()], columns=columns)
        for run in range(3)
    ]
    rows = spread([tables[0], tables[1][::-1], tables[2]]).set_index("metric")
    assert list(rows.index) == ["accuracy", "kappa"] and (rows["seeds"] == 3).all()
    row = rows.loc["accuracy"]
    assert (row["mean"], row["seed_sd"], row["seed_low"], row["seed_high"]) == pytest.approx((0.75, 0.05, 0.7, 0.8))
    assert (row["patient_low"], row["patient_high"]) == pytest.approx((0.64, 0.84))
    assert rows.loc["kappa", "seed_sd"] == 0 and row["n"] == 50
    assert spread(tables[:1])["seed_sd"].isna().all()
    for wrong in ([tables[0], tables[1][:1]], [tables[0], tables[1].assign(n=51)]):
        with pytest.raises(InputError, match="table 2"):
            spread(wrong)
    with pytest.raises(InputError, match="none"):
        spread([])
