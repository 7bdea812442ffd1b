"""Reports of a cohort: who gets a page and who a reason, what is kept, and what nobody must see."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from offline_browser import opened
from report_runs import contents, in_this_process, tiny_cohort

from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import file_stem
from cirrnb.data.errors import InputError
from cirrnb.data.status import Reason, reasons_text
from cirrnb.reports import report as reporting
from cirrnb.reports.report import make_report
from cirrnb.reports.request import ReportRequest
from cirrnb.reports.tables import FAILURES, SUMMARY, read_failures, read_summary
from cirrnb.run.execution import run_notebook
from cirrnb.run.product_commands import run_report
from cirrnb.run.publishing import publish, summary_of
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
        write_hostile(home, home / "tiny"), "shipped", home / "report", jobs=1, prepared=home / "prepared"
    )
    return reported(order, home), order.out, order


def reported(order: ReportRequest, home: Path) -> int:
    with in_this_process(network=False):
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


def test_a_page_of_one_used_sequence_is_done_and_reused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of T2W alone, or a T1W scan that cannot be used, leaves no map of T1W."""
    monkeypatch.setenv("STAND_IN_USES", "T2W")
    order = ReportRequest(home / "tiny", "shipped", tmp_path / "report", jobs=1, prepared=home / "prepared")
    assert reported(order, tmp_path) == reporting.ALL_MADE
    made = read_summary(order.out)
    maps = [order.out / name for name in made["overlays"]]
    assert len(maps) == 3 and all("T2W" in path.name and path.is_file() for path in maps)
    before = {path: path.stat().st_mtime_ns for path in (order.out / "patients").glob("*.html")}
    assert reported(order, tmp_path) == reporting.ALL_MADE
    assert {path: path.stat().st_mtime_ns for path in before} == before
    maps[0].unlink()
    assert reported(order, tmp_path) == reporting.ALL_MADE and maps[0].is_file()
    assert sum(path.stat().st_mtime_ns != time for path, time in before.items()) == 1


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
        "is the probability of",
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
    with opened(page, width=390) as result:
        slices = result.page.locator(".slice:not(.empty)")
        assert min(one.bounding_box()["width"] for one in slices.all()) >= 200, "a slice is legible on a phone"
        assert result.page.evaluate("document.documentElement.scrollWidth") <= 390, "rows scroll, the page does not"


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
    for method, found in (("grad_camm", "grad_camm"), ("sign_map", "signs alone")):
        with pytest.raises(InputError, match=found):  # before a scan is prepared
            make_report(replace(order, method=method))
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
    with in_this_process(network=True):
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
    with in_this_process(network=True):
        assert make_report(replace(checked, force=True)).exit_code == reporting.ALL_MADE
    rows = read_summary(out).set_index("subject")
    assert rows.loc["checked/no", "status"] == "doubtful" and "forced" in rows.loc["checked/no", "reasons"]
    assert (out / row["page"]).stat().st_mtime_ns == times and read_failures(out).empty
