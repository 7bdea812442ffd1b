"""What is no abdominal MRI and whose header does not say so: a CT is refused, a head is told to be unusual."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_phantoms import T1, write_series
from strange_scans import write_ct, write_head

import cirrnb
from cirrnb.data.auditing.audit import audit
from cirrnb.data.dicom.importing import list_series
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.nifti.reading import is_hounsfield, read_volume, refuse_ct
from cirrnb.data.status import Refused
from cirrnb.model.prediction import predict_patient
from cirrnb.model.trained_model import load_model


@pytest.mark.parametrize(
    "kind", [{}, {"padding": -3024}, {"padding": -2048, "air": -1010}, {"air": -1024, "dtype": np.float32}]
)
def test_a_ct_is_refused_with_the_way_out(kind: dict, tmp_path: Path) -> None:
    path = write_ct(tmp_path / "A17_T1W.nii.gz", **kind)
    with pytest.raises(InputErrors, match=r"A17_T1W.*Hounsfield.*a CT; expected a T1W or T2W scan.*Leave it out"):
        cirrnb.prepare(cirrnb.read_cohort(path), tmp_path / "prepared", workers=1, progress=False)
    found = audit(tmp_path, workers=1)
    assert found.has_errors and "a CT" in found.report()


def test_stored_with_an_intercept_it_is_a_ct_all_the_same(tmp_path: Path) -> None:
    image = nib.load(write_ct(tmp_path / "ct.nii"))
    raw = nib.Nifti1Image((np.asarray(image.dataobj).clip(-1024) + 1024).astype(np.uint16), image.affine)
    raw.header.set_slope_inter(1, -1024)
    nib.save(raw, tmp_path / "raw.nii")
    with pytest.raises(InputError, match="a CT"):
        refuse_ct(tmp_path / "raw.nii", read_volume(tmp_path / "raw.nii")[0])


@pytest.mark.parametrize(
    "values",
    [
        lambda rng: rng.normal(0, 1, 50_000),  # scaled to mean 0 and spread 1
        lambda rng: rng.integers(-4096, 4096, 50_000),  # a phase image
        lambda rng: np.abs(rng.normal(300, 200, 50_000)) - 1000,  # MRI that somebody shifted
        lambda rng: np.where(rng.random(50_000) < 0.5, 0, rng.gamma(2, 150, 50_000)),
        lambda rng: np.where(rng.random(50_000) < 0.5, -1000, rng.gamma(4, 300, 50_000)),  # padded with -1000
        lambda rng: np.full(50_000, -1000),
    ],
)
def test_what_is_no_ct(values) -> None:
    assert not is_hounsfield(np.asarray(values(np.random.default_rng(1)), np.float32))


def test_simulated_scans_are_no_ct(tmp_path: Path) -> None:
    made = cirrnb.simulate_cohort(tmp_path / "sim", patients=3, seed=5, scale="tiny", healthy=0, workers=1)
    for scan in made.scans:
        refuse_ct(scan.image, read_volume(scan.image)[0])


@pytest.mark.real
def test_real_mr_is_no_ct(external_data: Path) -> None:
    for name in ("cmb_crc/SCAN_001_t2_small.nii.gz", "totalsegmentator_mr/example_mr_sm.nii.gz"):
        refuse_ct(external_data / name, read_volume(external_data / name)[0])


@pytest.mark.parametrize("weighting", ["T1W", "T2W"])
def test_a_head_is_refused_and_unusual_where_it_is_forced(weighting: str, tmp_path: Path) -> None:
    """No header says that it is one: no liver is found. The model's own flag takes back its certainty where forced."""
    write_head(tmp_path / f"A17_{weighting}.nii.gz", weighting=weighting)
    model = load_model("shipped")
    people = cirrnb.read_cohort(tmp_path)
    ready = cirrnb.prepare(people, tmp_path / "prepared", model.preparation, workers=1, progress=False)
    with pytest.raises(Refused, match="presence"):
        predict_patient(model, ready.bags()[0])
    ready = cirrnb.prepare(people, tmp_path / "prepared", model.preparation, force=True, workers=1, progress=False)
    said = predict_patient(model, ready.bags()[0])
    assert said.status == "doubtful" and "forced" in {reason.code for reason in said.reasons}
    assert not said.in_distribution and any(
        f"{weighting} looks unlike the training scans" in note for note in said.notes
    )


def test_a_scan_far_from_both_sequences_is_not_called_exchanged(tmp_path: Path) -> None:
    model = load_model("shipped")
    write_head(tmp_path / "A17_T2W.nii.gz", weighting="T1W")
    ready = cirrnb.prepare(
        cirrnb.read_cohort(tmp_path), tmp_path / "prepared", model.preparation, workers=1, progress=False
    )
    [scan] = ready.scans
    assert model.out_of_distribution is not None
    [told] = model.out_of_distribution.remarks({"T2W": scan})
    assert "looks unlike" in told
    as_t1w = replace(scan, scan=replace(scan.scan, sequence="T1W"))
    assert "looks unlike" in model.out_of_distribution.remarks({"T1W": as_t1w})[0]


def test_a_dicom_folder_given_as_a_cohort_is_told_the_way(tmp_path: Path) -> None:
    write_series(tmp_path / "export" / "deep", T1)
    with pytest.raises(InputErrors, match=r"found DICOM files \(deep.IM.*cirrnb import-dicom .*export cohorts/own"):
        cirrnb.read_cohort(tmp_path / "export")


def test_a_picture_called_dicom_is_named(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.dcm").write_bytes(b"\xff\xd8\xff\xe0" + bytes(3000))
    with pytest.raises(InputError, match=r"no DICOM picture \(1 not DICOM but a JPEG picture\)"):
        list_series(tmp_path)
