"""Points go to the prepared grid and back to the file's without being moved, however the file is oriented."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cirrnb.data.grid import Grid, Orientation
from cirrnb.data.resampling import Sampling, resample
from cirrnb.preparation.geometry import Frame

SHAPE = (17, 28, 39)
ORDERS = list(permutations(range(3)))
FLIPS = list(product((1, -1), repeat=3))


def tilted(
    order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], angles: tuple[float, ...] = (0, 0, 0)
) -> Grid:
    """A grid whose axis i runs along patient axis order[i], forwards or backwards, then tilted by degrees."""
    matrix = np.zeros((3, 3))
    for axis, (patient, sign, length) in enumerate(zip(order, signs, spacing, strict=True)):
        matrix[patient, axis] = sign * length
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ matrix
    affine[:3, 3] = (12.5, -30, 401)
    return Grid(SHAPE, affine)


def frame_of(source: Grid, spacing: float, first: int = 0, slices: int | None = None) -> Frame:
    """A frame over the whole file, off its voxel centres."""
    orientation = Orientation.of(source)
    oriented = orientation.grid(source)
    rows, columns = (
        Sampling(-0.3, spacing / length, int(size * length / spacing) + 2, size)
        for length, size in zip(oriented.spacing[1:], oriented.shape[1:], strict=True)
    )
    return Frame(source, orientation, first, slices or oriented.shape[0], rows, columns)


def centre_of_mass(array: np.ndarray, grid: Grid) -> np.ndarray:
    """In mm."""
    weights = array.astype(np.float64)
    return np.tensordot(weights, grid.to_patient(np.moveaxis(np.indices(array.shape), 0, -1)), 3) / weights.sum()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("signs", FLIPS)
def test_orientation_is_nibabels(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    source = tilted(order, signs, (1.0, 2.0, 3.0), (4, -7, 9))
    voxels = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)
    expected = nib.as_closest_canonical(nib.Nifti1Image(voxels, source.affine))  # RAS+
    orientation = Orientation.of(source)
    # Slices, rows, columns to head, back and left are RAS+ reversed, with the last two running the other way.
    ours = orientation.apply(voxels)
    np.testing.assert_array_equal(ours, np.asarray(expected.dataobj).T[:, ::-1, ::-1])
    np.testing.assert_array_equal(orientation.undo(ours), voxels)
    grid = orientation.grid(source)
    codes = nib.aff2axcodes(grid.affine)
    assert codes == ("S", "P", "L")
    index = (2, 3, 5)
    place = np.argwhere(voxels == ours[index])[0]
    np.testing.assert_allclose(grid.to_patient(index), source.to_patient(place))


def test_a_published_file_is_only_transposed() -> None:
    # Stored LPS: x to the left, y to the back, z to the head. Slices x rows x columns is (z, y, x), nothing flipped.
    orientation = Orientation.of(tilted((0, 1, 2), (-1, -1, 1), (1.0, 1.5, 4.0)))
    assert orientation == Orientation((2, 1, 0), (False, False, False), 0.0)


@settings(deadline=None)
@given(
    st.sampled_from(ORDERS),
    st.sampled_from(FLIPS),
    st.tuples(*[st.floats(0.6, 4.0)] * 3),
    st.tuples(*[st.floats(-24, 24)] * 3),
    st.tuples(*[st.floats(0.3, 0.7)] * 3),
    st.floats(0.8, 2.5),
)
def test_a_bright_voxel_goes_through_and_back_within_half_a_prepared_voxel(
    order: tuple[int, ...],
    signs: tuple[int, ...],
    spacing: tuple[float, ...],
    angles: tuple[float, ...],
    place: tuple[float, ...],
    prepared_spacing: float,
) -> None:
    source = tilted(order, signs, spacing, angles)
    voxel = tuple(int(share * size) for share, size in zip(place, SHAPE, strict=True))
    volume = np.zeros(SHAPE, dtype=np.int16)
    volume[voxel] = 1000
    expected = source.to_patient(voxel)
    frame = frame_of(source, prepared_spacing)

    prepared = resample(frame.crop(frame.orientation.apply(volume)), frame.rows, frame.columns)
    assert prepared.shape == frame.grid.shape
    assert frame.grid.spacing[1:] == pytest.approx((prepared_spacing, prepared_spacing))
    assert np.linalg.norm(centre_of_mass(prepared, frame.grid) - expected) < prepared_spacing / 2

    back = Frame.between(source, frame.grid).to_source(prepared)
    assert back.shape == SHAPE and back.dtype == np.float32
    assert np.linalg.norm(centre_of_mass(back, source) - expected) < prepared_spacing / 2
    peak = np.array(np.unravel_index(np.argmax(back), SHAPE))
    # The prepared sample nearest to the voxel holds the peak, and the file's voxel nearest to that sample shows it.
    off = np.abs(peak - voxel) * source.spacing
    assert (off <= (prepared_spacing + np.array(source.spacing)) / 2 + 1e-6).all()


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(ORDERS),
    st.sampled_from(FLIPS),
    # ITK returns nothing but zeros for a direction with a cosine of 1e-308.
    st.tuples(*[st.floats(-24, 24).map(lambda angle: round(angle, 3))] * 3),
)
def test_values_are_those_of_simpleitk_on_the_same_grid(
    order: tuple[int, ...], signs: tuple[int, ...], angles: tuple[float, ...]
) -> None:
    source = tilted(order, signs, (1.5, 2.5, 2.0), angles)
    volume = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    frame = frame_of(source, 1.25, first=2, slices=9)  # enlarging, where the triangle is plain linear interpolation
    ours = resample(frame.crop(frame.orientation.apply(volume)), frame.rows, frame.columns)

    def image(array: np.ndarray, grid: Grid) -> sitk.Image:
        lps = np.diag((-1.0, -1.0, 1.0, 1.0)) @ grid.affine
        made = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        made.SetSpacing(grid.spacing)
        made.SetDirection((lps[:3, :3] / grid.spacing).ravel().tolist())
        made.SetOrigin(lps[:3, 3].tolist())
        return made

    target = image(np.zeros(frame.grid.shape, dtype=np.float32), frame.grid)
    expected = sitk.GetArrayFromImage(sitk.Resample(image(volume, source), target, sitk.Transform(), sitk.sitkLinear)).T
    inner = (slice(1, -1), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(ours[inner], expected[inner], atol=2e-3)
    assert np.abs(expected[inner]).mean() > 0.1


def test_back_on_the_files_grid_slices_lie_in_their_places_and_the_rest_is_zero() -> None:
    source = tilted((2, 0, 1), (-1, 1, -1), (3.0, 1.0, 2.0))
    frame = frame_of(source, 1.0, first=4, slices=3)
    back = frame.to_source(np.ones(frame.grid.shape, dtype=np.float32))
    # The file's first axis runs from head to feet: slices 4, 5, 6 from the feet are 12, 11, 10 of 17.
    assert np.flatnonzero(back.any(axis=(1, 2))).tolist() == [10, 11, 12]
    np.testing.assert_allclose(back[10:13], 1, atol=1e-6)


def test_masks_come_back_as_masks_and_as_they_were() -> None:
    source = tilted((1, 2, 0), (1, -1, 1), (1.5, 4.0, 1.5), (5, 3, -8))
    mask = np.zeros(SHAPE, dtype=bool)
    mask[5:12, 9:20, 11:30] = True
    frame = frame_of(source, 0.75)
    prepared = resample(frame.orientation.apply(mask), frame.rows, frame.columns) >= 0.5
    back = frame.to_source(prepared)
    assert back.dtype == bool
    np.testing.assert_array_equal(back, mask)


def test_notes_tell_of_tilted_coronal_and_sagittal_scans() -> None:
    def notes(*grid: tuple) -> tuple[str, ...]:
        return Orientation.of(tilted(*grid)).notes(tilted(*grid))

    assert notes((0, 1, 2), (-1, -1, 1), (1.0, 1.0, 5.0)) == ()
    assert notes((0, 1, 2), (-1, -1, 1), (1.6, 1.6, 1.5)) == ()
    assert notes((0, 1, 2), (-1, -1, 1), (1.0, 1.0, 5.0), (25, 0, 0)) == (
        "tilted by 25° against the patient's axes; kept as acquired",
    )
    assert notes((0, 2, 1), (-1, -1, 1), (1.2, 1.2, 6.0)) == (
        "acquired coronally: slices of 6.0 mm from front to back",
    )
    assert notes((1, 2, 0), (-1, -1, 1), (1.2, 1.2, 6.0)) == (
        "acquired sagittally: slices of 6.0 mm from right to left",
    )


def test_a_tilt_is_kept_in_the_affine() -> None:
    source = tilted((0, 1, 2), (-1, -1, 1), (1.0, 1.5, 4.0), (0, 18, 0))
    frame = frame_of(source, 1.25)
    np.testing.assert_allclose(frame.grid.affine[:3, 0], source.affine[:3, 2])
    np.testing.assert_allclose(frame.grid.affine[:3, 1], source.affine[:3, 1] / 1.5 * 1.25)
    np.testing.assert_allclose(frame.grid.affine[:3, 2], source.affine[:3, 0] * 1.25)
    # The first sample lies at row -0.3 / column -0.3 of the first slice.
    np.testing.assert_allclose(frame.grid.affine[:3, 3], source.to_patient((-0.3, -0.3, 0)))
