"""From an inbox of DICOM studies to a report by one command, unattended."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pandas as pd
import pytest
from dicom_patients import simulated, write_study
from dicom_phantoms import T1, write_series
from report_runs import worker_named
from typer.testing import CliRunner

from cirrnb.archive.chain import STUDIES, StudiesRequest, report_studies
from cirrnb.archive.inbox import FAULTS, name_of
from cirrnb.cli import app
from cirrnb.reports.report import CohortReport, ReportRequest
from cirrnb.reports.tables import read_failures, read_summary

STUDY = [f"imported/{name_of(f'1.2.826.0.1.{number}')}" for number in (1, 2)]
CT = f"imported/{name_of('1.2.99')}"


def test_the_documents_name_columns_and_faults() -> None:
    text = (Path(__file__).parents[1] / "docs" / "reports.md").read_text()
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
    with worker_named():
        yield


def run(home: Path, folder: Path, inbox: Path) -> CohortReport:
    request = ReportRequest(
        folder / "cohort", "shipped", folder / "report", prepared=home / "prepared", explanations=home / "explanations",
        jobs=1,
    )  # fmt: skip
    return report_studies(StudiesRequest(inbox), request)


def test_whoever_can_be_reported_is_and_studies_say_why_the_others_are_not(home: Path, tmp_path: Path) -> None:
    ended = run(home, tmp_path, home / "inbox")
    assert (ended.made, ended.failed, ended.exit_code) == (2, 1, 3)
    made, failed = read_summary(tmp_path / "report"), read_failures(tmp_path / "report")
    assert set(made["subject"]) == set(STUDY) and not made["simulated"].isna().any()
    assert list(failed["subject"]) == [CT] and failed["reason"][0].startswith("no liver MR")
    studies = pd.read_csv(tmp_path / "report/studies.csv").set_index("subject")
    assert [studies.index.name, *studies.columns] == ["subject", *(name for name in STUDIES if name != "subject")]
    assert studies.loc[CT, "state"] == "refused" and studies.loc[CT, "fault"] == "no liver MR"
    assert set(studies.loc[STUDY, "state"]) == {"imported"}
    assert studies.loc[STUDY, "T1W_chosen_because"].str.contains("TR 4.2 ms").all()
    again = run(home, tmp_path, home / "inbox")
    assert (again.made, again.failed) == (2, 1)
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


def test_an_empty_inbox_makes_an_empty_report(home: Path, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    ended = run(home, tmp_path, tmp_path / "inbox")
    assert (ended.made, ended.failed, ended.exit_code) == (0, 0, 0)
    assert len(pd.read_csv(tmp_path / "report/studies.csv")) == 0 and (tmp_path / "report/index.html").is_file()


def test_only_refused_studies_are_a_report_without_pages(home: Path, tmp_path: Path) -> None:
    ended = run(home, tmp_path, home / "inbox/ct")
    assert (ended.made, ended.failed, ended.exit_code) == (0, 1, 4)


def test_the_command_imports_segments_stages_and_writes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The true worker, once, as a user would run it."""
    monkeypatch.chdir(tmp_path)
    from cirrnb.reports import pages

    monkeypatch.setattr(pages, "WORK", "cirrnb.reports.pages")
    arguments = ["report", "--from-dicom", str(home / "inbox/p0"), "--out", "reports/night", "--jobs", "1", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--prepared", str(home / "prepared")])
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "reports/night/patients" / f"{STUDY[0].replace('/', '-')}.json").read_text())
    assert {scan["sequence"]: scan["outlined"] for scan in stored["scans"]} == {"T1W": True, "T2W": True}
    assert all("TR" in scan["chosen_because"] for scan in stored["scans"])
    assert (tmp_path / "cohorts/night/scans.csv").is_file()
    nothing = CliRunner().invoke(app, ["report"])
    assert nothing.exit_code == 2
