"""The viewer in Debian's chromium, as a page from disk with the network off: wheel, keys, clicks, what is drawn."""

from __future__ import annotations

import io
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from offline_browser import Opened, opened
from PIL import Image
from test_explanation import untrained
from toy_patients import write_scan

import cirrnb
from cirrnb.data.prepared import Bag, PreparationSettings
from cirrnb.data.scan import Scan
from cirrnb.explanation.explanation import Explanation
from cirrnb.explanation.shares import Shares
from cirrnb.view.explorer.browser import slice_browser
from cirrnb.view.images import AGAINST, FOR

pytestmark = pytest.mark.browser
SETTINGS = PreparationSettings(spacing=2.0, field_of_view=(144.0, 192.0))  # 72 x 96 pixels


def person(folder: Path, slices: dict[str, int], mask: bool = True, shift: float = 0.0) -> Bag:
    """A body with a bright square at rows 20 to 29, columns 10 to 29, which is the liver, on the patient's right."""
    random = np.random.default_rng(0)
    scans = {}
    for name, count in slices.items():
        image = np.zeros((count, *SETTINGS.size), np.float16)
        image[:, 5:-5, 5:-5] = 0.3 + random.normal(0, 0.02, (count, SETTINGS.size[0] - 10, SETTINGS.size[1] - 10))
        image[:, 20:30, 10:30] = 0.8
        scan = write_scan(folder / name, Scan("7", name, Path("7.nii.gz"), stage="severe"), image, SETTINGS)
        if mask:
            liver = np.zeros(image.shape, bool)
            liver[:, 20:30, 10:30] = True
            np.save(folder / name / "mask.npy", liver)
        scans[name] = scan
    bag = Bag(scans)
    bag.__dict__["shift"] = shift  # an estimate on made-up slices would mean nothing
    return bag


def explained(bag: Bag) -> Explanation:
    """A map that speaks for the score in the square and against it in a square on the other side."""
    maps = {}
    for name, scan in bag.scans.items():
        values = np.zeros(scan.grid.shape, np.float32)
        values[:, 20:30, 10:30], values[:, 40:50, 60:80] = 1, -1
        maps[name] = values
    zeros = {name: np.zeros(len(one)) for name, one in maps.items()}
    shares = Shares(dict.fromkeys(maps, 0.0), zeros, zeros, zeros, 0.0)
    grids = {name: scan.grid for name, scan in bag.scans.items()}
    told = ("7", "toy", "toy", "A map", True, "severity", 1.0, 0.0, "blurred")
    return Explanation(*told, maps, grids, grids, shares, None, True)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Generator[Opened]:
    folder = tmp_path_factory.mktemp("page")
    bag = person(folder, {"T1W": 12, "T2W": 6})
    evidence = {name: np.zeros(scan.grid.shape, np.uint8) for name, scan in bag.scans.items()}
    evidence["T1W"][:, 20:30, 10:30] = 5
    file = slice_browser(bag, explained(bag), simulated=True, evidence=evidence).save(folder / "page.html")
    with opened(file) as browser:
        browser.page.wait_for_selector("[data-ready=yes]")
        yield browser


@contextmanager
def another(page: Opened, file: Path) -> Generator[Opened]:
    """One more page in the same browser."""
    other = Opened(page.page.context.new_page())
    other.page.on("pageerror", lambda error: other.complaints.append(f"error: {error}"))
    other.page.goto(file.resolve().as_uri())
    other.page.wait_for_selector("[data-ready=yes]")
    settle(other.page)
    yield other
    other.page.close()


@pytest.fixture
def viewer(page: Opened) -> Any:
    """The page with the view reset and the first pane in focus."""
    page.page.get_by_role("button", name="Reset view").click()
    for name in ("liver", "evidence"):
        page.page.locator(f"input[data-set={name}]").uncheck()
    page.page.locator(".cn-pane").first.focus()
    page.page.keyboard.press("Home")
    settle(page.page)
    return page.page


def settle(page: Any) -> None:
    """Until the picture is drawn as it stays."""
    page.wait_for_function("() => document.querySelector('.cn-viewer').viewer.state.sharp")


def state(page: Any) -> dict:
    return page.evaluate("() => document.querySelector('.cn-viewer').viewer.state")


def shown(page: Any, pane: int) -> str:
    return page.locator(".cn-pane canvas").nth(pane).get_attribute("aria-label")


def drawn(page: Any, pane: int = 0) -> np.ndarray:
    """The pixels of a pane, (rows, columns, 3) float."""
    settle(page)
    picture = page.evaluate(f"() => document.querySelectorAll('.cn-pane canvas')[{pane}].toDataURL()")
    import base64

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))).convert("RGB")).astype(float)


def at(picture: np.ndarray, row: float, column: float) -> np.ndarray:
    """The colour drawn at a pixel of the slice."""
    rows, columns = SETTINGS.size
    return picture[int((row + 0.5) / rows * len(picture)), int((column + 0.5) / columns * len(picture[0]))]


def test_the_page_asks_nobody_and_complains_of_nothing(page):
    assert page.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in page.requests)


def test_keys_and_wheel_go_from_slice_to_slice_at_the_same_height(viewer):
    assert "slice 1 of 12, -100 mm" in shown(viewer, 0) and "slice 1 of 6" in shown(viewer, 1)
    viewer.keyboard.press("ArrowUp")
    viewer.keyboard.press("ArrowUp")
    settle(viewer)
    assert "slice 3 of 12, -90 mm" in shown(viewer, 0) and "-90 mm" in shown(viewer, 1)
    viewer.keyboard.press("PageUp")
    settle(viewer)
    assert "slice 8 of 12" in shown(viewer, 0)
    viewer.locator(".cn-pane").first.hover()
    viewer.mouse.wheel(0, 100)
    settle(viewer)
    assert "slice 7 of 12" in shown(viewer, 0)
    viewer.mouse.wheel(0, -100)
    viewer.mouse.wheel(0, -100)
    settle(viewer)
    assert "slice 9 of 12" in shown(viewer, 0)
    viewer.keyboard.press("End")
    settle(viewer)
    assert "slice 12 of 12" in shown(viewer, 0)
    # The second scan ends 30 mm lower, and says so instead of showing its last slice as if it lay here.
    assert at(drawn(viewer, 1), 35, 20).max() < 30


def test_the_slider_and_play_move_through_all_slices(viewer):
    slider = viewer.get_by_label("Height")
    slider.focus()
    viewer.keyboard.press("ArrowRight")
    settle(viewer)
    assert "slice 2 of 12" in shown(viewer, 0)
    assert slider.get_attribute("aria-valuetext") == "−95 mm"
    viewer.get_by_role("button", name="Play").click()
    viewer.wait_for_function("() => document.querySelector('.cn-pane canvas').ariaLabel.includes('slice 5')")
    viewer.get_by_role("button", name="Pause").click()
    assert not state(viewer)["playing"]


def test_the_map_is_orange_for_and_violet_against_on_the_right_pixels(viewer):
    picture = drawn(viewer)
    for (row, column), colour in (((25, 20), FOR), ((45, 70), AGAINST)):
        own = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
        ground = at(drawn_without_map(viewer), row, column)
        np.testing.assert_allclose(at(picture, row, column), 0.3 * ground + 0.7 * own, atol=12)
    assert np.ptp(at(picture, 60, 40)) < 6  # grey where the map says nothing
    assert at(picture, 2, 2).max() < 12
    assert picture[int(0.5 * len(picture)), :12].max() > 200  # R on the left


def drawn_without_map(viewer: Any) -> np.ndarray:
    viewer.locator(".cn-pane").first.focus()
    viewer.keyboard.press("m")
    picture = drawn(viewer)
    viewer.keyboard.press("m")
    return picture


def test_threshold_and_opacity_hide_the_map(viewer):
    viewer.get_by_label("Opacity").fill("0")
    np.testing.assert_allclose(at(drawn(viewer), 25, 20), at(drawn_without_map(viewer), 25, 20))
    viewer.get_by_role("button", name="Reset view").click()
    assert np.ptp(at(drawn(viewer), 25, 20)) > 40


def test_window_and_level_change_one_picture_alone(viewer):
    viewer.keyboard.press("m")
    first, second = at(drawn(viewer), 60, 40).mean(), at(drawn(viewer, 1), 60, 40).mean()
    for _ in range(4):
        viewer.keyboard.press("b")
    assert at(drawn(viewer), 60, 40).mean() > first + 30
    assert at(drawn(viewer, 1), 60, 40).mean() == second


def test_the_liver_s_edge_runs_within_half_a_pixel_of_its_mask(viewer):
    viewer.keyboard.press("m")
    before = drawn(viewer)
    viewer.keyboard.press("l")
    changed = np.abs(drawn(viewer) - before).max(axis=2) > 25
    rows, columns = np.nonzero(changed)
    scale = len(before) / SETTINGS.size[0]
    np.testing.assert_allclose([rows.min() / scale, (rows.max() + 1) / scale], [20, 30], atol=0.6)
    np.testing.assert_allclose([columns.min() / scale, (columns.max() + 1) / scale], [10, 30], atol=0.6)


def test_planted_signs_are_named(viewer):
    viewer.keyboard.press("e")
    settle(viewer)
    assert viewer.locator(".cn-chip").all_inner_texts() == ["ascites"]


def test_a_click_reads_what_lies_there(viewer):
    box = viewer.locator(".cn-pane canvas").first.bounding_box()
    across, down = (20.5 / SETTINGS.size[1]) * box["width"], (25.5 / SETTINGS.size[0]) * box["height"]
    viewer.locator(".cn-pane canvas").first.click(position={"x": across, "y": down})
    said = viewer.locator(".cn-readout").inner_text()
    # write_scan's affine: row 25 and column 20 of pixels 8 mm apart, from 90 mm right and 80 mm in front.
    assert "L 70" in said and "P 120" in said and "I 100" in said
    assert "signal 0.8" in said and "inside the liver mask" in said and "map +100 %" in said
    picked = state(viewer)["picked"]
    assert (picked["slice"], picked["row"], picked["column"]) == (0, 25, 20)


def test_zoom_moves_about_and_comes_back(viewer):
    whole = drawn(viewer)
    viewer.keyboard.press("+")
    viewer.keyboard.press("+")
    assert state(viewer)["zoom"] == pytest.approx(1.5625)
    box = viewer.locator(".cn-pane canvas").first.bounding_box()
    viewer.mouse.move(box["x"] + 100, box["y"] + 100)
    viewer.mouse.down()
    viewer.mouse.move(box["x"] + 140, box["y"] + 130, steps=4)
    viewer.mouse.up()
    after = state(viewer)
    assert after["across"] < 0.5 and after["down"] < 0.5 and after["picked"] is None  # a drag is no click
    viewer.keyboard.down("Control")
    viewer.mouse.wheel(0, -100)
    viewer.keyboard.up("Control")
    assert state(viewer)["zoom"] > 1.6 and "slice 1 of 12" in shown(viewer, 0)
    viewer.keyboard.press("r")
    np.testing.assert_array_equal(drawn(viewer), whole)


def test_two_fingers_zoom(viewer):
    viewer.evaluate(
        """() => {
            const pane = document.querySelector('.cn-pane');
            const send = (kind, pointerId, clientX) => pane.dispatchEvent(new PointerEvent(kind, {pointerId, clientX,
                clientY: 200, pointerType: 'touch', bubbles: true, button: kind === 'pointerdown' ? 0 : -1}));
            send('pointerdown', 11, 200); send('pointerdown', 12, 300); send('pointermove', 12, 400);
            send('pointerup', 12, 400); send('pointerup', 11, 200);
        }"""
    )
    assert state(viewer)["zoom"] == pytest.approx(2.0, rel=0.01) and state(viewer)["picked"] is None


def test_the_view_is_saved_as_a_picture_that_says_what_it_is(viewer):
    with viewer.expect_download() as waiting:
        viewer.get_by_role("button", name="Save picture").click()
    saved = waiting.value
    assert saved.suggested_filename == "Patient-cirrhotic-7.png"
    picture = Image.open(saved.path())
    canvases = viewer.evaluate("() => [...document.querySelectorAll('.cn-pane canvas')].map((one) => one.width)")
    assert picture.width == sum(canvases) + 6 and np.asarray(picture.convert("L"))[-30:].max() > 200


def test_the_second_picture_can_be_reached_and_read_by_keyboard_alone(viewer):
    viewer.keyboard.press("Tab")
    assert viewer.evaluate("() => document.activeElement.getAttribute('aria-label')").startswith("T2W")
    viewer.keyboard.press("ArrowUp")
    settle(viewer)
    assert "slice 2 of 6" in shown(viewer, 1)
    ring = viewer.evaluate("() => getComputedStyle(document.activeElement).outlineWidth")
    assert ring == "3px"


def test_axe_finds_nothing(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page.page)
    assert found.response["violations"] == [], found.generate_report()


@pytest.mark.parametrize(
    ("slices", "mask", "words"),
    [
        ({"T1W": 1}, True, "T2W: this patient has no such scan"),
        ({"T2W": 4}, False, "T1W: this patient has no such scan"),
    ],
)
def test_one_sequence_one_slice_no_mask(page, tmp_path, slices, mask, words):
    bag = person(tmp_path, slices, mask)
    with another(page, slice_browser(bag, simulated=False).save(tmp_path / "page.html")) as browser:
        assert browser.complaints == [] and browser.page.locator(".cn-missing").inner_text() == words
        assert browser.page.locator("[data-part=liver]").is_visible() == mask
        assert (
            browser.page.locator("[data-part=overlay]").is_hidden()
            and browser.page.locator("[data-part=shift]").is_hidden()
        )
        assert browser.page.get_by_role("button", name="Play").is_disabled() == (sum(slices.values()) == 1)


def test_breathing_is_followed_and_can_be_switched_off(page, tmp_path):
    bag = person(tmp_path, {"T1W": 12, "T2W": 12}, shift=15.0)
    with another(page, slice_browser(bag, simulated=True).save(tmp_path / "page.html")) as browser:
        browser.page.locator(".cn-pane").first.focus()
        browser.page.keyboard.press("Home")
        settle(browser.page)
        assert "-100 mm" in shown(browser.page, 0) and "slice 4 of 12, -85 mm" in shown(browser.page, 1)
        browser.page.get_by_label("follow breathing").uncheck()
        settle(browser.page)
        assert "-100 mm" in shown(browser.page, 0) and "slice 1 of 12, -100 mm" in shown(browser.page, 1)


def test_400_slices(page, tmp_path):
    bag = person(tmp_path, {"T1W": 400, "T2W": 400})
    with another(page, slice_browser(bag, explained(bag), simulated=True).save(tmp_path / "page.html")) as browser:
        browser.page.locator(".cn-pane").first.focus()
        browser.page.keyboard.press("End")
        settle(browser.page)
        assert "slice 400 of 400" in shown(browser.page, 0) and browser.complaints == []


def test_a_page_of_a_usual_patient_is_below_2_mb(tmp_path):
    """24 slices of both sequences at 192 x 256 with noise and a map, which compresses worst."""
    random = np.random.default_rng(0)
    settings = PreparationSettings(spacing=1.5)
    scans = {}
    for name in ("T1W", "T2W"):
        image = np.clip(random.normal(0.5, 0.06, (24, *settings.size)), 0, 1).astype(np.float16)
        scans[name] = write_scan(tmp_path / name, Scan("7", name, Path("7.nii.gz")), image, settings)
    bag = Bag(scans)
    told = explained(bag)
    rough = {name: random.normal(0, 1, one.shape).astype(np.float32) for name, one in told.maps.items()}
    html = slice_browser(bag, Explanation(**{**told.__dict__, "maps": rough}), simulated=True).html
    assert len(html) < 2_000_000, len(html)


def test_a_real_explanation_s_page_opens(page, tmp_path):
    """With a real explanation, whose colour bar has a unit."""
    bag = person(tmp_path, {"T1W": 5, "T2W": 3})
    from cirrnb.model.checkpoint import TrainedStager

    model = untrained()
    model = TrainedStager(model.stager, SETTINGS, True, "toy", {})
    told = cirrnb.explain(model, bag, "grad_cam", permutations=4)
    with another(page, slice_browser(bag, told, simulated=True).save(tmp_path / "page.html")) as browser:
        assert browser.complaints == [] and json.loads(json.dumps(state(browser.page)))["overlay"]
