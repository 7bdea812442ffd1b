"""A folder of NIfTI files is a cohort where its names tell; where they do not, somebody is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
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
        (("A17.nii.gz",), "tells neither T1W nor T2W"),
        (("A17_T1_and_T2.nii.gz",), "T1W and T2W at once"),
        (("A17_t1_vibe_fs.nii.gz",), "more than patient and sequence"),
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
    result = CliRunner().invoke(app, ["prepare", str(own), "--out", str(tmp_path / "prepared"), "--workers", "1"])
    assert result.exit_code == 0 and "2 scans prepared" in result.output
