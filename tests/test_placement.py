"""How files say where their voxels lie: units, two forms, codes; read alike, told, and kept in what is written."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import cirrnb
from cirrnb.data.auditing.audit import audit
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.nifti.reading import read_header, read_mask
from cirrnb.data.nifti.saving import save_volume

SHAPE = (7, 8, 9)
TURNED = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.2, 0.3) @ np.diag([1.5, 2.0, 4.0]), [-30, 12, 5])
KINDS = {
    "scanner, mm": ("mm", 1, 1),
    "aligned": ("mm", 2, 2),
    "sform alone": ("mm", 4, 0),
    "qform alone": ("mm", 0, 1),
    "no unit": ("unknown", 1, 1),
    "micrometres": ("micron", 1, 1),
    "metres": ("meter", 1, 2),
    "metres, qform alone": ("meter", 0, 3),
}
FACTOR = {"mm": 1.0, "unknown": 1.0, "micron": 1e3, "meter": 1e-3}


def write(path: Path, unit: str, sform: int, qform: int, *, moved: float = 0.0, kind: type = nib.Nifti1Image) -> Path:
    """A scan that lies at `TURNED` (mm) whatever its unit; `moved` is where the qform is off, in mm."""
    affine = np.diag([FACTOR[unit]] * 3 + [1]) @ TURNED
    other = affine.copy()
    other[2, 3] += moved * FACTOR[unit]
    image = kind(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), affine)
    image.header.set_xyzt_units(unit)
    image.set_sform(affine if sform else None, sform)
    image.set_qform(other if qform else None, qform)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("container", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_lies_where_it_lies_in_every_unit(kind: str, container: type, tmp_path: Path) -> None:
    unit, sform, qform = KINDS[kind]
    header = read_header(write(tmp_path / "scan.nii", unit, sform, qform, kind=container))
    assert header.grid.matches(Grid(SHAPE, TURNED))
    assert bool(header.notes) == (unit in ("micron", "meter"))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_placed_as_its_scan(kind: str, dtype: type, tmp_path: Path) -> None:
    unit, sform, qform = KINDS[kind]
    scan = write(tmp_path / "scan.nii.gz", unit, sform, qform)
    values = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 2).astype(dtype)
    path = save_volume(tmp_path / "out/map.nii.gz", values, read_header(scan).grid, scan=scan)
    one, other = nib.load(path), nib.load(scan)
    np.testing.assert_array_equal(np.asarray(one.dataobj), values)
    for name in ("sform_code", "qform_code", "xyzt_units"):
        assert one.header[name] == other.header[name], name
    if sform:
        np.testing.assert_allclose(one.header.get_sform(), other.header.get_sform(), rtol=1e-6)
    if qform:
        np.testing.assert_allclose(one.header.get_qform(), other.header.get_qform(), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(one.header.get_zooms(), other.header.get_zooms(), rtol=1e-5)
    assert read_header(path).grid.matches(read_header(scan).grid)


def test_forms_that_disagree_are_noted_and_both_are_kept(tmp_path: Path) -> None:
    scan = write(tmp_path / "scan.nii.gz", "mm", 1, 1, moved=60)
    header = read_header(scan)
    assert header.grid.matches(Grid(SHAPE, TURNED))
    assert any("60.0 mm" in note for note in header.notes)
    assert not read_header(write(tmp_path / "near.nii.gz", "mm", 1, 1, moved=0.01)).notes
    path = save_volume(tmp_path / "map.nii.gz", np.ones(SHAPE, bool), header.grid, scan=scan)
    np.testing.assert_allclose(nib.load(path).header.get_qform()[2, 3], TURNED[2, 3] + 60, atol=1e-3)
    assert read_mask(path, header.grid).all()


def test_without_the_scan_a_map_lies_in_scanner_coordinates_in_mm(tmp_path: Path) -> None:
    for scan in (None, tmp_path / "gone.nii.gz"):
        header = nib.load(save_volume(tmp_path / "map.nii", np.ones(SHAPE, np.float32), Grid(SHAPE, TURNED), scan=scan))
        told = header.header
        assert (int(told["sform_code"]), int(told["qform_code"]), told.get_xyzt_units()[0]) == (1, 1, "mm")


@pytest.mark.parametrize("there", ["another scan", "another program", "no NIfTI"])
def test_a_file_of_another_scan_is_never_replaced(there: str, tmp_path: Path) -> None:
    scan = write(tmp_path / "scan.nii.gz", "mm", 1, 1)
    other = write(tmp_path / "other.nii.gz", "mm", 1, 1, moved=1)
    path, grid = tmp_path / "map.nii.gz", Grid(SHAPE, TURNED)
    if there == "another scan":
        save_volume(path, np.zeros(SHAPE, np.uint8), grid, scan=other)
    elif there == "another program":
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), TURNED), path)
    else:
        path.write_text("mine")
    before = path.read_bytes()
    with pytest.raises(InputError) as raised:
        save_volume(path, np.ones(SHAPE, np.uint8), grid, scan=scan)
    assert raised.value.where == str(path) and path.read_bytes() == before
    path.unlink()
    for value in (1, 2):
        save_volume(path, np.full(SHAPE, value, np.uint8), grid, scan=scan)
    assert np.asarray(nib.load(path).dataobj).max() == 2


def liver_shaped() -> np.ndarray:
    """1080 mL to the right (the first indices) of a body of 48 x 40 x 20 voxels of 6 x 6 x 8 mm."""
    mask = np.zeros((48, 40, 20), bool)
    mask[12:24, 12:28, 5:15] = True
    return mask


def dot() -> np.ndarray:
    mask = np.zeros((48, 40, 20), bool)
    mask[15, 20, 10] = True
    return mask


MASKS = {
    "as it should be": (liver_shaped(), None),
    "inverted": (~liver_shaped(), "mL"),
    "everything": (np.ones((48, 40, 20), bool), "mL"),
    "one voxel": (dot(), "mL"),
    "the other side": (liver_shaped()[::-1], "left"),
    "in parts": (liver_shaped() & (np.arange(20) % 4 < 2), "parts"),
}


@pytest.mark.parametrize("name", MASKS)
def test_prepare_and_audit_judge_every_mask(name: str, tmp_path: Path) -> None:
    mask, told = MASKS[name]
    grid = Grid(mask.shape, nib.affines.from_matvec(np.diag([-6.0, -6.0, 8.0]), [141, 117, -76]))
    body = np.zeros(mask.shape, np.int16)
    body[4:44, 4:36] = 300
    rows = np.random.default_rng(0).normal(0, 9, mask.shape).astype(np.int16)
    save_volume(tmp_path / "a_T2W.nii.gz", body + rows, grid)
    save_volume(tmp_path / "a_T2W_mask.nii.gz", mask, grid)
    cohort = cirrnb.read_cohort(tmp_path)
    notes = cirrnb.prepare(cohort, tmp_path / "out", workers=1, progress=False).scans[0].notes
    findings = audit(cohort, workers=1, progress=False).findings
    doubted = [one.text for one in findings if one.check == "masks" and "no liver" in one.text]
    assert [told] * bool(told) == [word for word in [told] if word and any(word in note for note in notes)], notes
    assert bool(doubted) == bool(told) and (not told or told in doubted[0])


@pytest.mark.parametrize(("unit", "moved"), [("micron", 0), ("meter", 0), ("mm", 60)])
def test_prepare_and_audit_tell_how_a_file_is_placed(unit: str, moved: float, tmp_path: Path) -> None:
    mask = liver_shaped()
    affine = nib.affines.from_matvec(np.diag([-6.0, -6.0, 8.0]), [141, 117, -76])
    body = np.zeros(mask.shape, np.int16)
    body[4:44, 4:36] = 300 + np.random.default_rng(0).normal(0, 9, (40, 32, 20))
    for file, values in (("a_T2W.nii.gz", body), ("a_T2W_mask.nii.gz", mask.astype(np.uint8))):
        stored = np.diag([FACTOR[unit]] * 3 + [1]) @ affine
        image = nib.Nifti1Image(values, stored)
        image.header.set_xyzt_units(unit)
        image.set_sform(stored, 1)
        image.set_qform(stored + np.outer([0, 0, 1, 0], [0, 0, 0, moved]), 1)
        nib.save(image, tmp_path / file)
    cohort = cirrnb.read_cohort(tmp_path)
    scan = cirrnb.prepare(cohort, tmp_path / "out", workers=1, progress=False).scans[0]
    assert scan.measured["liver_ml"] == pytest.approx(mask.sum() * 6 * 6 * 8 / 1000, rel=1e-3)
    word = "qform" if moved else unit
    assert any(word in note for note in scan.notes)
    assert any(one.check == "orientation" and word in one.text for one in audit(cohort, workers=1).findings)


@pytest.mark.parametrize("field", [252, 254], ids=["qform_code", "sform_code"])
@pytest.mark.parametrize("code", [6, 99, 32767])
def test_a_code_that_no_standard_has_is_read_and_written_as_aligned(tmp_path: Path, field: int, code: int) -> None:
    path = write(tmp_path / "scan.nii", "mm", 1, 1)
    data = bytearray(path.read_bytes())
    data[field : field + 2] = code.to_bytes(2, "little")
    path.write_bytes(data)
    grid = read_header(path).grid
    save_volume(tmp_path / "mask.nii.gz", np.ones(SHAPE, bool), grid, scan=path)
    written = nib.load(tmp_path / "mask.nii.gz")
    assert int(written.header["sform_code" if field == 254 else "qform_code"]) in (0, 2, 5)
    np.testing.assert_allclose(written.affine, grid.affine, atol=1e-4)


@pytest.mark.parametrize("length", [float("nan"), float("inf"), 1e30])
def test_written_voxel_sizes_are_those_of_the_affine(tmp_path: Path, length: float) -> None:
    path = write(tmp_path / "scan.nii", "mm", 1, 0)
    data = bytearray(path.read_bytes())
    data[80:84] = np.float32(length).tobytes()
    path.write_bytes(data)
    save_volume(tmp_path / "mask.nii.gz", np.ones(SHAPE, bool), read_header(path).grid, scan=path)
    np.testing.assert_allclose(nib.load(tmp_path / "mask.nii.gz").header.get_zooms(), (1.5, 2.0, 4.0), rtol=1e-5)
