"""Measurements of a site on the scale of training."""

import numpy as np
import pandas as pd
import pytest

from cirrnb.data.errors import InputError
from cirrnb.measure.site_adaptation import on_the_scale_of

RANDOM = np.random.default_rng(0)
HOME = pd.DataFrame({"volume": RANDOM.normal(1500, 300, 400), "nodularity": RANDOM.gamma(2, 0.4, 400)})


def test_another_scale_is_undone():
    there = pd.DataFrame({"volume": 0.7 * HOME["volume"] - 100, "nodularity": 3 + HOME["nodularity"] ** 2})
    found = on_the_scale_of(there, there, HOME)
    assert np.abs(found["volume"] - HOME["volume"]).median() < 25
    assert np.abs(found["nodularity"] - HOME["nodularity"]).median() < 0.1
    assert (found["nodularity"].rank() - there["nodularity"].rank()).abs().max() == 0


def test_missing_values_stay_missing_and_the_order_stays_beyond_the_range():
    values = pd.DataFrame({"volume": [np.nan, -5000.0, -4000.0, 9000.0, 9900.0]})
    found = on_the_scale_of(values, HOME, HOME)["volume"]
    assert np.isnan(found[0]) and (np.diff(found[1:]) > 0).all()
    assert found[4] == pytest.approx(9900, abs=1)


def test_equal_values_become_equal_values():
    site = pd.DataFrame({"volume": [0.0] * 30 + [5.0] * 30})
    found = on_the_scale_of(site, site, HOME)["volume"]
    assert found.nunique() == 2
    low, high = found.iloc[0], found.iloc[-1]
    assert HOME["volume"].quantile(0.1) < low + 250 and low < high


def test_few_patients_and_missing_columns_are_refused():
    with pytest.raises(InputError, match="29 values of volume"):
        on_the_scale_of(HOME[["volume"]], HOME.iloc[:29], HOME)
    with pytest.raises(InputError, match="0 values of volume"):
        on_the_scale_of(HOME[["volume"]], HOME, HOME[["nodularity"]])
