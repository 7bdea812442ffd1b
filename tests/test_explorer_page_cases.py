"""The viewer with patients that are not as usual, in Debian's chromium: one sequence, one slice, 400 slices."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from offline_browser import Opened, opened
from test_explanation import untrained
from toy_patients import write_scan
from viewer_pages import SETTINGS, explained, person, settle, shown, state

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import Scan
from cirrnb.explanation.explanation import Explanation
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.viewer.slice_browser import slice_browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Generator[Opened]:
    empty = tmp_path_factory.mktemp("empty") / "empty.html"
    empty.write_text("<!doctype html><title>empty</title>")
    with opened(empty) as browser:
        yield browser


@contextmanager
def page(browser: Opened, file: Path) -> Generator[Opened]:
    """One more page in the browser."""
    other = Opened(browser.page.context.new_page())
    other.page.on("pageerror", lambda error: other.complaints.append(f"error: {error}"))
    other.page.goto(file.resolve().as_uri())
    other.page.wait_for_selector("[data-ready=yes]")
    settle(other.page)
    yield other
    other.page.close()


@pytest.mark.parametrize(
    ("slices", "mask", "words"),
    [
        ({"T1W": 1}, True, "T2W: this patient has no such scan"),
        ({"T2W": 4}, False, "T1W: this patient has no such scan"),
    ],
)
def test_one_sequence_one_slice_no_mask(browser, tmp_path, slices, mask, words):
    bag = person(tmp_path, slices, mask)
    with page(browser, slice_browser(bag, simulated=False).save(tmp_path / "page.html")) as one:
        assert one.complaints == [] and one.page.locator(".cn-missing").inner_text() == words
        assert one.page.locator("[data-part=liver]").is_visible() == mask
        for part in ("overlay", "shift"):
            assert one.page.locator(f"[data-part={part}]").is_hidden()
        assert "T1W" in slices or one.page.get_by_label("Level").is_visible()
        wide = one.page.locator(".cn-pane:has(canvas)").bounding_box()["width"]
        assert wide > 0.95 * one.page.locator(".cn-panes").bounding_box()["width"] - 20  # no black half
        assert one.page.get_by_role("button", name="Play").is_disabled() == (sum(slices.values()) == 1)


def test_breathing_is_followed_and_can_be_switched_off(browser, tmp_path):
    bag = person(tmp_path, {"T1W": 12, "T2W": 12}, shift=15.0)
    with page(browser, slice_browser(bag, simulated=True).save(tmp_path / "page.html")) as one:
        one.page.locator(".cn-pane").first.focus()
        one.page.keyboard.press("Home")
        settle(one.page)
        assert "-100 mm" in shown(one.page, 0) and "slice 4 of 12, -85 mm" in shown(one.page, 1)
        one.page.get_by_label("follow breathing").uncheck()
        settle(one.page)
        assert "-100 mm" in shown(one.page, 0) and "slice 1 of 12, -100 mm" in shown(one.page, 1)


def test_400_slices(browser, tmp_path):
    bag = person(tmp_path, {"T1W": 400, "T2W": 400})
    with page(browser, slice_browser(bag, explained(bag), simulated=True).save(tmp_path / "page.html")) as one:
        one.page.locator(".cn-pane").first.focus()
        one.page.keyboard.press("End")
        settle(one.page)
        assert "slice 400 of 400" in shown(one.page, 0) and one.complaints == []


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


def test_a_real_explanation_s_page_opens(browser, tmp_path):
    """With a real explanation, whose colour bar has a unit."""
    bag = person(tmp_path, {"T1W": 5, "T2W": 3})
    model = TrainedStager(untrained().stager, SETTINGS, True, "toy", {})
    told = cirrnb.explain(model, bag, "grad_cam", permutations=4)
    with page(browser, slice_browser(bag, told, simulated=True).save(tmp_path / "page.html")) as one:
        assert one.complaints == [] and state(one.page)["overlay"]
