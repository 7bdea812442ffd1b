"""From predictions to a judgement with intervals, chance and majority."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.evaluation.bootstrap import bootstrap, wilson
from cirrnb.evaluation.evaluation import evaluate
from cirrnb.evaluation.metrics import confusion_matrix, metrics_of, quadratic_weighted_kappa

CONFUSION = np.array([[8, 1, 1], [1, 3, 2], [0, 1, 3]])


def predictions(confusion=CONFUSION, split="test", start=0) -> pd.DataFrame:
    pairs = [(t, p) for t in range(3) for p in range(3) for _ in range(confusion[t][p])]
    table = pd.DataFrame(pairs, columns=["stage", "predicted"]).apply(
        lambda column: column.map(dict(enumerate(CIRRHOSIS)))
    )
    return table.assign(split=split, simulated=False, subject=[f"cirrhotic/{start + i}" for i in range(len(pairs))])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    training = predictions(np.diag([2, 5, 3]), "train", start=100)
    return pd.concat([predictions(), training], ignore_index=True)


def test_values_intervals_chance_and_majority(table):
    evaluation = evaluate(table, resamples=300)
    rows = evaluation.table.set_index("metric")
    assert evaluation.n == 20 and not evaluation.simulated and evaluation.split == "test"
    np.testing.assert_array_equal(evaluation.confusion.to_numpy(), CONFUSION)
    assert list(evaluation.confusion.index) == list(evaluation.confusion.columns) == list(CIRRHOSIS)
    accuracy = rows.loc["accuracy"]
    expected = wilson(14, 20)
    assert tuple(accuracy[["value", "low", "high", "method", "n"]]) == (0.7, expected.low, expected.high, "Wilson", 20)
    assert rows.loc["sensitivity severe", "n"] == 4 and rows.loc["specificity mild", "n"] == 10
    # guessing each stage alike often, for 10 mild, 6 moderate and 4 severe
    chance = {"accuracy": 1 / 3, "balanced accuracy": 1 / 3, "quadratic weighted kappa": 0, "specificity mild": 2 / 3}
    chance["mean absolute stage error"] = (10 * 1 + 6 * 2 / 3 + 4 * 1) / 20
    assert rows.loc[list(chance), "chance"].to_dict() == pytest.approx(chance)
    # moderate, the training patients' commonest stage, for everybody
    majority = {"accuracy": 6 / 20, "balanced accuracy": 1 / 3, "quadratic weighted kappa": 0}
    majority |= {"mean absolute stage error": 14 / 20, "sensitivity moderate": 1, "specificity moderate": 0}
    assert rows.loc[list(majority), "majority"].to_dict() == pytest.approx(majority)
    assert any("moderate" in note and "training" in note for note in evaluation.notes)
    assert ((rows["low"] <= rows["value"]) & (rows["value"] <= rows["high"])).all()


def test_kappa_gets_the_bootstrap_over_patients_within_stages(table):
    row = evaluate(table, resamples=300, seed=3, confidence=0.9).table.iloc[0]
    truth = np.repeat([0, 1, 2], [10, 6, 4])
    predicted = np.concatenate([np.repeat([0, 1, 2], counts) for counts in CONFUSION])
    expected = bootstrap(
        lambda chosen: quadratic_weighted_kappa(confusion_matrix(truth[chosen], predicted[chosen])),
        truth,
        confidence=0.9,
        resamples=300,
        seed=3,
    )
    assert (row["low"], row["high"], row["method"]) == (expected.low, expected.high, expected.method)


def test_chance_is_what_guessing_scores_on_average(table):
    """The expected confusion matrix stands for the mean over guesses: exact for what is linear in it."""
    generator = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [10, 6, 4])
    guesses = [confusion_matrix(truth, generator.integers(0, 3, 20)) for _ in range(4000)]
    rows = evaluate(table, resamples=50).table.set_index("metric")
    for metric in metrics_of():
        assert rows.loc[metric.name, "chance"] == pytest.approx(np.mean([metric.value(g) for g in guesses]), abs=0.02)


def test_all_right_has_no_bootstrap_limits_but_wilsons(tmp_path):
    evaluation = evaluate(predictions(np.diag([5, 4, 3])), resamples=50)
    rows = evaluation.table.set_index("metric")
    assert rows.loc["quadratic weighted kappa", "value"] == 1 and np.isnan(rows.loc["quadratic weighted kappa", "low"])
    assert rows.loc["accuracy", "low"] == pytest.approx(12 / (12 + 1.959964**2), abs=1e-6)
    assert "very patients counted" in evaluation.notes[-1]
    saved = json.loads(evaluation.save(tmp_path / "metrics.json").read_text())
    assert saved["metrics"][0]["low"] is None


def test_one_answer_for_everybody_is_judged_too():
    rows = evaluate(predictions(np.array([[0, 5, 0], [0, 4, 0], [0, 3, 0]])), resamples=50).table.set_index("metric")
    assert rows.loc["quadratic weighted kappa", "value"] == 0
    assert rows.loc["accuracy", "value"] == pytest.approx(1 / 3)


def test_a_stage_that_does_not_occur_has_no_sensitivity():
    rows = evaluate(predictions(np.array([[3, 1, 0], [1, 3, 0], [0, 0, 0]])), resamples=50).table.set_index("metric")
    assert np.isnan(rows.loc["sensitivity severe", "value"]) and rows.loc["sensitivity severe", "n"] == 0
    assert rows.loc["balanced accuracy", "value"] == 0.75


def test_who_is_not_counted_is_told(table):
    table = table.copy()
    table.loc[0, "predicted"] = None
    table.loc[[1, 2], "stage"] = None
    evaluation = evaluate(table, resamples=50)
    assert evaluation.n == 17
    assert evaluation.notes[:2] == (
        f"1 patients could not be staged and are not counted: {table.loc[0, 'subject']}",
        "2 patients have no known stage and are not counted",
    )


def test_saved_into_the_run_folder_and_read_back(table, tmp_path):
    evaluation = evaluate(table.assign(simulated=True), resamples=50, seed=2)
    path = evaluation.save(tmp_path)
    assert path == tmp_path / "metrics.json" and [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
    saved = json.loads(path.read_text())
    assert saved["simulated"] is True and saved["n"] == 20 and saved["split"] == "test" and saved["seed"] == 2
    assert saved["confusion"] == CONFUSION.tolist()
    by_name = {row["metric"]: row for row in saved["metrics"]}
    assert by_name["accuracy"]["value"] == 0.7 and by_name["accuracy"]["n"] == 20
    assert by_name["mean absolute stage error"]["higher_is_better"] is False


def test_a_table_read_from_csv_counts_the_same(table, tmp_path):
    table.to_csv(tmp_path / "predictions.csv", index=False)
    again = evaluate(pd.read_csv(tmp_path / "predictions.csv"), resamples=50)
    pd.testing.assert_frame_equal(again.table, evaluate(table, resamples=50).table)
    everyone = evaluate(table, split=None, resamples=50)
    assert everyone.n == 30


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.drop(columns="predicted"), "no column predicted"),
        (lambda table: table.drop(columns=["split", "stage"]), "no column stage, split"),
        (lambda table: table.assign(stage="F4"), "stage .'F4'."),
        (lambda table: pd.concat([table, table[:1]]), "more than once"),
        (lambda table: table[table["split"] == "train"], "0 patients"),
        (lambda table: table[:1], "1 patients"),
    ],
)
def test_tables_that_cannot_be_judged_are_refused(table, spoil, message):
    with pytest.raises(InputError, match=message):
        evaluate(spoil(table))
