"""How fast the viewer answers a hand, and what it needs: 2 x 80 slices of 256 x 256 with a map, in Debian's chromium.

From the input event to the second animation frame after it, beside the same frames of a page that draws nothing: the
difference is what drawing costs. pytest -m benchmark tests/benchmarks/test_explorer_speed.py -s
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from offline_browser import opened
from toy_patients import write_scan
from viewer_pages import explained

from cirrnb.data.bag import Bag
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import Scan
from cirrnb.viewer.slice_browser import slice_browser

pytestmark = [pytest.mark.benchmark, pytest.mark.browser]
EVENTS = 100

TIMED = """() => {
    window.waited = [];
    for (const kind of ['wheel', 'keydown', 'pointermove']) {
        document.addEventListener(kind, (event) => requestAnimationFrame(() => requestAnimationFrame(
            () => window.waited.push(performance.now() - event.timeStamp))), true);
    }
}"""


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Bag:
    folder, random = tmp_path_factory.mktemp("bag"), np.random.default_rng(0)
    settings = PreparationSettings(spacing=1.5, field_of_view=(384.0, 384.0))
    assert settings.size == (256, 256)
    scans = {}
    for name in ("T1W", "T2W"):
        image = np.clip(random.normal(0.5, 0.1, (80, 256, 256)), 0, 1).astype(np.float16)
        scans[name] = write_scan(folder / name, Scan("7", name, Path("7.nii.gz")), image, settings)
        np.save(folder / name / "mask.npy", np.pad(np.ones((80, 100, 100), bool), ((0, 0), (60, 96), (40, 116))))
    return Bag(scans)


def waits(page, act) -> np.ndarray:  # type: ignore[no-untyped-def]
    page.evaluate(TIMED)
    for number in range(EVENTS):
        act(number)
        page.wait_for_timeout(20)
    page.wait_for_timeout(200)
    return np.array(page.evaluate("() => window.waited"))


def told(name: str, found: np.ndarray) -> None:
    median, late = np.percentile(found, [50, 95])
    print(f"\n{name}: median {median:.0f} ms, 95th percentile {late:.0f} ms, {len(found)} events")


def test_from_hand_to_picture(bag: Bag, tmp_path: Path) -> None:
    empty = tmp_path / "empty.html"
    empty.write_text("<!doctype html><p style='height:900px'>nothing is drawn here")
    with opened(empty, width=1400) as browser:
        browser.page.mouse.move(300, 300)
        bare = waits(browser.page, lambda number: browser.page.mouse.wheel(0, 100))
        told("an empty page, wheel", bare)
    page = slice_browser(bag, explained(bag), simulated=True).save(tmp_path / "page.html")
    print(f"\nthe page: {page.stat().st_size / 1e6:.2f} MB")
    with opened(page, width=1400) as browser:
        browser.page.wait_for_selector("[data-ready=yes]")
        browser.page.keyboard.press("l")
        browser.page.locator(".cn-pane").first.hover()
        wheel = waits(browser.page, lambda number: browser.page.mouse.wheel(0, 100 if number % 40 < 20 else -100))
        told("wheel", wheel)
        browser.page.locator(".cn-pane").first.focus()
        keys = waits(browser.page, lambda number: browser.page.keyboard.press("ArrowUp" if number % 40 < 20 else "b"))
        told("keys", keys)
        print(f"\nbeside an empty page: {np.median(wheel) / np.median(bare):.2f} (wheel)")
    for found in (wheel, keys):
        assert len(found) >= EVENTS


def test_memory_in_the_browser(bag: Bag, tmp_path: Path) -> None:
    def resident(file: Path, ready: str | None) -> float:
        with opened(file, width=1400) as browser:
            if ready:
                browser.page.wait_for_selector(ready)
                for key in ("End", "Home"):
                    browser.page.locator(".cn-pane").first.focus()
                    browser.page.keyboard.press(key)
                    browser.page.wait_for_timeout(500)
            kinds = [
                one for one in psutil.process_iter(["cmdline"]) if "--type=renderer" in (one.info["cmdline"] or [])
            ]
            return max(one.memory_full_info().uss for one in kinds) / 1e6

    empty = tmp_path / "empty.html"
    empty.write_text("<!doctype html><p>nothing")
    page = slice_browser(bag, explained(bag), simulated=True).save(tmp_path / "page.html")
    bare, full = resident(empty, None), resident(page, "[data-ready=yes]")
    print(f"\nthe page's own process: {full:.0f} MB, that of an empty page {bare:.0f} MB; 2 x 80 slices and their map")
    assert full > bare


def test_a_cached_case_opens(tmp_path: Path) -> None:
    """In the kernel, from the constructor to map and chart ready to be sent, beside the answer alone."""
    import cirrnb
    from cirrnb.model.prediction import predict_patient
    from cirrnb.model.trained_model import load_model

    people = cirrnb.simulate_cohort(tmp_path / "cohort", patients=2, seed=3, healthy=0)
    model = load_model("shipped")
    ready = cirrnb.prepare(people, tmp_path / "prepared", model.preparation, progress=False)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        made = cirrnb.SliceExplorer(ready, model, store=tmp_path / "kept", answer_first=True)
        assert made.wait(300) and made.explanation is not None
        seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    predict_patient(model, ready.bags()[0])
    alone = time.perf_counter() - began
    print(f"\nopening a case: first {seconds[0]:.1f} s, cached {seconds[-1]:.2f} s; the answer alone {alone:.2f} s")
