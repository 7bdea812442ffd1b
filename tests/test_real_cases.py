"""Real files through the front door, by the commands of the README: imported, explored, staged, exported, read back."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.atomic_files import file_stem
from cirrnb.data.errors import InputErrors
from cirrnb.model.trained_model import load_model

pytestmark = pytest.mark.real

T2W, T1W = "cmb_crc/SCAN_001_t2_small.nii.gz", "totalsegmentator_mr/example_mr_sm.nii.gz"
LABELS, LIVER = "totalsegmentator_mr/example_seg_mr.nii.gz", 5


def run(*arguments: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.output, str(result.exception or "")


@pytest.fixture(scope="module")
def cohort(external_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both scans where they lie, named by a table; of the liver's mask a file of its own."""
    folder = tmp_path_factory.mktemp("real") / "own"
    folder.mkdir()
    labels = nib.load(external_data / LABELS)
    nib.save(nib.Nifti1Image((np.asarray(labels.dataobj) == LIVER).astype(np.uint8), labels.affine), folder / "m.nii")
    with (folder / "scans.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["patient", "sequence", "image", "mask"])
        rows.writerow(["SCAN-001", "T2W", external_data / T2W, ""])
        rows.writerow(["example", "T1W", external_data / T1W, "m.nii"])
    return folder


@pytest.fixture(scope="module")
def explorer(cohort: Path) -> cirrnb.SliceExplorer:
    model = load_model("shipped")
    ready = cirrnb.prepare(
        cirrnb.read_cohort(cohort), cohort.parent / "prepared", model.preparation, workers=1, progress=False
    )
    return cirrnb.SliceExplorer(ready, model, method="grad_cam", store=None, answer_first=True)


def test_an_adc_series_is_listed_imported_and_neither_explored_nor_exported(external_data: Path, tmp_path: Path):
    """The geometry of what is imported is looked at in tests/test_dicom.py."""
    dicom, own = external_data / "cmb_crc/dicom_SCAN_001_adc", tmp_path / "own"
    code, said, _ = run("import-dicom", dicom, "--list")
    assert code == 0 and "256 x 288 x 36" in said and "not staged: an ADC map" in said
    code, said, _ = run("import-dicom", dicom, own)
    assert code == 3 and "nothing of it can be staged: series 1, an ADC map" in said
    for command in (["explore", own, "--no-browser"], ["export", own, tmp_path / "out", "--dicom", dicom]):
        code, _, error = run(*command)
        assert code == 1 and "none can be staged (case-1/other-1.nii.gz: an ADC map" in error
        assert "Import the patient's T1W or T2W series as well." in error
    assert not (tmp_path / "out").exists()


def test_files_as_they_are_named_in_a_folder_are_asked_about(external_data: Path, tmp_path: Path) -> None:
    for name in (T2W, T1W):
        shutil.copy(external_data / name, tmp_path)
    with pytest.raises(InputErrors, match=r"neither T1W nor T2W.*scans.csv"):
        cirrnb.read_cohort(tmp_path)
    (tmp_path / Path(T2W).name).rename(tmp_path / "SCAN-001_T2W.nii.gz")
    (tmp_path / Path(T1W).name).rename(tmp_path / "example_T1W.nii.gz")
    found = [(scan.patient, scan.sequence) for scan in cirrnb.read_cohort(tmp_path).scans]
    assert found == [("SCAN-001", "T2W"), ("example", "T1W")]


@pytest.mark.parametrize(
    ("patient", "wanted"),
    [
        ("SCAN-001", ["T1W missing", "T2W looks unlike"]),
        ("example", ["T2W missing", "T1W looks"]),
    ],
)
def test_explored_and_staged_with_what_is_missing_and_unusual(
    explorer: cirrnb.SliceExplorer, patient: str, wanted: list[str]
) -> None:
    explorer.case.value = f"scans/{patient}"
    assert explorer.wait(120) and explorer.explanation is not None, explorer.message.value
    said = explorer.prediction
    assert said is not None and sum(said.probabilities.values()) == pytest.approx(1)
    told = explorer.answer.value
    assert not said.in_distribution and ("this patient is not like them" in told or "any stage" in told)
    for words in wanted:
        assert words in told and words not in explorer.why.value  # told once
    assert "The patient is simulated" not in told and not explorer.simulated


@pytest.mark.parametrize(("patient", "sequence", "source"), [("SCAN-001", "T2W", T2W), ("example", "T1W", T1W)])
def test_exported_and_read_back_by_another_library_on_the_scans_own_grid(
    cohort: Path, external_data: Path, tmp_path: Path, patient: str, sequence: str, source: str
) -> None:
    code, said, error = run(
        *("export", cohort, tmp_path / "out", "--patient", f"scans/{patient}", "--method", "grad_cam"),
        *("--prepared", cohort.parent / "prepared"),
    )
    assert code == 0, error
    assert "missing" in said and "Note: " in said and "UserWarning" not in said
    scan = sitk.ReadImage(str(external_data / source))
    stem = file_stem(f"scans/{patient}", sequence)
    names = {f"{stem}_grad_cam.nii.gz", f"{stem}_liver.nii.gz"}  # the liver of SCAN-001 is drawn by the segmenter
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for name in names:
        back = sitk.ReadImage(str(tmp_path / "out" / name))
        assert back.GetSize() == scan.GetSize()
        for own, other in (
            (back.GetOrigin(), scan.GetOrigin()),
            (back.GetSpacing(), scan.GetSpacing()),
            (back.GetDirection(), scan.GetDirection()),
        ):
            np.testing.assert_allclose(own, other, atol=1e-3)
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / f"{stem}_grad_cam.nii.gz")))
    assert np.nanmax(np.abs(values)) > 0
    liver = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / f"{stem}_liver.nii.gz")))
    assert 400 < (liver > 0).sum() * np.prod(scan.GetSpacing()) / 1000 < 3500
    if patient == "example":
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(external_data / LABELS)))
        np.testing.assert_array_equal(liver > 0, labels == LIVER)


@pytest.mark.slow
def test_a_part_of_a_liver_and_unusual_contrasts_are_doubtful_or_refused_by_name(
    external_data: Path, tmp_path: Path
) -> None:
    """A dome, three flip angles of a coarse volunteer, and a coronal magnitude, which must not be refused."""
    named = {
        "dome": ("dome_gre/dome_gre.nii.gz", {"sequence", "part"}),
        "coronal": ("coronal_gre/magnitude.nii.gz", {"plane"}),
        **{angle: (f"vfa_liver/flip_{angle}.nii.gz", {"unusual"}) for angle in ("02", "15", "25")},
    }
    rows = [f"{patient},T1W,{external_data / file}" for patient, (file, _) in named.items()]
    (tmp_path / "scans.csv").write_text("\n".join(["patient,sequence,image", *rows]) + "\n", encoding="utf-8")
    told = cirrnb.predict("shipped", tmp_path / "scans.csv", prepared=tmp_path / "prepared").set_index("patient")
    assert set(told["status"]) <= {"doubtful", "refused"} and told.loc["coronal", "status"] == "doubtful"
    for patient, (_, codes) in named.items():
        assert any(f"{code}: " in told.loc[patient, "reasons"] for code in codes), told.loc[patient, "reasons"]


def test_a_single_slice_after_contrast_agent_is_not_imported_and_says_why(external_data: Path, tmp_path: Path) -> None:
    code, said, error = run("import-dicom", external_data / "vibe_dicom", tmp_path / "own")
    assert code == 1 and "multiplanar reformat: 1 slice only" in said + error
