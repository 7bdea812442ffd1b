"""Datasets as nnU-Net and BIDS keep them are cohorts; what their names and tables leave open is asked about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cirrnb
from cirrnb.data import splits
from cirrnb.data.errors import InputErrors
from cirrnb.data.scan import Cohort

LIVER = {"background": 0, "liver": 1}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("layouts")
    return cirrnb.simulate_cohort(folder / "sim", patients=3, seed=5, healthy=0, workers=1, progress=False)


def _touch(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]))
    return root


def _table(path: Path, *rows: str) -> None:
    path.write_text("\n".join("\t".join(row.split()) for row in rows) + "\n", encoding="utf-8")


def _read(root: Path) -> list[tuple[str, str, str | None]]:
    found = cirrnb.read_cohort(root).scans
    return [(one.patient, one.sequence, one.mask and one.mask.relative_to(root).as_posix()) for one in found]


def _dataset(root: Path, *names: str, **described: Any) -> Path:
    _touch(root, *names)
    described = {"channel_names": {"0": "T1", "1": "T2"}, "labels": LIVER, **described}
    (root / "dataset.json").write_text(
        json.dumps({key: value for key, value in described.items() if value is not None})
    )
    return root


# ---------------------------------------------------------------------- nnU-Net


@pytest.mark.parametrize(
    "described",
    [
        {},
        {"channel_names": {"0": "T1 post contrast", "1": "t2_haste"}},
        {"channel_names": None, "modality": {"0": "T1w", "1": "T2w"}, "labels": {"0": "background", "1": "Liver"}},
    ],
)
def test_a_dataset_of_nnunet(described: dict[str, Any], tmp_path: Path) -> None:
    root = _dataset(
        tmp_path / "Dataset007_Liver",
        *("imagesTr/liver_001_0000.nii.gz", "imagesTr/liver_001_0001.nii.gz", "labelsTr/liver_001.nii.gz"),
        *("imagesTr/liver_002_0001.nii.gz", "imagesTr/._liver_001_0000.nii.gz"),
        **described,
    )
    mask = "labelsTr/liver_001.nii.gz"
    assert _read(root) == [("liver_001", "T1W", mask), ("liver_001", "T2W", mask), ("liver_002", "T2W", None)]
    cohort = cirrnb.read_cohort(root)
    assert {scan.split for scan in cohort.scans} == {None} and cohort.patients["stage"].isna().all()
    assert cohort.patients.index[0] == "Dataset007_Liver/liver_001"


def test_cases_of_nnunet_are_split_where_there_are_test_cases(tmp_path: Path) -> None:
    root = _dataset(tmp_path / "d", "imagesTr/a_0000.nii.gz", "imagesTs/b_0000.nii.gz", "labelsTs/b.nii.gz")
    cohort = splits.official(cirrnb.read_cohort(root))
    assert [(scan.patient, scan.split, scan.mask is None) for scan in cohort.scans] == [
        ("a", "train", True),
        ("b", "test", False),
    ]


def test_other_channels_and_labels_of_nnunet_are_noted_and_not_read(tmp_path: Path) -> None:
    labels = {"background": 0, "liver": 1, "spleen": 2}
    channels = {"0": "T1", "1": "T2", "2": "ADC", "3": "T1 map"}
    names = [f"imagesTr/a_000{channel}.nii.gz" for channel in range(4)]
    root = _dataset(tmp_path / "d", *names, "labelsTr/a.nii.gz", channel_names=channels, labels=labels)
    cohort = cirrnb.read_cohort(root)
    assert [(scan.sequence, scan.mask) for scan in cohort.scans] == [("T1W", None), ("T2W", None)]
    assert any("ADC" in note and "T1 map" in note for note in cohort.notes)
    assert any("spleen" in note for note in cohort.notes)


# ---------------------------------------------------------------------- BIDS


@pytest.mark.parametrize("session", ["", "ses-1/"])
def test_a_dataset_in_bids(session: str, tmp_path: Path) -> None:
    label = session.strip("/") and f"_{session.strip('/')}"
    root = _touch(
        tmp_path / "bids",
        *(f"sub-01/{session}anat/sub-01{label}_{suffix}.nii.gz" for suffix in ("T1w", "T2w", "FLAIR", "T2starw")),
        f"sub-10/{session}anat/sub-10{label}_acq-haste_T2w.nii.gz",
        f"sub-2/{session}anat/sub-2{label}_part-mag_T1w.nii.gz",
        f"sub-2/{session}anat/sub-2{label}_part-phase_T1w.nii.gz",
        f"sub-01/{session}dwi/sub-01{label}_dwi.nii.gz",
        f"derivatives/drawn/sub-01/{session}anat/sub-01{label}_space-T1w_label-liver_mask.nii.gz",
        f"derivatives/drawn/sub-01/{session}anat/sub-01{label}_space-T1w_label-spleen_mask.nii.gz",
        f"derivatives/drawn/sub-10/{session}anat/sub-10{label}_desc-liver_mask.nii.gz",
        "sourcedata/sub-01/anat/sub-01_T1w.nii.gz",
    )
    _table(
        root / "participants.tsv",
        *(
            "participant_id age sex stage site",
            "sub-01 61.5 F Moderate Rome",
            "sub-10 n/a M 3 n/a",
            "sub-11 50 M 1 Oslo",
        ),
    )
    drawn = "derivatives/drawn"
    assert _read(root) == [
        ("01", "T1W", f"{drawn}/sub-01/{session}anat/sub-01{label}_space-T1w_label-liver_mask.nii.gz"),
        ("01", "T2W", None),
        ("2", "T1W", None),
        ("10", "T2W", f"{drawn}/sub-10/{session}anat/sub-10{label}_desc-liver_mask.nii.gz"),
    ]
    cohort = cirrnb.read_cohort(root)
    first, _, second, last = cohort.scans
    assert (first.age, first.sex, first.stage, first.extra) == (61.5, "female", "moderate", {"site": "Rome"})
    assert (last.age, last.sex, last.stage, last.extra) == (None, "male", "severe", {"site": None})
    assert (second.stage, second.extra) == (None, {}) and "part-mag" in second.image.name
    notes = " ".join(cohort.notes)
    assert "FLAIR" in notes and "T2starw" in notes and "(11)" in notes and "does not list: 1 (2)" in notes


def test_codes_that_participants_json_explains(tmp_path: Path) -> None:
    root = _touch(tmp_path / "bids", "sub-1/anat/sub-1_T1w.nii", "sub-2/anat/sub-2_T1w.nii")
    _table(root / "participants.tsv", "participant_id gender stage", "sub-1 1 a", "2 O b")
    levels = {"gender": {"Levels": {"1": "male", "2": "female"}}, "stage": {"Levels": {"a": "mild", "b": "F4"}}}
    (root / "participants.json").write_text(json.dumps(levels))
    with pytest.raises(InputErrors, match="mild, moderate, severe") as error:
        cirrnb.read_cohort(root)
    assert "line 3" in error.value.errors[0].where and "Levels" in error.value.errors[0].remedy
    levels["stage"]["Levels"]["b"] = "severe"
    (root / "participants.json").write_text(json.dumps(levels))
    assert [(scan.sex, scan.stage) for scan in cirrnb.read_cohort(root).scans] == [("male", "mild"), (None, "severe")]
    scale = cirrnb.read_cohort(_scaled(root), stages="F0, F4").scans
    assert [scan.stage for scan in scale] == ["F0", "F4"]


def _scaled(root: Path) -> Path:
    (root / "participants.json").unlink()
    _table(root / "participants.tsv", "participant_id stage", "sub-1 f0", "sub-2 F4")
    return root


# ---------------------------------------------------------------------- both


ASKED: dict[str, tuple[Callable[[Path], Path], str, list[str]]] = {
    "no names of channels": (lambda root: _touch(root, "imagesTr/a_0000.nii.gz"), "dataset.json", []),
    "a channel that says nothing": (
        lambda root: _dataset(root, "imagesTr/a_0000.nii.gz", channel_names={"0": "MRI"}),
        "channel_names",
        [],
    ),
    "two channels of one sequence": (
        lambda root: _dataset(root, "imagesTr/a_0000.nii.gz", channel_names={"0": "T1 pre", "1": "T1 post"}),
        "scans.csv",
        [],
    ),
    "a damaged description": (
        lambda root: (_dataset(root, "imagesTr/a_0000.nii.gz") / "dataset.json").write_text("{") and root,
        "dataset.json",
        [],
    ),
    "no number of a channel": (
        lambda root: _dataset(root, "imagesTr/a.nii.gz", "imagesTr/b_0000.nii.gz"),
        "a_0000.nii.gz",
        ["b"],
    ),
    "a case in both folders": (
        lambda root: _dataset(root, "imagesTr/a_0000.nii.gz", "imagesTs/a_0000.nii.gz", "imagesTs/b_0000.nii.gz"),
        "tested on what was trained",
        ["b"],
    ),
    "two sessions": (
        lambda root: _touch(
            root,
            *("sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz", "sub-1/ses-b/anat/sub-1_ses-b_T2w.nii.gz"),
            "sub-2/ses-a/anat/sub-2_ses-a_T1w.nii.gz",
        ),
        "2 sessions",
        ["2"],
    ),
    "two runs": (
        lambda root: _touch(
            root,
            "sub-1/anat/sub-1_run-1_T1w.nii.gz",
            "sub-1/anat/sub-1_run-2_T1w.nii.gz",
            "sub-2/anat/sub-2_T1w.nii.gz",
        ),
        "sub-1_run-2_T1w.nii.gz",
        ["2"],
    ),
    "with and without contrast agent": (
        lambda root: _touch(
            root, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_ce-gd_T1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz"
        ),
        "2 images",
        ["2"],
    ),
    "a file that was never fetched": (
        lambda root: (
            (_touch(root, "sub-2/anat/sub-2_T1w.nii.gz") / "sub-2/anat/sub-2_T2w.nii.gz").symlink_to("gone") or root
        ),
        "datalad get",
        ["2"],
    ),
    "a mask that names no image": (
        lambda root: _touch(
            root,
            *("sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_T2w.nii.gz"),
            "derivatives/x/sub-1/anat/sub-1_label-liver_mask.nii.gz",
        ),
        "space-T1w",
        ["1", "1"],
    ),
    "a row that contradicts another": (
        lambda root: (
            _table(
                _touch(root, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz") / "participants.tsv",
                *("participant_id age", "sub-1 50", "sub-1 51"),
            )
            or root
        ),
        "one row for each subject",
        ["2"],
    ),
    "a table without subjects": (
        lambda root: (
            _table(_touch(root, "sub-1/anat/sub-1_T1w.nii.gz") / "participants.tsv", "age sex", "50 F") or root
        ),
        "participant_id",
        [],
    ),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_is_open_is_asked_and_the_rest_is_read(case: str, tmp_path: Path) -> None:
    make, told, kept = ASKED[case]
    root = make(tmp_path / "data")
    with pytest.raises(InputErrors) as error:
        cirrnb.read_cohort(root)
    assert told in str(error.value)
    if kept:
        with pytest.warns(UserWarning):
            assert [scan.patient for scan in cirrnb.read_cohort(root, on_problem="skip").scans] == kept


@pytest.mark.parametrize("inner", ["imagesTr", "sub-1/anat"])
def test_a_folder_within_a_dataset(inner: str, tmp_path: Path) -> None:
    root = _dataset(tmp_path / "d", "imagesTr/a_0000.nii.gz") if inner == "imagesTr" else tmp_path / "b"
    _touch(root, "sub-1/anat/sub-1_T1w.nii.gz")
    if inner == "imagesTr":
        with pytest.raises(InputErrors, match="folder above"):
            cirrnb.read_cohort(root / inner)
    else:
        assert [scan.patient for scan in cirrnb.read_cohort(root / inner).scans] == ["1"]


def test_a_table_comes_before_the_layout(tmp_path: Path) -> None:
    root = _dataset(tmp_path / "d", "imagesTr/a_0000.nii.gz")
    (root / "scans.csv").write_text("patient,sequence,image\nX1,T2,imagesTr/a_0000.nii.gz\n")
    assert _read(root) == [("X1", "T2W", None)]


@pytest.mark.parametrize("layout", ["nnunet", "bids"])
def test_simulated_scans_in_another_layout_are_the_same_scans(layout: str, simulated: Cohort, tmp_path: Path) -> None:
    root = tmp_path / layout
    _touch(root, "SIMULATED.txt")
    rows = ["participant_id sex stage"]
    for subject, row in simulated.patients.iterrows():
        rows.append(f"sub-{row['patient']} {row['sex']} {row['stage']}")
        for number, name in enumerate(simulated.sequences):
            (scan,) = simulated.select(keep=[str(subject)], sequence=name).scans
            assert scan.mask is not None
            if layout == "bids":
                anat = root / f"sub-{scan.patient}" / "anat"
                drawn = root / "derivatives" / "drawn" / f"sub-{scan.patient}" / "anat"
                image = anat / f"sub-{scan.patient}_{name[:2]}w.nii.gz"
                mask = drawn / f"sub-{scan.patient}_space-{name[:2]}w_label-liver_mask.nii.gz"
            else:
                image = root / "imagesTr" / f"{scan.patient}_{number:04d}.nii.gz"
                mask = root / "labelsTr" / f"{scan.patient}.nii.gz"
            for source, target in ((scan.image, image), (scan.mask, mask)):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    if layout == "bids":
        _table(root / "participants.tsv", *rows)
    else:
        _dataset(root)
    cohort = cirrnb.read_cohort(root)
    assert cohort.simulated and len(cohort) == len(simulated)
    if layout == "bids":
        assert list(cohort.patients["stage"]) == list(simulated.patients["stage"])
    first = simulated.patients.index[0]
    name = first.partition("/")[2]
    made = cirrnb.prepare(
        cohort.select(keep=[cohort.subject_named(name)], sequence="T2W"), tmp_path / "p", workers=1, progress=False
    )
    usual = cirrnb.prepare(simulated.select(keep=[first], sequence="T2W"), tmp_path / "p", workers=1, progress=False)
    assert (made.scans[0].image == usual.scans[0].image).all() and (made.scans[0].mask == usual.scans[0].mask).all()
