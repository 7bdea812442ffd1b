"""One page of a report: what a worker does, the kinds of its failures, and when a page is made anew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_runs import tiny_cohort, worker_named
from stand_in_worker import make_report as small_report

from cirrnb.data import failure_kinds
from cirrnb.data.errors import InputError
from cirrnb.reports import pages
from cirrnb.reports.compute import (
    ReportModel,
    identity,
    open_cohort,
    patient_report,
    prepare_patient,
)
from cirrnb.reports.folder import ReportFolder
from cirrnb.reports.formats import SECTIONS, section
from cirrnb.reports.pages import PageJob, make_pages


def page_job(folder: Path, subject: str = "a/1", **changes: Any) -> PageJob:
    places = dict.fromkeys(("run", "cohort", "prepared", "explanations", "overlays"), str(folder))
    places |= {"pid": str(folder / "pid")}
    return PageJob(subject, folder / "patients" / "a-1.html", "this patient", places, **changes)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device"), failure_kinds.DISK),
        (ZeroDivisionError("1 / 0"), failure_kinds.BROKEN),
        (InputError("a/1", "NaN", "numbers", "Mend it."), failure_kinds.WRONG_INPUT),
        (pages.Changed("another scan"), failure_kinds.CHANGED),
    ],
)
def test_a_fault_is_told_by_its_kind_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    def fails(job: dict[str, Any]) -> None:
        raise error

    monkeypatch.setattr(pages, "compute_report", fails)
    (tmp_path / "patients").mkdir()
    job = page_job(tmp_path)
    job.mark.write_text("{}")
    ended = pages.run_job(job.as_job())
    assert ended["kind"] == kind and ended["failure"] and ended["summary"] is None
    assert list((tmp_path / "patients").iterdir()) == [] and job.record() is None


def test_a_worker_that_dies_or_hangs_fails_one_patient(tmp_path: Path) -> None:
    with worker_named("faulty_worker"):
        jobs = [page_job(tmp_path, name) for name in ("dies", "hangs", "answers")]
        outcomes = make_pages(jobs, workers=1, limit=4)
    assert [one.kind for one in outcomes] == [failure_kinds.WORKER, failure_kinds.TIME, ""]
    assert "SIGKILL" in outcomes[0].reason and "4 s" in outcomes[1].reason
    assert outcomes[2].state == "done" and outcomes[2].summary
    with pytest.raises(InputError, match="at least 1"):
        make_pages(jobs, workers=0)


def test_a_run_that_was_overtaken_leaves_the_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "compute_report", lambda job: small_report(job["subject"]))
    (tmp_path / "patients").mkdir()
    ReportFolder(tmp_path).claim.write_text("the other run")
    late = page_job(tmp_path, claim=(tmp_path, "this run"))
    assert "taken over" in pages.run_job(late.as_job())["failure"]
    assert list((tmp_path / "patients").iterdir()) == []
    held = page_job(tmp_path, claim=(tmp_path, "the other run"))
    assert pages.run_job(held.as_job())["failure"] == ""
    assert held.record() is not None and late.record() is not None, "whose run it is does not shape the page"


def test_a_page_is_made_again_where_anything_that_shapes_it_changes(tmp_path: Path) -> None:
    job = page_job(tmp_path)
    others = [
        replace(job, identity="another scan"),
        replace(job, settings=replace(job.settings, steps=9)),
        replace(job, links=(("index.html", "All"),)),
    ]
    assert len({one.key for one in (job, *others)}) == 4
    assert replace(job, page=tmp_path / "elsewhere.html", places={}).key == job.key


def test_a_report_is_plain_data(tmp_path: Path) -> None:
    """The function alone, without papermill, a folder or a page: as JSON it is what the page says."""
    tiny_cohort(tmp_path)
    model = ReportModel.load("shipped")
    people = open_cohort(str(tmp_path / "tiny"), model.model)
    bag = prepare_patient(people, "cirrhotic/4", tmp_path / "prepared", model.model)
    report = patient_report(model, bag, simulated=True, store=tmp_path / "explanations")
    told = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert told["identity"] == identity(model.model, bag, True) and told["overlays"] == []
    assert list(told["prediction"]["probabilities"]) == list(report.stages)
    assert {row["measure"] for row in told["map_tests"]} == {"deletion", "insertion", "slice deletion"}
    assert all(one["image"].startswith("data:image/png") for row in told["key_slices"].values() for one in row)
    assert "<" not in json.dumps({**told, "model": {}}), "no HTML"
    small = report.as_dict(pictures=False)
    assert len(json.dumps(small)) < 20_000 < len(json.dumps(told)) and set(told) - set(small) == {
        "key_slices",
        "slices_that_mattered",
        "slices_with_signs",
        "browser",
    }
    assert all(section(report, name)._repr_html_() for name in SECTIONS)
