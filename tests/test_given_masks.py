"""Liver masks that a reader supplies for one patient: whose they are, and what is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from test_contours import AFFINE, write
from test_explanation import untrained
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.errors import InputError
from cirrnb.data.given_masks import absolute, give_masks, reject_mask
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.status import status_of_scans
from cirrnb.reports.report import _with_given

SETTINGS = PreparationSettings(spacing=4.0, view="liver")


def box(path: Path, shape: tuple[int, ...] = (72, 64, 9), shift: float = 0.0, value: int = 1) -> Path:
    """A mask of a box in which the liver of `write` lies, on its grid moved by `shift` mm."""
    values = np.zeros(shape, np.uint8)
    values[6:40, 18:46, 1:8] = value
    affine = AFFINE.copy()
    affine[:3, 3] += shift
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    return replace(write(tmp_path / "own"), extra={"mask_by": "a program", "checked": "refused", "site": "A"})


def t2w(scan: Scan, slices: int) -> Scan:
    """The patient's other scan, with so many slices."""
    path = scan.image.with_name("other.nii.gz")
    values = np.random.default_rng(1).normal(100, 5, (72, 64, slices)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    return Scan("1", "T2W", path)


def test_a_given_mask_is_a_person_s_and_what_spoke_of_the_other_one_goes(scan: Scan, tmp_path: Path) -> None:
    given = give_masks(Cohort((scan, t2w(scan, 8))), box(tmp_path / "box.nii.gz")).scans
    assert given[0].mask == tmp_path / "box.nii.gz" and given[0].extra == {"site": "A"}
    assert given[1].mask is None


@pytest.mark.parametrize("before", ["T2W", "t2", "T2 haste"])
@pytest.mark.parametrize("subject", [None, "own/1", "1"])
def test_a_mask_is_named_as_people_type_it(
    before: str, subject: str | None, scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = Cohort((replace(scan, source="own"), replace(t2w(scan, 9), source="own")))
    box(tmp_path / "box.nii.gz")
    monkeypatch.setenv("HOME", str(tmp_path))
    given = give_masks(people, f"{before}=~/box.nii.gz", subject).scans
    assert [one.mask for one in given][1] == tmp_path / "box.nii.gz"
    assert absolute([f"{before}=~/box.nii.gz"]) == (f"{before}={tmp_path / 'box.nii.gz'}",)


def test_the_view_follows_the_given_mask_and_no_file_of_the_cohort_changes(scan: Scan, tmp_path: Path) -> None:
    files = sorted(scan.image.parent.iterdir())
    before = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    people = give_masks(Cohort((scan,)), box(tmp_path / "box.nii.gz"))
    (prepared,) = cirrnb.prepare(
        people, tmp_path / "prepared", SETTINGS, masks="given", workers=1, progress=False
    ).scans
    assert prepared.measured["liver_ml"] == pytest.approx(34 * 28 * 7 * 0.096)
    assert sorted(scan.image.parent.iterdir()) == files
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in files] == before


def test_where_both_scans_have_one_grid_the_sequence_decides(scan: Scan, tmp_path: Path) -> None:
    people, mask = Cohort((scan, t2w(scan, 9))), box(tmp_path / "box.nii.gz")
    with pytest.raises(InputError) as raised:
        give_masks(people, mask)
    assert "T1W" in raised.value.found and "T2W" in raised.value.found and "T1W=" in raised.value.remedy
    given = give_masks(people, f"T2W={mask}").scans
    assert given[0].mask == scan.mask and given[1].mask == mask
    both = give_masks(people, [f"T2W={mask}", f"T1W={mask}"]).scans
    assert {one.mask for one in both} == {mask}


@pytest.mark.parametrize("fault", ["shape", "place", "empty", "labels", "missing", "twice", "nobody", "several"])
def test_a_mask_that_cannot_be_this_patient_s_is_one_clear_error(scan: Scan, tmp_path: Path, fault: str) -> None:
    people, path, subject = Cohort((scan,)), tmp_path / "box.nii.gz", None
    masks: list[str | Path] = [path]
    if fault == "shape":
        box(path, (72, 64, 10))
    elif fault == "place":
        box(path, shift=7.0)
    elif fault == "empty":
        box(path, value=0)
    elif fault == "labels":
        values = np.zeros((72, 64, 9), np.uint8)
        values[10:20, 10:20, 2:4], values[30:40, 10:20, 2:4] = 1, 2
        nib.save(nib.Nifti1Image(values, AFFINE), path)
    elif fault != "missing":
        box(path)
    if fault == "twice":
        masks = [path, f"T1W={path}"]
    if fault == "nobody":
        subject = "cirrhotic/9"
    if fault == "several":
        people = Cohort((scan, replace(scan, patient="2")))
    with pytest.raises(InputError) as raised:
        give_masks(people, masks, subject)
    assert raised.value.found and raised.value.remedy
    assert ("box.nii.gz" in raised.value.where) == (fault not in ("nobody", "several"))


def test_a_report_takes_a_mask_for_one_patient_alone(scan: Scan, tmp_path: Path) -> None:
    people, mask = Cohort((scan, replace(scan, patient="2"))), str(box(tmp_path / "box.nii.gz"))
    with pytest.raises(InputError):
        _with_given(people, [mask], ["cirrhotic/1", "cirrhotic/2"])
    given = _with_given(people, [mask], ["cirrhotic/2"]).scans
    assert [one.mask == Path(mask) for one in given] == [False, True]
    assert _with_given(people, [], ["cirrhotic/1", "cirrhotic/2"]) is people


def test_paths_of_masks_hold_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute(["T1W=a.nii", "b.nii"]) == (f"T1W={tmp_path / 'a.nii'}", str(tmp_path / "b.nii"))


@pytest.mark.parametrize("command", ["explore", "report"])
def test_commands_refuse_the_mask_of_another_scan(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "scans.csv"
    table.write_text(f"patient,sequence,image\n1,T1W,{scan.image}\n", encoding="utf-8")
    other = box(tmp_path / "other.nii.gz", (72, 64, 10))
    more = ["--no-browser", "--port=0"] if command == "explore" else ["--jobs=1"]
    result = CliRunner().invoke(app, [command, str(table), "--mask", str(other), *more])
    assert result.exit_code != 0 and "other.nii.gz" in f"{result.output}{result.exception}"


# ------------------------------------------------------------------------------------------------ rejected


def opened(scan: Scan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> cirrnb.SliceExplorer:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    ready = cirrnb.prepare(Cohort((scan,)), folder / "prepared", SETTINGS, masks="given", workers=1, progress=False)
    shown = cirrnb.SliceExplorer(ready, untrained(), store=None)
    assert shown.wait(60)
    return shown


def test_a_rejected_outline_makes_the_answer_doubtful_and_leaves_the_view_to_the_body(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = replace(scan, extra={"mask_by": "a program", "organs": "organs.nii.gz"})
    shown = opened(scan, tmp_path, monkeypatch)
    before = shown._bags["cirrhotic/1"].scans["T1W"]
    shown.outlines.reject.click()
    assert shown.wait(60)
    after = shown._bags["cirrhotic/1"].scans["T1W"]
    status, reasons = status_of_scans([after.scan])
    assert after.mask is None and status == "doubtful" and [one.code for one in reasons] == ["mask rejected"]
    assert "organs" not in after.scan.extra and any("centred on the body" in note for note in after.notes)
    assert not np.allclose(after.grid.affine, before.grid.affine), "the view moves from the liver to the body"
    assert shown.outlines.reject.disabled and shown.outlines.restore.layout.display == ""
    shown.outlines.restore.click()
    assert shown.wait(60)
    assert shown._bags["cirrhotic/1"].scans["T1W"].mask is not None and not shown.outlines.reject.disabled


def test_a_box_that_a_reader_draws_is_the_view(scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = opened(replace(scan, extra={"mask_by": "a program"}), tmp_path, monkeypatch)
    sent: list = []
    monkeypatch.setattr(shown.canvas, "send", lambda content, buffers=None: sent.append(content))
    grid = shown._bags["cirrhotic/1"].scans["T1W"].grid
    shown.canvas._hear(None, {"kind": "box", "name": "T1W", "rows": [10, 30], "columns": [12, 40]}, [])
    box = shown.outlines.box_in_mm()
    corners = np.sort([grid.to_patient(np.array([(0, r - 0.5, c - 0.5)]))[0] for r, c in ((10, 12), (30, 40))], axis=0)
    np.testing.assert_allclose([box[0], box[1]], corners.T[:2], atol=0.6)
    drawn = [one["box"] for one in sent if one["kind"] == "box" and one["box"]][-1]
    np.testing.assert_allclose([drawn["rows"], drawn["columns"]], [[10, 30], [12, 40]], atol=0.2)
    shown.outlines.use.click()
    assert shown.wait(60)
    after = shown._bags["cirrhotic/1"].scans["T1W"]
    middle = (np.array(after.grid.shape) - 1) / 2
    np.testing.assert_allclose(after.grid.to_patient(middle)[:2], [np.mean(box[0]), np.mean(box[1])], atol=4.1)
    assert after.mask is None and any("box" in note for note in after.notes)
    assert status_of_scans([after.scan])[0] == "doubtful"


def test_a_box_on_slices_keeps_these_slices_and_is_found_again(scan: Scan, tmp_path: Path) -> None:
    # Slices lie 6 mm apart from 0: heights of 9 to 33 mm are slices 2 to 5.
    one = reject_mask(scan, ((40.0, 120.0), (80.0, 160.0), (9.0, 33.0)))
    for _ in range(2):
        (found,) = cirrnb.prepare(Cohort((one,)), tmp_path / "p", SETTINGS, masks="given", progress=False).scans
        assert found.measured["slices"] == [2, 6] and found.mask is None
    whole = reject_mask(scan)
    (other,) = cirrnb.prepare(Cohort((whole,)), tmp_path / "p", SETTINGS, masks="given", progress=False).scans
    assert other.folder != found.folder and other.measured["slices"] == [0, 9]


def test_rejecting_twice_leaves_one_reason_and_other_reasons_stay(scan: Scan) -> None:
    scan = replace(scan, extra={"checked": "doubtful", "check_reasons": "side: the organs lie on the wrong side"})
    twice = reject_mask(reject_mask(scan), ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)))
    assert [one.code for one in status_of_scans([twice])[1]] == ["side", "mask rejected"]
