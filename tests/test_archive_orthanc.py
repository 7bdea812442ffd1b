"""From the archive Orthanc and back: `pytest -m orthanc`, after `apt-get install orthanc orthanc-dicomweb`."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from dicom_patients import simulated, write_study
from dicom_phantoms import T1, write_series
from orthanc import MISSING, PASSWORD, USER, Orthanc, free_port, orthanc, program
from pydicom import dcmread
from rehearsal import rehearse
from report_runs import in_this_process

from cirrnb.archive import dicomweb
from cirrnb.archive.chain import StudiesRequest, read_studies, report_studies
from cirrnb.archive.dicomweb import Archive, ArchiveError, Patience
from cirrnb.reports.report import CohortReport
from cirrnb.reports.request import ReportRequest
from cirrnb.reports.tables import read_failures

pytestmark = pytest.mark.orthanc
if program() is None:
    pytest.skip(MISSING, allow_module_level=True)

QUICK = Patience(connect=2, silence=20, tries=2, pause=0.1)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(dicomweb.USER, USER)
    monkeypatch.setenv(dicomweb.PASSWORD, PASSWORD)
    with in_this_process(network=False):
        yield


def night(folder: Path, server: Orthanc) -> CohortReport:
    request = ReportRequest(
        folder / "cohort", "shipped", folder / "report", prepared=folder / "prepared", jobs=1,
        explanations=folder / "explanations", pdf=shutil.which("chromium") is not None,
    )  # fmt: skip
    asked = StudiesRequest(from_dicomweb=server.url, to_dicomweb=server.url, spool=folder / "spool", patience=QUICK)
    return report_studies(asked, request)


def test_results_come_back_once_and_others_tools_read_them(tmp_path: Path) -> None:
    cohort, port = simulated(tmp_path / "simulated", 4), free_port()
    with orthanc(tmp_path / "orthanc", port) as server:
        for place in range(2):
            for path in write_study(tmp_path / f"p{place}", cohort, place):
                server.put(path.read_bytes())
        for path in write_series(tmp_path / "ct", T1, study="1.2.99", Modality="CT", PatientID="other"):
            server.put(path.read_bytes())
        assert night(tmp_path, server).exit_code == 0
        held, changes = server.instances(), len(server.changes())
        back = {uid: tags for uid, tags in held.items() if tags["Modality"] in ("SEG", "SR", "DOC")}
        pages = 2 if shutil.which("chromium") else 0
        assert Counter(tags["Modality"] for tags in back.values()) == {"SEG": 4, "SR": 2} | (
            {"DOC": 2} if pages else {}
        )
        for uid, tags in back.items():
            path = tmp_path / f"{uid}.dcm"
            path.write_bytes(server.file(tags["id"]))
            _judge(path)
        assert night(tmp_path, server).exit_code == 0
        assert server.instances() == held and len(server.changes()) == changes
    ended = night(tmp_path, server)  # it is dead now
    assert ended.exit_code == 3 and ended.made == 2
    assert list(read_failures(tmp_path / "report")["reason"]) == ["no list of studies: no connection"]
    with orthanc(tmp_path / "orthanc", port) as server:
        for path in write_study(tmp_path / "late", cohort, 2):
            server.put(path.read_bytes())
        assert night(tmp_path, server).exit_code == 0
        assert set(read_studies(tmp_path / "report")["sent"]) == {"kept", "sent"}
        assert set(held) < set(server.instances())


def _judge(path: Path) -> None:
    data = dcmread(BytesIO(path.read_bytes()))
    assert str(data.PatientName).startswith("Patient^Number")
    assert "research" in " ".join(str(data.get(name)) for name in ("SeriesDescription", "ContentDescription")).lower()
    if shutil.which("dciodvfy"):
        said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "Error" not in f"{said.stdout}{said.stderr}"
    if data.Modality == "SR" and shutil.which("dsrdump"):
        said = subprocess.run(["dsrdump", path], capture_output=True, text=True, check=True)
        assert "Imaging Measurement Report" in said.stdout


def test_a_wrong_password_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dicomweb.PASSWORD, "wrong")
    with orthanc(tmp_path / "orthanc") as server, pytest.raises(ArchiveError, match="no permission"):
        Archive(server.url, patience=QUICK).find_studies({})


def test_a_night_is_rehearsed(tmp_path: Path) -> None:
    """As `python tests/rehearsal.py` does, with three patients and two kills, by the true workers: some minutes."""
    outcome = rehearse(tmp_path, patients=3, kills=2, seconds=60, steps=1)
    assert outcome["wrong"] == [] and outcome["killed"] == 2
    assert sum(row["label"] == "simulated" and row["SR"] == 1 for row in outcome["rows"]) == 3
