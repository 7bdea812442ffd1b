"""Maps go back to the voxels that they speak of, however the scan was acquired and whatever the network's strides."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from preparation_phantoms import GRIDS, POINT, prepare_one, write
from test_geometry import FLIPS, ORDERS, centre_of_mass, frame_of, tilted

from cirrnb.data.errors import InputError
from cirrnb.explanation.explanation import Explanation
from cirrnb.explanation.receptive_fields import cell_layout, to_pixels
from cirrnb.explanation.shapley import ShapleyValues
from cirrnb.model.settings import StagerSettings
from cirrnb.model.stager import Stager
from cirrnb.preparation.geometry import labels_like, resample_like, shared_out


@settings(deadline=None, max_examples=60)
@given(
    order=st.sampled_from(ORDERS),
    signs=st.sampled_from(FLIPS),
    spacing=st.tuples(*[st.floats(0.7, 4)] * 3),
    tilt=st.tuples(*[st.floats(-15, 15)] * 3),
    step=st.floats(0.8, 4),
    place=st.tuples(*[st.floats(0.3, 0.7)] * 3),
)
def test_a_point_comes_back_within_half_a_prepared_voxel_and_nothing_is_lost(order, signs, spacing, tilt, step, place):
    source = tilted(order, signs, spacing, tilt)
    frame = frame_of(source, step)
    array = np.zeros(frame.grid.shape, dtype=np.float32)
    index = tuple(int(share * (size - 1)) for share, size in zip(place, array.shape, strict=True))
    array[index] = 2.5
    back = shared_out(source, frame.grid, array)
    assert back.shape == source.shape
    assert np.nansum(back) == pytest.approx(2.5, rel=1e-4)
    apart = frame.grid.to_index(centre_of_mass(np.nan_to_num(back), source)) - index
    assert np.abs(apart).max() <= 0.5


@settings(deadline=None, max_examples=30)
@given(order=st.sampled_from(ORDERS), step=st.floats(0.8, 4), seed=st.integers(0, 99))
def test_a_signed_map_keeps_its_sum_and_unexplained_slices_are_marked(order, step, seed):
    source = tilted(order, (1, -1, 1), (1.1, 1.7, 2.9))
    frame = frame_of(source, step, first=1, slices=3)
    inner = np.random.default_rng(seed).normal(size=frame.grid.shape).astype(np.float32)
    inner[:, :2] = inner[:, -4:] = inner[:, :, :2] = inner[:, :, -4:] = 0  # the frame reaches beyond the file
    back = shared_out(source, frame.grid, inner)
    assert np.nansum(back) == pytest.approx(inner.sum(), abs=0.01 * float(np.abs(inner).sum()))
    oriented = frame.orientation.apply(back)
    assert np.isnan(oriented[[0, *range(4, len(oriented))]]).all() and np.isfinite(oriented[1:4]).all()


def explained(prepared, values: np.ndarray) -> Explanation:
    one = {"T1W": np.ones(len(values))}
    return Explanation(
        "own/1", "toy", "occlusion", "Occlusion", True, "severity", 1.0, 0.0, "blurred", {"T1W": values},
        {"T1W": prepared.grid}, {"T1W": prepared.source_grid}, ShapleyValues({"T1W": 1.0}, one, one, one, 0.0), None,
        True,
    )  # fmt: skip


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("view", ["abdomen", "liver"])
def test_an_overlay_lies_on_the_file_for_simpleitk_too(tmp_path, kind, view):
    scan = write(tmp_path, "1", kind=kind)
    prepared = prepare_one(scan, tmp_path / "prepared", view=view, spacing=2.5)
    values = np.zeros(prepared.grid.shape, dtype=np.float32)
    where = np.rint(prepared.grid.to_index(POINT)).astype(int)
    # Only the liver's slices are kept, and the liver view does not reach the ball.
    where = np.clip(where, 3, np.array(values.shape) - 4)
    values[tuple(where)] = 3.0
    (path,) = explained(prepared, values).to_nifti(tmp_path / "overlays")
    read, image = sitk.ReadImage(str(path)), sitk.ReadImage(str(scan.image))
    assert read.GetSize() == image.GetSize()
    np.testing.assert_allclose(read.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(read.GetDirection(), image.GetDirection(), atol=1e-6)
    shown = np.nan_to_num(sitk.GetArrayFromImage(read))
    assert shown.sum() == pytest.approx(3.0, rel=0.01)
    peak = np.unravel_index(shown.argmax(), shown.shape)[::-1]
    place = np.array(read.TransformIndexToPhysicalPoint([int(index) for index in peak])) * (-1, -1, 1)  # LPS to RAS
    apart = prepared.grid.to_index(place) - where
    within = 0.5 + np.array(prepared.source_grid.spacing).max() / np.array(prepared.grid.spacing) / 2
    assert (np.abs(apart) <= within).all()
    assert b"simulated" in nib.load(path).header["descrip"].tobytes()
    assert path.name == "own-1_T1W_occlusion.nii.gz"
    with pytest.raises(InputError, match="T2W"):
        explained(prepared, values).to_source("T2W")


def test_the_scan_itself_is_sampled_as_its_twin_would_be(tmp_path):
    scan = write(tmp_path, "1", kind="coronal")
    prepared = prepare_one(scan, tmp_path / "prepared", spacing=2.5)
    volume = np.asarray(nib.load(scan.image).dataobj, dtype=np.float32)
    low, high = prepared.measured["low"], prepared.measured["high"]
    again = np.clip((resample_like(prepared, volume) - low) / (high - low), -0.5, 2)
    inside = np.asarray(prepared.image) != 0
    np.testing.assert_allclose(again[inside], np.asarray(prepared.image)[inside], atol=2e-3)
    mask = np.asarray(nib.load(scan.mask).dataobj) > 0
    overlap = labels_like(prepared, mask) & prepared.mask
    assert overlap.sum() > 0.9 * prepared.mask.sum()


# Worked out from the published layers: stem and stages of stride 2 with odd kernels and centred padding begin on pixel
# 0; patches of 4 x 4 and then 2 x 2 begin at (4 - 1) / 2, (8 - 1) / 2 and so on.
LAYOUTS = {
    "resnet18": [(0, 4), (0, 8), (0, 16), (0, 32)],
    "vgg11": [(1.5, 4), (3.5, 8), (7.5, 16), (15.5, 32)],
    "convnext_atto": [(1.5, 4), (3.5, 8), (7.5, 16), (15.5, 32)],
    "pvt_v2_b0": [(0, 4), (0, 8), (0, 16), (0, 32)],
    "efficientnet_b0": [(0, 4), (0, 8), (0, 16), (0, 32)],
}


@pytest.mark.parametrize("backbone", LAYOUTS)
def test_cells_look_where_paper_says_they_look(backbone):
    stager = Stager(StagerSettings(backbone=backbone, pretrained=False, width=8)).eval()
    np.testing.assert_allclose(cell_layout(stager), LAYOUTS[backbone], atol=0.5)


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet18", "convnext_atto"])
def test_a_layer_map_is_centred_on_its_cell(backbone):
    stager = Stager(StagerSettings(backbone=backbone, pretrained=False, width=8)).eval()
    for scale, (first, step) in enumerate(cell_layout(stager)):
        cells = torch.zeros(1, 5, 6)
        cells[0, 2, 3] = 1.0
        pixels = to_pixels(cells, stager, scale, (round(5 * step), round(6 * step)))[0]
        assert float(pixels.sum()) == pytest.approx(1, abs=1e-5)
        rows = float((pixels.sum(1) * torch.arange(len(pixels))).sum())
        columns = float((pixels.sum(0) * torch.arange(pixels.shape[1])).sum())
        assert (rows, columns) == pytest.approx((first + 2 * step, first + 3 * step), abs=0.5)


def test_a_bright_spot_is_found_where_it_is_at_every_scale():
    """End to end through a real backbone: the cell that answers most to a small bright square lies at the square."""
    torch.manual_seed(0)
    stager = Stager(StagerSettings(backbone="resnet18", pretrained=False, width=8)).eval()
    encoder = next(iter(stager.encoders.values()))
    empty = torch.zeros(1, 1, 160, 192)
    for row, column in ((64, 96), (96, 64), (128, 128)):
        slices = empty.clone()
        slices[..., row - 1 : row + 2, column - 1 : column + 2] = 5.0
        with torch.no_grad():
            pairs = zip(encoder.backbone(slices), encoder.backbone(empty), strict=True)
            answers = [(one - other).abs().sum(dim=1) for one, other in pairs]
        for scale, answer in enumerate(answers):
            step = cell_layout(stager)[scale][1]
            pixels = to_pixels(answer**4, stager, scale, (160, 192))[0]
            total = pixels.sum()
            centre = (
                float((pixels.sum(1) * torch.arange(160)).sum() / total),
                float((pixels.sum(0) * torch.arange(192)).sum() / total),
            )
            assert np.abs(np.array(centre) - (row, column)).max() < step
