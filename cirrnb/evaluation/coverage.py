"""Whether sets of stages hold the true one as often as they promise, and how much they say."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cirrnb.data.errors import InputError, listed
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.bootstrap import wilson
from cirrnb.evaluation.tables import SET, counted

EVERYBODY = "all"

_NUMBERS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)


def size_columns(stages: StageScale = CIRRHOSIS) -> tuple[str, ...]:
    """Columns of `set_coverage` that tell how many stages a set holds: one, two, three for three stages."""
    return _NUMBERS[: len(stages)]


def set_coverage(
    predictions: pd.DataFrame,
    *,
    split: str | None = "test",
    confidence: float = 0.95,
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """How often the set holds the true stage, over all patients and by stage, and how large it is.

    Coverage holds on average over all patients; a rare or hard stage may be covered less often, so coverage by stage is
    reported too.

    Parameters
    ----------
    predictions : as for `evaluate`, with the column set, "mild|moderate" say.
    split : whom to count; None counts every patient with a stage.
    confidence : of the intervals.
    stages : the scale of the table.

    Returns
    -------
    One row for "all" and one a stage: stage, n (patients), covered (of them), coverage, low, high (Wilson's interval),
    mean_size (stages in a set), one, two, three, ... (share of the patients whose set holds so many; see
    `size_columns`).

    Raises
    ------
    InputError
        If the table is not as it should be, or a set is not one or more neighbouring stages.
    """
    patients, _ = counted(predictions, split, stages=stages)
    sets, numbers = prediction_sets_of(patients, stages), range(1, len(stages) + 1)
    hit = np.array([stage in possible for stage, possible in zip(patients["stage"], sets, strict=True)], dtype=bool)
    sizes = np.array([len(possible) for possible in sets])
    rows = []
    for group in (EVERYBODY, *stages):
        here = np.ones(len(patients), dtype=bool) if group == EVERYBODY else (patients["stage"] == group).to_numpy()
        n, covered = int(here.sum()), int(hit[here].sum())
        interval = wilson(covered, n, confidence)
        values = [np.nan] * (len(stages) + 1)
        if n:
            values = [sizes[here].mean(), *((sizes[here] == size).mean() for size in numbers)]
        rows.append((group, n, covered, covered / n if n else np.nan, interval.low, interval.high, *values))
    columns = ["stage", "n", "covered", "coverage", "low", "high", "mean_size", *size_columns(stages)]
    return pd.DataFrame(rows, columns=columns)


def prediction_sets_of(predictions: pd.DataFrame, stages: StageScale = CIRRHOSIS) -> list[tuple[str, ...]]:
    """The column set, taken apart. Raises InputError for what is not a run of neighbouring stages, mildest first."""
    if SET not in predictions:
        raise InputError("predictions", f"no column {SET}", "sets of stages", "Predict with a calibrated run.")
    count, names = len(stages), stages.names
    parts = [names[start:end] for start in range(count) for end in range(start + 1, count + 1)]
    runs = {"|".join(run): run for run in parts}
    sets = predictions[SET].astype(object).tolist()
    wrong = sorted({str(text) for text in sets if text not in runs})
    if wrong:
        raise InputError(
            "predictions",
            f"{SET} {listed(wrong, 5)}",
            f'neighbouring stages joined by "|", such as {"|".join(names[:2])}',
            "Use cirrnb.predict with a calibrated run.",
        )
    return [runs[text] for text in sets]
