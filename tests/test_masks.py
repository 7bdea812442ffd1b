"""Masks that a program drew: by its real command line, marked as such, doubted where they cannot be a liver."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.mask_checks import doubts
from cirrnb.data.prepared import PreparationSettings
from cirrnb.measure.biomarkers import biomarkers
from cirrnb.segmentation.cohort import add_masks
from cirrnb.segmentation.judging import checker_of, judge
from cirrnb.segmentation.segmenter import Segmenter
from cirrnb.segmentation.weights import shipped_folder

GRID = Grid((70, 80, 30), np.diag([-4.0, -4.0, 6.0, 1.0]))  # LPS: the first axis runs to the patient's left


def liver(volume: tuple[slice, slice, slice] = (slice(10, 34), slice(20, 50), slice(6, 22))) -> np.ndarray:
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[volume] = True
    return mask


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program in an environment of its own, as a user would name it."""
    path = tmp_path / "mrseg" / "mrsegmentator"
    path.parent.mkdir()
    stand_in = Path(__file__).with_name("stand_in_mrsegmentator.py")
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stand_in}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    values = np.full(GRID.shape, 30, dtype=np.int16)
    values[liver()] = 120
    for name in ("A17_T1W.nii.gz", "A17_T2W.nii", "B2_T2W.nii.gz"):
        nib.save(nib.Nifti1Image(values, GRID.affine), folder / name)
    nib.save(nib.Nifti1Image(liver().astype(np.uint8), GRID.affine), folder / "B2_T2W_mask.nii.gz")
    return folder


def test_a_box_of_a_livers_size_is_not_doubted() -> None:
    assert doubts(liver(), GRID) == ()  # 24 x 30 x 16 voxels of 96 mm³: 1106 mL, on the right


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (liver((slice(10, 20), slice(20, 40), slice(6, 16))), "192 mL, where livers have 500 to 2800"),
        (liver((slice(2, 60), slice(10, 70), slice(2, 28))), "8686 mL"),
        (liver() | liver((slice(2, 8), slice(60, 78), slice(2, 28))), "2 parts, of which the largest has 80%"),
        (liver((slice(10, 34), slice(20, 50), slice(0, 16))), "reaches the lowest slice"),
        (liver((slice(10, 34), slice(20, 50), slice(14, 30))), "reaches the highest slice"),
        (liver((slice(0, 24), slice(20, 50), slice(6, 22))), "reaches the edge of the picture"),
        (liver((slice(40, 64), slice(20, 50), slice(6, 22))), "100% of it lies on the patient's left"),
        (np.zeros(GRID.shape, dtype=bool), "empty"),
    ],
)
def test_what_cannot_be_a_liver_is_doubted(mask: np.ndarray, told: str) -> None:
    assert any(told in one for one in doubts(mask, GRID)), doubts(mask, GRID)


def test_scans_without_a_mask_get_one_that_is_marked(own: Path, program: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in own.iterdir()}
    words = ["segment", str(own), str(tmp_path / "out"), "--program", str(program), "--fast", "--cpu"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "own/A17 T1W: drawn" in result.output, result.output
    scans = {scan.name: scan for scan in cirrnb.read_cohort(tmp_path / "out").scans}
    assert {name: scan.extra["mask_by"] for name, scan in scans.items()} == {
        "own/A17 T1W": "MRSegmentator",
        "own/A17 T2W": "MRSegmentator",
        "own/B2 T2W": None,
    }
    drawn = nib.load(scans["own/A17 T2W"].mask)
    assert np.array_equal(np.asarray(drawn.dataobj) > 0, liver()) and np.array_equal(drawn.affine, GRID.affine)
    assert scans["own/B2 T2W"].mask.resolve() == (own / "B2_T2W_mask.nii.gz").resolve()
    assert {path: path.read_bytes() for path in own.iterdir()} == before


def test_ids_that_look_alike_keep_masks_of_their_own(own: Path, program: Path, tmp_path: Path) -> None:
    rows = ["a b", "a.b", "A b", "=cmd"]
    for place in range(len(rows)):
        values = np.where(liver(), 120, 30).astype(np.int16)
        nib.save(nib.Nifti1Image(values, GRID.affine), own / f"{place}.nii.gz")
    lines = [f"{name},T1W,{place}.nii.gz,+x" for place, name in enumerate(rows)]
    (own / "scans.csv").write_text("\n".join(["patient,sequence,image,site", *lines]))
    made = add_masks(own, tmp_path / "out", program=program)
    scans = cirrnb.read_cohort(made.table).scans
    assert {scan.patient for scan in scans} == set(rows) and {scan.extra["site"] for scan in scans} == {"+x"}
    assert len({scan.mask.name.casefold() for scan in scans}) == len(rows)
    cells = [cell for line in made.table.read_text().splitlines() for cell in line.split(",")]
    assert "'=cmd" in cells and not [cell for cell in cells if cell.startswith(tuple("=+-@"))]


def test_one_that_cannot_be_a_liver_is_told(own: Path, program: Path, tmp_path: Path) -> None:
    values = np.full(GRID.shape, 120, dtype=np.int16)
    nib.save(nib.Nifti1Image(values, GRID.affine), own / "A17_T1W.nii.gz")
    made = add_masks(own, tmp_path / "out", program=program)
    assert "16128 mL, where livers have 500 to 2800" in made.drawn["own/A17 T1W"]
    assert "16128 mL" in cirrnb.read_cohort(made.table).scans[0].extra["mask_doubts"]


@pytest.mark.parametrize(
    ("act", "told"),
    [("fails", "last words: RuntimeError: CUDA"), ("no liver", "no liver found"), ("elsewhere", "on another grid")],
)
def test_a_program_that_draws_nothing_of_use_is_told(
    act: str, told: str, own: Path, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", act)
    with pytest.raises(InputError, match=told):
        add_masks(own, tmp_path / "out", program=program)
    assert not (tmp_path / "out").exists()


def test_what_was_drawn_is_kept_where_the_program_ends_early(
    own: Path, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "one")
    made = add_masks(own, tmp_path / "out", program=program)
    assert list(made.drawn) == ["own/A17 T1W"] and made.failed == {"own/A17 T2W": "nothing made of it"}


def test_without_the_program_the_way_out_is_told(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"pip install mrsegmentator.*Or go on without"):
        add_masks(own, tmp_path / "out", program="mrsegmentator")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of a simulated patient's scans without masks, and of a scan that shows nothing."""
    folder = tmp_path_factory.mktemp("bare")
    cohort = cirrnb.simulate_cohort(folder / "cohort", patients=1, seed=12, workers=1, progress=False)
    nib.save(nib.Nifti1Image(np.zeros(GRID.shape, np.int16), GRID.affine), folder / "nothing.nii.gz")
    lines = [f"A 1,{scan.sequence},{scan.image}" for scan in cohort.scans] + ["B,T1W,nothing.nii.gz"]
    (folder / "scans.csv").write_text("\n".join(["patient,sequence,image", *lines]))
    return folder


def test_by_default_the_own_network_segments(bare: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["segment", str(bare / "scans.csv"), str(tmp_path / "out"), "--workers", "1"])
    assert result.exit_code == 3, result.output
    scans = {(scan.patient, scan.sequence): scan for scan in cirrnb.read_cohort(tmp_path / "out").scans}
    assert scans["B", "T1W"].mask is None and scans["B", "T1W"].extra["mask_by"] is None
    scan = scans["A 1", "T1W"]
    assert scan.extra["mask_by"].startswith("cirrnb segmenter")
    image, mask = nib.load(scan.image), nib.load(scan.mask)
    assert image.shape == mask.shape and np.allclose(image.affine, mask.affine)
    found = {one.name: one.value for one in biomarkers(scan)}
    voxel = float(np.prod(image.header.get_zooms())) / 1000
    assert found["liver volume"] == pytest.approx(np.asarray(mask.dataobj).sum() * voxel)
    assert found["spleen volume"] is not None and found["liver-to-muscle signal"] is not None


def test_a_scan_is_segmented_once(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = add_masks(bare / "scans.csv", tmp_path / "out", workers=1)
    made.table.unlink()  # as if the run had been stopped before it
    monkeypatch.setattr(Segmenter, "segment", lambda *_: pytest.fail("segmented again"))
    again = add_masks(bare / "scans.csv", tmp_path / "out", workers=1)
    assert (again.drawn, again.failed) == (made.drawn, made.failed) and len(again.drawn) == 2


def test_workers_draw_the_same(bare: Path, tmp_path: Path) -> None:
    one, two = (add_masks(bare / "scans.csv", tmp_path / str(count), workers=count) for count in (1, 2))
    assert one.failed == two.failed and one.drawn == two.drawn
    for first in (tmp_path / "1").rglob("*_organs.nii.gz"):
        second = tmp_path / "2" / first.relative_to(tmp_path / "1")
        assert np.array_equal(nib.load(first).get_fdata(), nib.load(second).get_fdata())
    _pairs_are_compared_alike(tmp_path)


def _pairs_are_compared_alike(drawn: Path) -> None:
    """By two workers as in this process: the pair that was drawn, and once more under another name."""
    scans, outcomes = [], {}
    for scan in cirrnb.read_cohort(drawn / "1").scans:
        for name in ("first", "second") if scan.mask else ():
            made = scan.image.parent / str(scan.extra["organs"])
            organs = drawn / f"{name}-{scan.sequence}.nii.gz"
            organs.write_bytes(made.read_bytes())
            scans.append(replace(scan, patient=name))
            found = json.loads(made.with_name(made.name.replace(".nii.gz", ".found.json")).read_text())
            outcomes[scans[-1].name] = {"observed": found["observed"], "organs": str(organs)}
    checker = checker_of(shipped_folder(), Segmenter.load().fingerprint)
    assert checker is not None and len(scans) == 4
    here, there = (judge(scans, outcomes, checker, drawn / f"by-{count}", workers=count) for count in (1, 2))
    assert here == there and all(len(checks) == 4 for checks in here.values())
    assert len(list((drawn / "by-2" / "pairs").iterdir())) == 2


def test_one_file_is_segmented_by_its_path(bare: Path, tmp_path: Path) -> None:
    image = next((bare / "cohort").rglob("*_images/*.nii.gz"))
    result = CliRunner().invoke(app, ["segment", str(image), str(tmp_path)])
    assert result.exit_code == 0 and "liver: " in result.output
    assert len(list(tmp_path.rglob("*_liver.nii.gz"))) == 1
    result = CliRunner().invoke(app, ["segment", str(bare / "nothing.nii.gz"), str(tmp_path)])
    assert result.exit_code == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_scan_that_is_gone_costs_the_others_nothing(bare: Path, tmp_path: Path, workers: int) -> None:
    rows = (bare / "scans.csv").read_text().splitlines()
    table = bare / f"one-gone-{workers}.csv"
    table.write_text("\n".join([*rows[:2], "C,T1W,gone.nii.gz"]))
    (bare / "gone.nii.gz").write_bytes(b"")
    cohort = cirrnb.read_cohort(table)
    (bare / "gone.nii.gz").unlink()
    settings = PreparationSettings(view="liver")
    prepared = cirrnb.prepare(cohort, tmp_path / "prepared", settings, workers=workers, progress=False)
    assert [scan.scan.patient for scan in prepared] == ["A 1"] and prepared.scans[0].mask is not None
    assert list(prepared.failures["subject"].str.endswith("C")) == [True]
