"""A folder of NIfTI files is a cohort where its names tell; where they do not, somebody is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.auditing.audit import audit
from cirrnb.data.errors import InputErrors


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def _read(root: Path) -> list[tuple[str, str, str | None]]:
    found = cirrnb.read_cohort(root).scans
    return [(one.patient, one.sequence, one.mask and one.mask.relative_to(root).as_posix()) for one in found]


@pytest.mark.parametrize(
    "names",
    [
        ("A17_T1W.nii.gz", "A17_t2w.nii"),
        ("t1_A17.nii.gz", "T2-A17.nii.gz"),
        ("A17/T1.nii.gz", "A17/T2 weighted.nii.gz"),
        ("T1W/A17.nii.gz", "T2W/A17.nii.gz"),
        ("sub-A17/anat/sub-A17_T1w.nii.gz", "sub-A17/anat/sub-A17_T2w.nii.gz"),
        ("A17/anat/t1w/image.nii.gz", "A17/anat/t2w/image.nii.gz"),
    ],
)
def test_names_that_tell(names: tuple[str, ...], tmp_path: Path) -> None:
    assert _read(_touch(tmp_path, *names)) == [("A17", "T1W", None), ("A17", "T2W", None)]


def test_masks_find_their_scan(tmp_path: Path) -> None:
    _touch(tmp_path, "A17_T1W.nii.gz", "A17_T1W_mask.nii.gz", "B2_T1W.nii.gz", "masks/B2_T1W.nii.gz", "B2_T2W.nii.gz")
    assert _read(tmp_path) == [
        ("A17", "T1W", "A17_T1W_mask.nii.gz"),
        ("B2", "T1W", "masks/B2_T1W.nii.gz"),
        ("B2", "T2W", None),
    ]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("A17.nii.gz",), "neither T1W nor T2W"),
        (("A17_T1_and_T2.nii.gz",), "both T1W and T2W"),
        (("A17_t1_visit2.nii.gz",), "more than patient and sequence"),
        (("A17_T1W.nii.gz", "t1/A17.nii.gz"), "2 files"),
        (("A17_T1W.nii.gz", "B_T2W_mask.nii.gz"), "a mask without its T2W scan"),
    ],
)
def test_what_names_leave_open_is_asked(names: tuple[str, ...], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputErrors, match=told) as error:
        cirrnb.read_cohort(_touch(tmp_path, *names))
    assert "scans.csv" in str(error.value)


def test_a_table_that_lies_there_is_asked_for_before_names_are_read(tmp_path: Path) -> None:
    _touch(tmp_path, "A17_T1W.nii.gz")
    (tmp_path / "mine.csv").write_text("patient,sequence,image\nX1,T1W,A17_T1W.nii.gz\n")
    with pytest.raises(InputErrors, match=r"If mine.csv lists your scans"):
        cirrnb.read_cohort(tmp_path)
    (tmp_path / "mine.csv").rename(tmp_path / "scans.csv")
    assert _read(tmp_path) == [("X1", "T1W", None)]


def test_a_single_file_is_a_case(tmp_path: Path) -> None:
    _touch(tmp_path, "A17_T1W.nii.gz", "B_T2W.nii.gz")
    assert [one.name for one in cirrnb.read_cohort(tmp_path / "B_T2W.nii.gz").scans] == [f"{tmp_path.name}/B T2W"]


def test_a_simulated_scan_goes_from_a_folder_to_prepared_scans(tmp_path: Path) -> None:
    made = cirrnb.simulate_cohort(tmp_path / "sim", patients=3, seed=5, scale="tiny", healthy=0, workers=1)
    own = tmp_path / "own"
    own.mkdir()
    for scan in made.scans[:2]:
        (own / f"P_{scan.sequence}.nii.gz").write_bytes(scan.image.read_bytes())
    result = CliRunner().invoke(
        app, ["prepare", str(own), "--view", "abdomen", "--out", str(tmp_path / "prepared"), "--workers", "1"]
    )
    assert result.exit_code == 0 and "2 scans prepared" in result.output


def test_linked_folders_are_read_and_what_is_passed_over_is_named(tmp_path: Path) -> None:
    own, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    (elsewhere / "A17").mkdir(parents=True)
    (elsewhere / "A17" / "T1W.nii.gz").touch()
    (own / "B2").mkdir(parents=True)
    (own / "B2" / "T2W.nii.gz").touch()
    (own / "A17").symlink_to(elsewhere / "A17")
    (own / "B2" / "again").symlink_to(own)
    (own / "B2" / "C3_T1W.nii.gz").symlink_to(tmp_path / "gone")
    (own / "a/b/c/d/e").mkdir(parents=True)
    cohort = cirrnb.read_cohort(own)
    assert [scan.name for scan in cohort.scans] == ["own/A17 T1W", "own/B2 T2W"]
    told = " ".join(cohort.notes)
    assert "B2/again" in told and "B2/C3_T1W.nii.gz" in told and "a/b/c/d/e" in told


@pytest.mark.parametrize("link", [os.link, os.symlink], ids=["hard", "symbolic"])
@pytest.mark.parametrize("layout", ["folder", "table", "published"])
def test_one_scan_under_two_ids_is_a_problem(layout: str, link, tmp_path: Path) -> None:
    own = tmp_path / "own"
    place = own / "Cirrhosis_T1_3D/train_images" if layout == "published" else own
    place.mkdir(parents=True)
    names = ["1.nii.gz", "2.nii.gz", "3.nii.gz"] if layout == "published" else [f"{n}_T1W.nii.gz" for n in "123"]
    for name in (names[0], names[2]):
        (place / name).touch()
    link(place / names[0], place / names[1])
    if layout == "table":
        rows = [f"{number},T1W,{name}" for number, name in enumerate(names, 1)]
        (own / "scans.csv").write_text("\n".join(["patient,sequence,image", *rows]))
    with pytest.warns(UserWarning):
        cohort = cirrnb.read_cohort(own, on_problem="skip")
    assert [scan.patient for scan in cohort.scans] == ["3"]
    (problem,) = cohort.problems
    assert {subject.rpartition("/")[2] for subject in problem.subjects} == {"1", "2"}
    assert any(one.severity == "error" for one in audit(cohort, workers=1, progress=False).findings)


def test_a_link_to_nothing_is_told_in_the_published_layout(tmp_path: Path) -> None:
    place = tmp_path / "Cirrhosis_T1_3D/train_images"
    place.mkdir(parents=True)
    (place / "1.nii.gz").touch()
    (place / "2.nii.gz").symlink_to(tmp_path / "gone")
    with pytest.raises(InputErrors, match=r"2\.nii\.gz.*link"):
        cirrnb.read_cohort(tmp_path)


@pytest.mark.parametrize("output", ["prepared/own", "masks"])
def test_what_cirrnb_wrote_into_the_folder_is_no_scan(output: str, tmp_path: Path) -> None:
    _touch(tmp_path, "A17_T1W.nii.gz", f"{output}/organs/x-A17_T1W_123_organs.nii.gz", f"{output}/masks/x_liver.nii.gz")
    _touch(tmp_path, f"{output}/organs/x-A17_T1W_123_organs.found.json")
    assert _read(tmp_path) == [("A17", "T1W", None)]
    _touch(tmp_path, "own/fingerprints.json", "own/segmented/masks/x-A17_T1W_123_liver.nii.gz")
    assert _read(tmp_path) == [("A17", "T1W", None)]
