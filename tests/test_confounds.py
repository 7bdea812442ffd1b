"""Traits of scans that tell the source or the stage: found, weighed, and compared with values worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from cirrnb.data.auditing.confounds import confounds
from cirrnb.data.stage_scale import CIRRHOSIS


def traits(number, seed=0):
    """Scans whose traits know nothing of stage and source."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "sequence": "T2W",
            "problem": None,
            "source": random.choice(["cirrhotic", "healthy"], number, p=[0.8, 0.2]),
            "stage": random.choice(CIRRHOSIS, number),
            "dtype": "int16",
            "matrix": random.choice(["320 x 260", "512 x 384", "512 x 416", "560 x 560"], number),
            "orientation": "LPS",
            "scanner": random.choice(["A", "B"], number),
            **{name: random.normal(100, 10, number) for name in ("in_plane", "through_plane", "slices")},
            **{name: random.normal(100, 10, number) for name in ("minimum", "maximum", "top")},
        }
    )


def test_independent_traits_are_no_confounds():
    assert not any(confounds(traits(300, seed), ("scanner",)).confound.any() for seed in range(5))


def test_a_type_that_tells_the_source():
    scans = traits(300)
    scans.loc[scans.source == "healthy", "dtype"] = "uint16"
    table = confounds(scans)
    row = table.iloc[0]
    healthy = int((scans.source == "healthy").sum())
    assert row.confound and row.target == "source" and row.trait == "the type of the numbers"
    assert row.strength == pytest.approx(1, abs=0.01) and table.confound.sum() == 1
    assert (
        f"in {healthy} of {healthy} healthy" in row.words or f"in {300 - healthy} of {300 - healthy} cirrh" in row.words
    )


def test_a_spacing_that_tells_a_stage():
    scans = traits(300)
    severe = scans.stage == "severe"
    scans.loc[severe, "through_plane"] = 8.0
    scans.loc[~severe, "through_plane"] = np.where(np.arange((~severe).sum()) % 4 == 0, 8.0, 6.0)
    row = confounds(scans).iloc[0]
    assert row.confound and row.target == "stage" and "spacing between slices" in row.trait
    few = int((~severe).sum() + 3) // 4
    assert row.strength == pytest.approx(0.5 + 0.5 * (1 - few / (~severe).sum()), abs=0.005)  # AUC by hand, ties halved
    assert f"at least 8 in {severe.sum()} of {severe.sum()} severe, in {few} of" in row.words


def test_a_scanner_of_ones_own_table_that_tells_a_stage():
    scans = traits(300)
    scans["scanner"] = np.where(scans.stage == "severe", "B", "A")
    row = confounds(scans, ("scanner",)).iloc[0]
    assert row.confound and row.trait == "scanner" and row.strength == pytest.approx(1, abs=0.01)


def test_cramers_v_equals_the_value_worked_out_by_hand():
    # [[30, 10], [10, 30]]: chi2 = 20, phi2 = 0.25 - 1/79, corrected rows and columns 2 - 1/79
    scans = traits(80).assign(stage=None, source=np.repeat(["a", "b"], 40))
    scans["dtype"] = np.repeat(["int16", "uint16", "int16", "uint16"], [30, 10, 10, 30])
    table = confounds(scans)
    strength = table[table.trait == "the type of the numbers"].strength.iloc[0]
    assert strength == pytest.approx(np.sqrt((0.25 - 1 / 79) / (1 - 1 / 79)))


def test_groups_too_small_are_not_compared():
    assert confounds(traits(12).assign(stage=None)).empty
