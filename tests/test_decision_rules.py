"""Two rules that make one stage of probabilities."""

import numpy as np
import pandas as pd
import pytest

from cirrnb.data.errors import InputError
from cirrnb.evaluation.decision_rules import LEAST_COST, MOST_PROBABLE, decision_rules, least_cost


def table(chances, stages):
    frame = pd.DataFrame(chances, columns=["mild", "moderate", "severe"])
    predicted = [frame.columns[number] for number in np.argmax(chances, axis=1)]
    return frame.assign(subject=[f"a/{number}" for number in frame.index], stage=stages, predicted=predicted)


TORN = [0.45, 0.15, 0.40]
SURE = [0.9, 0.08, 0.02]


def test_a_patient_torn_between_the_ends_is_called_moderate_at_least_cost():
    assert least_cost(np.array([TORN, SURE])).tolist() == [1, 0]


def test_worked_by_hand():
    told = table([TORN, TORN, SURE, SURE], ["moderate", "mild", "mild", None])
    found = decision_rules(told, split=None).set_index(["rule", "measure"])["value"]
    assert found[MOST_PROBABLE, "accuracy"] == pytest.approx(2 / 3)
    assert found[LEAST_COST, "accuracy"] == pytest.approx(2 / 3)
    assert found[MOST_PROBABLE, "sensitivity moderate"] == 0 and found[LEAST_COST, "sensitivity moderate"] == 1
    assert found[MOST_PROBABLE, "sensitivity mild"] == 1 and found[LEAST_COST, "sensitivity mild"] == 0.5
    assert np.isnan(found[MOST_PROBABLE, "sensitivity severe"])
    assert found[LEAST_COST, "mean absolute stage error"] == pytest.approx(1 / 3)


def test_proportions_have_intervals_and_counts():
    told = table([TORN] * 10 + [SURE] * 10, ["moderate"] * 10 + ["mild"] * 10)
    rows = decision_rules(told, split=None).set_index(["rule", "measure"])
    row = rows.loc[(LEAST_COST, "accuracy")]
    assert row.low < row.value <= row.high and row.n == 20
    assert rows.loc[(LEAST_COST, "sensitivity mild")].n == 10
    assert rows.loc[(LEAST_COST, "quadratic weighted kappa")].value == 1


def test_without_probabilities_there_is_nothing_to_decide():
    told = table([TORN, SURE], ["mild", "mild"]).drop(columns=["severe"])
    with pytest.raises(InputError, match="severe"):
        decision_rules(told, split=None)
