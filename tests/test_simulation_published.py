"""The published counts that the simulated cohort repeats."""

import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from cirrnb.simulation.patients import plan
from cirrnb.simulation.published import GEOMETRY, HEALTHY, PATIENTS, official_splits, places


def test_every_published_count_holds_at_once():
    everyone = places()
    assert len(everyone) == len(PATIENTS) == 337
    t1w = [place for place in everyone if "T1W" in place.splits]
    t2w = [place for place in everyone if "T2W" in place.splits]
    both = [place for place in everyone if len(place.splits) == 2]
    for group, counts in ((t1w, (127, 109, 74)), (t2w, (131, 114, 73)), (both, (121, 107, 63))):
        stages = Counter(place.stage for place in group)
        assert (stages["mild"], stages["moderate"], stages["severe"]) == counts
    assert Counter(place.splits["T1W"] for place in t1w) == {"train": 248, "valid": 31, "test": 31}
    assert Counter(place.splits["T2W"] for place in t2w) == {"train": 256, "valid": 31, "test": 31}
    test = Counter(place.stage for place in t2w if place.splits["T2W"] == "test")
    assert test == {"mild": 16, "moderate": 6, "severe": 9}


def test_the_seven_conflicts_are_the_known_ones():
    splits = official_splits()
    differing = {
        patient: (splits["T1W"][patient], splits["T2W"][patient])
        for patient in set(splits["T1W"]) & set(splits["T2W"])
        if splits["T1W"][patient] != splits["T2W"][patient]
    }
    assert set(differing) == {393, 460, 463, 464, 47, 471, 56}
    assert differing[56] == ("test", "valid")
    assert all(set(pair) == {"train", "valid"} for patient, pair in differing.items() if patient != 56)


def test_plan_of_a_full_cohort_has_healthy_subjects_and_unlisted_stages():
    plans = plan("full", None, None, seed=0)
    assert sum(one.source == "healthy" for one in plans) == len(HEALTHY) == 55
    assert sum(not one.listed for one in plans if one.source == "cirrhotic") == 19
    assert {one.patient for one in plans if one.source == "healthy"} & {str(patient) for patient in PATIENTS}


def test_geometries_are_plausible():
    for choices in GEOMETRY.values():
        for matrix, spacing in choices:
            assert 170 <= matrix[1] <= matrix[0] <= 560
            assert 200 < matrix[2] * spacing[2] < 400


@pytest.mark.real
def test_splits_agree_with_the_reconstructed_table():
    folder = os.environ.get("CIRRNB_EXTERNAL_DATA")
    if not folder:
        pytest.skip("CIRRNB_EXTERNAL_DATA is not set")
    table = pd.read_csv(Path(folder) / "cirrmri600" / "cirrmri600_scans_split_reconstructed.csv")
    table = table[table.is_cirrhotic]
    splits = official_splits()
    assert len(table) == 628
    for row in table.itertuples():
        assert splits[row.modality.upper()][int(row.patient_id)] == row.official_split_reconstructed
