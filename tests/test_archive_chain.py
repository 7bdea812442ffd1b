"""From an inbox of DICOM studies to a report by one command, unattended."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dicom_patients import simulated, write_study
from dicom_phantoms import T1, T2, write_series
from pydicom import dcmread
from report_runs import in_this_process
from stand_in_archive import FETCH, LIST, REJECTS, STORE, archive

from cirrnb.archive import returning
from cirrnb.archive.chain import STUDIES, StudiesRequest, read_studies, report_studies
from cirrnb.archive.dicomweb import PASSWORD, USER, Patience
from cirrnb.archive.forgetting import Places, forget
from cirrnb.archive.inbox import FAULTS, name_of
from cirrnb.archive.intake import RECORDS
from cirrnb.archive.records import write_record
from cirrnb.archive.results import write_answer
from cirrnb.data.errors import InputError
from cirrnb.data.locks import locked
from cirrnb.reports.folder import ReportFolder
from cirrnb.reports.operation import read_status
from cirrnb.reports.outcome import add_failures
from cirrnb.reports.patients import Failure
from cirrnb.reports.report import CohortReport
from cirrnb.reports.request import ReportRequest
from cirrnb.reports.tables import read_failures, read_summary

STUDY = [f"imported/{name_of(f'1.2.826.0.1.{number}')}" for number in (1, 2)]
CT = f"imported/{name_of('1.2.99')}"


def test_the_documents_name_columns_and_faults() -> None:
    text = (Path(__file__).parents[1] / "docs" / "report_tables.md").read_text()
    assert not [name for name in (*STUDIES, *FAULTS) if f"`{name}`" not in text]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated patients as DICOM, with a CT beside them, and what earlier runs prepared."""
    home = tmp_path_factory.mktemp("chain")
    cohort = simulated(home / "simulated", 4)
    for place in range(2):
        write_study(home / "inbox" / f"p{place}", cohort, place)
    write_series(home / "inbox/ct", T1, study="1.2.99", Modality="CT", PatientID="other")
    return home


@pytest.fixture(autouse=True)
def quick() -> Generator[None]:
    """Pages by the worker that stands in."""
    with in_this_process(network=False):
        yield


def run(home: Path, folder: Path, inbox: Path, out: Path | None = None, **more: Any) -> CohortReport:
    request = ReportRequest(
        folder / "cohort", "shipped", folder / "report", prepared=home / "prepared", explanations=home / "explanations",
        jobs=1,
    )  # fmt: skip
    request = replace(request, **more)
    return report_studies(StudiesRequest(inbox, dicom_out=out), request)


def objects(folder: Path) -> dict[str, str]:
    """File -> SOPInstanceUID of every object in a folder of results."""
    return {path.name: str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in folder.rglob("*.dcm")}


def test_whoever_can_be_reported_is_and_studies_say_why_the_others_are_not(home: Path, tmp_path: Path) -> None:
    ended = run(home, tmp_path, home / "inbox", tmp_path / "results")
    assert (ended.made, ended.failed, ended.exit_code) == (2, 1, 3)
    made, failed = read_summary(tmp_path / "report"), read_failures(tmp_path / "report")
    assert set(made["subject"]) == set(STUDY) and not made["simulated"].isna().any()
    assert list(failed["subject"]) == [CT] and failed["reason"][0].startswith("no liver MR")
    studies = pd.read_csv(tmp_path / "report/studies.csv").set_index("subject")
    assert [studies.index.name, *studies.columns] == ["subject", *(name for name in STUDIES if name != "subject")]
    assert studies.loc[CT, "state"] == "refused" and studies.loc[CT, "fault"] == "no liver MR"
    assert set(studies.loc[STUDY, "state"]) == {"imported"}
    assert studies.loc[STUDY, "T1W_chosen_because"].str.contains("TR 4.2 ms").all()
    assert set(studies.loc[STUDY, "results"]) == {"written"} and pd.isna(studies.loc[CT, "results"])
    returned = objects(tmp_path / "results")
    assert len(returned) == 6 and len(set(returned.values())) == 6  # two segmentations and a report each
    shutil.rmtree(tmp_path / "results" / STUDY[0].replace("/", "-"))  # as if killed before it was written
    stored = read_status(tmp_path / "report")
    assert stored["studies"] == {"imported": 2, "known": 0, "refused": 1, "forgotten": 0}
    assert (stored["state"], stored["exit_code"], stored["results"]["written"]) == ("finished", 3, 2)
    again = run(home, tmp_path, home / "inbox", tmp_path / "results")
    assert (again.made, again.failed) == (2, 1)
    assert objects(tmp_path / "results") == returned
    results = pd.read_csv(tmp_path / "report/studies.csv").set_index("subject")["results"]
    assert list(results[STUDY]) == ["written", "kept"]
    later = read_summary(tmp_path / "report")
    assert list(later["finished"]) == list(made["finished"])  # kept, not made again
    assert set(pd.read_csv(tmp_path / "report/studies.csv")["state"]) == {"known", "refused"}


def test_earlier_studies_stay_in_the_report_when_the_inbox_is_emptied(home: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "p0").symlink_to(home / "inbox/p0")
    assert run(home, tmp_path, home / "inbox/p0").exit_code == 0
    (inbox / "p0").unlink()
    ended = run(home, tmp_path, inbox)
    assert (ended.made, ended.failed, ended.exit_code) == (1, 0, 0)


def test_results_that_cannot_be_written_cost_the_others_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path, answer: Any, *others: Any) -> None:
        if answer.subject == STUDY[0]:
            raise ValueError("Patient^Number0 is no value that DICOM allows")
        write_answer(folder, answer, *others)

    monkeypatch.setattr(returning, "write_answer", broken)
    ended = run(home, tmp_path, home / "inbox", tmp_path / "results")
    assert (ended.made, ended.failed, ended.not_exchanged, ended.exit_code) == (2, 1, 1, 3)
    studies = pd.read_csv(tmp_path / "report/studies.csv").set_index("subject")
    assert list(studies.loc[STUDY, "results"]) == ["failed", "written"]
    assert "Number0" not in studies.loc[STUDY[0], "results_reason"]


def test_a_study_whose_scans_a_check_refuses_gets_a_report_that_says_so(home: Path, tmp_path: Path) -> None:
    """The true worker, on a bottle of the size of a body."""
    z, y, x = np.ogrid[-1:1:20j, -1:1:60j, -1:1:80j]
    bottle = np.where(x**2 + y**2 < 0.8, 600 + 20 * np.sin(40 * x + 30 * y + 9 * z), 5).astype(np.int16)
    for number, says in enumerate((T1, T2), 1):
        write_series(
            tmp_path / "inbox" / str(number), says, voxels=bottle, spacing=(5.0, 5.0), apart=8.0, study="1.2.98",
            number=number, PatientID="phantom",
        )  # fmt: skip
    with in_this_process(network=True):
        ended = run(home, tmp_path, tmp_path / "inbox", tmp_path / "results", prepared=tmp_path / "prepared")
    assert (ended.made, ended.failed, ended.exit_code) == (0, 1, 4)
    assert list(read_failures(tmp_path / "report")["kind"]) == ["refused"]
    (path,) = (tmp_path / "results").rglob("*.dcm")
    data = dcmread(path)
    assert data.Modality == "SR" and data.PatientID == "phantom" and data.StudyInstanceUID == "1.2.98"
    studies = read_studies(tmp_path / "report")
    assert list(studies["state"]) == ["imported"] and list(studies["results"]) == ["written"]
    assert read_status(tmp_path / "report")["results"] == {"written": 1, "kept": 0, "failed": 0}


def test_results_never_go_where_no_names_belong(home: Path, tmp_path: Path) -> None:
    for place in ("report", "report/dicom", "cohort/dicom"):
        with pytest.raises(InputError, match="a folder of its own"):
            run(home, tmp_path, home / "inbox", tmp_path / place)


@pytest.mark.browser
def test_pages_are_printed_and_go_back_as_pdf(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    if not any(map(shutil.which, ("chromium", "google-chrome"))):
        pytest.skip("no Chromium")
    ended = run(home, tmp_path, home / "inbox/p0", tmp_path / "results", pdf=True)
    assert ended.exit_code == 0
    (printed,) = (tmp_path / "report/patients").glob("*.pdf")
    content = printed.read_bytes()
    assert content.startswith(b"%PDF-") and len(content) > 10_000
    (page,) = (tmp_path / "results").rglob("*_page.dcm")
    data = dcmread(page)
    assert data.EncapsulatedDocument[: data.EncapsulatedDocumentLength] == content
    written = printed.stat().st_mtime_ns
    assert run(home, tmp_path, home / "inbox/p0", tmp_path / "results", pdf=True).exit_code == 0
    assert printed.stat().st_mtime_ns == written  # kept with its page


def test_two_runs_into_one_cohort_do_not_disturb_each_other(home: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "cohort" / RECORDS), pytest.raises(InputError, match="another run at work"):
        run(home, tmp_path, home / "inbox/p0")
    assert read_status(tmp_path / "report")["state"] == "stopped"
    assert run(home, tmp_path, home / "inbox/p0").exit_code == 0
    assert read_status(tmp_path / "report")["state"] == "finished"


def test_an_empty_inbox_makes_an_empty_report(home: Path, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    ended = run(home, tmp_path, tmp_path / "inbox")
    assert (ended.made, ended.failed, ended.exit_code) == (0, 0, 0)
    assert len(pd.read_csv(tmp_path / "report/studies.csv")) == 0 and (tmp_path / "report/index.html").is_file()


def test_only_refused_studies_are_a_report_without_pages(home: Path, tmp_path: Path) -> None:
    ended = run(home, tmp_path, home / "inbox/ct")
    assert (ended.made, ended.failed, ended.exit_code) == (0, 1, 4)


def night(home: Path, folder: Path, url: str | None, to: str | None = None, **more: Any) -> CohortReport:
    """Studies from an archive, results to it."""
    request = ReportRequest(
        folder / "cohort", "shipped", folder / "report", prepared=home / "prepared", explanations=home / "explanations",
        jobs=1,
    )  # fmt: skip
    quick = Patience(connect=10, silence=20, tries=2, pause=0.01)
    asked = StudiesRequest(from_dicomweb=url, to_dicomweb=to or url, spool=folder / "spool", patience=quick, **more)
    return report_studies(asked, request)


def test_a_night_with_an_archive_returns_each_result_once_and_names_nobody_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("dicomweb_client")
    monkeypatch.setenv(USER, "night-user")
    monkeypatch.setenv(PASSWORD, "Zq7secret")
    with archive() as server:
        server.add(path for name in ("p0", "ct") for path in (home / "inbox" / name).rglob("IM*"))
        server.needs = "Basic bmlnaHQtdXNlcjpacTdzZWNyZXQ="
        assert night(home, tmp_path, server.url).exit_code == 0
        returned = server.of_kind("SEG", "SR")
        assert len(returned) == 3 and dict(server.sent) == dict.fromkeys(returned, 1)
        back = [dcmread(BytesIO(server.objects[uid].content)) for uid in returned]
        assert {str(data.PatientName) for data in back} == {"Patient^Number0"}
        studies = read_studies(tmp_path / "report").set_index("subject")
        assert dict(studies["sent"]) == {STUDY[0]: "sent"}  # the CT was not asked for
        status = read_status(tmp_path / "report")
        assert status["archive"] == {"listed": 1, "fetched": 1, "not_fetched": 0, "unanswered": False}
        assert status["sent"] == {"sent": 1, "kept": 0, "failed": 0}
        asked = server.asked[FETCH]
        assert night(home, tmp_path, server.url).exit_code == 0
        assert server.asked[FETCH] == asked and server.of_kind("SEG", "SR") == returned
        assert dict(server.sent) == dict.fromkeys(returned, 1)
        assert list(read_studies(tmp_path / "report")["sent"]) == ["kept"]
        # Again, as after a run that was killed before it could remember what it had sent.
        shutil.rmtree(tmp_path / "cohort/.archive")
        assert night(home, tmp_path, server.url).exit_code == 0
        assert dict(server.sent) == dict.fromkeys(returned, 1) and server.of_kind("SEG", "SR") == returned
        uids = [held.study for held in server.objects.values()]
    secrets = {"Zq7secret", "bmlnaHQtdXNlcjpacTdzZWNyZXQ", "Patient^Number", "PID-0", "PID-1", "night-user", *uids}
    output = "".join(capfd.readouterr())
    contents = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(contents) > 10 and not [path for path in contents if path.suffix == ".dcm"]
    assert not [word for word in secrets if word in output]
    assert not [(path, word) for path, content in contents.items() for word in secrets if word.encode() in content]


def test_what_an_archive_rejects_or_does_not_send_has_a_row_and_is_tried_again(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("dicomweb_client")
    with archive() as server:
        server.add(path for path in (home / "inbox").rglob("IM*"))
        server.acts = {FETCH: [404], STORE: [None, None, REJECTS]}  # two segmentations are taken, not the report
        ended = night(home, tmp_path, server.url)
        assert (ended.made, ended.exit_code) == (1, 3)
        failed = read_failures(tmp_path / "report")
        assert list(failed["kind"]) == ["archive", "archive"]
        assert "not fetched: the answer 404" in failed["reason"][0]
        assert "structured report: rejected, 0xA900" in failed["reason"][1]
        assert all((tmp_path / "report" / log).is_file() for log in failed["log"])
        assert "0xA900" in (tmp_path / "report/index.html").read_text()
        rejected = max(server.sent)
        assert (len(server.sent), len(server.of_kind("SEG", "SR"))) == (3, 2)
        server.always[LIST] = 503  # what is left from last night is sent all the same
        ended = night(home, tmp_path, server.url)
        assert (ended.made, ended.exit_code) == (1, 3) and len(server.of_kind("SEG", "SR")) == 3
        assert list(read_failures(tmp_path / "report")["reason"]) == ["no list of studies: the answer 503"]
        server.always.clear()
        assert night(home, tmp_path, server.url).exit_code == 0
        assert len(server.of_kind("SEG", "SR")) == 6 and rejected in server.sent
        assert sorted(server.sent.values()) == [1, 1, 1, 1, 1, 2]  # the rejected one a second time, no other


def test_a_dead_archive_is_exit_code_3_and_the_pages_stay(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("dicomweb_client")
    with archive() as server:
        url = server.url
    ended = night(home, tmp_path, url)
    assert (ended.made, ended.failed, ended.exit_code) == (0, 0, 3)
    assert list(read_failures(tmp_path / "report")["reason"]) == ["no list of studies: no connection"]
    assert read_status(tmp_path / "report")["archive"]["unanswered"] is True
    # From an inbox, to a dead archive: the pages are made, the results wait.
    ended = night(home, tmp_path, None, url, inbox=home / "inbox/p0", dicom_out=tmp_path / "results")
    assert (ended.made, ended.exit_code) == (1, 3) and len(objects(tmp_path / "results")) == 3
    assert list(read_failures(tmp_path / "report")["kind"]) == ["archive"]
    assert list(read_studies(tmp_path / "report")["sent"]) == ["failed"]
    name = STUDY[0].partition("/")[2]
    write_record(tmp_path / "cohort", name, listing="hash")
    lost = Failure("", "archive", f"{name}, not fetched: the answer 503")
    add_failures(ReportFolder(tmp_path / "report"), [lost])
    forget(name, Places(tmp_path / "report", tmp_path / "cohort", dicom_out=tmp_path / "results"))
    assert len(read_failures(tmp_path / "report")) == 0 and not objects(tmp_path / "results")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    left = [path for path in files if name in str(path) or name.encode() in path.read_bytes()]
    assert left == [tmp_path / f"cohort/{RECORDS}/{name}.json"]


@pytest.mark.parametrize("given", [{}, {"inbox": Path("inbox"), "from_dicomweb": "http://127.0.0.1:1/x"}])
def test_studies_come_from_one_place(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one source"):
        report_studies(StudiesRequest(**given), ReportRequest(tmp_path / "c", "shipped", tmp_path / "report"))
    assert not (tmp_path / "report").exists()
