"""Biomarkers on shapes with known answers, in any orientation, and the reason where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import ellipeinc, ellipkinc

from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.scan import Scan
from cirrnb.measure.biomarkers import PROGRAM_NOTES, UNITS, UNUSABLE, biomarkers, biomarkers_or_reasons
from cirrnb.measure.measurement import Measurement
from cirrnb.measure.shape_and_signal import (
    heterogeneity,
    length,
    nodularity,
    signal_ratio,
    sphericity,
    surface_area,
    volume,
)

SPACINGS = [(1.0, 1.0, 1.0), (3.0, 1.2, 1.2), (5.0, 2.0, 2.0), (8.0, 1.3, 1.5)]


def shape(
    radii: tuple[float, float, float], spacing: tuple[float, float, float], rough: float = 0.0, waves: int = 0
) -> tuple[np.ndarray, Grid]:
    """An ellipsoid with radii in mm along slices, rows and columns, waved by `rough` mm in each slice; off centre."""
    sizes = [int(2 * (radius + rough + 12) / step) + 1 for radius, step in zip(radii, spacing, strict=True)]
    axes = [(np.arange(size) - (size - 1) / 2 + 0.21) * step for size, step in zip(sizes, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    reach = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2)
    mask = reach < 1 + rough / radii[1] * np.sin(waves * np.arctan2(y, x))
    return mask, Grid(mask.shape, np.diag([*spacing, 1.0]))


def ellipsoid_area(a: float, b: float, c: float) -> float:
    """mm², a > b > c, by Legendre's elliptic integrals."""
    angle = np.arccos(c / a)
    k = a**2 * (b**2 - c**2) / (b**2 * (a**2 - c**2))
    bracket = ellipeinc(angle, k) * np.sin(angle) ** 2 + ellipkinc(angle, k) * np.cos(angle) ** 2
    return float(2 * np.pi * c**2 + 2 * np.pi * a * b / np.sin(angle) * bracket)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_ball_and_an_ellipsoid(spacing: tuple[float, float, float]):
    mask, grid = shape((60, 60, 60), spacing)
    assert volume(mask, grid) == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.005)
    assert surface_area(mask, grid) == pytest.approx(4 * np.pi * 6**2, rel=0.015)
    assert sphericity(mask, grid) == pytest.approx(1, abs=0.015)
    mask, grid = shape((40, 60, 80), spacing)
    assert surface_area(mask, grid) == pytest.approx(ellipsoid_area(80, 60, 40) / 100, rel=0.02)
    wanted = np.pi ** (1 / 3) * (6 * 4 / 3 * np.pi * 80 * 60 * 40) ** (2 / 3) / ellipsoid_area(80, 60, 40)
    assert sphericity(mask, grid) == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_nodularity_of_a_smooth_edge_is_a_small_part_of_a_pixel(spacing: tuple[float, float, float]):
    for radii in ((60.0, 60.0, 60.0), (40.0, 60.0, 80.0)):
        assert nodularity(*shape(radii, spacing)) < 0.14 * spacing[1]


@pytest.mark.parametrize("spacing", SPACINGS[:2])
@pytest.mark.parametrize("rough", [1.0, 2.0, 4.0])
def test_nodularity_of_a_waved_edge_is_the_waves_mean_distance(spacing: tuple[float, float, float], rough: float):
    found = nodularity(*shape((60, 60, 60), spacing, rough, waves=36))
    assert found == pytest.approx(2 / np.pi * rough, rel=0.15)  # waves of 10 mm; shorter where slices are smaller


def test_nodularity_rises_with_roughness_even_at_coarse_pixels():
    found = [nodularity(*shape((60, 60, 60), SPACINGS[2], rough, waves=36)) for rough in (0, 1, 2, 3, 4)]
    assert found == sorted(found) and found[-1] > 5 * found[0]


def test_a_hole_a_notch_and_a_speck_are_no_nodules():
    mask, grid = shape((30, 60, 60), SPACINGS[1])
    plain = nodularity(mask, grid)
    holed = mask.copy()
    middle = [size // 2 for size in mask.shape]
    holed[:, middle[1] - 5 : middle[1] + 5, middle[2] - 5 : middle[2] + 5] = False
    assert nodularity(holed, grid) == pytest.approx(plain, rel=1e-6)
    speck = np.zeros_like(mask)
    speck[10, 10:14, 10:14] = True
    assert nodularity(speck, grid) is None


def test_heterogeneity_is_the_spread_of_the_signal_and_not_the_coils():
    mask, grid = shape((30, 50, 60), (5.0, 2.0, 2.0))
    noise = np.random.default_rng(0).normal(size=mask.shape)
    for spread in (0.02, 0.1):
        image = 100 * (1 + spread * noise)
        assert heterogeneity(image, mask, grid) == pytest.approx(100 * spread, rel=0.05)
        ramp = np.linspace(0.6, 1.6, mask.shape[2])  # a surface coil on one side
        assert heterogeneity(image * ramp, mask, grid) == pytest.approx(100 * spread, rel=0.05)
    assert heterogeneity(np.zeros(mask.shape), mask, grid) is None
    assert signal_ratio(image, mask, ~mask) == pytest.approx(1, rel=0.02)
    assert signal_ratio(image, mask, np.zeros_like(mask)) is None


def written(folder: Path, turned: bool = False) -> Scan:
    """A liver with signal 80 beside a spleen with 120 and back muscle with 40; `turned` stores the file otherwise."""
    grid_affine = np.array([[0, 0, -2.0, 60], [0, -2.0, 0, 50], [5.0, 0, 0, -30], [0, 0, 0, 1]])
    image = np.random.default_rng(1).normal(10, 1, (16, 50, 60))
    labels = np.zeros(image.shape, np.uint8)
    for number, place, signal in (
        (5, np.s_[2:13, 8:40, 4:34], 80),
        (1, np.s_[3:12, 20:40, 40:54], 120),
        (46, np.s_[1:15, 42:49, 20:40], 40),
    ):
        labels[place] = number
        image[place] += signal - 10
    order = (2, 1, 0)  # as (x, y, z)
    affine = grid_affine[:, [2, 1, 0, 3]]
    if turned:
        order, affine = (1, 2, 0), grid_affine[:, [1, 2, 0, 3]]
    for name, values in (
        ("image", image.astype(np.float32)),
        ("mask", (labels == 5).astype(np.uint8)),
        ("organs", labels),
    ):
        nib.save(nib.Nifti1Image(values.transpose(order), affine), folder / f"{name}.nii.gz")
    (folder / "organs.json").write_text('"total_mr"', encoding="utf-8")
    extra = {"organs": "organs.nii.gz"}
    return Scan("1", "T1W", folder / "image.nii.gz", folder / "mask.nii.gz", extra=extra)


def named(measurements: list[Measurement]) -> dict[str, Measurement]:
    return {one.name: one for one in measurements}


def test_all_of_a_scan(tmp_path: Path):
    found = named(biomarkers(written(tmp_path)))
    assert list(found) == list(UNITS)
    voxel = 0.02  # mL
    assert found["liver volume"].value == pytest.approx(11 * 32 * 30 * voxel)
    assert found["spleen volume"].value == pytest.approx(9 * 20 * 14 * voxel)
    assert found["spleen length"].value == pytest.approx(np.sqrt(45**2 + 40**2 + 28**2), rel=0.003)
    assert "107 to 315 mL" in found["spleen volume"].reference and "no range" in found["surface nodularity"].reference
    assert found["liver-to-spleen volume"].value == pytest.approx(11 * 32 * 30 / (9 * 20 * 14))
    assert found["liver-to-spleen signal"].value == pytest.approx(80 / 120, rel=0.01)
    assert found["liver-to-muscle signal"].value == pytest.approx(80 / 40, rel=0.02)
    assert found["caudate-to-right-lobe volume"].value is None
    assert found["caudate-to-right-lobe volume"].note == "the segmentation of other organs has no caudate"
    assert {one.unit for one in found.values()} == {"mL", "mm", "%", ""}


def test_what_rests_on_the_programs_own_organs_has_a_caveat(tmp_path: Path):
    scan = written(tmp_path)
    by_others = named(biomarkers(scan))
    labels = nib.load(tmp_path / "organs.nii.gz")
    values = np.asarray(labels.dataobj)
    own = np.select([values == 1, values == 46], [4, 11], 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(own, labels.affine), tmp_path / "organs.nii.gz")
    (tmp_path / "organs.json").write_text('"cirrnb"', encoding="utf-8")
    by_program = named(biomarkers(scan))
    assert by_program["spleen volume"].value == by_others["spleen volume"].value
    changed = {name for name in UNITS if by_program[name].note != by_others[name].note and by_others[name].value}
    assert changed == {"spleen volume", "spleen length", "liver-to-spleen volume", "liver-to-spleen signal"}
    assert all(PROGRAM_NOTES[name] in by_program[name].note for name in changed)
    assert PROGRAM_NOTES["caudate-to-right-lobe volume"] not in by_program["caudate-to-right-lobe volume"].note


def test_how_the_file_is_stored_changes_nothing(tmp_path: Path):
    (tmp_path / "turned").mkdir()
    one, other = biomarkers(written(tmp_path)), biomarkers(written(tmp_path / "turned", turned=True))
    values = [[np.nan if m.value is None else m.value for m in found] for found in (one, other)]
    assert values[0] == pytest.approx(values[1], rel=1e-4, nan_ok=True) and np.isfinite(values[0][:7]).all()


def test_without_masks_every_gap_has_its_reason(tmp_path: Path):
    scan = replace(written(tmp_path), mask=None, extra={})
    assert {(one.value, one.note) for one in biomarkers(scan)} == {
        (None, "no liver mask"),
        (None, "no segmentation of other organs"),
    }


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (None, "labels that nobody explains"),
        ("{", "no readable JSON"),
        ('{"heart": 3}', "heart"),
        ('{"spleen": -1}', "spleen"),
        ("[1, 2]", "1, 2"),
    ],
)
def test_labels_are_asked_for_and_not_guessed(tmp_path: Path, told: str | None, found: str):
    scan = written(tmp_path)
    beside = tmp_path / "organs.json"
    beside.unlink() if told is None else beside.write_text(told, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        biomarkers(scan)
    assert found in raised.value.found and "organs.json" in raised.value.expected


def test_a_file_that_cannot_be_used_takes_away_what_needs_it(tmp_path: Path):
    scan = written(tmp_path)
    whole = named(biomarkers(scan))
    (tmp_path / "organs.json").unlink()
    found = named(biomarkers_or_reasons(scan))
    assert found["liver volume"] == whole["liver volume"] and found["sphericity"] == whole["sphericity"]
    assert found["spleen volume"].value is None
    assert found["spleen volume"].note == f"{UNUSABLE}: labels that nobody explains"
    scan.image.write_bytes(b"no image")
    assert {one.value for one in biomarkers_or_reasons(scan)} == {None}
    assert all(one.note and UNUSABLE not in one.note for one in biomarkers_or_reasons(replace(scan, extra={})))


def test_ones_own_labels_and_lobes(tmp_path: Path):
    scan = written(tmp_path)
    own = {"caudate": 1, "right lobe": [5, 46]}
    (tmp_path / "organs.json").write_text(json.dumps(own), encoding="utf-8")
    found = named(biomarkers(scan))["caudate-to-right-lobe volume"]
    assert found.value == pytest.approx(9 * 20 * 14 / (11 * 32 * 30 + 14 * 7 * 20)) and not found.unit


@pytest.mark.real
def test_a_real_scan_with_a_real_segmentation(external_data: Path, tmp_path: Path):
    folder = external_data / "totalsegmentator_mr"
    labels = nib.load(folder / "example_seg_mr.nii.gz")
    values = np.asarray(labels.dataobj)
    nib.save(nib.Nifti1Image((values == 5).astype(np.uint8), labels.affine), tmp_path / "liver.nii.gz")
    nib.save(nib.Nifti1Image(values.astype(np.uint8), labels.affine), tmp_path / "organs.nii.gz")
    (tmp_path / "organs.json").write_text('"total_mr"', encoding="utf-8")
    extra = {"organs": str(tmp_path / "organs.nii.gz")}
    scan = Scan("1", "T1W", folder / "example_mr_sm.nii.gz", tmp_path / "liver.nii.gz", extra=extra)
    found = named(biomarkers(scan))
    voxel = abs(np.linalg.det(labels.affine[:3, :3])) / 1000
    assert found["liver volume"].value == pytest.approx((values == 5).sum() * voxel)
    assert found["spleen volume"].value == pytest.approx((values == 1).sum() * voxel)
    assert found["liver-to-spleen signal"].value > 1 < found["liver-to-muscle signal"].value  # T1-like: liver is bright
    assert "cut off" in found["liver volume"].note  # 20 slices do not hold a liver


@pytest.mark.parametrize("semi_axes", [(20, 30, 60), (55, 20, 25)])
def test_the_length_of_an_ellipsoid_is_its_longest_axis(semi_axes: tuple[int, int, int]):
    grid = Grid((40, 70, 70), np.diag([4.0, 2.0, 2.0, 1.0]))
    turn = Rotation.from_euler("xyz", (20, 35, 50), degrees=True).as_matrix()
    places = (np.moveaxis(np.indices(grid.shape), 0, -1) - (np.array(grid.shape) - 1) / 2) * (4, 2, 2)
    mask = (((places @ turn) / semi_axes) ** 2).sum(-1) <= 1
    assert length(mask, grid) == pytest.approx(2 * max(semi_axes), abs=4)


def test_no_ascites_is_a_finding_where_the_segmentation_knows_ascites(tmp_path: Path):
    scan = written(tmp_path)
    assert named(biomarkers(scan))["ascites volume"].value is None  # total_mr has no label for it
    (tmp_path / "organs.json").write_text('{"ascites": 9, "spleen": 1}', encoding="utf-8")
    assert named(biomarkers(scan))["ascites volume"].value == 0
    (tmp_path / "organs.json").write_text('{"ascites": 46}', encoding="utf-8")
    assert named(biomarkers(scan))["ascites volume"].value == pytest.approx(14 * 7 * 20 * 0.02)
