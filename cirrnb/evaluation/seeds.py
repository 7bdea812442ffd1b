"""How much the seed of a training matters: the spread over runs, which is not the patients' interval.

Two things make a figure uncertain. Other patients would have given another one: that is the interval of `evaluate`.
And the same training with another seed gives another stager: that is the spread here. Neither holds the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cirrnb.data.errors import InputError


def spread(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean and spread of each metric over trainings that differ in nothing but their seed.

    Parameters
    ----------
    tables : `Evaluation.table` of each run, all for the same patients.

    Returns
    -------
    One row a metric, in the order of the first table: metric, mean, seed_sd (standard deviation over seeds, n - 1 in
    the denominator; NaN for one seed), seed_low, seed_high (least and greatest value), seeds (runs), patient_low,
    patient_high (the runs' interval limits, averaged: how far other patients might shift the figure), chance,
    majority, higher_is_better, n.

    Raises
    ------
    InputError
        If there is no table, or the tables hold other metrics or other numbers of patients.
    """
    if not tables:
        raise InputError("tables", "none", "at least one evaluation", "Hand in Evaluation.table of each run.")
    first = tables[0].set_index("metric")
    for number, table in enumerate(tables[1:], start=2):
        other = table.set_index("metric")
        if set(other.index) != set(first.index) or (other.loc[first.index, "n"] != first["n"]).any():
            raise InputError(
                f"table {number}",
                "other metrics or numbers of patients than the first",
                "the same patients and metrics in each",
                "Evaluate the runs on the same split of the same cohort.",
            )
    runs = pd.concat([table.set_index("metric") for table in tables]).groupby(level=0, sort=False)
    result = pd.DataFrame(
        {
            "mean": runs["value"].mean(),
            "seed_sd": runs["value"].std(ddof=1),
            "seed_low": runs["value"].min(),
            "seed_high": runs["value"].max(),
            "seeds": len(tables),
            "patient_low": runs["low"].mean(),
            "patient_high": runs["high"].mean(),
        }
    )
    return result.join(first[["chance", "majority", "higher_is_better", "n"]]).reset_index()
