"""Masks and maps leave as DICOM segmentation objects, and a second library (GDCM in SimpleITK) finds them in place."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_phantoms import NAME, T1, T2, write_series
from pydicom import dcmread
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.atomic_files import file_stem
from cirrnb.data.dicom import conversion as seg
from cirrnb.data.dicom.importing import import_dicom, list_series
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid

OBLIQUE = tuple(np.round([0.98480775, 0.17364818, 0, -0.16773126, 0.95125124, 0.25881905], 8))


def lps(path: Path) -> dict[tuple[float, ...], float]:
    """Where an image is not 0, as SimpleITK reads it: LPS coordinates, one decimal, and value."""
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image)
    found = {}
    for place in np.argwhere(values > 0):
        point = image.TransformIndexToPhysicalPoint([int(one) for one in place[::-1]])
        found[tuple(np.round(point, 1) + 0.0)] = float(values[tuple(place)])
    return found


@pytest.mark.parametrize("fractional", [False, True])
def test_a_segment_is_read_back_in_its_place_by_another_library(fractional: bool, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", T2, orientation=OBLIQUE, spacing=(1.25, 1.75), apart=6.5)
    import_dicom(tmp_path / "dicom", tmp_path / "own")
    image = nib.load(tmp_path / "own/case-1/T2W.nii.gz")
    marked = np.zeros(image.shape, dtype=np.float32)
    marked[3:6, 17:20, 2:5] = 1
    marked[4, 18, 3] = 0.6
    values = marked if fractional else marked > 0
    series = list_series(tmp_path / "dicom").judged[0].series
    path = seg.write_segmentation(
        tmp_path / "out.dcm", series, Grid(image.shape, image.affine), [seg.Segment(seg.LIVER, values, "a program")],
        description="test", version="1",
    )  # fmt: skip
    found = lps(path)
    expected = {}
    for place in np.argwhere(marked > 0):
        x, y, z, _ = image.affine @ [*place, 1]
        value = round(255 * float(marked[tuple(place)])) if fractional else 255  # what GDCM makes of a bit
        expected[tuple(np.round([-x, -y, z], 1) + 0.0)] = value
    assert found == expected
    assert path.stat().st_size > 0 and not list(tmp_path.glob(".writing*"))


def test_it_points_at_its_series_and_says_what_it_is(tmp_path: Path) -> None:
    files = write_series(tmp_path / "dicom", T1)
    series = list_series(tmp_path / "dicom").judged[0].series
    assert series.grid is not None
    values = np.ones(series.grid.shape, dtype=bool)
    segment = seg.Segment(seg.LIVER, values, "MRSegmentator")
    path = seg.write_segmentation(tmp_path / "a.dcm", series, series.grid, [segment], description="liver", version="1")
    data = dcmread(path)
    referenced = data.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == series.uid and str(data.PatientName) == NAME
    known = {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence}
    assert known == {dcmread(one).SOPInstanceUID for one in files}
    told = data.SegmentSequence[0]
    assert (told.SegmentLabel, told.SegmentAlgorithmType) == ("liver", "AUTOMATIC")
    assert told.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver"
    assert "research only" in data.SeriesDescription


def test_a_series_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", T1)
    series = list_series(tmp_path / "dicom").judged[0].series
    assert series.grid is not None
    moved = Grid(series.grid.shape, _moved(series.grid.affine))
    with pytest.raises(InputError, match="lies elsewhere"):
        seg.write_segmentation(tmp_path / "a.dcm", series, moved, [], description="", version="1")


def _moved(affine: np.ndarray) -> np.ndarray:
    other = np.array(affine)
    other[2, 3] += 3
    return other


def test_a_case_is_exported_by_the_command_and_overlaps_its_nifti(tmp_path: Path) -> None:
    """A simulated scan made DICOM, imported, given its mask, explained, exported and read back."""
    made = cirrnb.simulate_cohort(tmp_path / "sim", patients=3, seed=5, scale="tiny", healthy=0, workers=1)
    scan = next(one for one in made.scans if one.sequence == "T1W")
    mask = nib.as_closest_canonical(nib.load(scan.mask))
    middle = int(np.asarray(mask.dataobj).sum(axis=(0, 1)).argmax())
    few = (slice(None), slice(None), slice(middle - 5, middle + 6))
    mask, image = mask.slicer[few], nib.as_closest_canonical(nib.load(scan.image)).slicer[few]
    turned = np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)  # RAS to slices, rows, columns in LPS
    far = image.affine @ [image.shape[0] - 1, image.shape[1] - 1, 0, 1]
    across, down, apart = (float(one) for one in image.header.get_zooms()[:3])
    origin, spacing = (-far[0], -far[1], far[2]), (down, across)
    write_series(tmp_path / "dicom", T1, voxels=turned.astype(np.int16), origin=origin, spacing=spacing, apart=apart)
    import_dicom(tmp_path / "dicom", tmp_path / "own")
    imported = nib.load(tmp_path / "own/case-1/T1W.nii.gz")
    back = nib.orientations.ornt_transform(nib.io_orientation(mask.affine), nib.io_orientation(imported.affine))
    nib.save(mask.as_reoriented(back), tmp_path / "own/case-1/mask.nii.gz")
    table = tmp_path / "own/scans.csv"
    table.write_text(table.read_text().replace("T1W.nii.gz,", "T1W.nii.gz,case-1/mask.nii.gz", 1))
    words = ["export", str(tmp_path / "own"), str(tmp_path / "out"), "--dicom", str(tmp_path / "dicom")]
    words += ["--method", "grad_cam", "--prepared", str(tmp_path / "prepared")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stem = file_stem("imported/case-1", "T1W")
    assert names == {f"{stem}_{name}" for name in ("liver.nii.gz", "grad_cam.nii.gz", "liver.dcm", "grad_cam.dcm")}
    liver = nib.load(tmp_path / f"out/{stem}_liver.nii.gz")
    places = np.argwhere(np.asarray(liver.dataobj) > 0) @ liver.affine[:3, :3].T + liver.affine[:3, 3]
    expected = {tuple(np.round(point * [-1, -1, 1], 1) + 0.0) for point in places}
    assert set(lps(tmp_path / f"out/{stem}_liver.dcm")) == expected
    assert lps(tmp_path / f"out/{stem}_grad_cam.dcm")
    # Another patient who is called the same, in a cohort of their own: nothing of the first one is replaced.
    again = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "own", other)
    image = nib.load(other / "case-1/T1W.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine, image.header), other / "case-1/T1W.nii.gz")
    with_the_same_name = [words[0], str(other), words[2], *words[5:]]
    error = CliRunner().invoke(app, with_the_same_name).exception
    assert isinstance(error, InputError) and Path(error.where).parent == tmp_path / "out"
    assert again == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    moved = [*words[:4], str(tmp_path / "sim"), *words[5:]]
    assert isinstance(CliRunner().invoke(app, moved).exception, InputError)


def test_an_object_of_another_series_is_never_replaced(tmp_path: Path) -> None:
    path, mine = tmp_path / "liver.dcm", tmp_path / "mine"
    series = []
    for name in ("one", "two"):
        write_series(tmp_path / name, T1)
        series.append(list_series(tmp_path / name).judged[0].series)

    def write(number: int) -> None:
        own = series[number]
        liver = seg.Segment(seg.LIVER, np.ones(own.grid.shape, bool))
        seg.write_segmentation(path, own, own.grid, [liver], description="liver", version="1")

    write(0)
    write(0)
    before = path.read_bytes()
    with pytest.raises(InputError) as raised:
        write(1)
    assert raised.value.where == str(path) and path.read_bytes() == before
    mine.write_text("mine")
    mine.replace(path)
    with pytest.raises(InputError):
        write(0)
    assert path.read_text() == "mine"
