"""The viewer in Debian's chromium, as a page from disk with the network off: wheel, keys, clicks, what is drawn."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from offline_browser import Opened, opened
from PIL import Image
from viewer_pages import SETTINGS, at, drawn, explained, person, settle, shown, state

from cirrnb.data.pictures import AGAINST, FOR
from cirrnb.viewer.slice_browser import slice_browser

pytestmark = pytest.mark.browser


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


def test_a_click_draws_cross_hairs_at_the_same_place_of_the_other_sequence(viewer):
    viewer.keyboard.press("m")
    before = drawn(viewer, 1)
    box = viewer.locator(".cn-pane canvas").first.bounding_box()
    at_ = {"x": (60.5 / SETTINGS.size[1]) * box["width"], "y": (50.5 / SETTINGS.size[0]) * box["height"]}
    viewer.locator(".cn-pane canvas").first.click(position=at_)
    changed = np.abs(drawn(viewer, 1) - before).max(axis=2) > 60
    scale = len(before) / SETTINGS.size[0]
    assert abs(changed[:, 5].nonzero()[0].mean() / scale - 50.5) < 1.5  # the line across
    assert abs(changed[5].nonzero()[0].mean() / scale - 60.5) < 1.5
    viewer.keyboard.press("m")


def test_other_planes_have_true_proportions_their_own_letters_and_go_through_the_place_that_was_clicked(viewer):
    viewer.keyboard.press("m")
    box = viewer.locator(".cn-pane canvas").first.bounding_box()
    at_ = {"x": (20.5 / SETTINGS.size[1]) * box["width"], "y": (25.5 / SETTINGS.size[0]) * box["height"]}
    viewer.locator(".cn-pane canvas").first.click(position=at_)
    for name, count, across, index in (("Coronal", 72, 96, 26), ("Sagittal", 96, 72, 21)):
        viewer.get_by_role("button", name=name, exact=True).click()
        settle(viewer)
        assert f"{name.lower()} slice {index} of {count}" in shown(viewer, 0)
        size = viewer.evaluate(
            "() => { const one = document.querySelector('.cn-pane canvas'); return [one.width, one.height]; }"
        )
        assert size[0] / size[1] == pytest.approx(across * 8 / (12 * 5), rel=0.02)  # pixels of 8 mm, slices 5 mm apart
        picture = drawn(viewer)
        inside = picture[
            len(picture) // 2, round((20.5 if name == "Coronal" else 25.5) / across * len(picture[0])) + 12
        ]
        assert inside.min() > 200  # the bright square lies there
    viewer.get_by_role("button", name="Axial", exact=True).click()
    settle(viewer)
    assert "slice 1 of 12" in shown(viewer, 0)
    viewer.keyboard.press("m")


def test_level_and_width_are_numbers_with_presets(viewer):
    viewer.get_by_label("Level").fill("0.8")
    viewer.keyboard.press("Enter")
    viewer.get_by_label("Width").fill("0.5")
    viewer.keyboard.press("Enter")
    look = state(viewer)["looks"][0]
    assert look["level"] == pytest.approx(0.8, abs=0.01) and 2 ** -look["contrast"] == pytest.approx(0.5, abs=0.01)
    select = viewer.get_by_label("Window")
    assert select.input_value() == "own window" and state(viewer)["looks"][1]["level"] != pytest.approx(0.8)
    select.select_option("whole body")
    look = state(viewer)["looks"][0]
    assert (look["level"], look["contrast"]) == (pytest.approx(0.5), pytest.approx(0.0))


def test_the_ruler_measures_in_mm(viewer):
    viewer.get_by_role("button", name="Ruler").click()
    box = viewer.locator(".cn-pane canvas").first.bounding_box()
    pixel = box["width"] / SETTINGS.size[1]  # 8 mm
    viewer.mouse.move(box["x"] + 20 * pixel, box["y"] + 20 * pixel)
    viewer.mouse.down()
    viewer.mouse.move(box["x"] + 50 * pixel, box["y"] + 60 * pixel, steps=4)
    viewer.mouse.up()
    settle(viewer)
    assert state(viewer)["rulers"][0] == "400 mm" and "400 mm" in viewer.locator(".cn-readout").inner_text()
    assert state(viewer)["zoom"] == 1 and state(viewer)["across"] == 0.5
    viewer.keyboard.press("r")
    settle(viewer)
    assert state(viewer)["rulers"] == [None, None]


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


@pytest.mark.parametrize("zoomed", [False, True])
def test_a_finger_changes_the_slice_and_moves_a_picture_that_is_zoomed(viewer, zoomed):
    if zoomed:
        viewer.get_by_role("button", name="Zoom in").or_(viewer.locator('[data-do="in"]')).first.click()
    before = state(viewer)
    viewer.evaluate(
        """() => {
            const pane = document.querySelector('.cn-pane');
            const send = (kind, clientY) => pane.dispatchEvent(new PointerEvent(kind, {pointerId: 11, clientX: 200,
                clientY, pointerType: 'touch', bubbles: true, button: kind === 'pointerdown' ? 0 : -1}));
            send('pointerdown', 200); send('pointermove', 190); send('pointermove', 160); send('pointerup', 160);
        }"""
    )
    after = state(viewer)
    assert (after["places"] != before["places"]) is not zoomed
    assert (after["down"] != before["down"]) is zoomed and after["picked"] is None


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
