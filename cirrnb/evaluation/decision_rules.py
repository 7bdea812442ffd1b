"""Two rules that turn probabilities into a stage, compared.

The most probable stage has the highest accuracy. The stage of least expected cost, where a mistake costs the number of
stages between answer and truth, has the smaller mean error; it chooses middle stages more often.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.bootstrap import wilson
from cirrnb.evaluation.tables import counted, probabilities_of, stage_indices

MOST_PROBABLE, LEAST_COST = "most probable stage", "least expected cost"


def least_cost(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """(patients,) stages of the least expected distance to the truth, of (patients, stages) probabilities."""
    stages = np.arange(probabilities.shape[1])
    cost = probabilities @ np.abs(stages[:, None] - stages[None, :])
    return np.asarray(cost.argmin(axis=1))


def decision_rules(
    predictions: pd.DataFrame, *, split: str | None = "test", confidence: float = 0.95, stages: StageScale = CIRRHOSIS
) -> pd.DataFrame:
    """Score both rules on patients with a stage.

    Parameters
    ----------
    predictions : as `cirrnb.predict` returns, with a probability per stage. split : split to count; None counts all.
    confidence : of Wilson's intervals.

    Returns
    -------
    One row for each rule and measure: rule, measure ("accuracy", "sensitivity STAGE", "quadratic weighted kappa", "mean
    absolute stage error"), value, low, high (NaN where a measure is no proportion), n.

    Raises
    ------
    InputError
        If fewer than two patients can be counted, or probabilities are missing.
    """
    rows, _ = counted(predictions, split, stages=stages)
    truth, chances = stage_indices(rows["stage"], stages), probabilities_of(rows, stages=stages)
    scores = []
    for rule, answer in ((MOST_PROBABLE, chances.argmax(axis=1)), (LEAST_COST, least_cost(chances))):
        right = answer == truth
        groups = {"accuracy": np.ones(len(truth), bool)}
        groups |= {f"sensitivity {stage}": truth == number for number, stage in enumerate(stages)}
        for measure, who in groups.items():
            count = int(who.sum())
            interval = wilson(int(right[who].sum()), count, confidence) if count else None
            low, high = (interval.low, interval.high) if interval else (np.nan, np.nan)
            scores.append((rule, measure, float(right[who].mean()) if count else np.nan, low, high, count))
        kappa = cohen_kappa_score(truth, answer, labels=range(len(stages)), weights="quadratic")
        scores.append((rule, "quadratic weighted kappa", float(kappa), np.nan, np.nan, len(truth)))
        away = float(np.abs(answer - truth).mean())
        scores.append((rule, "mean absolute stage error", away, np.nan, np.nan, len(truth)))
    return pd.DataFrame(scores, columns=["rule", "measure", "value", "low", "high", "n"])
