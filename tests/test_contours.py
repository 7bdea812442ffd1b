"""Organs on prepared slices: where they lie, who drew them, and how the viewer, the explorer and a page show them."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from offline_browser import Opened, opened
from test_explanation import untrained
from toy_patients import LARGE
from viewer_pages import settle, state

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.scan import Cohort, Scan
from cirrnb.measure.biomarkers import measurements_of
from cirrnb.reports.compute import key_slices
from cirrnb.view.measurements import measurements_html
from cirrnb.view.palette import LIVER_COLOUR
from cirrnb.viewer.contours import organs_on, outlines_at
from cirrnb.viewer.panes import panes
from cirrnb.viewer.slice_browser import slice_browser

SPLEEN, CAUDATE = 4, 3
AFFINE = np.diag([4.0, 4.0, 6.0, 1.0])


def write(folder: Path, meaning: Any = "cirrnb", by_program: bool = True) -> Scan:
    """A scan of 72 x 64 x 9 voxels in RAS order: the liver on the patient's right, the spleen on the left."""
    folder.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).normal(100, 5, (72, 64, 9))
    body = np.zeros(image.shape, bool)
    body[4:-4, 4:-4] = True
    image[~body] = 0
    labels = np.zeros(image.shape, np.uint8)
    labels[8:30, 20:44, 2:7] = 1
    labels[30:34, 20:30, 2:7] = CAUDATE
    labels[54:64, 20:40, 3:6] = SPLEEN
    image[labels > 0] += 80
    liver = np.isin(labels, (1, 2, CAUDATE)).astype(np.uint8)
    for name, values in (("image", image.astype(np.float32)), ("mask", liver), ("organs", labels)):
        nib.save(nib.Nifti1Image(values, AFFINE), folder / f"{name}.nii.gz")
    (folder / "organs.json").write_text(json.dumps(meaning), encoding="utf-8")
    extra = {"organs": "organs.nii.gz", **({"mask_by": "a program"} if by_program else {})}
    return Scan("1", "T1W", folder / "image.nii.gz", folder / "mask.nii.gz", extra=extra)


def prepared(scan: Scan, out: Path) -> PreparedScan:
    ready = cirrnb.prepare(Cohort((scan,), "own"), out, LARGE, masks="given", workers=1, progress=False)
    return ready.scans[0]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> PreparedScan:
    folder = tmp_path_factory.mktemp("drawn")
    return prepared(write(folder / "own"), folder / "prepared")


def test_organs_lie_on_the_prepared_grid_where_they_lie_in_the_file(drawn: PreparedScan) -> None:
    organs = organs_on(drawn)
    assert organs is not None and organs.by_program
    assert organs.names == ("spleen", "caudate", "right lobe") and organs.labels.shape == drawn.grid.shape
    spleen = np.argwhere(organs.labels == 1 + organs.names.index("spleen"))
    # Voxels 54 to 63, 20 to 39 and 3 to 5 of 4 x 4 x 6 mm, from the middle of the first.
    np.testing.assert_allclose(drawn.grid.to_patient(spleen.mean(axis=0)), [58.5 * 4, 29.5 * 4, 4 * 6], atol=4)
    assert abs(len(spleen) * drawn.grid.voxel_volume / (10 * 20 * 3 * 96) - 1) < 0.15


@pytest.mark.parametrize("meaning", [{"spleen": SPLEEN, "caudate": [CAUDATE]}])
def test_labels_that_a_person_explains_are_a_person_s(tmp_path: Path, meaning: Any) -> None:
    organs = organs_on(prepared(write(tmp_path / "own", meaning, by_program=False), tmp_path / "prepared"))
    assert organs is not None and not organs.by_program and organs.names == ("spleen", "caudate")


@pytest.mark.parametrize("fault", ["gone", "meaning", "grid"])
def test_organs_that_cannot_be_used_are_not_drawn_and_the_measurements_say_why(tmp_path: Path, fault: str) -> None:
    scan = write(tmp_path / "own", {"liver": 1} if fault == "meaning" else "cirrnb")
    one = prepared(scan, tmp_path / "prepared")
    if fault == "gone":
        (tmp_path / "own/organs.nii.gz").unlink()
    if fault == "grid":
        nib.save(nib.Nifti1Image(np.ones((7, 8, 9), np.uint8), AFFINE), tmp_path / "own/organs.nii.gz")
    assert organs_on(one) is None and panes(Bag({"T1W": one}))[0].organs is None
    notes = {one.name: one.note for one in measurements_of(Bag({"T1W": one}))["T1W"]}
    assert "cannot be used" in notes["spleen volume"] and not notes["liver volume"]


def test_outlines_run_around_the_mask_and_are_dashed_for_a_program(drawn: PreparedScan) -> None:
    middle = drawn.grid.shape[0] // 2
    found = {one.name: one for one in outlines_at(drawn, organs_on(drawn), middle)}
    assert set(found) == {"liver", "spleen", "caudate", "right lobe"} and found["liver"].colour == LIVER_COLOUR
    assert all(one.dashed for one in found.values())
    points = np.array([pair.split(",") for pair in found["liver"].path.strip("MZ").split()], float)
    rows, columns = np.nonzero(np.asarray(drawn.mask[middle]))
    np.testing.assert_allclose(points.min(axis=0), [columns.min(), rows.min()], atol=0.06)
    np.testing.assert_allclose(points.max(axis=0), [columns.max() + 1, rows.max() + 1], atol=0.06)
    assert outlines_at(drawn, None, 0) == () or {one.name for one in outlines_at(drawn, None, 0)} == {"liver"}


def test_a_report_s_key_slices_carry_outlines(drawn: PreparedScan) -> None:
    (rows,) = key_slices(Bag({"T1W": drawn})).values()
    assert all("liver" in {one.name for one in shown.outlines} for shown in rows if shown is not None)


@pytest.fixture(scope="module")
def page(drawn: PreparedScan, tmp_path_factory: pytest.TempPathFactory) -> Generator[Opened]:
    bag = Bag({"T1W": drawn})
    file = slice_browser(bag, simulated=False).save(tmp_path_factory.mktemp("page") / "page.html")
    with opened(file) as browser:
        browser.page.wait_for_selector("[data-ready=yes]")
        yield browser


@pytest.mark.browser
def test_the_viewer_shows_organs_at_a_key_and_names_them(page: Opened) -> None:
    viewer = page.page
    viewer.locator(".cn-pane").first.focus()
    plain = viewer.evaluate("() => document.querySelector('.cn-pane canvas').toDataURL()")
    viewer.keyboard.press("o")
    settle(viewer)
    assert state(viewer)["organs"]
    assert set(viewer.locator(".cn-chip").all_inner_texts()) == {"spleen", "caudate", "right lobe"}
    assert "dashed" in viewer.locator('[data-part="contours"]').inner_text()
    assert viewer.evaluate("() => document.querySelector('.cn-pane canvas').toDataURL()") != plain
    viewer.keyboard.press("l")
    settle(viewer)
    assert "liver" in viewer.locator(".cn-chip").all_inner_texts()
    box = viewer.get_by_label("organs", exact=False).first
    box.focus()
    viewer.keyboard.press("Space")
    settle(viewer)
    assert not state(viewer)["organs"] and page.complaints == []


# ------------------------------------------------------------------------------------------------ measurements


def test_the_explorer_measures_on_request(drawn: PreparedScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    shown = cirrnb.SliceExplorer([Bag({"T1W": drawn})], untrained(), store=None)
    assert shown.wait(60) and shown.measured.value == "" and shown.measured.layout.display == "none"
    shown.measure.value = True
    assert shown.wait(120)
    for name in ("liver volume", "spleen length", "caudate-to-right-lobe volume", "ascites volume"):
        assert name in shown.measured.value
    assert "Eur J Radiol 2018" in shown.measured.value and shown.measured.layout.display == ""
    shown.measure.value = False
    assert shown.measured.value == ""


def test_a_table_of_measurements_has_a_column_for_each_sequence(drawn: PreparedScan) -> None:
    html = measurements_html(measurements_of(Bag({"T1W": drawn})) | {"T2W": ()})
    assert html.count("<th scope='col'>") == 4 and "mL" in html
