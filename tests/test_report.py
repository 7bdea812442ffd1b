"""Reports of a cohort: who gets a page and who a reason, what is kept, what nobody must see, and the index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from offline_browser import opened
from report_runs import contents, tiny_cohort, worker_named
from stand_in_worker import make_report as small_report

from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import file_stem
from cirrnb.data.errors import InputError
from cirrnb.data.failure_kinds import printable, without_folders, without_names
from cirrnb.data.grid import Grid
from cirrnb.data.locks import locked
from cirrnb.data.nifti.saving import save_volume
from cirrnb.data.status import Reason, reasons_text
from cirrnb.measure.measurement import Measurement
from cirrnb.reports import pages
from cirrnb.reports import report as reporting
from cirrnb.reports.compute import (
    ReportModel,
    identity,
    map_verdict,
    open_cohort,
    patient_report,
    prepare_patient,
    remove_maps,
)
from cirrnb.reports.folder import ReportFolder
from cirrnb.reports.formats import ROWS, SECTIONS, section, write_index
from cirrnb.reports.pages import PageJob, make_pages
from cirrnb.reports.patient_report import MapTest
from cirrnb.reports.report import ReportRequest, make_report
from cirrnb.reports.tables import FAILURES, SUMMARY, read_failures, read_summary, write_table
from cirrnb.run.execution import run_notebook
from cirrnb.run.publishing import publish, summary_of
from cirrnb.run.report import run_report
from cirrnb.view.page import SIMULATED

HOSTILE = ("O'Brien & söhne", "=1+2", "-rf", "مريض 7", "x" * 64)
SECRET = "MUELLER^HANS 1950-01-02"


def write_hostile(folder: Path, tiny: Path) -> Path:
    """A table of the tiny cohort's scans under names that somebody thought up, with a person's name wherever NIfTI has
    room for it, and three rows that are wrong."""
    scans = folder / "scans"
    scans.mkdir()
    files = sorted((tiny / "Cirrhosis_T1_3D").rglob("*_images/*.nii.gz"))
    rows = [["patient", "sequence", "image", "name of the patient"]]
    for number, who in enumerate(HOSTILE):
        image = nib.load(files[number % len(files)])
        named = nib.Nifti1Image(np.asarray(image.dataobj) + number, image.affine)
        named.header["descrip"] = SECRET.encode()
        named.header["db_name"] = SECRET[:17].encode()
        named.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRET.encode()))
        nib.save(named, scans / f"{SECRET}{number}.nii.gz")
        rows.append([who, "T1W", f"scans/{SECRET}{number}.nii.gz", SECRET])
    (scans / f"{SECRET} broken.nii.gz").write_bytes(b"not an image")
    rows.append(["broken", "T1W", f"scans/{SECRET} broken.nii.gz", SECRET])
    rows.append(["gone", "T1W", f"scans/{SECRET} gone.nii.gz", SECRET])
    rows.append(["<script>alert(1)</script>", "T1W", "scans/x.nii.gz", SECRET])
    pd.DataFrame(rows[1:], columns=rows[0]).to_csv(folder / "evil.csv", index=False)
    shutil.copy(tiny / "SIMULATED.txt", folder)
    return folder / "evil.csv"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    tiny_cohort(folder)
    return folder


@pytest.fixture(scope="module")
def hostile(home: Path) -> tuple[int, Path, ReportRequest]:
    """The hostile cohort reported once, with a worker that stands in for the true one."""
    order = ReportRequest(
        write_hostile(home, home / "tiny"), "shipped", home / "report", jobs=2, prepared=home / "prepared"
    )
    return reported(order, home), order.out, order


def reported(order: ReportRequest, home: Path) -> int:
    with worker_named():
        return make_report(order).exit_code


def test_whoever_can_be_reported_is_and_the_others_are_told(hostile: tuple[int, Path, ReportRequest]) -> None:
    code, out, _ = hostile
    assert code == reporting.SOME_FAILED
    made, failed = read_summary(out), read_failures(out)
    assert {subject.partition("/")[2] for subject in made["subject"]} == set(HOSTILE)
    assert list(made)[: len(SUMMARY)] == list(SUMMARY) and list(failed) == list(FAILURES)
    assert all((out / page).is_file() for page in made["page"])
    assert all((out / name).is_file() for names in made["overlays"] for name in names.split("|"))
    reasons = dict(zip(failed["subject"].fillna(""), failed["reason"], strict=True))
    assert set(reasons) == {"evil/gone", "evil/broken", ""}
    assert "not NIfTI" in reasons["evil/broken"] and "no such file" in reasons["evil/gone"]
    assert set(failed["kind"]) == {failure_kinds.WRONG_INPUT}
    assert all("wrong input" in (out / log).read_text() for log in failed["log"])
    provenance = json.loads((out / "provenance.json").read_text())
    assert (provenance["made"], provenance["failed"]) == (5, 3)
    assert provenance["model"]["fingerprint"] and provenance["data"] and provenance["versions"]["torch"]


def test_nothing_names_a_person_or_a_folder_of_the_machine(
    hostile: tuple[int, Path, ReportRequest], home: Path
) -> None:
    _, out, _ = hostile
    told = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "plotly.min.js"}
    for path, held in told.items():
        if path.name.endswith(".nii.gz"):
            held = nib.load(path).header.binaryblock
        for secret in (SECRET.encode(), b"MUELLER", str(home).encode(), os.fsencode(Path.home()) + b"/"):
            assert secret not in held, path
    assert not [path for path in told if path.suffix == ".ipynb" or ".writing" in path.name]
    pages = [held for path, held in told.items() if path.suffix == ".html"]
    assert len(pages) == 6 and not any(b"<script>alert" in held for held in pages)


def test_what_is_unchanged_is_kept_and_what_changed_is_made_again(
    hostile: tuple[int, Path, ReportRequest], home: Path, capsys: pytest.CaptureFixture
) -> None:
    _, out, order = hostile
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "patients").iterdir()}
    assert reported(order, home) == reporting.SOME_FAILED
    assert contents(out) == before
    assert {path: path.stat().st_mtime_ns for path in (out / "patients").iterdir()} == times
    # One scan is another one now: one page is made again, and the others of a report of one patient stay.
    victim = home / "scans" / f"{SECRET}1.nii.gz"
    image = nib.load(victim)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 9, image.affine), victim)
    capsys.readouterr()
    assert reported(replace(order, patients=("=1+2",)), home) == reporting.SOME_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert sum("done in" in line for line in lines) == 1 and sum("unchanged" in line for line in lines) == 4
    assert len(read_summary(out)) == 5
    # Who can no longer be read loses the page.
    victim.write_bytes(b"")
    assert reported(order, home) == reporting.SOME_FAILED
    assert "evil/=1+2" in set(read_failures(out)["subject"]) and len(read_summary(out)) == 4
    assert not (out / "patients" / f"{file_stem('evil/=1+2')}.html").exists()
    assert not (out / "overlays" / file_stem("evil/=1+2")).exists()


@pytest.mark.browser
def test_a_patient_is_reported_from_the_command(home: Path) -> None:
    """The only test here that asks the network; its page is opened offline, and holds what a reader is promised."""
    out = home / "true"
    shared = {"prepared": str(home / "prepared"), "explanations": str(home / "explanations")}
    given = {"cohort": str(home / "tiny"), "report": str(out), "patients": ["4"], "jobs": 1, **shared}
    assert run_report(given, out) == reporting.ALL_MADE
    assert (out / "08_cohort_report.html").is_file() and not list(out.rglob("*.ipynb"))
    [row] = read_summary(out).to_dict("records")
    assert row["subject"] == "cirrhotic/4" and row["predicted"] in ("mild", "moderate", "severe")
    assert abs(row["mild"] + row["moderate"] + row["severe"] - 1) < 1e-6 and row["predicted"] in row["set"]
    assert set(SUMMARY) < set(row) and row["liver volume (mL, T1W)"] > 300 and 0 < row["sphericity (T2W)"] < 1.1
    assert row["map"] in ("both", "deletion", "insertion", "neither", "undefined")
    for name in row["overlays"].split("|"):
        overlay = nib.load(out / name)
        sequence = "T1" if "_T1W_" in name else "T2"
        scan = nib.load(next((home / "tiny").rglob(f"Cirrhosis_{sequence}_3D/*_images/4.nii.gz")))
        assert overlay.shape == scan.shape and np.allclose(overlay.affine, scan.affine, atol=1e-4)
    page = out / row["page"]
    text = page.read_text()
    assert page.stat().st_size <= 2e6 and str(home) not in text and "plotly.min.js" not in text
    for promised in (
        "Most likely: ",
        "It considers possible",
        "The slices that mattered",
        "Can this map be believed?",
        "Among the training patients",
        "this patient</text>",
        "Research and education only",
        "Fingerprint",
    ):
        assert promised in text, promised
    assert text.index("The images") < text.index("Most likely: ")
    told = json.loads(page.with_suffix(".json").read_text())
    assert told["subject"] == row["subject"] and told["prediction"]["predicted"] == row["predicted"]
    assert told["verdict"] == row["map"] and "key_slices" not in told
    with opened(page) as result:
        result.page.wait_for_selector("[data-ready=yes]")
        assert result.complaints == [] and all(url.startswith(("file:", "data:")) for url in result.requests)
        assert result.page.title() == "Patient cirrhotic/4"
        assert result.page.locator("figure.slice-browser").is_visible()
        result.page.emulate_media(media="print")
        assert not result.page.locator("figure.slice-browser").is_visible()


def test_the_notebook_of_one_patient_shows_the_same_sections(home: Path) -> None:
    """As papermill, Airflow or jupyter-scheduler execute it: all that it needs are parameters."""
    folders = {name: str(home / name) for name in ("prepared", "explanations")}
    given = {"cohort": str(home / "tiny"), "patient": "cirrhotic/4", "overlays": str(home / "maps"), **folders}
    executed = run_notebook("07_patient_report", home / "one" / "patient.ipynb", given)
    summary = summary_of(nbformat.read(executed, as_version=4))
    assert summary and summary["subject"] == "cirrhotic/4" and len(list((home / "maps").glob("*.nii.gz"))) == 2
    text = publish(executed).read_text()
    for promised in (
        "Most likely: ",
        "Can this map be believed?",
        "this patient</text>",
        "Fingerprint",
        "slice-browser",
    ):
        assert promised in text, promised
    assert str(home) not in text and SIMULATED in text


def test_nobody_made_is_another_exit_code_and_foreign_folders_stay(home: Path, tmp_path: Path) -> None:
    (tmp_path / "s.nii.gz").write_bytes(b"")
    (tmp_path / "t.csv").write_text("patient,sequence,image\n1,T1W,s.nii.gz\n")
    order = ReportRequest(tmp_path / "t.csv", "shipped", tmp_path / "report", prepared=tmp_path / "prepared")
    given = {"cohort": str(order.cohort), "report": str(order.out), "prepared": str(order.prepared)}
    assert run_report(given, order.out) == reporting.NONE_MADE, "its figures stand a table without a row"
    assert not (order.out / "08_cohort_report.html").exists()
    assert read_failures(order.out)["tries"].tolist() == [2] and read_summary(order.out).empty
    assert "an empty file" in (order.out / "index.html").read_text()
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="no report"):
        make_report(replace(order, out=own))
    with pytest.raises(InputError, match="nobody of this name"):
        make_report(replace(order, patients=("2",)))
    with pytest.raises(InputError, match="no folder"):
        make_report(replace(order, model=str(tmp_path / "nothing")))
    assert [path.name for path in own.iterdir()] == ["thesis.txt"]


@pytest.fixture(scope="module")
def checked(home: Path) -> ReportRequest:
    """Two patients of whom checks refused one and doubt the other."""
    folder = home / "checked"
    folder.mkdir()
    files = sorted((home / "tiny" / "Cirrhosis_T1_3D").rglob("*_images/*.nii.gz"))
    masks = {path.name: path for path in (home / "tiny" / "Cirrhosis_T1_3D").rglob("*_masks/*.nii.gz")}
    rows = [
        {"patient": who, "sequence": "T1W", "image": image, "mask": masks[image.name], "checked": status}
        | {"check_reasons": reasons_text([Reason("sequence", f"{who} looks like T2W", "Look at <it>.")])}
        for who, status, image in zip(("no", "perhaps"), ("refused", "doubtful"), files, strict=False)
    ]
    pd.DataFrame(rows).to_csv(folder / "checked.csv", index=False)
    shutil.copy(home / "tiny" / "SIMULATED.txt", folder)
    shared = {"prepared": home / "prepared", "explanations": home / "explanations"}
    return ReportRequest(folder / "checked.csv", "shipped", home / "checked-report", jobs=1, **shared)


def test_a_refused_patient_stands_among_the_failures_and_a_doubtful_one_says_so(checked: ReportRequest) -> None:
    out = checked.out
    assert make_report(checked).exit_code == reporting.SOME_FAILED
    [failed] = read_failures(out).to_dict("records")
    assert (failed["subject"], failed["kind"], failed["tries"]) == ("checked/no", failure_kinds.REFUSED, 1)
    assert "no looks like T2W" in failed["reason"]
    [row] = read_summary(out).to_dict("records")
    assert (row["subject"], row["status"]) == ("checked/perhaps", "doubtful") and "perhaps looks like" in row["reasons"]
    page, index = (out / row["page"]).read_text(), (out / "index.html").read_text()
    head, _, answer = page.partition("The images")
    assert "perhaps looks like T2W" in head and "Look at &lt;it&gt;." in head and "<it>" not in page
    assert f"Most likely: {row['predicted']} (doubtful)" in answer and "perhaps looks like T2W" in index
    assert "No page: refused" in index
    told = json.loads((out / row["page"]).with_suffix(".json").read_text())["prediction"]
    assert told["status"] == "doubtful" and told["reasons"][0]["code"] == "sequence"
    # Whoever insists gets a page that says so; the other page is unchanged.
    times = (out / row["page"]).stat().st_mtime_ns
    assert make_report(replace(checked, force=True)).exit_code == reporting.ALL_MADE
    rows = read_summary(out).set_index("subject")
    assert rows.loc["checked/no", "status"] == "doubtful" and "forced" in rows.loc["checked/no", "reasons"]
    assert (out / row["page"]).stat().st_mtime_ns == times and read_failures(out).empty


def test_maps_of_others_stay_where_overlays_are_written(tmp_path: Path) -> None:
    """A scan of the user, a mask that this package drew and a file that is none stay; a map of an older report goes."""
    grid = Grid((3, 4, 5), np.eye(4))
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(grid.shape, np.float32), np.eye(4)), scan)
    values = np.ones(grid.shape, np.float32)
    save_volume(tmp_path / "liver.nii.gz", values, grid, scan=scan, description="liver mask by cirrnb 1.0: seen")
    save_volume(tmp_path / "a-1_T1W_occlusion.nii.gz", values, grid, scan=scan, description="occlusion: severity")
    (tmp_path / "broken.nii.gz").write_bytes(b"")
    remove_maps(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"scan.nii.gz", "liver.nii.gz", "broken.nii.gz"}


@pytest.mark.parametrize(
    "name",
    [
        '"Jane O\'Neil.nii.gz"',
        "'Jane Doe.dcm'",
        "'Jane Doe'",
        "'/data/Jane Doe/x'",
        "\u2018Jane O\u2019Neil.nii\u2019",
        "'Jane Doe, cut sho",
        "'Jane \"J\" O\\'Neil.nii'",
    ],
)
def test_no_quoted_name_stands_in_the_reason_of_a_failure(name: str) -> None:
    told = without_names(f"row 3 of the patient's table: found {name}\nexpected a file")
    assert "Jane" not in told and "Neil" not in told and "Doe" not in told
    assert told.startswith("row 3 of the patient's table: found ") and told.endswith("\nexpected a file")


def test_file_names_are_harmless_and_differ() -> None:
    names = ["a/1", "a/01", "A/1", "a/b-c", "a-b/c", "a/b/c", "../x", "a/" + "9" * 70, "con/<b>", "a/é", "a/e"]
    made = [file_stem(name) for name in names]
    assert made[0] == "a-1" and len({one.lower() for one in made}) == len(names)
    for one in made:
        assert one.isascii() and len(one) < 70 and not one.startswith((".", "-")) and set("/\\<>:'\" ").isdisjoint(one)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('File "/usr/lib/x.py", line 3', 'File "x.py", line 3'),
        ("C:\\data\\Smith\\a.nii: found", "a.nii: found"),
        ("see https://a.b/c/d and 1/2 or and/or", "see https://a.b/c/d and 1/2 or and/or"),
        ("\x1b[31mred\x1b[0m", "red"),
    ],
)
def test_folders_are_cut_from_what_is_told(text: str, clean: str) -> None:
    assert without_folders(text) == clean


def test_a_terminal_is_told_nothing_it_would_obey() -> None:
    assert printable("a\x1b[2J\u202eb é") == "a\\x1b[2J\\u202eb é"


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    script = "import sys, time; from pathlib import Path; from cirrnb.data.locks import locked\n"
    script += "with locked(Path(sys.argv[1])): print('in', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "in\n"
    with pytest.raises(InputError, match="another run"), locked(tmp_path, patience=0.3):
        pass
    other.kill()
    other.wait()
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()


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


def test_a_report_is_plain_data(home: Path) -> None:
    """The function alone, without papermill, a folder or a page: as JSON it is what the page says."""
    model = ReportModel.load("shipped")
    people = open_cohort(str(home / "tiny"), model.model)
    bag = prepare_patient(people, "cirrhotic/4", home / "prepared", model.model)
    report = patient_report(model, bag, simulated=True, store=home / "explanations")
    told = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert told["identity"] == identity(model.model, bag, True) and told["overlays"] == []
    assert list(told["prediction"]["probabilities"]) == list(report.stages)
    assert {row["measure"] for row in told["map_tests"]} == {"deletion", "insertion", "slice removal"}
    assert all(one["image"].startswith("data:image/png") for row in told["key_slices"].values() for one in row)
    assert "<" not in json.dumps({**told, "model": {}}), "no HTML"
    small = report.as_dict(pictures=False)
    assert len(json.dumps(small)) < 20_000 < len(json.dumps(told)) and set(told) - set(small) == {
        "key_slices",
        "slices_that_mattered",
        "browser",
    }
    assert all(section(report, name)._repr_html_() for name in SECTIONS)


def test_the_documents_name_every_column() -> None:
    text = (Path(__file__).parents[1] / "docs" / "reports.md").read_text()
    assert not [name for name in (*SUMMARY, *FAILURES) if f"| `{name}` |" not in text]


def summary_rows() -> list[Mapping[str, object]]:
    rows = []
    for number, (stage, certainty, flags) in enumerate(
        [("severe", "one stage", ""), ("mild", "any stage", "T1W missing"), ("moderate", "two stages", "")], start=9
    ):
        chances = dict.fromkeys(("mild", "moderate", "severe"), 0.1) | {stage: 0.8 - number / 100}
        row = dict.fromkeys(SUMMARY) | {"subject": f"a/{number}", "predicted": stage, "certainty": certainty, **chances}
        rows.append(
            row
            | {
                "flags": flags,
                "page": f"patients/a-{number}.html",
                "simulated": True,
                "model_simulated": True,
                "set": stage,
            }
        )
    return rows


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = ReportFolder(tmp_path_factory.mktemp("index"))
    write_table(report.summary, summary_rows(), list(SUMMARY))
    bad = dict.fromkeys(FAILURES) | {"subject": "a/1", "kind": "wrong input", "reason": "<img src=x>", "log": "logs/a"}
    write_table(report.failures, [bad], list(FAILURES))
    made, failed = read_summary(report.path), read_failures(report.path)
    write_index(report, "Report of <b>", made, failed, banner="", colophon="")
    return report.index


@pytest.mark.browser
def test_the_index_sorts_filters_and_searches_offline(index: Path) -> None:
    with opened(index) as result:
        page = result.page

        def names() -> list[str]:
            return list(page.locator("tbody tr:visible th").all_inner_texts())

        assert names() == ["a/9", "a/10", "a/11", "a/1"] and "4 of 4" in page.locator(".shown").inner_text()
        page.get_by_role("button", name="Patient").click()
        assert names() == ["a/1", "a/9", "a/10", "a/11"], "numbers in names count as numbers"
        page.get_by_role("button", name="Most likely").click()
        assert names() == ["a/10", "a/11", "a/9", "a/1"], "mild before severe, failures last"
        page.get_by_role("button", name="Most likely").click()
        assert names()[1:] == ["a/9", "a/11", "a/10"]
        page.get_by_role("combobox", name="Every certainty").select_option("any stage")
        assert names() == ["a/10"]
        page.get_by_role("combobox", name="Every certainty").select_option("")
        page.get_by_role("combobox", name="With and without page").select_option("failed")
        assert names() == ["a/1"]
        page.get_by_role("combobox", name="With and without page").select_option("")
        page.get_by_role("searchbox").fill("missing a/1")
        assert names() == ["a/10"]
        assert page.locator("img").count() == 0 and result.complaints == []
        assert all(url.startswith("file:") for url in result.requests)


@pytest.mark.browser
def test_the_index_pages_ten_thousand_rows(tmp_path: Path) -> None:
    count = 10_000
    report = ReportFolder(tmp_path)
    [row, *_] = summary_rows()
    rows = [{**row, "subject": f"a/{number}", "page": f"patients/a-{number}.html"} for number in range(count)]
    write_table(report.summary, rows, list(SUMMARY))
    bad = dict.fromkeys(FAILURES) | {"subject": "a/lost", "kind": "wrong input", "reason": "an empty file"}
    write_table(report.failures, [bad], list(FAILURES))
    write_index(report, "Many", read_summary(tmp_path), read_failures(tmp_path), banner="", colophon="")
    assert report.index.stat().st_size < 6e6
    with opened(report.index) as result:
        page = result.page

        def first() -> str:
            return page.locator("tbody tr th").first.inner_text()

        def seconds(action: Callable[[], object]) -> float:
            began = time.monotonic()
            action()
            page.wait_for_timeout(0)
            return time.monotonic() - began

        assert page.locator("tbody tr").count() == ROWS and f"{count + 1} of {count + 1}" in page.inner_text(".shown")
        assert "Page 1 of 51" in page.locator(".pages .page").first.inner_text()
        page.get_by_role("button", name="Next").first.click()
        assert first() == f"a/{ROWS}"
        slowest = seconds(lambda: page.get_by_role("searchbox").fill("9999"))
        assert page.locator("tbody tr").count() == 1 and first() == "a/9999", "rows of every page are searched"
        slowest = max(slowest, seconds(lambda: page.get_by_role("searchbox").fill("empty file")))
        assert first() == "a/lost"
        page.get_by_role("searchbox").fill("")
        slowest = max(slowest, seconds(lambda: page.get_by_role("button", name="Patient").click()))
        slowest = max(slowest, seconds(lambda: page.get_by_role("button", name="Patient").click()))
        assert first() == "a/lost" and slowest < 5, "quick, also on a busy machine"
        page.emulate_media(media="print")
        assert result.complaints == []


def test_without_a_script_the_index_shows_its_first_rows(index: Path) -> None:
    text = index.read_text().partition("<tbody>")[2].partition("</tbody>")[0]
    assert text.count("<tr") == 4 and "&lt;img src=x&gt;" in text and "<img" not in text


def test_the_sections_of_a_page_escape_what_comes_from_outside() -> None:
    evil = Measurement("<b>", None, "<i>", "<script>")
    good = Measurement("Spleen volume", 312.26, "mL", "cut off <script>")
    report = replace(small_report("a/<script>"), measurements={"T1W": (evil, good)}, recorded="<i>", sex="<u>")
    measured = section(report, "measured")._repr_html_()
    assert "not measured: &lt;script&gt;" in measured and "312 mL" in measured and "cut off &lt;" in measured
    assert "No biomarkers" in section(replace(report, measurements={}), "measured")._repr_html_()
    for name in SECTIONS:
        if name != "browser":
            assert not [tag for tag in ("<script>", "<i>", "<u>") if tag in section(report, name)._repr_html_()], name


@pytest.mark.parametrize(
    ("deletion", "insertion", "said"),
    [
        (0.1, 0.9, "both"),
        (0.1, 0.3, "deletion"),
        (0.6, 0.9, "insertion"),
        (0.6, 0.3, "neither"),
        (None, 0.9, "undefined"),
    ],
)
def test_a_map_is_judged_by_its_control_maps(deletion: float | None, insertion: float, said: str) -> None:
    rivals = {"random": 0.5, "shifted": 0.4, "edges": 0.5, "attention": np.nan}
    rows = [
        {"measure": "deletion", "better": "lower", "value": np.nan if deletion is None else deletion, **rivals},
        {"measure": "insertion", "better": "higher", "value": insertion, **rivals},
    ]
    assert map_verdict(pd.DataFrame(rows)) == said
    words = {"both": "passes both", "neither": "fails both", "undefined": "could not be tested"}
    tests = tuple(MapTest(row["measure"], row["better"], row["value"], 0.5, 0.4, 0.5, None) for row in rows)
    shown = section(replace(small_report("a/1"), map_tests=tests, verdict=said), "map_test")._repr_html_()
    assert words.get(said, "one of two") in shown
