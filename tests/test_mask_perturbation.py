"""Masks moved by a known way, or taken away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cirrnb.data.mask_perturbation import moved, rounded, with_rounded_masks, with_shifted_masks, without_masks
from cirrnb.data.nifti.reading import read_mask, read_volume
from cirrnb.data.scan import Cohort, Scan

SPACING = (2.0, 2.5, 5.0)
AFFINE = np.diag([-2.0, 2.5, 5.0, 1.0])  # runs to the patient's right along the first axis


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    mask = np.zeros((27, 28, 9), np.uint8)
    mask[10:16, 11:17, 3:6] = 1
    for name, values in (("image", np.random.default_rng(0).random(mask.shape).astype(np.float32)), ("mask", mask)):
        nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / f"{name}.nii.gz")
    scans = (
        Scan("1", "T1W", tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz"),
        Scan("1", "T2W", tmp_path / "image.nii.gz"),
    )
    return Cohort(scans, "toy", simulated=True)


def test_a_mask_moves_to_where_its_affine_says() -> None:
    mask = np.zeros((7, 8, 9), bool)
    mask[3, 4, 5] = True
    [found] = np.argwhere(moved(mask, AFFINE, np.array([4.0, -5.0, 0.0])))
    assert found.tolist() == [1, 2, 5]
    assert not moved(mask, AFFINE, np.array([40.0, 0.0, 0.0])).any(), "nothing comes in at the other side"


def test_masks_are_shifted_in_the_plane_by_ten_millimetres(cohort: Cohort, tmp_path: Path) -> None:
    shifted = with_shifted_masks(cohort, tmp_path / "moved")
    one, other = shifted.scans
    assert other.mask is None and one.image == cohort.scans[0].image and one.mask is not None
    _, grid = read_volume(one.image)
    before, after = (np.argwhere(read_mask(path, grid)).mean(axis=0) for path in (cohort.scans[0].mask, one.mask))
    way = (after - before) * SPACING
    assert way[2] == 0 and np.hypot(*way[:2]) == pytest.approx(10, abs=1.8)  # to the nearest voxel
    content = one.mask.read_bytes()
    again = with_shifted_masks(cohort, tmp_path / "again").scans[0]
    assert again.mask is not None and np.array_equal(read_mask(again.mask, grid), read_mask(one.mask, grid))
    assert with_shifted_masks(cohort, tmp_path / "moved").scans[0].mask == one.mask and one.mask.read_bytes() == content
    assert [path.name for path in (tmp_path / "moved").iterdir()] == [one.mask.name]


def test_rounded_masks_lose_their_teeth_and_nothing_through_the_slices(cohort: Cohort, tmp_path: Path) -> None:
    mask = np.zeros((60, 70, 9), bool)
    mask[10:50, 10:60, 3:6] = True
    mask[10:50:4, 60:62, 4] = True  # teeth of 5 mm every 8 mm
    found = rounded(mask, AFFINE, 4.0)
    assert found.any(axis=(0, 1)).tolist() == mask.any(axis=(0, 1)).tolist()
    assert not found[30, 62, 4] and found[30, 35, 4] and not found[10, 10, 4]  # a corner goes, the middle stays
    edge = [int(np.flatnonzero(found[column, :, 4]).max()) for column in range(20, 40)]
    assert max(edge) - min(edge) <= 1
    one, other = with_rounded_masks(cohort, tmp_path / "rounded", 1.0).scans
    _, grid = read_volume(one.image)
    assert other.mask is None and read_mask(one.mask, grid).sum() == pytest.approx(6 * 6 * 3, abs=20)
    assert with_rounded_masks(cohort, tmp_path / "rounded", 1.0).scans[0].mask == one.mask


def test_masks_can_be_taken_away(cohort: Cohort) -> None:
    bare = without_masks(cohort)
    assert [scan.mask for scan in bare.scans] == [None, None]
    assert [replace(scan, mask=None) for scan in cohort.scans] == list(bare.scans)
