"""Reports of a cohort: who gets a page and who a reason, what is kept, what nobody must see, and the index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from offline_browser import opened
from report_runs import contents, stand_in, tiny_cohort
from test_run_execution import notebook

from cirrnb.data.errors import InputError
from cirrnb.data.locking import locked
from cirrnb.data.names import file_stem
from cirrnb.measure.measurement import Measurement
from cirrnb.run import faults
from cirrnb.run.faults import printable, without_folders
from cirrnb.run.job import NotebookJob, run_job
from cirrnb.run.reports import nightly
from cirrnb.run.reports.folder import ReportFolder
from cirrnb.run.reports.index import write_index
from cirrnb.run.reports.nightly import make_report
from cirrnb.run.reports.order import Order
from cirrnb.run.reports.tables import FAILURES, SUMMARY, read_failures, read_summary, write_table
from cirrnb.view import patient as pieces

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
    stand_in(folder)
    return folder


@pytest.fixture(scope="module")
def hostile(home: Path) -> tuple[int, Path, Order]:
    """The hostile cohort reported once, with a notebook that stands in for the true one."""
    order = Order(write_hostile(home, home / "tiny"), "shipped", home / "report", jobs=2, prepared=home / "prepared")
    return reported(order, home), order.out, order


def reported(order: Order, home: Path) -> int:
    before = nightly.PATIENT
    nightly.PATIENT = str(home / "stand_in.ipynb")
    try:
        return make_report(order)
    finally:
        nightly.PATIENT = before


def test_whoever_can_be_reported_is_and_the_others_are_told(hostile: tuple[int, Path, Order]) -> None:
    code, out, _ = hostile
    assert code == nightly.SOME_FAILED
    made, failed = read_summary(out), read_failures(out)
    assert {subject.partition("/")[2] for subject in made["subject"]} == set(HOSTILE)
    assert list(made)[: len(SUMMARY)] == list(SUMMARY) and list(failed) == list(FAILURES)
    assert all((out / page).is_file() for page in made["page"])
    assert all((out / name).is_file() for names in made["overlays"] for name in names.split("|"))
    reasons = dict(zip(failed["subject"].fillna(""), failed["reason"], strict=True))
    assert set(reasons) == {"evil/gone", "evil/broken", ""}
    assert "not NIfTI" in reasons["evil/broken"] and "no such file" in reasons["evil/gone"]
    assert set(failed["kind"]) == {faults.WRONG_INPUT}
    assert all("wrong input" in (out / log).read_text() for log in failed["log"])
    provenance = json.loads((out / "provenance.json").read_text())
    assert (provenance["made"], provenance["failed"]) == (5, 3)
    assert provenance["model"]["fingerprint"] and provenance["data"] and provenance["versions"]["torch"]


def test_nothing_names_a_person_or_a_folder_of_the_machine(hostile: tuple[int, Path, Order], home: Path) -> None:
    _, out, _ = hostile
    told = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "plotly.min.js"}
    for path, held in told.items():
        if path.name.endswith(".nii.gz"):
            held = nib.load(path).header.binaryblock
        for secret in (SECRET.encode(), b"MUELLER", str(home).encode(), os.fsencode(Path.home()) + b"/"):
            assert secret not in held, path
    assert not [path for path in told if path.suffix == ".ipynb" or ".writing" in path.name]
    pages = [held for path, held in told.items() if path.suffix == ".html"]
    assert len(pages) == 7 and not any(b"<script>alert" in held for held in pages)


def test_what_is_unchanged_is_kept_and_what_changed_is_made_again(
    hostile: tuple[int, Path, Order], home: Path, capsys: pytest.CaptureFixture
) -> None:
    _, out, order = hostile
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "patients").iterdir()}
    assert reported(order, home) == nightly.SOME_FAILED
    assert contents(out) == before
    assert {path: path.stat().st_mtime_ns for path in (out / "patients").iterdir()} == times
    # One scan is another one now: one page is made again, and the others of a report of one patient stay.
    victim = home / "scans" / f"{SECRET}1.nii.gz"
    image = nib.load(victim)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 9, image.affine), victim)
    capsys.readouterr()
    assert reported(replace(order, patients=("=1+2",)), home) == nightly.SOME_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert sum("done in" in line for line in lines) == 1 and sum("unchanged" in line for line in lines) == 4
    assert len(read_summary(out)) == 5
    # Who can no longer be read loses the page.
    victim.write_bytes(b"")
    assert reported(order, home) == nightly.SOME_FAILED
    assert "evil/=1+2" in set(read_failures(out)["subject"]) and len(read_summary(out)) == 4
    assert not (out / "patients" / f"{file_stem('evil/=1+2')}.html").exists()
    assert not (out / "overlays" / file_stem("evil/=1+2")).exists()


@pytest.mark.browser
def test_a_patient_is_reported_from_the_true_notebook(home: Path) -> None:
    """The only test here that asks the network; its page is opened offline, and holds what a reader is promised."""
    shared = {"prepared": home / "prepared", "explanations": home / "explanations"}
    order = Order(home / "tiny", "shipped", home / "true", patients=("4",), jobs=1, **shared)
    assert make_report(order) == nightly.ALL_MADE
    [row] = read_summary(order.out).to_dict("records")
    assert row["subject"] == "cirrhotic/4" and row["predicted"] in ("mild", "moderate", "severe")
    assert abs(row["mild"] + row["moderate"] + row["severe"] - 1) < 1e-6 and row["predicted"] in row["set"]
    assert set(SUMMARY) < set(row) and row["liver volume (mL, T1W)"] > 300 and 0 < row["sphericity (T2W)"] < 1.1
    assert row["map"] in ("both", "deletion", "insertion", "neither", "undefined")
    for name in row["overlays"].split("|"):
        overlay = nib.load(order.out / name)
        sequence = "T1" if "_T1W_" in name else "T2"
        scan = nib.load(next((home / "tiny").rglob(f"Cirrhosis_{sequence}_3D/*_images/4.nii.gz")))
        assert overlay.shape == scan.shape and np.allclose(overlay.affine, scan.affine, atol=1e-4)
    page = order.out / row["page"]
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
    with opened(page) as result:
        result.page.wait_for_selector("[data-ready=yes]")
        assert result.complaints == [] and all(url.startswith(("file:", "data:")) for url in result.requests)
        assert result.page.title() == "Patient cirrhotic/4"
        assert result.page.locator("figure.slice-browser").is_visible()
        result.page.emulate_media(media="print")
        assert not result.page.locator("figure.slice-browser").is_visible()


def test_nobody_made_is_another_exit_code_and_foreign_folders_stay(home: Path, tmp_path: Path) -> None:
    (tmp_path / "s.nii.gz").write_bytes(b"")
    (tmp_path / "t.csv").write_text("patient,sequence,image\n1,T1W,s.nii.gz\n")
    order = Order(tmp_path / "t.csv", "shipped", tmp_path / "report", prepared=tmp_path / "prepared")
    assert make_report(order) == nightly.NONE_MADE
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
    script = "import sys, time; from pathlib import Path; from cirrnb.data.locking import locked\n"
    script += "with locked(Path(sys.argv[1])): print('in', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "in\n"
    with pytest.raises(InputError, match="another run"), locked(tmp_path, patience=0.3):
        pass
    other.kill()
    other.wait()
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("import os; os.kill(os.getpid(), 9)", faults.KERNEL),
        ("import time; time.sleep(600)", faults.TIME),
        ("raise OSError(28, 'No space left on device')", faults.DISK),
        ("1 / 0", faults.BROKEN),
        ("from cirrnb.view.notice import Summary\nSummary({'after': 'another scan'})", faults.CHANGED),
    ],
)
def test_a_fault_is_told_by_its_kind_and_leaves_nothing(tmp_path: Path, cell: str, kind: str) -> None:
    limit = 4.0 if kind == faults.TIME else None
    job = NotebookJob(notebook(tmp_path, cell), {}, tmp_path / "out", after="this scan", limit=limit, keeps=False)
    ended = run_job(job.told(tmp_path))
    assert ended["kind"] == kind and ended["failure"]
    assert list((tmp_path / "out").iterdir()) == [] and not job.is_done()


def test_a_run_that_was_overtaken_leaves_the_folder_alone(tmp_path: Path) -> None:
    claim = tmp_path / "claim"
    claim.write_text("the other run")
    job = NotebookJob(notebook(tmp_path, "1"), {}, tmp_path / "out", keeps=False, claim=(claim, "this run"))
    assert "taken over" in run_job(job.told(tmp_path))["failure"]
    assert list((tmp_path / "out").iterdir()) == []


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
    write_index(report, "Report of <b>", made, failed, banner="", whole=True, colophon="")
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


def test_the_pieces_of_a_page_escape_what_comes_from_outside() -> None:
    evil = Measurement("<b>", None, "<i>", "<script>")
    good = Measurement("Spleen volume", 312.26, "mL", "cut off <script>")
    told = pieces.biomarkers({"T1W": [evil, good]})._repr_html_()
    assert "not measured: &lt;script&gt;" in told and "312 mL" in told and "cut off &lt;" in told
    assert "<b>" not in told and "<script>" not in told
    assert "No biomarkers" in pieces.biomarkers({})._repr_html_()


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
def test_a_map_is_judged_by_its_opponents(deletion: float | None, insertion: float, said: str) -> None:
    rivals = {"random": 0.5, "shifted": 0.4, "edges": 0.5, "attention": np.nan}
    rows = [
        {"measure": "deletion", "better": "lower", "value": np.nan if deletion is None else deletion, **rivals},
        {"measure": "insertion", "better": "higher", "value": insertion, **rivals},
    ]
    assert pieces.beaten(pd.DataFrame(rows)) == said
    words = {"both": "passes both", "neither": "fails both", "undefined": "could not be tested"}
    assert words.get(said, "one of two") in pieces.worth(pd.DataFrame(rows))._repr_html_()
