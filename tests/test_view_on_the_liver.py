"""The view on the liver contains the whole liver on every scan of a patient; where the scan cuts it, that is told."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from preparation_phantoms import write

from cirrnb.data.prepared import PreparationSettings, PreparedScan
from cirrnb.data.scan import Cohort, Scan
from cirrnb.preparation.cohort import prepare
from cirrnb.preparation.field_of_view import PROGRAM_MARGIN

SMALL = PreparationSettings(view="liver", spacing=2.0, field_of_view=(40.0, 48.0))
"""Smaller than the phantoms' liver, a ball of 48 mm."""


def prepared(tmp_path: Path, *scans: Scan, settings: PreparationSettings = SMALL) -> tuple[PreparedScan, ...]:
    return prepare(Cohort(scans), tmp_path / "out", settings, workers=1, progress=False).scans


def volume(scan: Scan) -> float:
    image = nib.load(scan.mask)
    return float(np.count_nonzero(image.dataobj) * abs(np.linalg.det(image.affine[:3, :3])))


@pytest.mark.parametrize("kind", ["axial", "coronal", "oblique"])
def test_it_grows_until_the_whole_liver_lies_in_it(tmp_path: Path, kind: str) -> None:
    scan = write(tmp_path, "1", kind=kind)
    (found,) = prepared(tmp_path, scan)
    assert found.mask is not None
    assert found.measured["liver_outside"] == 0
    assert found.mask.sum() * found.grid.voxel_volume == pytest.approx(volume(scan), rel=0.05)
    assert not found.mask[:, [0, -1]].any() and not found.mask[:, :, [0, -1]].any()
    assert max(found.grid.shape[1:]) <= 48


def test_a_view_that_is_large_enough_stays_as_it_was(tmp_path: Path) -> None:
    usual = PreparationSettings(view="liver")
    (found,) = prepared(tmp_path, write(tmp_path, "1"), settings=usual)
    assert found.grid.shape[1:] == usual.size


def test_all_scans_of_a_patient_get_one_size_and_others_keep_theirs(tmp_path: Path) -> None:
    settings = PreparationSettings(view="liver", spacing=2.0, field_of_view=(64.0, 64.0))
    first = write(tmp_path, "1", "T1W")
    bare = write(tmp_path, "1", "T2W", mask=False)
    drawn = write(tmp_path, "2", "T1W", extra={"mask_by": "a program"})
    by_person, without, by_program = prepared(tmp_path, first, bare, drawn, settings=settings)
    assert by_person.grid.shape[1:] == without.grid.shape[1:] == settings.size
    assert by_program.grid.shape[1:] == (48, 48)  # 48 + 2 * 12 mm of 2 mm pixels, grown by blocks of 16 pixels
    assert by_program.grid.shape[0] > by_person.grid.shape[0]  # slices above and below, too


def test_a_repeated_call_finds_what_was_prepared(tmp_path: Path) -> None:
    scan = write(tmp_path, "1", extra={"mask_by": "a program"})
    first, second = prepared(tmp_path, scan), prepared(tmp_path, scan)
    assert first[0].folder == second[0].folder
    assert PROGRAM_MARGIN > 0


@pytest.mark.parametrize(("cut", "expected"), [(slice(0, 10), "highest slice"), (slice(10, None), "lowest slice")])
def test_a_liver_that_the_scan_cuts_off_is_told(tmp_path: Path, cut: slice, expected: str) -> None:
    scan = write(tmp_path, "1")
    assert scan.mask is not None
    for path in (scan.image, scan.mask):
        image = nib.load(path)
        affine = image.affine.copy()
        affine[:3, 3] += affine[:3, 2] * (cut.start or 0)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, cut], affine), path)
    (found,) = prepared(tmp_path, scan)
    assert found.measured["liver_cut_off"] == [expected]
    assert any(expected in note for note in found.notes)
