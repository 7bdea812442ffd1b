"""Opening NIfTI files: equal to other readers on good ones, one clear message on bad ones."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.nifti.reading import read_header, read_mask, read_volume

AFFINE = np.array([[-1.2, 0, 2.4, 90], [0, -1.4, 0, 80], [0.9, 0, 3.2, -40], [0, 0, 0, 1.0]])  # oblique, 1.5 1.4 4 mm
VALUES = np.arange(7 * 8 * 9).reshape(7, 8, 9)


def save(path, values=None, affine=AFFINE, dtype=np.int16, kind=nib.Nifti1Image):
    image = kind(np.asarray(VALUES if values is None else values).astype(dtype), affine, dtype=dtype)
    nib.save(image, path)
    return path


def change(path, **fields):
    """Overwrite header fields of an uncompressed NIfTI-1 file without touching its voxels."""
    data = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    data[:348] = header.binaryblock
    path.write_bytes(data)
    return path


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert path.name in message and all(word in message for word in words), message
    return message


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_values_and_grid_are_those_itk_finds(tmp_path, suffix, dtype):
    path = save(tmp_path / f"scan{suffix}", VALUES % 100, dtype=dtype)
    values, grid = read_volume(path)
    other = SimpleITK.ReadImage(str(path))
    assert np.array_equal(values, SimpleITK.GetArrayFromImage(other).transpose(2, 1, 0))
    assert values.dtype == (dtype if dtype in ("int8", "uint8", "int16", "uint16") else np.float32)
    lps = np.array(other.TransformIndexToPhysicalPoint((6, 0, 8)))
    assert np.allclose(grid.to_patient((6, 0, 8)) * (-1, -1, 1), lps, atol=1e-4)
    assert read_header(path).grid == grid


@pytest.mark.parametrize("dtype", ["int16", "int64", "uint64"])
def test_nifti_2_is_read(tmp_path, dtype):
    values, grid = read_volume(save(tmp_path / "scan.nii.gz", dtype=dtype, kind=nib.Nifti2Image))
    assert np.array_equal(values, VALUES) and np.allclose(grid.affine, AFFINE)


def test_big_endian_files_come_out_native(tmp_path):
    nib.save(nib.Nifti1Image(VALUES.astype(np.int16), AFFINE), tmp_path / "little.nii")
    header = nib.load(tmp_path / "little.nii").header.as_byteswapped(">")
    header["vox_offset"] = 352
    voxels = VALUES.astype(">i2").tobytes(order="F")
    (tmp_path / "big.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4) + voxels))
    assert read_header(tmp_path / "big.nii.gz").dtype == np.dtype(">i2")
    values, _ = read_volume(tmp_path / "big.nii.gz")
    assert np.array_equal(values, VALUES) and values.dtype.isnative


def test_scaled_integers_are_scaled(tmp_path):
    path = change(save(tmp_path / "scan.nii"), scl_slope=0.5, scl_inter=-3)
    values, _ = read_volume(path)
    assert values.dtype == np.float32 and np.array_equal(values, VALUES * 0.5 - 3)
    assert np.array_equal(values, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).transpose(2, 1, 0))


@pytest.mark.parametrize(("slope", "intercept"), [(0, 7), (np.nan, np.nan), (1, 0)])
def test_a_slope_of_nothing_leaves_integers_alone(tmp_path, slope, intercept):
    values, _ = read_volume(change(save(tmp_path / "scan.nii"), scl_slope=slope, scl_inter=intercept))
    assert values.dtype == np.int16 and np.array_equal(values, VALUES)


def test_an_infinite_slope_is_a_damaged_header(tmp_path):
    refused(change(save(tmp_path / "scan.nii"), scl_slope=np.inf), "damaged NIfTI header", "scl_slope")


def test_trailing_axes_of_one_are_forgiven_and_series_are_not(tmp_path):
    values, grid = read_volume(save(tmp_path / "one.nii.gz", VALUES[..., None, None]))
    assert values.shape == grid.shape == (7, 8, 9)
    refused(save(tmp_path / "series.nii.gz", np.stack([VALUES] * 2, axis=-1)), "7 x 8 x 9 x 2", "three axes")
    refused(save(tmp_path / "flat.nii.gz", VALUES[..., 0]), "7 x 8", "three axes")


def test_voxels_cut_short_are_told_wherever_the_cut_is(tmp_path):
    whole = save(tmp_path / "whole.nii.gz", np.random.default_rng(0).integers(0, 999, (7, 8, 9))).read_bytes()
    for kept in (0, 1, 2, 12, 100, len(whole) // 2, len(whole) - 9, len(whole) - 4):
        path = tmp_path / "cut.nii.gz"
        path.write_bytes(whole[:kept])
        refused(path)
    assert "cut short" in refused(path)
    plain = save(tmp_path / "whole.nii").read_bytes()
    (tmp_path / "cut.nii").write_bytes(plain[:-10])
    refused(tmp_path / "cut.nii", "cut short")


def test_one_flipped_bit_in_the_voxels_is_noticed(tmp_path):
    path = save(tmp_path / "scan.nii.gz", np.random.default_rng(0).integers(0, 999, (7, 8, 9)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    refused(path)


def test_gzip_in_several_members_is_read_to_the_end(tmp_path):
    plain = save(tmp_path / "scan.nii").read_bytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"".join(gzip.compress(plain[begin : begin + 300]) for begin in range(0, len(plain), 300)))
    assert np.array_equal(read_volume(path)[0], VALUES)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("text.nii.gz", b"not found\n" * 50, "not NIfTI"),
        ("dicom.nii", bytes(128) + b"DICM" + bytes(400), "not NIfTI"),
        ("empty.nii.gz", b"", "empty file"),
        ("zip.nii.gz", gzip.compress(b"hello" * 200, mtime=0), "not NIfTI"),
        ("short.nii", b"\x5c\x01\0\0", "not NIfTI"),
    ],
)
def test_what_is_not_nifti_says_so(tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, word, "dcm2niix")


def test_a_header_of_a_pair_is_named_as_such(tmp_path):
    nib.save(nib.Nifti1Pair(VALUES.astype(np.int16), AFFINE), tmp_path / "pair.img")
    refused(tmp_path / "pair.hdr", "pair")


def test_missing_file_and_folder(tmp_path):
    refused(tmp_path / "none.nii.gz", "no such file")
    (tmp_path / "folder.nii.gz").mkdir()
    refused(tmp_path / "folder.nii.gz", "cannot be opened")


def test_a_file_without_rights(tmp_path, monkeypatch):
    def forbid(*arguments):
        raise PermissionError(13, "Permission denied")

    path = save(tmp_path / "secret.nii.gz")
    monkeypatch.setattr(Path, "open", forbid)  # root, as which CI may run, could read any file
    refused(path, "cannot be opened (Permission denied)")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_counted(tmp_path, bad):
    values = VALUES.astype(np.float32)
    values[1, 2, 3] = values[4, 5, 6] = bad
    refused(save(tmp_path / "scan.nii.gz", values, dtype=np.float32), "2 of 504 voxels that are NaN or infinite")


def test_values_that_float32_cannot_hold_are_told(tmp_path):
    refused(save(tmp_path / "scan.nii.gz", VALUES * 1e300, dtype=np.float64), "503 of 504", "infinite")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(30000, 30000, 30000), (2000, 2000, 60)])
def test_a_huge_claimed_shape_is_refused_before_memory_is_taken(tmp_path, shape, packed):
    import tracemalloc

    path = change(save(tmp_path / "scan.nii"), dim=[3, *shape, 1, 1, 1, 1])
    if packed:
        (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "scan.nii.gz"
    tracemalloc.start()
    refused(path, "claim")
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    path = save(tmp_path / "scan.nii")
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(path.read_bytes() + bytes(200_000_000)))
    import tracemalloc

    tracemalloc.start()
    values, _ = read_volume(tmp_path / "bomb.nii.gz")
    assert np.array_equal(values, VALUES) and tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_memory_is_that_of_the_voxels_and_a_little(tmp_path):
    import tracemalloc

    path = save(tmp_path / "scan.nii.gz", np.zeros((200, 210, 220)), dtype=np.float64)
    tracemalloc.start()
    values, _ = read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values.nbytes == 200 * 210 * 220 * 4 and peak < values.nbytes + 30e6


def test_a_missing_or_singular_affine_is_told(tmp_path):
    refused(change(save(tmp_path / "none.nii"), sform_code=0, qform_code=0), "no orientation")
    refused(change(save(tmp_path / "flat.nii"), srow_x=[0, 0, 0, 0]), "damaged NIfTI header", "invertible")
    refused(change(save(tmp_path / "nan.nii"), srow_x=[np.nan, 0, 0, 0]), "damaged NIfTI header", "finite")


def test_the_qform_serves_where_there_is_no_sform(tmp_path):
    affine = np.diag([-1.5, -1.4, 3.5, 1.0])
    image = nib.Nifti1Image(VALUES.astype(np.int16), affine)
    image.header.set_qform(affine, code=1)
    image.header.set_sform(None, code=0)
    nib.save(image, tmp_path / "scan.nii")
    assert np.allclose(read_header(tmp_path / "scan.nii").grid.affine, affine, atol=1e-5)


def test_colours_and_complex_numbers_are_refused(tmp_path):
    refused(save(tmp_path / "complex.nii", dtype=np.complex64), "complex64", "magnitude")
    colours = np.zeros((7, 8, 9), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, AFFINE), tmp_path / "rgb.nii")
    refused(tmp_path / "rgb.nii", "RGB")
    refused(change(save(tmp_path / "odd.nii"), datatype=77), "damaged NIfTI header")


def test_an_impossible_offset_is_told(tmp_path):
    refused(change(save(tmp_path / "scan.nii"), vox_offset=20), "impossible place")


@given(st.binary(max_size=600), st.booleans())
def test_no_bytes_crash_the_reader(tmp_path_factory, noise, packed):
    start = bytearray(struct.pack("<i", 348) + bytes(340) + b"n+1\0" + bytes(4))
    for place, byte in enumerate(noise[:348]):
        start[place] = byte
    start[344:348] = b"n+1\0"
    data = bytes(start) + noise
    path = tmp_path_factory.mktemp("noise") / "scan.nii.gz"
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(InputError):
        read_volume(path)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_no_damaged_byte_crashes_the_reader(tmp_path_factory, place, byte):
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(save(folder / "scan.nii.gz").read_bytes())
    data[place % len(data)] = byte
    (folder / "scan.nii.gz").write_bytes(data)
    try:
        values, _ = read_volume(folder / "scan.nii.gz")
    except InputError:
        return
    assert np.array_equal(values, VALUES)  # gzip's own header fields may differ, voxels may not


MASK = (VALUES % 5 == 0).astype(np.uint8)
GRID = Grid((7, 8, 9), AFFINE)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("inside", [1, 255])
def test_masks_come_back_as_bool_whatever_their_one_value(tmp_path, dtype, inside):
    mask = read_mask(save(tmp_path / "mask.nii.gz", MASK * float(inside), dtype=dtype), GRID)
    assert mask.dtype == bool and np.array_equal(mask, MASK == 1)


def mask_refused(path, *words):
    with pytest.raises(InputError) as caught:
        read_mask(path, GRID)
    assert all(word in str(caught.value) for word in (path.name, *words)), str(caught.value)


def test_masks_that_are_not_masks(tmp_path):
    mask_refused(save(tmp_path / "empty.nii.gz", MASK * 0), "empty mask")
    mask_refused(save(tmp_path / "labels.nii.gz", VALUES % 4), "values 1, 2, 3 beside 0", "binary")
    mask_refused(save(tmp_path / "soft.nii.gz", MASK * VALUES / 500, dtype=np.float32), "binary")
    mask_refused(save(tmp_path / "minus.nii.gz", -MASK.astype(np.int16)), "values -1", "binary")


def test_masks_on_another_grid(tmp_path):
    mask_refused(save(tmp_path / "shape.nii.gz", MASK.transpose(1, 0, 2)), "8 x 7 x 9", "7 x 8 x 9")
    moved = AFFINE.copy()
    moved[2, 3] += 3.5
    mask_refused(save(tmp_path / "moved.nii.gz", MASK, moved), "placed elsewhere")
    nearly = AFFINE * (1 + 1e-7)
    nearly[3] = (0, 0, 0, 1)
    assert read_mask(save(tmp_path / "nearly.nii.gz", MASK, nearly), GRID).any()


@pytest.mark.real
def test_real_files_are_read_as_nibabel_reads_them(external_data):
    paths = sorted(external_data.rglob("*.nii.gz"))
    assert len(paths) >= 4
    for path in paths:
        values, grid = read_volume(path)
        image = nib.load(path)
        assert np.array_equal(values, np.asanyarray(image.dataobj)) and np.allclose(grid.affine, image.affine)


def test_a_mask_that_a_tool_rounded_is_binary_and_other_values_are_told_apart(tmp_path):
    rounded = np.zeros(VALUES.shape, np.float32)
    rounded[2:5, 2:5, 2:5] = 1
    rounded[2, 2, 2:5] = np.float32(0.99999994)
    grid = read_header(save(tmp_path / "scan.nii.gz")).grid
    assert read_mask(save(tmp_path / "rounded.nii.gz", rounded, dtype=np.float32), grid).sum() == 27
    rounded[2, 2, 2] = 0.999
    with pytest.raises(InputError) as raised:
        read_mask(save(tmp_path / "other.nii.gz", rounded, dtype=np.float32), grid)
    assert "0.999" in raised.value.found and "1, 1" not in raised.value.found
