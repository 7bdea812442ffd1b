"""Results go back as DICOM: segmentation, structured report and PDF, read back by other people's tools."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dicom_phantoms import ID, NAME, T1, T2, write_series
from pydicom import dcmread
from stand_in_worker import make_report

from cirrnb.archive.findings import HIDDEN, ModelFacts, findings_of, refusal
from cirrnb.archive.results import Answer, is_written, results_folder, write_answer
from cirrnb.data.dicom.importing import hash_of, import_dicom, list_series
from cirrnb.data.dicom.series import Series
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.scan import Scan
from cirrnb.data.status import DOUBTFUL, FAR, REFUSED, Reason
from cirrnb.measure.measurement import Measurement
from cirrnb.model.signs import SignReading
from cirrnb.view.documentation import in_words
from cirrnb.view.sign_sentences import UNSEEN

MODEL = ModelFacts("mine", "1.2", "f" * 64)
VALUES = {"liver volume": (1234.5, "mL"), "sphericity": (0.625, ""), "signal heterogeneity": (12.5, "%")}
VALUES |= {"spleen volume": (250.25, "mL"), "spleen length": (101.5, "mm"), "ascites volume": (0.0, "mL")}
SIGNS = (
    SignReading("ascites", 0.4, 0.1, 0.7, read=0.97),
    SignReading("spleen", 0.05),
    SignReading("portal", 0.3, read=0.57),
    SignReading("nodules_t1w", 0.2, measured=True),
)


def stored(folder: Path, reasons: tuple[Reason, ...] = ()) -> Path:
    """The JSON of a report of a patient who does not exist."""
    report = make_report("imported/study-a", 0.25, ("T1W", "T2W"))
    status = {"status": DOUBTFUL, "reasons": reasons} if reasons else {}
    prediction = replace(report.prediction, signs=SIGNS, notes=("T1W: few slices",), **status)
    rows = tuple(Measurement(name, value, unit) for name, (value, unit) in VALUES.items())
    missing = Measurement("surface nodularity", None, "mm", "no outline longer than 80 mm")
    report = replace(report, prediction=prediction, measurements={"T1W": (*rows, missing), "T2W": ()}, simulated=False)
    path = folder / "report.json"
    path.write_text(json.dumps(report.as_dict(pictures=False)))
    return path


class Case:
    """A study as DICOM, imported, with a liver and a spleen outlined, and its answer."""

    def __init__(self, folder: Path, **tags: Any):
        write_series(folder / "dicom/t1", T1, number=1, **tags)
        write_series(folder / "dicom/t2", T2, number=2, **tags)
        import_dicom(folder / "dicom", folder / "own", name="study-a")
        judged = list_series(folder / "dicom").judged
        self.folder = folder
        self.series: dict[str, Series] = {str(one.verdict.sequence): one.series for one in judged}
        self.masks: dict[str, np.ndarray] = {}
        self.bag: Any = SimpleNamespace(scans={name: self._scan(name) for name in self.series})

    def _scan(self, name: str) -> Any:
        image = self.folder / f"own/study-a/{name}.nii.gz"
        loaded = nib.load(image)
        liver, organs = np.zeros(loaded.shape, np.uint8), np.zeros(loaded.shape, np.uint8)
        liver[3:9, 4:12, 2:6] = 1
        organs[10:13, 5:9, 3:5] = 4
        self.masks = {"liver": liver > 0, "spleen": organs > 0}
        for kind, values in (("liver", liver), ("organs", organs)):
            nib.save(nib.Nifti1Image(values, loaded.affine), self.folder / f"{name}_{kind}.nii.gz")
        (self.folder / f"{name}_organs.json").write_text('"cirrnb"')
        extra = {"mask_by": "cirrnb segmenter 1.1", "organs": str(self.folder / f"{name}_organs.nii.gz")}
        scan = Scan("study-a", name, image, self.folder / f"{name}_liver.nii.gz", source="imported", extra=extra)
        return SimpleNamespace(scan=scan, source_grid=Grid(loaded.shape, loaded.affine))

    def answer(self, page: str = "page key", **more: Any) -> Answer:
        hashes = {name: hash_of(series) for name, series in self.series.items()}
        return Answer("imported/study-a", page, hashes, MODEL, **{"stored": stored(self.folder), **more})

    def write(self, answer: Answer, out: str = "out") -> Path:
        with results_folder(self.folder / out) as folder:
            write_answer(folder, answer, self.series, None if answer.stored is None else self.bag)
            assert is_written(folder, answer)
        return self.folder / out / "imported-study-a"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def written(case: Case) -> Path:
    (case.folder / "page.pdf").write_bytes(b"%PDF-1.4 a page")
    return case.write(case.answer(pdf=case.folder / "page.pdf"))


def report_in(folder: Path) -> Any:
    return dcmread(folder / "imported-study-a_report.dcm")


def items(data: Any) -> list[Any]:
    """All content items, at any depth."""
    found = []
    for item in data.get("ContentSequence", []):
        found += [item, *items(item)]
    return found


def coded(item: Any) -> tuple[str, str]:
    code = item.ConceptNameCodeSequence[0]
    return str(code.get("CodeValue") or code.LongCodeValue), str(code.CodingSchemeDesignator)


def numbers(data: Any) -> dict[str, tuple[float, str]]:
    """Meaning -> value and unit of every number."""
    return {
        str(item.ConceptNameCodeSequence[0].CodeMeaning): (
            float(item.MeasuredValueSequence[0].NumericValue),
            str(item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue),
        )
        for item in items(data)
        if item.ValueType == "NUM"
    }


def texts(data: Any) -> list[str]:
    return [str(item.TextValue) for item in items(data) if item.ValueType == "TEXT"]


def codes(data: Any) -> dict[str, list[str]]:
    """Value of the concept's name -> values of its codes."""
    found: dict[str, list[str]] = {}
    for item in items(data):
        if item.ValueType == "CODE":
            found.setdefault(coded(item)[0], []).append(str(item.ConceptCodeSequence[0].CodeValue))
    return found


def test_measurements_have_values_units_and_codes(written: Path) -> None:
    data = report_in(written)
    found = numbers(data)
    assert found["Sphericity (Wadell)"] == (0.625, "1") and found["Signal heterogeneity"] == (12.5, "%")
    assert found["Length"] == (101.5, "mm")
    volumes = sorted(
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in items(data)
        if item.ValueType == "NUM" and coded(item) == ("118565006", "SCT")
    )
    assert volumes == [0.0, 250.25, 1234.5]
    assert any(text.startswith("surface nodularity: not measured") for text in texts(data))
    assert not any("nodularity" in name.lower() for name in found)


def test_the_stage_has_its_caveat_status_and_model(written: Path) -> None:
    data = report_in(written)
    assert codes(data)["cirrhosis-stage"] == ["mild"] and codes(data)["status"] == ["answered"]
    assert codes(data)["prediction-set"] == ["mild"]
    assert numbers(data)["Probability of stage moderate"] == (0.25, "1")
    said = " ".join(texts(data))
    assert "Not a medical device" in said and "no histology" in said and "simulated patients" in said
    assert "T1W: few slices" in said and MODEL.fingerprint in said and "cirrnb stager mine" in said
    assert MODEL.version in said
    assert "research only" in data.SeriesDescription and data.VerificationFlag == "UNVERIFIED"


def test_signs_have_strengths_and_limits(written: Path) -> None:
    data = report_in(written)
    found = numbers(data)
    assert found["ascites"] == (0.4, "1") and found["large spleen"] == (0.05, "1")
    assert found["ascites, low limit (90 %)"] == (0.1, "1") and found["ascites, high limit (90 %)"] == (0.7, "1")
    assert codes(data)["no-sign"] == ["373067005"]  # No
    assert not any(name.startswith("large spleen, ") for name in found)


def test_signs_carry_what_limits_their_worth(written: Path) -> None:
    said = texts(report_in(written))
    assert any(text.startswith("wide portal vein and extra vessels: hardly read: ") for text in said)
    assert any(text.startswith("nodules and septa on T1W: measured: ") for text in said)
    assert in_words(UNSEEN) in said and not any("docs/" in text for text in said)
    assert not any(text.startswith("ascites: ") for text in said)


def test_a_stage_that_screens_hide_is_not_given(case: Case, tmp_path: Path) -> None:
    path = stored(tmp_path, (Reason(FAR, "T1W: far from the usual ones"),))
    data = report_in(case.write(case.answer("hidden", stored=path), "hidden"))
    assert "cirrhosis-stage" not in codes(data) and "prediction-set" not in codes(data)
    assert not any(name.startswith("Probability") for name in numbers(data)) and "ascites" not in numbers(data)
    assert codes(data)["status"] == ["doubtful"] and codes(data)["reason"] == [FAR]
    assert HIDDEN in texts(data) and "doubtful: T1W: far from the usual ones" in texts(data)
    assert numbers(data)["Length"] == (101.5, "mm")


def test_a_refusal_is_a_report_without_stage_and_segments(case: Case) -> None:
    folder = case.write(case.answer("refused", stored=None, reason="no liver in T1W", model_simulated=True), "refused")
    data = report_in(folder)
    assert codes(data)["status"] == [REFUSED] and "cirrhosis-stage" not in codes(data) and not numbers(data)
    assert "refused: no liver in T1W" in texts(data)
    assert [path.name for path in folder.glob("*.dcm")] == ["imported-study-a_report.dcm"]


def test_objects_refer_to_their_source_images_and_carry_their_identity(case: Case, written: Path) -> None:
    images = {dcmread(path).SOPInstanceUID for path in (case.folder / "dicom").rglob("IM*")}
    data = report_in(written)
    named = {
        str(one.ReferencedSOPInstanceUID)
        for study in data.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    segmentations = {name: dcmread(written / f"imported-study-a_{name}_segmentation.dcm") for name in ("T1W", "T2W")}
    assert images <= named and segmentations["T1W"].SOPInstanceUID in named
    for path in written.glob("*.dcm"):
        one = dcmread(path)
        assert (str(one.PatientName), one.PatientID, one.StudyInstanceUID) == (NAME, ID, "1.2.3.1")
    for name, one in segmentations.items():
        assert one.ReferencedSeriesSequence[0].SeriesInstanceUID == case.series[name].uid
        assert [str(part.SegmentLabel) for part in one.SegmentSequence] == ["liver", "spleen"]
        assert {part.SegmentAlgorithmType for part in one.SegmentSequence} == {"AUTOMATIC"}
        (algorithm,) = one.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmName == "cirrnb segmenter 1.1" and algorithm.AlgorithmVersion == MODEL.version
    segments = [item for item in items(data) if item.ValueType == "IMAGE" and coded(item)[0] == "121191"]
    referred = [
        (
            str(one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID),
            one.ReferencedSOPSequence[0].ReferencedSegmentNumber,
        )
        for one in segments
    ]
    assert referred == [(segmentations["T1W"].SOPInstanceUID, 1), (segmentations["T1W"].SOPInstanceUID, 2)]


def test_the_pdf_is_encapsulated_unchanged(case: Case, written: Path) -> None:
    data = dcmread(written / "imported-study-a_page.dcm")
    assert data.EncapsulatedDocument[: data.EncapsulatedDocumentLength] == (case.folder / "page.pdf").read_bytes()
    assert data.MIMETypeOfEncapsulatedDocument == "application/pdf" and data.Modality == "DOC"
    assert "research only" in data.SeriesDescription


def test_the_same_answer_has_the_same_uids_and_another_one_others(case: Case, written: Path) -> None:
    def uids(folder: Path) -> dict[str, tuple[str, str]]:
        read = {path.name: dcmread(path) for path in folder.glob("*.dcm")}
        return {name: (str(one.SOPInstanceUID), str(one.SeriesInstanceUID)) for name, one in read.items()}

    before = uids(written)
    assert len(before) == 4 and len({uid for pair in before.values() for uid in pair}) == 8
    again = case.answer(pdf=case.folder / "page.pdf")
    assert uids(case.write(again, "again")) == before
    with results_folder(case.folder / "out") as folder:
        assert is_written(folder, again) and not is_written(folder, case.answer("another page"))
    other = uids(case.write(case.answer("another page", pdf=case.folder / "page.pdf"), "other"))
    assert not {uid for pair in other.values() for uid in pair} & {uid for pair in before.values() for uid in pair}


def test_sources_that_lack_attributes_get_results_all_the_same(tmp_path: Path) -> None:
    case = Case(tmp_path)
    for path in (tmp_path / "dicom").rglob("IM*"):
        data = dcmread(path)
        for name in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate"):
            if name in data:
                delattr(data, name)
        data.save_as(path)
    assert len(list(case.write(case.answer()).glob("*.dcm"))) == 3


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="no folder of results"), results_folder(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_findings_of_a_report_and_of_a_refusal(tmp_path: Path) -> None:
    found = findings_of(json.loads(stored(tmp_path).read_text()), MODEL)
    assert found.stage == "mild" and found.probabilities["moderate"] == 0.25 and found.no_sign is False
    assert found.signs[1] == ("spleen", "large spleen", 0.05, None, None)
    none = refusal("no liver", MODEL, simulated=False, model_simulated=False)
    assert (none.status, none.stage, none.reasons) == (REFUSED, None, (("check", "no liver"),))


def tool(name: str) -> str:
    """A program of others, or a skip where it is not installed."""
    import sysconfig

    program = shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip(f"{name} is not installed (dcmtk, dicom3tools: apt-get; dcmqi: pip)")
    return program


def test_dcmqi_reads_the_same_numbers(written: Path, tmp_path: Path) -> None:
    program = tool("tid1500reader")
    source, target = written / "imported-study-a_report.dcm", tmp_path / "read.json"
    subprocess.run([program, "--inputDICOM", source, "--outputMetadata", target], check=True, capture_output=True)
    groups = {group["TrackingIdentifier"]: group for group in json.loads(target.read_text())["Measurements"]}
    assert {"liver, T1W", "spleen, T1W", "stage of cirrhosis", "signs of cirrhosis"} <= set(groups)
    read = {
        item["quantity"]["CodeMeaning"]: (float(item["value"]), item["units"]["CodeValue"])
        for item in groups["liver, T1W"]["measurementItems"]
    }
    assert read["Volume"] == (1234.5, "mL") and read["Sphericity (Wadell)"] == (0.625, "1")
    assert int(groups["spleen, T1W"]["ReferencedSegment"]) == 2


def test_dcmqi_reads_the_same_masks(case: Case, written: Path, tmp_path: Path) -> None:
    program = tool("segimage2itkimage")
    source = written / "imported-study-a_T2W_segmentation.dcm"
    options = ["--inputDICOM", source, "--outputDirectory", tmp_path, "--outputType", "nii"]
    subprocess.run([program, *options], check=True, capture_output=True)
    scan = nib.load(case.folder / "own/study-a/T2W.nii.gz")
    for number, organ in enumerate(("liver", "spleen"), 1):
        read = nib.load(tmp_path / f"{number}.nii.gz")
        there = {tuple(place) for place in _places(np.asarray(read.dataobj) > 0, read.affine)}
        assert there == {tuple(place) for place in _places(case.masks[organ], scan.affine)}


def _places(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """RAS mm of the voxels of a mask, one decimal."""
    return np.round(nib.affines.apply_affine(affine, np.argwhere(mask)), 1) + 0.0


def test_dcmtk_and_dicom3tools_find_no_error(written: Path) -> None:
    dump, verify = tool("dsrdump"), tool("dciodvfy")
    shown = subprocess.run([dump, written / "imported-study-a_report.dcm"], check=True, capture_output=True, text=True)
    assert "Imaging Measurement Report" in shown.stdout and "mild" in shown.stdout
    for path in written.glob("*.dcm"):
        done = subprocess.run([verify, path], capture_output=True, text=True, check=False)
        assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")], path.name
