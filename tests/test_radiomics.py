"""MIRP as we call it, against the consensus values of the Image Biomarker Standardisation Initiative; and odd masks."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from toy_patients import toy_cohort

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.measure.radiomics import CHANGES, FAMILIES, RadiomicsSettings, available, cohort_radiomics, radiomics

REFERENCE_SUFFIX = {"cm": "_2D_comb", "rlm": "_2D_comb", "szm": "_2D", "ngt": "_2D", "ngl": "_2D"}


def reference(path: Path) -> dict[str, tuple[float, float]]:
    """Feature -> consensus value and how far from it a value may lie: its tolerance and half of its last digit."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    told = {}
    for row in rows:
        if row["reference value"]:
            value, tolerance = float(row["reference value"]), float(row["tolerance"] or 0)
            digits = f"{abs(value):.2e}"  # the consensus is given with three digits
            told[row["tag"]] = (value, tolerance + 0.005 * 10 ** int(digits.split("e")[1]))
    return told


@pytest.mark.real
def test_every_feature_agrees_with_the_consensus_on_the_digital_phantom(external_data: Path):
    folder = external_data / "ibsi"
    arrays = [
        nib.load(folder / "ibsi_1_digital_phantom/nifti" / name).get_fdata().transpose(2, 1, 0)
        for name in ("image/phantom.nii.gz", "mask/mask.nii.gz")
    ]
    # Six grey levels from 1 to 6 are the phantom's own; none lies three standard deviations off.
    found = radiomics(arrays[0], arrays[1] > 0, (2.0, 2.0, 2.0), RadiomicsSettings(bins=6)).values
    known = reference(folder / "ibsi_1_dig_phantom.csv")
    wrong = {}
    for name, value in found.items():
        tag = name + REFERENCE_SUFFIX.get(name.partition("_")[0], "")
        consensus, margin = known[tag]  # a feature without a reference value fails here
        if not abs(value - consensus) <= margin:
            wrong[name] = (value, consensus, margin)
    assert not wrong and len(found) == 141
    print(f"\n{len(found) - len(wrong)} of {len(found)} features within tolerance")
    assert {name.partition("_")[0] for name in found} == set(FAMILIES.values())


def ball(shape: tuple[int, int, int] = (11, 24, 26), radius: float = 9.0) -> np.ndarray:
    axes = np.meshgrid(*[np.arange(size) - (size - 1) / 2 for size in shape], indexing="ij")
    return sum((axis * step) ** 2 for axis, step in zip(axes, (2, 1, 1), strict=True)) < radius**2


def textured(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 0.2, shape)


def test_shape_is_in_mm_and_first_order_in_the_images_unit():
    mask = ball()
    values = radiomics(textured(mask.shape), mask, (4.0, 2.0, 2.0)).values
    assert values["morph_vol_approx"] == pytest.approx(mask.sum() * 16.0)
    assert values["morph_sphericity"] == pytest.approx(0.9, abs=0.1)
    assert values["morph_pca_maj_axis"] == pytest.approx(36, rel=0.1)
    # Outliers beyond three standard deviations are left out.
    inside = textured(mask.shape)[mask]
    assert values["stat_mean"] == pytest.approx(
        inside[np.abs(inside - inside.mean()) < 3 * inside.std()].mean(), rel=1e-3
    )


def test_gain_and_offset_of_the_scanner_do_not_touch_texture():
    mask, image = ball(), textured((11, 24, 26))
    one, other = (radiomics(values, mask, (4.0, 2.0, 2.0)).values for values in (image, 7 * image + 300))
    textures = [name for name in one if name.partition("_")[0] in ("cm", "rlm", "szm", "ngl")]
    assert len(textures) > 60
    assert [one[name] for name in textures] == pytest.approx([other[name] for name in textures], rel=0.02)


def test_odd_masks_give_values_or_reasons():
    image = textured((7, 20, 21))
    few = np.zeros(image.shape, bool)
    few[3, 2:5, 2:5] = True
    assert radiomics(image, few, (5, 2, 2)).reasons["shape"] == "the mask has only 9 voxels"
    flat = np.zeros(image.shape, bool)
    flat[3, 3:15, 3:15] = True
    found = radiomics(image, flat, (5, 2, 2))
    assert found.reasons == {"shape": "the mask lies in one slice"} and "cm_joint_entr" in found.values
    constant = radiomics(np.ones(image.shape), flat | np.roll(flat, 1, axis=0), (5, 2, 2))
    assert constant.reasons == {"intensity and texture": "all intensities in the mask are equal"}
    assert constant.values and all(name.startswith("morph_") for name in constant.values)
    whole = radiomics(image, np.ones(image.shape, bool), (5, 2, 2))
    assert "cut off at the lowest slice" in whole.remark and all(map(np.isfinite, whole.values.values()))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="bins is from 2 to 256, not 1"):
        RadiomicsSettings(bins=1)
    with pytest.raises(ValueError, match="outliers is above 0"):
        RadiomicsSettings(outliers=-1)
    with pytest.raises(InputError, match="the same three sides"):
        radiomics(np.ones((3, 4, 5)), np.ones((3, 4, 6), bool), (1, 1, 1))


def test_without_mirp_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "mirp", None)
    assert not available()
    with pytest.raises(InputError, match=r"pip install \"cirrnb\[radiomics\]\""):
        radiomics(np.ones((3, 4, 5)), np.ones((3, 4, 5), bool), (1, 1, 1))


def with_masks(cohort: PreparedCohort, without: int) -> PreparedCohort:
    for place, one in enumerate(cohort.scans):
        if place != without:
            mask = np.zeros(one.grid.shape, bool)
            mask[1:-1, 4:16, 5:19] = True
            np.save(one.folder / "mask.npy", mask)
    return cohort


def test_a_cohort_is_measured_once_and_gaps_have_reasons(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    prepared = with_masks(toy_cohort(tmp_path / "prepared", {"train": 2}, pattern=0.1), without=3)
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    values, reasons = cohort_radiomics(prepared, tmp_path / "kept", workers=1, progress=False)
    assert (root.level, list(root.handlers)) == before and "INFO" not in capfd.readouterr().out
    assert len(values) == 4 and values["cm_joint_entr"].notna().tolist() == [True, True, True, False]
    assert reasons.to_dict("records") == [
        {"subject": "cirrhotic/2", "sequence": "T2W", "part": part, "reason": "no liver mask"}
        for part in ("shape", "intensity and texture")
    ]
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == 4
    told = json.loads(files[0].read_text(encoding="utf-8"))
    files[0].write_text(json.dumps({**told, "values": {"stat_mean": 5.0}}), encoding="utf-8")
    files[1].write_text("{", encoding="utf-8")  # half a file, as no kill can leave it, is measured again
    again, _ = cohort_radiomics(prepared, tmp_path / "kept", workers=1, progress=False)
    assert (again["stat_mean"] == 5.0).sum() == 1 and again["cm_joint_entr"].notna().sum() in (2, 3)
    with pytest.raises(ValueError, match="change is one of"):
        cohort_radiomics(prepared, tmp_path / "kept", change="upside down")


def test_a_changed_mask_changes_the_volume_as_it_should(tmp_path: Path):
    prepared = with_masks(toy_cohort(tmp_path / "prepared", {"train": 1}, pattern=0.1, sequences=["T1W"]), without=-1)
    volumes = {}
    for change in CHANGES:
        values, _ = cohort_radiomics(prepared, tmp_path / "kept", change=change, workers=1, progress=False)
        volumes[change] = float(values["morph_vol_approx"].iloc[0])
    one = 8.0 * 8.0 * 5.0 * 7  # mm³ of a pixel through the seven slices of the mask
    assert volumes["none"] == pytest.approx(12 * 14 * one)
    assert volumes["larger"] == pytest.approx((12 * 14 + 2 * (12 + 14)) * one)  # corners are not grown
    assert volumes["smaller"] == pytest.approx(10 * 12 * one) and volumes["moved"] == volumes["none"]
