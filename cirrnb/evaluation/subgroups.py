"""How good a stager is for one kind of patient and for another: by scanner, by the sequences that exist, by sex."""

from __future__ import annotations

import pandas as pd

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.evaluation.evaluation import COLUMNS, evaluate
from cirrnb.evaluation.tables import counted

UNKNOWN = "unknown"


def by_group(
    predictions: pd.DataFrame,
    column: str,
    *,
    split: str | None = "test",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    stages: StageScale = CIRRHOSIS,
) -> pd.DataFrame:
    """`evaluate` for the patients of each value of a column.

    Small groups have wide intervals, and among many groups one is bad by chance: a difference is worth a second look
    and no finding. For a column that only the cohort knows, merge it in by subject first.

    Parameters
    ----------
    predictions : as for `evaluate`, with the column.
    column : whose values are the groups ("sequences", "scanner"); an empty cell is the group "unknown".
    split, confidence, resamples, seed, stages : as for `evaluate`.

    Returns
    -------
    The rows of `Evaluation.table` for each group that has at least two patients, with group in front; groups in the
    order of their size. `attrs["left_out"]` holds the names of smaller groups; with none but those no row is left.

    Raises
    ------
    InputError
        As `evaluate`, or if there is no such column.
    """
    if column not in predictions:
        raise InputError(
            "predictions", f"no column {column}", "the groups to tell apart", "Merge it in from the cohort's table."
        )
    patients, _ = counted(predictions, split, stages=stages)
    groups = predictions[column].astype(object).where(predictions[column].notna(), UNKNOWN).astype(str)
    sizes = groups.loc[patients.index].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    tables, small = [], []
    for name, size in sizes.items():
        if size < 2:
            small.append(str(name))
            continue
        # Training patients stay: the majority is theirs, whichever group is counted.
        others = predictions["split"] != split if split else pd.Series(False, index=predictions.index)
        told = predictions[others | (groups == name)]
        table = evaluate(told, split=split, confidence=confidence, resamples=resamples, seed=seed, stages=stages).table
        table.insert(0, "group", str(name))
        tables.append(table)
    result = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["group", *COLUMNS])
    result.attrs["left_out"] = small
    return result
