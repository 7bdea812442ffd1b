"""Splits are by patient, stratified, repeatable, and refuse a patient on both sides."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirrnb.data import splits
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.scan import SPLITS, Cohort, Scan
from cirrnb.data.stage_scale import CIRRHOSIS


def scan(patient, sequence="T2W", stage="mild", split=None, source="cirrhotic"):
    return Scan(str(patient), sequence, Path(f"{patient}.nii.gz"), stage=stage, split=split, source=source)


def many(counts=(131, 114, 73), unstaged=5):
    stages = [stage for stage, count in zip(CIRRHOSIS, counts, strict=True) for _ in range(count)] + [None] * unstaged
    return Cohort(
        tuple(scan(i, sequence, stage) for i, stage in enumerate(stages) for sequence in ("T1W", "T2W")[i % 3 == 0 :])
    )


def by_subject(cohort):
    return {one.subject: one.split for one in cohort.scans}


conflicting = Cohort(
    (
        scan(1, "T1W", split="train"),
        scan(1, "T2W", split="train"),
        scan(47, "T1W", split="train"),
        scan(47, "T2W", split="valid"),
        scan(56, "T1W", split="test"),
        scan(56, "T2W", split="valid"),
        scan(3, "T1W", split="test"),
        scan(4, "T2W", split=None),
        scan(56, "T1W", stage=None, source="healthy"),
    )
)


def test_official_names_the_conflicting_patients_and_waits_for_a_policy():
    with pytest.raises(InputErrors) as caught:
        splits.official(conflicting)
    told = str(caught.value)
    assert "2 patients" in told and "cirrhotic/47 (T1W train, T2W valid)" in told and "cirrhotic/56" in told
    assert 'conflicts="t2"' in told


@pytest.mark.parametrize(
    ("policy", "expected"), [("t2", ("valid", "valid")), ("t1", ("train", "test")), ("drop", (None, None))]
)
def test_official_follows_the_policy_for_all_scans_of_a_patient(policy, expected):
    split = splits.official(conflicting, conflicts=policy)
    assert len(split) == len(conflicting)
    assert [one.split for one in split.scans] == [
        "train",
        "train",
        *[expected[0]] * 2,
        *[expected[1]] * 2,
        "test",
        None,
        None,
    ]
    splits.check(split)


def test_official_without_conflict_needs_no_policy_and_fills_the_silent_sequence():
    cohort = Cohort((scan(1, "T1W", split=None), scan(1, "T2W", split="test")))
    assert [one.split for one in splits.official(cohort).scans] == ["test", "test"]


def test_official_refuses_another_policy():
    with pytest.raises(ValueError, match="conflicts"):
        splits.official(conflicting, conflicts="T2W")


def test_random_keeps_the_shares_within_each_stage_and_over_all():
    cohort = many()
    split = by_subject(splits.random(cohort, (0.7, 0.1, 0.2), seed=3))
    stages = {one.subject: one.stage for one in cohort.scans}
    total = Counter(split.values())
    assert total == {"train": 222, "valid": 32, "test": 64, None: 5}  # of 318: 222.6, 31.8, 63.6
    for stage, count in zip(CIRRHOSIS, (131, 114, 73), strict=True):
        share = Counter(split[subject] for subject in split if stages[subject] == stage)
        assert np.allclose([share[name] for name in SPLITS], np.array([0.7, 0.1, 0.2]) * count, atol=1.5)
    assert all(split[subject] is None for subject in split if stages[subject] is None)


def test_random_depends_on_the_seed_and_on_nothing_else():
    cohort = many()
    backwards = Cohort(tuple(reversed(cohort.scans)))
    assert by_subject(splits.random(cohort, seed=1)) == by_subject(splits.random(backwards, seed=1))
    assert by_subject(splits.random(cohort, seed=1)) != by_subject(splits.random(cohort, seed=2))
    # Written down once, so that another machine or Python that shuffles differently is noticed.
    split = by_subject(splits.random(Cohort(tuple(scan(i) for i in range(12))), (0.5, 0.25, 0.25), seed=0))
    letters = {"train": "L", "valid": "V", "test": "T"}
    assert "".join(letters[split[f"cirrhotic/{i}"]] for i in range(12)) == "TLLTVLLLLVVT"


def test_random_refuses_bad_shares_and_too_few_patients():
    with pytest.raises(ValueError, match="sum to 1"):
        splits.random(many(), (0.7, 0.2, 0.2))
    with pytest.raises(InputError, match="no patient would stand in valid"):
        splits.random(Cohort((scan(1), scan(2), scan(3))))


@pytest.mark.parametrize("valid", [0.0, 0.15])
def test_kfold_tests_every_patient_once_in_even_stratified_folds(valid):
    cohort = many()
    folds = splits.kfold(cohort, folds=5, seed=0, valid=valid)
    tested = Counter(subject for fold in folds for subject, split in by_subject(fold).items() if split == "test")
    stages = {one.subject: one.stage for one in cohort.scans}
    assert set(tested.values()) == {1} and set(tested) == {subject for subject in stages if stages[subject]}
    for fold in folds:
        splits.check(fold)
        split = by_subject(fold)
        sizes = Counter(split.values())
        assert sizes["test"] in (63, 64) and sizes[None] == 5
        assert sizes["valid"] == pytest.approx(valid * (318 - sizes["test"]), abs=1)
        for stage, count in zip(CIRRHOSIS, (131, 114, 73), strict=True):
            assert sum(split[s] == "test" for s in split if stages[s] == stage) == pytest.approx(count / 5, abs=1)


def test_one_fold_is_asked_for_by_its_number():
    folds = splits.kfold(many(), folds=3, seed=1)
    assert [by_subject(splits.fold(many(), number, 3, seed=1)) for number in (1, 2, 3)] == list(map(by_subject, folds))
    for number in (0, 4):
        with pytest.raises(InputError, match="from 1 to 3"):
            splits.fold(many(), number, 3)


def test_kfold_refuses_more_folds_than_patients():
    with pytest.raises(InputError, match="3 patients"):
        splits.kfold(Cohort((scan(1), scan(2), scan(3))), folds=5)
    with pytest.raises(ValueError, match="folds"):
        splits.kfold(many(), folds=1)


def test_check_names_a_patient_on_both_sides_and_lets_namesakes_be():
    with pytest.raises(InputErrors, match="cirrhotic/47"):
        splits.check(conflicting)
    splits.check(Cohort((scan(5, split="train"), scan(5, split="test", source="healthy", stage=None))))


@given(
    counts=st.tuples(*[st.integers(0, 40)] * 3),
    fractions=st.lists(st.integers(0, 10), min_size=3, max_size=3).filter(sum),
    seed=st.integers(0, 100),
)
def test_random_never_divides_a_patient_nor_strays_from_the_shares(counts, fractions, seed):
    cohort = many(counts, unstaged=2)
    shares = np.array(fractions) / sum(fractions)
    try:
        split = splits.random(cohort, shares, seed)
    except InputError:
        assert (shares[shares > 0] * sum(counts)).min() < 2
        return
    splits.check(split)
    sizes = Counter(by_subject(split).values())
    assert np.allclose([sizes[name] for name in SPLITS], shares * sum(counts), atol=1.01)


def of_scanner(patient, scanner, sequence="T2W", stage="mild"):
    extra = {} if scanner is None else {"scanner": scanner}
    return Scan(str(patient), sequence, Path(f"{patient}.nii.gz"), stage=stage, extra=extra)


def test_each_scanner_is_left_out_once():
    scans = [of_scanner(i, "ABC"[i % 3], sequence) for i in range(30) for sequence in ("T1W", "T2W")]
    scans += [of_scanner(40, None), of_scanner(41, ""), of_scanner(42, float("nan")), of_scanner(43, "A", stage=None)]
    cohorts = splits.leave_one_out(Cohort(tuple(scans)), valid=0.2)
    assert list(cohorts) == ["A", "B", "C"]
    for place, cohort in enumerate(cohorts.values()):
        splits.check(cohort)
        split = by_subject(cohort)
        assert {subject for subject in split if split[subject] == "test"} == {
            f"cirrhotic/{i}" for i in range(place, 30, 3)
        }
        assert Counter(split.values()) == {"test": 10, "train": 16, "valid": 4, None: 4}


def test_what_cannot_be_left_out_is_told():
    with pytest.raises(InputError, match=r"no column scanner; .*none"):
        splits.leave_one_out(many())
    with pytest.raises(InputError, match=r"no column site; .*scanner"):
        splits.leave_one_out(Cohort((of_scanner(1, "A"), of_scanner(2, "B"))), column="site")
    with pytest.raises(InputError, match=r"scanner A throughout"):
        splits.leave_one_out(Cohort((of_scanner(1, "A"), of_scanner(2, "A"))))
    both = Cohort((of_scanner(1, "A", "T1W"), of_scanner(1, "B", "T2W"), of_scanner(2, "B")))
    with pytest.raises(InputError, match=r"1 patients with more than one scanner: cirrhotic/1 \(A, B\)"):
        splits.leave_one_out(both)
    with pytest.raises(ValueError, match="valid"):
        splits.leave_one_out(both, valid=1)
