"""Scans and cohorts: the table, the patients, selections by patient."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cirrnb.data.errors import InputError, InputErrors, raise_if_any
from cirrnb.data.scan import Cohort, Scan


def scan(patient: str, sequence: str = "T1W", **fields: object) -> Scan:
    return Scan(patient, sequence, Path(f"{patient}_{sequence}.nii.gz"), **fields)  # type: ignore[arg-type]


COHORT = Cohort(
    (
        scan("1", "T1W", stage="mild", split="train", age=50, extra={"scanner": "A"}),
        scan("1", "T2W", stage="mild", split="valid", age=50),
        scan("2", "T2W", stage="severe", split="train", sex="female"),
        scan("1", "T2W", source="healthy"),
    )
)


def test_table_has_a_row_a_scan_and_the_extra_columns() -> None:
    assert list(COHORT.table["patient"]) == ["1", "1", "2", "1"]
    assert list(COHORT.table.columns)[-1] == "scanner"
    assert COHORT.table["scanner"].notna().tolist() == [True, False, False, False]


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT], ids=str)
@pytest.mark.parametrize("field", ["mask", "stage", "split", "age", "sex"])
def test_what_a_table_made_of_none_is_none_again(field: str, missing: object) -> None:
    one = scan("1", **{field: missing}, extra={"mask_by": missing, "site": "A", "places": [1, 2]})
    assert getattr(one, field) is None
    assert one.extra == {"mask_by": None, "site": "A", "places": [1, 2]}


def test_splits_that_went_through_a_table_come_back() -> None:
    some = Cohort((scan("1", split="train"), scan("2", source="healthy")))
    for splits in (some.patients["split"], some.patients["split"].astype("string")):
        assert [one.split for one in some.with_splits(splits.to_dict()).scans] == ["train", None]


def test_patients_are_told_apart_by_source() -> None:
    patients = COHORT.patients
    assert list(patients.index) == ["cirrhotic/1", "cirrhotic/2", "healthy/1"]
    assert patients.loc["cirrhotic/1", "split"] == "conflicting"
    assert patients[["T1W", "T2W"]].to_numpy().tolist() == [[True, True], [False, True], [False, True]]
    assert patients.loc["cirrhotic/2", "sex"] == "female"


def test_selections() -> None:
    assert len(COHORT.select(sequence="T2W")) == 3
    assert len(COHORT.select(stage=["mild", "severe"], split="train")) == 2
    assert len(COHORT.select(stage=None)) == 1
    assert [s.sequence for s in COHORT.select(keep=["cirrhotic/1"]).scans] == ["T1W", "T2W"]


def test_new_splits_reach_every_scan_of_a_subject_and_no_other() -> None:
    split = COHORT.with_splits({"cirrhotic/1": "test"})
    assert [s.split for s in split.scans] == ["test", "test", None, None]


@pytest.mark.parametrize("fields", [{"sequence": "PDW"}, {"stage": "F4"}, {"split": "dev"}])
def test_unknown_words_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields.values()))):
        Cohort((scan("1", **{"sequence": "T1W", **fields}),))


def test_an_error_says_where_what_expected_and_what_to_do_and_survives_a_worker() -> None:
    error = InputError("a.nii.gz", "4 axes", "3 axes", "Take one volume.")
    assert str(error) == "a.nii.gz: found 4 axes; expected 3 axes. Take one volume."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
    raise_if_any([])
    with pytest.raises(InputErrors, match="2 problems"):
        raise_if_any([error, error])
