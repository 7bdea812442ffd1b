"""A scan is prepared as a reader would expect: geometry, intensities, slices, views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from preparation_phantoms import GRIDS, LIVER, POINT, prepare_one, render, write

from cirrnb.data.grid import Grid
from cirrnb.data.prepared import PreparationSettings, PreparedScan
from cirrnb.data.scan import Cohort, Scan
from cirrnb.preparation.cohort import prepare
from cirrnb.preparation.geometry import to_source


@pytest.mark.parametrize("view", ["abdomen", "liver"])
@pytest.mark.parametrize("kind", GRIDS)
def test_a_point_stays_where_it_is_and_comes_back(tmp_path: Path, kind: str, view: str) -> None:
    scan = write(tmp_path, "1", kind=kind, mask=view == "liver")
    prepared = prepare_one(scan, tmp_path / "out", view=view, spacing=1.5, margin=40)
    assert prepared.image.shape[1:] == PreparationSettings(view=view).size == prepared.grid.shape[1:]
    assert nib.aff2axcodes(prepared.grid.affine) == ("S", "P", "L")
    assert prepared.source_grid == Grid(nib.load(scan.image).shape, nib.load(scan.image).affine)
    for values, grid in (
        (prepared.image, prepared.grid),
        (to_source(prepared, prepared.image), prepared.source_grid),
    ):
        place = grid.to_patient(np.moveaxis(np.indices(values.shape), 0, -1))
        low, high = prepared.measured["low"], prepared.measured["high"]
        body = (300 + place[..., 0] - low) / (high - low)
        bright = np.clip(values.astype(np.float64) - body - 0.3, 0, None)
        bright[(place[..., 0] / 100) ** 2 + (place[..., 1] / 80) ** 2 > 0.9] = 0
        found = np.tensordot(bright, place, 3) / bright.sum()
        assert np.abs(found - POINT).max() < 0.75


@pytest.mark.parametrize("kind", GRIDS)
def test_the_mask_stays_on_the_liver(tmp_path: Path, kind: str) -> None:
    scan = write(tmp_path, "1", kind=kind)
    prepared = prepare_one(scan, tmp_path / "out")
    assert prepared.mask is not None and prepared.mask.dtype == bool
    place = prepared.grid.to_patient(np.argwhere(prepared.mask)).mean(axis=0)
    assert np.abs(place - LIVER).max() < 0.75
    volume = prepared.mask.sum() * prepared.grid.voxel_volume / 1000
    assert volume == pytest.approx(4 / 3 * np.pi * 2.4**3, rel=0.05)
    assert prepared.measured["liver_ml"] == pytest.approx(volume, rel=0.02)
    file_mask = np.asarray(nib.load(scan.mask).dataobj) > 0
    back = to_source(prepared, prepared.mask)
    assert back.dtype == bool
    assert 2 * (back & file_mask).sum() / (back.sum() + file_mask.sum()) > 0.97


def test_slices_are_the_whole_liver_range_and_the_margin(tmp_path: Path) -> None:
    # Slices lie at -63, -57, ..., 63 mm; the liver reaches from -19 to 29 mm: -15 to 27 show it.
    scan = write(tmp_path, "1")
    assert prepare_one(scan, tmp_path / "out").positions == pytest.approx(np.arange(-15, 28, 6))
    assert prepare_one(scan, tmp_path / "out", margin=13).positions == pytest.approx(np.arange(-27, 40, 6))
    whole = prepare_one(scan, tmp_path / "out", margin=400)
    assert whole.positions == pytest.approx(np.arange(-63, 64, 6))
    assert prepare_one(replace(scan, mask=None), tmp_path / "out").positions == pytest.approx(np.arange(-63, 64, 6))


def test_intensities_are_scaled_over_the_body_of_the_volume_and_nothing_else(tmp_path: Path) -> None:
    scan = write(tmp_path, "1")
    prepared = prepare_one(scan, tmp_path / "out")
    assert prepared.image.dtype == np.float16
    values, _ = render(prepared.source_grid, seed=sum(map(ord, "1T1W")))
    place = prepared.source_grid.to_patient(np.moveaxis(np.indices(values.shape), 0, -1))
    body = values[(place[..., 0] / 100) ** 2 + (place[..., 1] / 80) ** 2 <= 1]
    expected = np.percentile(body, (1, 99))
    assert prepared.measured["low"] == pytest.approx(expected[0], abs=12)
    assert prepared.measured["high"] == pytest.approx(expected[1], abs=25)
    low, high = prepared.measured["low"], prepared.measured["high"]
    # The ball's middle is at 300 - 35 + 250, give or take the noise and the next slice's distance.
    assert prepared.image.max() == pytest.approx((515 - low) / (high - low), abs=0.15)
    # Around the file's field of view (200 x 240 mm within 288 x 384 mm) there is nothing; air in it is below 0.
    assert (prepared.image[:, :, :40] == 0).all() and (prepared.image[:, :, -40:] == 0).all()
    assert (prepared.image[:, :25] == 0).all() and (prepared.image[:, -25:] == 0).all()
    assert prepared.image[:, 60, 60].max() < 0 and prepared.image.min() >= -0.5
    # The same for every view, spacing and choice of slices.
    for other in ({"view": "liver"}, {"spacing": 3.0}, {"margin": 50.0}):
        again = prepare_one(scan, tmp_path / "out", **other)
        assert (again.measured["low"], again.measured["high"]) == (low, high)


def test_an_equal_spacing_copies_without_blurring(tmp_path: Path) -> None:
    scan = write(tmp_path, "1", kind="square", mask=False)
    prepared = prepare_one(scan, tmp_path / "out", spacing=2.0)
    low, high = prepared.measured["low"], prepared.measured["high"]
    values = np.asarray(nib.load(scan.image).dataobj).astype(np.float64)
    expected = np.clip((values - low) / (high - low), -0.5, 2)
    np.testing.assert_allclose(to_source(prepared, prepared.image), expected, atol=2e-3)


def test_the_views_are_centred_on_body_and_liver(tmp_path: Path) -> None:
    scan = write(tmp_path, "1")

    def middle(prepared: PreparedScan) -> np.ndarray:
        return prepared.grid.to_patient((np.array(prepared.grid.shape) - 1) / 2)

    assert middle(prepare_one(scan, tmp_path / "out"))[:2] == pytest.approx((0, 0), abs=3)
    assert middle(prepare_one(scan, tmp_path / "out", view="liver"))[:2] == pytest.approx(LIVER[:2], abs=2)
    without = prepare_one(replace(scan, mask=None), tmp_path / "out", view="liver")
    assert middle(without)[:2] == pytest.approx((0, 0), abs=3)
    assert without.notes == ("no liver mask; the view is centred on the body",)
    assert without.mask is None


def test_a_field_of_view_that_cuts_the_liver_is_noted(tmp_path: Path) -> None:
    prepared = prepare_one(write(tmp_path, "1"), tmp_path / "out", field_of_view=(120, 120))
    # The field ends 60 mm from the body's middle, which is found to 2 mm: in the middle of the liver ball of 24 mm.
    assert prepared.measured["liver_outside"] == pytest.approx(0.5, abs=0.1)
    assert "% of the liver lies outside the field of view" in prepared.notes[0]


def centroid_and_volume(mask: np.ndarray, grid: Grid) -> tuple[np.ndarray, float]:
    return grid.to_patient(np.argwhere(mask)).mean(axis=0), mask.sum() * grid.voxel_volume / 1000


@pytest.mark.real
@pytest.mark.parametrize("view", ["abdomen", "liver"])
def test_real_files_come_back_on_their_own_grids_within_half_a_voxel(
    external_data: Path, tmp_path: Path, view: str
) -> None:
    folder = external_data / "totalsegmentator_mr"
    labels = nib.load(folder / "example_seg_mr.nii.gz")
    liver = np.asarray(labels.dataobj) == 5
    nib.save(nib.Nifti1Image(liver.astype(np.uint8), labels.affine), tmp_path / "liver.nii.gz")
    scans = (
        Scan("1", "T1W", folder / "example_mr_sm.nii.gz", tmp_path / "liver.nii.gz"),
        Scan("2", "T2W", external_data / "cmb_crc" / "SCAN_001_t2_small.nii.gz"),
    )
    prepared = prepare(Cohort(scans), tmp_path / "out", PreparationSettings(view=view), workers=1, progress=False)
    assert len(prepared) == 2
    for one in prepared:
        file = nib.load(one.scan.image)
        assert one.source_grid.matches(Grid(file.shape, file.affine))
        half = min(one.grid.spacing[1:]) / 2
        back = to_source(one, one.image)
        low, high = one.measured["low"], one.measured["high"]
        values = np.clip((np.asarray(file.dataobj).astype(np.float32) - low) / (high - low), -0.5, 2)
        inside = to_source(one, np.ones(one.grid.shape, dtype=bool))
        # Along each axis the file must agree with what came back better than with itself moved by half a prepared
        # voxel; found from the gradient: shift = <difference, gradient> / <gradient, gradient>.
        for axis, length in enumerate(one.source_grid.spacing):
            slope = np.gradient(values, axis=axis)[inside]
            shift = ((values - back)[inside] * slope).sum() / (slope**2).sum() * length
            assert abs(shift) < half / 4
        assert np.corrcoef(values[inside], back[inside])[0, 1] > 0.98
    place, volume = centroid_and_volume(liver, prepared.scans[0].source_grid)
    first = prepared.scans[0]
    assert first.mask is not None
    for mask, grid in ((first.mask, first.grid), (to_source(first, first.mask), first.source_grid)):
        there = centroid_and_volume(mask, grid)
        assert np.abs(there[0] - place).max() < 0.75
        assert there[1] == pytest.approx(volume, rel=0.03)
    assert isinstance(prepared.failures.reason.tolist(), list) and prepared.failures.empty
