"""The picture of the explorer in the README: `python docs/screenshots.py`, with the extra [test] and chromium.

Serves the explorer as a user would, on the patients that stand in where no cohort is given, and looks at it.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
PATIENCE = 300_000
PATIENT = "cirrhotic/10"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        command = [sys.executable, "-c", "from cirrnb.cli import main; main()", "explore", "--no-browser"]
        server = subprocess.Popen([*command, "--port=0", "--patient", PATIENT], cwd=folder, stdout=subprocess.PIPE)
        try:
            url = address(server)
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1240, "height": 1560})
            page.goto(url, timeout=PATIENCE)
            page.locator(".cn-pane canvas").first.wait_for(timeout=PATIENCE)
            page.get_by_role("button", name="Show the answer").click()
            page.wait_for_function("() => document.querySelector('.cn-viewer').viewer.state.overlay", timeout=PATIENCE)
            page.locator(".js-plotly-plot .barlayer .point path").first.wait_for(timeout=PATIENCE)
            page.locator(".cn-pane").first.focus()
            page.keyboard.press("l")
            page.mouse.move(4, 4)
            page.wait_for_timeout(1500)
            page.locator(".cn-explorer").first.screenshot(path=HERE / "explorer.png")
            browser.close()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def address(server: subprocess.Popen[bytes]) -> str:
    """Of the page, with its token, once it answers."""
    assert server.stdout is not None
    lines = (re.search(r"http://\S+", line.decode()) for line in server.stdout)
    url = next(found.group() for found in lines if found)
    until = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{url.split('?')[0]}voila/static/x", timeout=5)
        except urllib.error.HTTPError:
            return url
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    main()
