"""Measurements of a site on the scale of training: each by a quantile map, without anybody's stage.

Absolute values carry over badly between scanners, readers of contours and populations; ranks within a population do.
What `cirrnb.model.adaptation` does to a stager's severity is done here to each measurement, so that baselines are
treated as the stager is.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cirrnb.data.errors import InputError

LEAST_PATIENTS = 30
"""Patients of a site, and of training, below which no map is fitted."""
PRIOR_PATIENTS = 10.0
"""The map has the weight n / (n + this) against the identity, for n patients of the site."""


def on_the_scale_of(values: pd.DataFrame, site: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Measurements with each column mapped from the site's distribution to the reference's.

    Parameters
    ----------
    values : (patients, measurements) to map; NaN stays NaN.
    site : the same columns for patients of the site they come from.
    reference : the same columns for patients of training.

    Returns
    -------
    The columns of `values`. Beyond the site's range, the map continues from its end with slope one.

    Raises
    ------
    InputError
        If a column is missing, or has fewer than `LEAST_PATIENTS` values at the site or in the reference.
    """
    mapped = {}
    for name in values:
        for where, table in (("site", site), ("reference", reference)):
            count = int(table[name].notna().sum()) if name in table else 0
            if count < LEAST_PATIENTS:
                expected = f"{LEAST_PATIENTS} or more"
                raise InputError(where, f"{count} values of {name}", expected, "Use more patients, or leave it out.")
        at_site, at_home = (np.sort(table[name].dropna().to_numpy(float)) for table in (site, reference))
        mapped[name] = _mapped(values[name].to_numpy(float), at_site, at_home)
    return pd.DataFrame(mapped, index=values.index)


def _mapped(values: np.ndarray, site: np.ndarray, reference: np.ndarray) -> np.ndarray:
    unique, first, counts = np.unique(site, return_index=True, return_counts=True)
    levels = (first + (counts - 1) / 2) / (len(site) - 1)  # of equal values, the middle one
    inside = np.clip(values, unique[0], unique[-1])
    mapped = np.quantile(reference, np.nan_to_num(np.interp(inside, unique, levels), nan=0.5)) + (values - inside)
    weight = len(site) / (len(site) + PRIOR_PATIENTS)
    return np.asarray(np.where(np.isnan(values), np.nan, (1 - weight) * values + weight * mapped))
