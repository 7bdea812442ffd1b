"""The explorer with its kernel, in Debian's chromium: in JupyterLab and on the page that `cirrnb explore` serves."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from nbformat import v4, write
from offline_browser import CHROMIUM, FLAGS

import cirrnb
from cirrnb.view.sentences import METHODS

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[1]
OVERLAY = "() => document.querySelector('.cn-viewer')?.viewer?.state.overlay"
CANCEL = """() => {
    const button = [...document.querySelectorAll(".cn-explorer button")].find((one) => one.title === "Cancel");
    const shown = button && button.offsetParent;
    if (shown) button.click();  // at once: on an idle machine the map of three tiny patients is soon there
    return Boolean(shown);
}"""
PATIENCE = 300_000  # ms; only a page that does not come needs as long

LAB_CELL = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_explanation import untrained
from toy_patients import LARGE, toy_cohort
import cirrnb
from cirrnb.view.sentences import METHODS
cohort = toy_cohort(Path("toy"), {{"train": 3}}, settings=LARGE)
explorer = cirrnb.SliceExplorer(cohort, untrained(), method="grad_cam")
explorer
"""


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium")
    with api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)


@pytest.fixture
def page(browser: Any) -> Generator[Any]:
    context = browser.new_context(viewport={"width": 1400, "height": 1100})
    context.asked = []
    page = context.new_page()
    page.on("request", lambda request: context.asked.append(request.url))
    yield page
    context.close()


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


@contextmanager
def serving(command: list[str], folder: Path, url: str) -> Generator[subprocess.Popen]:
    """A server in a folder of its own, up when `url` answers; it and its children are gone afterwards."""
    settings = {"JUPYTER_CONFIG_DIR": str(folder / "config"), "XDG_CONFIG_HOME": str(folder / "config")}
    settings["XDG_DATA_HOME"] = str(folder / "data")
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **settings}, stdout=log, stderr=log)
    children: list[psutil.Process] = []
    try:
        until = time.monotonic() + PATIENCE / 1000
        while not answers(url):
            assert process.poll() is None and time.monotonic() < until, (folder / "server.log").read_text()
            time.sleep(0.3)
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        for child in alive:
            child.kill()
        log.close()
    assert not alive, "the server left processes behind"


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Generator[str]:
    folder = tmp_path_factory.mktemp("lab")
    cell = v4.new_code_cell(LAB_CELL.format(tests=str(ROOT / "tests")))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    write(v4.new_notebook(cells=[cell], metadata=kernel), folder / "case.ipynb")
    port = free_port()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"),
        *("--IdentityProvider.token=", "--LabApp.news_url="),
    ]
    with serving(command, folder, f"http://127.0.0.1:{port}/api"):
        yield f"http://127.0.0.1:{port}/lab/tree/case.ipynb"


def shown(page: Any, pane: int = 0) -> str:
    return page.locator(".cn-pane canvas").nth(pane).get_attribute("aria-label")


def until(page: Any, script: str) -> None:
    page.wait_for_function(script, timeout=PATIENCE)


def use_as_a_reader_would(page: Any) -> None:
    """Images first; the answer on request; another map; wheel, keys and a click on a bar."""
    page.locator(".cn-pane canvas").first.wait_for(timeout=PATIENCE)
    assert page.locator(".cn-answer").count() == 0 and not page.evaluate(OVERLAY)
    stands_in = page.locator("figure[data-stands-in]")
    stands_in.wait_for(state="hidden", timeout=PATIENCE)
    assert stands_in.count() == 1
    before = shown(page)
    page.locator(".cn-pane").first.hover()
    page.mouse.wheel(0, -100)
    page.locator(".cn-pane").first.focus()
    page.keyboard.press("ArrowUp")
    until(page, f"() => document.querySelector('.cn-pane canvas').ariaLabel !== {json.dumps(before)}")
    page.get_by_role("button", name="Show the answer").click()
    page.locator(".cn-answer").wait_for(timeout=PATIENCE)
    until(page, OVERLAY)
    page.locator(".cn-slice-chart .cn-slice").first.wait_for(timeout=PATIENCE)
    page.get_by_label("Map", exact=True).select_option(label="The model's own attention")
    page.get_by_text(METHODS["attention"]).wait_for(timeout=PATIENCE)


def run_first_cell(page: Any) -> None:
    """JupyterLab drops what is run before it has heard of the kernel, so it is asked until it has begun."""
    for _ in range(10):
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(2000)
        if page.locator(".jp-InputPrompt").first.inner_text() != "[ ]:":
            return
    raise AssertionError("the cell did not run")


@pytest.mark.slow
def test_in_jupyterlab(page, lab):
    """By hand, since the page of its own uses the same widget in every run of the tests."""
    page.goto(lab)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=PATIENCE)
    page.get_by_text("Kernel status: Idle").first.wait_for(state="attached", timeout=PATIENCE)
    run_first_cell(page)
    use_as_a_reader_would(page)
    # A click on the lowest slice's bar goes there.
    bar = page.locator(".cn-slice-chart .cn-slice").first
    bar.scroll_into_view_if_needed()
    bar.click(force=True)  # a share of nothing is half a pixel high
    until(page, "() => document.querySelector('.cn-pane canvas').ariaLabel.includes('slice 1 of')")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Map as NIfTI").click()
    assert waiting.value.suggested_filename.endswith("attention.nii.gz")


@pytest.mark.slow
def test_two_windows_on_one_kernel(page, lab):
    """The same notebook opened twice: same pictures, map and height, and a file in the one that asked for it."""
    page.goto(lab)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=PATIENCE)
    page.get_by_text("Kernel status: Idle").first.wait_for(state="attached", timeout=PATIENCE)
    run_first_cell(page)
    page.locator(".cn-pane canvas").first.wait_for(timeout=PATIENCE)
    page.get_by_role("button", name="Show the answer").click()
    until(page, OVERLAY)
    page.keyboard.press("Control+s")
    page.wait_for_timeout(3000)
    other = page.context.new_page()
    other.goto(lab)
    other.locator(".cn-pane canvas").first.wait_for(timeout=PATIENCE)
    until(other, OVERLAY)
    other.locator(".cn-answer").wait_for(timeout=PATIENCE)
    for acting, following in ((page, other), (other, page)):
        acting.bring_to_front()
        before = shown(acting)
        acting.locator(".cn-pane").first.focus()
        acting.keyboard.press("End" if acting is page else "Home")
        until(acting, f"() => document.querySelector('.cn-pane canvas').ariaLabel !== {json.dumps(before)}")
        following.bring_to_front()
        until(following, f"() => document.querySelector('.cn-pane canvas').ariaLabel === {json.dumps(shown(acting))}")
    saved: list[Any] = []
    for window in (page, other):
        window.on("download", lambda file, window=window: saved.append(window))
    other.bring_to_front()
    other.get_by_role("button", name="Map as NIfTI").click()
    other.wait_for_timeout(5000)
    assert saved and set(saved) == {other}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Generator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("explore")
    cirrnb.simulate_cohort(folder / "cohort", patients=3, seed=5, scale="tiny", healthy=0, workers=1)
    port = free_port()
    command = [sys.executable, "-c", "from cirrnb.cli import main; main()", "explore", "cohort", "--no-browser"]
    command += ["--patient", "cirrhotic/4"]
    with serving([*command, f"--port={port}"], folder, f"http://127.0.0.1:{port}/voila/static/x"):
        yield address(folder), folder


def address(folder: Path) -> str:
    """With its token, as the terminal shows it a moment after the server listens."""
    for _ in range(PATIENCE // 300):
        if found := re.findall(r"http://\S+", (folder / "server.log").read_text()):
            return found[0]
        time.sleep(0.3)
    raise AssertionError("no address on the terminal")


def test_on_a_page_of_its_own(page, served):
    url, _ = served
    page.goto(url, timeout=PATIENCE)
    use_as_a_reader_would(page)
    assert page.title() == "cirrnb: the explorer"
    page.evaluate("() => document.querySelector('.cn-glossary-fold').scrollIntoView()")
    assert 0 <= page.locator(".cn-caveat").bounding_box()["y"] < 60, "what this is not stays in sight"
    page.get_by_label("Map", exact=True).select_option(label="Occlusion by patches")
    until(page, CANCEL)
    page.get_by_text("Cancelled. Choose a map to begin anew.").wait_for(timeout=PATIENCE)
    outside = [one for one in page.context.asked if not one.startswith((url.split("?")[0], "data:", "blob:"))]
    assert outside == []
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    options = {"include": [[".cn-explorer"]]}
    found = axe.Axe().run(page, context=options)
    serious = [one for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
    assert serious == [], json.dumps(serious, indent=1)[:3000]
    assert page.get_by_label("Patient").locator("option").count() == 3


@pytest.mark.slow
def test_a_kernel_that_dies_leaves_the_pictures_and_is_told(page, served):
    url, _ = served
    page.goto(url, timeout=PATIENCE)
    page.locator(".cn-pane canvas").first.wait_for(timeout=PATIENCE)
    for process in kernels(url):
        process.send_signal(signal.SIGKILL)
    before = shown(page)
    page.locator(".cn-pane").first.focus()
    page.keyboard.press("ArrowUp")
    until(page, f"() => document.querySelector('.cn-pane canvas').ariaLabel !== {json.dumps(before)}")
    page.get_by_text("The kernel does not answer").wait_for(timeout=PATIENCE)


def kernels(url: str) -> list[psutil.Process]:
    port = urlsplit(url).port
    servers = [one.pid for one in psutil.net_connections("tcp") if one.laddr.port == port and one.status == "LISTEN"]
    children = psutil.Process(servers[0]).children(recursive=True)
    return [one for one in children if "ipykernel" in " ".join(one.cmdline())]


def refused(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-c", "from cirrnb.cli import main; main()", "explore", "--no-browser", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr + done.stdout


def test_a_file_whose_name_names_no_sequence_is_refused_before_the_model_is_read(tmp_path: Path):
    (tmp_path / "scan7.nii.gz").write_bytes(b"")
    code, output = refused(tmp_path, "scan7.nii.gz", "--port", "0")
    assert code == 2 and "Reading the model" not in output and "Open my own scan" in output


@pytest.mark.parametrize(
    "arguments",
    [
        lambda port: ["cohort", "--patient", "cirrhotic/999", "--port", "0"],
        lambda port: ["cohort", "--port", str(port)],
    ],
    ids=["nobody", "taken"],
)
def test_what_cannot_be_shown_is_told_before_anything_is_served(served, arguments: Callable[[int], list[str]]):
    url, folder = served
    code, output = refused(folder, *arguments(urlsplit(url).port or 0))
    assert code == 2 and "Traceback" not in output and "found" in output
