"""Whether sets of stages hold the true one as often as they promise, and how much they say."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cirrnb.data.errors import InputError, listed
from cirrnb.data.scan import STAGES
from cirrnb.evaluation.intervals import wilson
from cirrnb.evaluation.tables import SET, counted

EVERYBODY = "all"


def set_coverage(predictions: pd.DataFrame, *, split: str | None = "test", confidence: float = 0.95) -> pd.DataFrame:
    """How often the set holds the true stage, over all patients and by stage, and how large it is.

    Sets promise their coverage over all patients; a rare or hard stage may be covered less often, which is why it is
    told by stage too.

    Parameters
    ----------
    predictions : as for `evaluate`, with the column set, "mild|moderate" say.
    split : whom to count; None counts every patient with a stage.
    confidence : of the intervals.

    Returns
    -------
    One row for "all" and one a stage: stage, n (patients), covered (of them), coverage, low, high (Wilson's interval),
    mean_size (stages in a set, 1 to 3), one, two, three (share of the patients whose set holds so many).

    Raises
    ------
    InputError
        If the table is not as it should be, or a set is not one, two or three neighbouring stages.
    """
    patients, _ = counted(predictions, split)
    sets = stage_sets(patients)
    hit = np.array([stage in stages for stage, stages in zip(patients["stage"], sets, strict=True)], dtype=bool)
    sizes = np.array([len(stages) for stages in sets])
    rows = []
    for group in (EVERYBODY, *STAGES):
        here = np.ones(len(patients), dtype=bool) if group == EVERYBODY else (patients["stage"] == group).to_numpy()
        n, covered = int(here.sum()), int(hit[here].sum())
        interval = wilson(covered, n, confidence)
        told = [sizes[here].mean(), *((sizes[here] == size).mean() for size in (1, 2, 3))] if n else [np.nan] * 4
        rows.append((group, n, covered, covered / n if n else np.nan, interval.low, interval.high, *told))
    columns = ["stage", "n", "covered", "coverage", "low", "high", "mean_size", "one", "two", "three"]
    return pd.DataFrame(rows, columns=columns)


def stage_sets(predictions: pd.DataFrame) -> list[tuple[str, ...]]:
    """The column set, taken apart. Raises InputError for what is not a run of neighbouring stages, mildest first."""
    if SET not in predictions:
        raise InputError("predictions", f"no column {SET}", "sets of stages", "Predict with a calibrated run.")
    runs = {"|".join(run): run for start in range(3) for end in range(start + 1, 4) if (run := STAGES[start:end])}
    told = predictions[SET].astype(object).tolist()
    wrong = sorted({str(one) for one in told if one not in runs})
    if wrong:
        raise InputError(
            "predictions",
            f"{SET} {listed(wrong, 5)}",
            'one, two or three neighbouring stages joined by "|", such as mild|moderate',
            "Use cirrnb.predict with a calibrated run.",
        )
    return [runs[one] for one in told]
