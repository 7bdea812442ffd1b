"""A DICOM folder becomes a cohort: the right series, each voxel in its place, and nobody's name."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_phantoms import ACCESSION, BORN, ID, JPEG_2000, NAME, T1, T2, pattern, write_enhanced, write_series
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

import cirrnb
from cirrnb.cli import app
from cirrnb.data.dicom.importing import import_dicom, list_series
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.status import status_of_scans

OBLIQUE = tuple(np.round([0.98480775, 0.17364818, 0, -0.16773126, 0.95125124, 0.25881905], 8))


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    folder = tmp_path / "dicom"
    write_series(folder, T1, number=3)
    write_series(folder / "deep" / "er", T2, number=5, orientation=OBLIQUE, spacing=(1.25, 1.75), apart=6.5)
    write_series(folder, {"SeriesDescription": "ADC"}, number=7, ImageType=["DERIVED", "PRIMARY", "ADC"])
    (folder / "readme.txt").write_text("no DICOM")
    return folder


def test_a_folder_is_imported_and_read_at_once(exam: Path, tmp_path: Path) -> None:
    made = import_dicom(exam, tmp_path / "own")
    assert {name: one.series.tags["SeriesNumber"] for name, (one, _) in made.scans.items()} == {"T1W": 3, "T2W": 5}
    cohort = cirrnb.read_cohort(tmp_path / "own")
    assert [scan.name for scan in cohort.scans] == ["imported/case-1 T1W", "imported/case-1 T2W"]
    scan = cohort.scans[1]
    assert (scan.age, scan.sex, scan.stage, scan.extra["te_ms"]) == (90, "female", None, "92")  # 93 years, cut at 90
    assert scan.extra["chosen_because"] == "spin echo, TR 1400 ms, TE 92 ms; named T2W"


def test_every_voxel_lies_where_dicom_says(exam: Path, tmp_path: Path) -> None:
    """DICOM's own formula (PS3.3 C.7.6.2.1.1), worked out here: LPS of a pixel, its RAS, its place in the file."""
    import_dicom(exam, tmp_path / "own")
    image = nib.load(tmp_path / "own/case-1/T2W.nii.gz")
    values, back = np.asarray(image.dataobj), np.linalg.inv(image.affine)
    along, down = np.array(OBLIQUE[:3]), np.array(OBLIQUE[3:])
    for place, row, column in ((0, 0, 0), (10, 23, 19), (4, 17, 3), (7, 2, 16)):
        lps = np.array([-100.0, -80.0, -30.0]) + place * 6.5 * np.cross(along, down)
        lps = lps + column * 1.75 * along + row * 1.25 * down
        index = back @ [-lps[0], -lps[1], lps[2], 1]
        np.testing.assert_allclose(index[:3], np.round(index[:3]), atol=1e-3)
        assert values[tuple(np.round(index[:3]).astype(int))] == pattern()[place, row, column]


def test_nothing_that_names_anybody_is_written(exam: Path, tmp_path: Path) -> None:
    out = tmp_path / "own"
    assert CliRunner().invoke(app, ["import-dicom", str(exam), str(out), "--others"]).exit_code == 0
    secrets = [*NAME.split("^"), BORN, ID, ACCESSION, "20240506", "131415", "Klinik", "TIPS", "1.2.3.", "vibe", "HASTE"]
    for path in (one for one in out.rglob("*") if one.is_file()):
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        assert not [word for word in secrets if word.encode() in data[:352] or word in path.name], path
        if path.suffix == ".csv":
            assert not [word for word in secrets if word in data.decode()], path
    assert sorted(one.name for one in (out / "case-1").iterdir()) == ["T1W.nii.gz", "T2W.nii.gz", "other-3.nii.gz"]


def test_a_second_patient_is_added_and_the_first_stays(exam: Path, tmp_path: Path) -> None:
    import_dicom(exam, tmp_path / "own")
    table = tmp_path / "own/scans.csv"
    table.write_text(table.read_text().replace("case-1/T1W.nii.gz,,", "case-1/T1W.nii.gz,,mild", 1))
    write_series(tmp_path / "other", T1)
    made = import_dicom(tmp_path / "other", tmp_path / "own", name="A17")
    cohort = cirrnb.read_cohort(tmp_path / "own")
    assert (made.name, list(cohort.patients.index)) == ("A17", ["imported/A17", "imported/case-1"])
    assert cohort.patients.loc["imported/case-1", "stage"] == "mild"
    with pytest.raises(InputError, match="in this cohort already"):
        import_dicom(exam, tmp_path / "own")
    with pytest.raises(InputError, match="this name already"):
        write_series(tmp_path / "third", T1)
        import_dicom(tmp_path / "third", tmp_path / "own", name="A17")


def test_two_patients_in_one_folder_are_named_by_number(exam: Path, tmp_path: Path) -> None:
    write_series(exam, T1, number=9, PatientID="PID-2", PatientName="Beispiel^Max", study="1.2.3.2")
    with pytest.raises(
        InputError, match=r"2 patients: patient 1 with series 1; patient 2 with series 2, 3, 4.*--patient"
    ) as raised:
        import_dicom(exam, tmp_path / "own")
    assert "Muster" not in str(raised.value) and "Beispiel" not in str(raised.value)
    assert set(import_dicom(exam, tmp_path / "own", patient=2).scans) == {"T1W", "T2W"}


def test_several_phases_are_asked_for_and_the_portal_venous_one_is_suggested(tmp_path: Path) -> None:
    for number, words in enumerate(("t1 vibe native", "t1 vibe arterial"), 1):
        write_series(tmp_path / "dicom", T1, number=number, SeriesDescription=words)
    with pytest.raises(InputError, match=r"2 series that may be it: 1 \(t1 vibe native.*--t1w 1, or say --t1w 0"):
        import_dicom(tmp_path / "dicom", tmp_path / "own")
    made = import_dicom(tmp_path / "dicom", tmp_path / "asked", ask=lambda sequence, judged: judged[1].number)
    assert made.scans["T1W"][0].number == 2 and made.scans["T1W"][1] == "named by the user"
    write_series(tmp_path / "dicom", T1, number=3, SeriesDescription="t1 vibe portal venous")
    made = import_dicom(tmp_path / "dicom", tmp_path / "own")
    assert made.scans["T1W"][0].number == 3 and "of 3 the one in the portal venous phase" in made.scans["T1W"][1]


@pytest.mark.parametrize(
    ("tags", "sequence", "sure", "why"),
    [
        (T1, "T1W", True, "gradient echo"),
        (T2, "T2W", True, "TE 92 ms"),
        ({**T1, "SeriesDescription": "t2 haste"}, None, False, "speaks for T1W, but its name says T2W"),
        ({**T2, "SeriesDescription": "T2 MRCP rad"}, "T2W", False, "fluid only"),
        ({**T2, "BodyPartExamined": "BRAIN"}, "T2W", False, "another part of the body (brain)"),
        ({"SeriesDescription": "t1"}, "T1W", False, "no conclusive timing"),
        ({**T1, "SeriesDescription": "t2* gre", "RepetitionTime": 200, "EchoTime": 25}, None, False, "neither"),
        ({**T2, "DiffusionBValue": 800.0}, None, True, "diffusion"),
        ({**T2, "SeriesDescription": "ep2d_diff_b50_400"}, None, True, "diffusion"),
        ({**T1, "Modality": "CT"}, None, True, "CT and not MR"),
        ({**T1, "ImageType": ["DERIVED", "SECONDARY", "SUBTRACTION"]}, None, True, "subtraction"),
    ],
)  # fmt: skip
def test_what_a_series_is_taken_for(tags: dict, sequence: str, sure: bool, why: str, tmp_path: Path) -> None:
    write_series(tmp_path, tags)
    verdict = list_series(tmp_path).judged[0].verdict
    assert (verdict.sequence, verdict.sure) == (sequence, sure) and why in verdict.why


@pytest.mark.parametrize(
    ("tags", "sequence", "doubt"),
    [
        ({**T2, "BodyPartExamined": "BRAIN"}, "T2W", "another part of the body (brain)"),
        ({**T1, "SeriesDescription": "t2 haste"}, "T1W", "name says T2W"),
        (T2, "T2W", None),
    ],
)
def test_what_speaks_against_a_series_travels_with_its_answers(
    tags: dict, sequence: str, doubt: str | None, tmp_path: Path
) -> None:
    write_series(tmp_path / "dicom", tags)
    import_dicom(tmp_path / "dicom", tmp_path / "own", **{"t1w": 0, "t2w": 0, sequence.lower(): 1})
    (scan,) = cirrnb.read_cohort(tmp_path / "own").scans
    status, reasons = status_of_scans([scan])
    assert status == ("doubtful" if doubt else "answered")
    assert [reason.code for reason in reasons] == (["import"] if doubt else [])
    assert all(doubt in reason.text and reason.text.startswith(sequence) for reason in reasons if doubt)


def test_echoes_of_one_series_are_two_volumes(tmp_path: Path) -> None:
    first = write_series(tmp_path / "a", T1, SeriesInstanceUID="1.2.3.77", EchoTime=2.3)
    write_series(tmp_path / "b", T1, SeriesInstanceUID="1.2.3.77", EchoTime=4.6, voxels=pattern() + 5)
    judged = list_series(tmp_path).judged
    assert [one.series.part for one in judged] == ["echo 2.3 ms", "echo 4.6 ms"]
    import_dicom(tmp_path, tmp_path / "own", t1w=2)
    image = nib.load(tmp_path / "own/case-1/T1W.nii.gz")
    assert image.shape == (20, 24, len(first)) and int(np.asarray(image.dataobj).min()) == 5


def test_an_enhanced_object_is_imported_and_one_with_two_phases_is_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "one/IM1", T1, pattern())
    made = import_dicom(tmp_path / "one", tmp_path / "own")
    image = nib.load(tmp_path / "own/case-1/T1W.nii.gz")
    assert image.shape == (20, 24, 11) and "gradient echo" in made.scans["T1W"][1]
    corner = np.linalg.inv(image.affine) @ [100, 80, -30, 1]  # LPS -100, -80, -30: the first voxel of the first frame
    assert np.asarray(image.dataobj)[tuple(np.round(corner[:3]).astype(int))] == 0
    write_enhanced(tmp_path / "two/IM1", T1, pattern(), repeat=2)
    with pytest.raises(InputError, match="several pictures at one place"):
        import_dicom(tmp_path / "two", tmp_path / "own")


def test_a_missing_slice_is_named_with_its_place(tmp_path: Path) -> None:
    write_series(tmp_path, T1, leave_out=(4,))
    with pytest.raises(
        InputError, match=r"1 slice missing: 10.0 mm between slices 4 and 5.*5.0 elsewhere.*Copy or export"
    ):
        import_dicom(tmp_path, tmp_path / "own", t1w=1)
    assert not (tmp_path / "own").exists()


def test_a_file_cut_short_is_told(tmp_path: Path) -> None:
    path = write_series(tmp_path, T1)[3]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 400)
    with pytest.raises(InputError, match=r"1 of 11 files cut short.*Export the series again"):
        import_dicom(tmp_path, tmp_path / "own", t1w=1)


def test_a_damaged_header_is_counted_and_leaves_a_hole(tmp_path: Path) -> None:
    path = write_series(tmp_path, T1)[3]
    path.write_bytes(path.read_bytes()[:700])
    looked = list_series(tmp_path)
    assert sum(map(len, looked.files.skipped.values())) == 1
    assert "1 slice missing" in looked.judged[0].verdict.why


@pytest.mark.parametrize("syntax", [JPEG_2000, "1.2.840.10008.1.2.4.102"])
def test_pictures_that_cannot_be_unpacked(syntax: str, tmp_path: Path) -> None:
    write_series(tmp_path, T1, packed=syntax)
    with pytest.raises(InputError, match=r"unpack.*uncompressed"):
        import_dicom(tmp_path, tmp_path / "own", t1w=1)
    assert not list(tmp_path.glob("own/*"))


def test_a_slice_that_was_copied_twice_counts_once(tmp_path: Path) -> None:
    path = write_series(tmp_path, T1)[0]
    (tmp_path / "copy").write_bytes(path.read_bytes())
    assert len(list_series(tmp_path).files.skipped["the same picture again"]) == 1
    import_dicom(tmp_path, tmp_path / "own")
    assert nib.load(tmp_path / "own/case-1/T1W.nii.gz").shape == (20, 24, 11)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write_series(tmp_path / "elsewhere", T1)
    (tmp_path / "dicom").mkdir()
    for path in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "dicom" / path.name).symlink_to(path)
    with pytest.raises(InputError, match="no DICOM picture"):
        list_series(tmp_path / "dicom")


def test_pydicoms_own_files_are_read_or_passed_over_with_a_reason(tmp_path: Path) -> None:
    folder = Path(get_testdata_file("CT_small.dcm")).parent
    result = CliRunner().invoke(app, ["import-dicom", str(folder), "--list"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert any("CT and not MR" in line for line in lines) and any("localizer" in line for line in lines)
    assert not any("T1W:" in line or "T2W:" in line for line in lines)  # they hold no scan that could be staged


def test_the_terminal_is_asked_and_a_pipe_is_not(tmp_path: Path) -> None:
    for number in (1, 2):
        write_series(tmp_path / "dicom", T1, number=number, SeriesDescription=f"t1 {number}")
    result = CliRunner().invoke(app, ["import-dicom", str(tmp_path / "dicom"), str(tmp_path / "own")], input="2\n")
    assert isinstance(result.exception, InputError) and "--t1w" in str(result.exception)
    result = CliRunner().invoke(app, ["import-dicom", str(tmp_path / "dicom"), str(tmp_path / "own"), "--t1w", "2"])
    assert result.exit_code == 0 and "No T2W scan" in result.output


@pytest.mark.real
@pytest.mark.skipif("CIRRNB_EXTERNAL_DATA" not in os.environ, reason="CIRRNB_EXTERNAL_DATA names no folder")
def test_a_real_adc_series_is_imported_and_refused_for_staging(tmp_path: Path) -> None:
    folder = Path(os.environ["CIRRNB_EXTERNAL_DATA"]) / "cmb_crc/dicom_SCAN_001_adc"
    result = CliRunner().invoke(app, ["import-dicom", str(folder), str(tmp_path)])
    assert result.exit_code == 3 and "an ADC map" in result.output
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    expected, image = reader.Execute(), nib.load(tmp_path / "case-1/other-1.nii.gz")
    assert expected.GetSize() == image.shape
    for index in ((0, 0, 0), (255, 287, 35), (100, 31, 17)):
        x, y, z = expected.TransformIndexToPhysicalPoint(index)
        place = np.round(np.linalg.inv(image.affine) @ [-x, -y, z, 1])[:3].astype(int)
        assert image.dataobj[tuple(place)] == expected[index]
    with pytest.raises(InputErrors, match=r"none can be staged.*ADC map"):
        cirrnb.read_cohort(tmp_path)
    with pytest.raises(InputError, match="an ADC map"):
        import_dicom(folder, tmp_path / "again", t2w=1)
