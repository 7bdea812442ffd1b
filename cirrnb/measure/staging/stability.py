"""Features that a small change of the mask upsets: found among training patients, and left out.

Zwanenburg et al., *Assessing robustness of radiomic features by image perturbation*, Sci. Rep. 2019;9:614.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

GOOD = 0.75
"""Agreement from which Koo & Li call it good (J. Chiropractic Medicine 2016;15:155)."""

FEWEST = 10
"""Patients below which agreement cannot be told, and every feature is kept."""


def agreement(values: NDArray[np.float64]) -> float:
    """Intraclass correlation of single measurements, two-way random, absolute agreement: ICC(2,1).

    `values` (patients, measurements), at least two of each. 1 is full agreement; NaN where nothing varies. Shrout &
    Fleiss, Psychological Bulletin 1979;86:420.
    """
    patients, times = values.shape
    whole = values.mean()
    between = times * ((values.mean(axis=1) - whole) ** 2).sum() / (patients - 1)
    shifts = patients * ((values.mean(axis=0) - whole) ** 2).sum() / (times - 1)
    total = ((values - whole) ** 2).sum()
    rest = (total - between * (patients - 1) - shifts * (times - 1)) / ((patients - 1) * (times - 1))
    below = between + (times - 1) * rest + times * (shifts - rest) / patients
    return float((between - rest) / below) if below > 0 else float("nan")


class StableFeatures(TransformerMixin, BaseEstimator):
    """Keeps the columns whose values agree when the mask is changed a little.

    Parameters
    ----------
    changed : name of a change -> table indexed by subject with the same columns, of any patients. Those of them that
        are among the rows given to `fit` are looked at, and no others, so that nothing leaks out of the fold.
    least : agreement from which a column is kept.
    """

    def __init__(self, changed: Mapping[str, pd.DataFrame] | None = None, least: float = GOOD):
        self.changed = changed
        self.least = least

    def fit(self, x: pd.DataFrame, y: Any = None) -> StableFeatures:
        """Find the columns to keep; `x` is indexed by subject."""
        tables = [table.reindex(columns=x.columns) for table in (self.changed or {}).values()]
        known = x.index
        for table in tables:
            known = known.intersection(table.index)
        if not tables or len(known) < FEWEST:
            self.kept_ = list(x.columns)
            return self
        stack = np.stack([table.loc[known].to_numpy(dtype=float) for table in (x, *tables)], axis=-1)
        told = [self._agreement(stack[:, column]) for column in range(stack.shape[1])]
        # What was not measured again cannot be called upset by it.
        self.kept_ = [name for name, value in zip(x.columns, told, strict=True) if not value < self.least]
        return self

    @staticmethod
    def _agreement(values: NDArray[np.float64]) -> float:
        whole = values[np.isfinite(values).all(axis=1)]
        return agreement(whole) if len(whole) >= FEWEST else float("nan")

    def transform(self, x: pd.DataFrame) -> pd.DataFrame:
        """The kept columns."""
        return x[self.kept_]

    def get_feature_names_out(self, names: Any = None) -> NDArray[np.object_]:
        """Names of the kept columns."""
        return np.array(self.kept_, dtype=object)
