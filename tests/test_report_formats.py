"""The formats of a report: index, sections of a page, tables and overlays."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from offline_browser import opened
from stand_in_worker import make_report as small_report

from cirrnb.data.grid import Grid
from cirrnb.data.nifti.saving import save_volume
from cirrnb.data.status import DOUBTFUL, Reason, reasons_text
from cirrnb.explanation.control_maps import map_verdict
from cirrnb.measure.measurement import Measurement
from cirrnb.model.signs import SignReading
from cirrnb.reports.compute import remove_maps
from cirrnb.reports.folder import ReportFolder
from cirrnb.reports.formats import ROWS, SECTIONS, patient_schema, section, write_index
from cirrnb.reports.patient_report import MapTest
from cirrnb.reports.tables import FAILURES, SUMMARY, read_failures, read_summary, write_table


def test_the_documents_name_every_column() -> None:
    text = (Path(__file__).parents[1] / "docs" / "report_tables.md").read_text()
    assert not [name for name in (*SUMMARY, *FAILURES) if f"| `{name}` |" not in text]


def test_the_json_of_a_patient_follows_its_schema() -> None:
    schema = patient_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    report = small_report("a/1", overlays=("a-1_T1W_grad_cam.nii.gz",))
    prediction = replace(
        report.prediction,
        signs=(SignReading("ascites", 0.3, 0.1, 0.6), SignReading("spleen", 0.05)),
        status=DOUBTFUL,
        reasons=(Reason("pair", "another patient"),),
    )
    tests = (MapTest("deletion", "lower", 0.2, 0.4, 0.3, None, None),)
    rows = {"T1W": (Measurement("liver volume", None, "mL", "no liver mask"),)}
    stored = replace(report, prediction=prediction, map_tests=tests, measurements=rows).as_dict(pictures=False)
    plain = json.loads(json.dumps(stored, allow_nan=False))
    jsonschema.validate(plain, schema)
    for wrong in (
        {**plain, "more": 1},
        {**plain, "age": "old"},
        {name: plain[name] for name in plain if name != "age"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def summary_rows() -> list[Mapping[str, object]]:
    rows = []
    for number, (stage, uncertainty, flags) in enumerate(
        [("severe", "one stage", ""), ("mild", "any stage", "T1W missing"), ("moderate", "two stages", "")], start=9
    ):
        chances = dict.fromkeys(("mild", "moderate", "severe"), 0.1) | {stage: 0.8 - number / 100}
        row = dict.fromkeys(SUMMARY) | {
            "subject": f"a/{number}",
            "predicted": stage,
            "uncertainty": uncertainty,
            **chances,
        }
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
        page.get_by_role("combobox", name="Every uncertainty").select_option("any stage")
        assert names() == ["a/10"]
        page.get_by_role("combobox", name="Every uncertainty").select_option("")
        page.get_by_role("combobox", name="With and without page").select_option("failed")
        assert names() == ["a/1"]
        page.get_by_role("combobox", name="With and without page").select_option("")
        page.get_by_role("searchbox").fill("missing a/1")
        assert names() == ["a/10"]
        assert page.locator("img").count() == 0 and result.complaints == []
        assert all(url.startswith("file:") for url in result.requests)


@pytest.mark.browser
def test_the_index_shows_the_first_reason_and_the_others_on_request(tmp_path: Path) -> None:
    report = ReportFolder(tmp_path)
    reasons = [Reason("sequence", "T1W: looks like T2W", "Check <it>."), Reason("part", "the liver is cut off")]
    row = {**summary_rows()[0], "status": DOUBTFUL, "reasons": reasons_text(reasons)}
    refused = dict.fromkeys(FAILURES) | {"subject": "a/1", "kind": "refused", "reason": reasons_text(reasons[:1])}
    write_table(report.summary, [row], list(SUMMARY))
    write_table(report.failures, [refused], list(FAILURES))
    write_index(report, "t", read_summary(tmp_path), read_failures(tmp_path), banner="", colophon="")
    with opened(report.index) as result:
        cell = result.page.locator("td.checked")
        assert cell.inner_text().startswith("doubtful: T1W: looks like T2W. Check <it>.")
        assert not cell.get_by_text("cut off").is_visible()
        cell.get_by_text("1 more").click()
        assert cell.get_by_text("cut off").is_visible()
        assert "sequence:" not in result.page.locator("tbody").inner_text(), "the word that programs go by"


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
    assert (
        "not measured<sup>a</sup>" in measured
        and "<li>&lt;script&gt;</li>" in measured
        and "312 mL" in measured
        and "cut off &lt;" in measured
    )
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
    assert map_verdict(rows) == said
    words = {"both": "passes both", "neither": "fails both", "undefined": "could not be tested"}
    tests = tuple(MapTest(row["measure"], row["better"], row["value"], 0.5, 0.4, 0.5, None) for row in rows)
    shown = section(replace(small_report("a/1"), map_tests=tests, verdict=said), "map_test")._repr_html_()
    assert words.get(said, "one of two") in shown


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
