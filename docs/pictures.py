"""Pictures of docs/reading_an_attribution.md and of the README's section for students: `python docs/pictures.py`.

Needs the extra [test] and chromium. A sign with and without, what a scanner does to a model, the quiz after an answer.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from screenshots import HERE, PATIENCE, address

from cirrnb.course.figures import scanner_figure, sign_switch

CASES = 6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        draw_sign(browser, Path(folder))
        draw_swap(browser, Path(folder))
        draw_quiz(browser, folder)
        browser.close()


def opened(browser: Any, folder: Path, html: str, height: int) -> Any:
    file = folder / "page.html"
    file.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><body>{html}', encoding="utf-8")
    page = browser.new_page(viewport={"width": 1000, "height": height})
    page.goto(file.as_uri(), timeout=PATIENCE)
    return page


def draw_sign(browser: Any, folder: Path) -> None:
    html = sign_switch("ascites").html + sign_switch("ascites").html
    page = opened(browser, folder, html, 800)
    page.locator("input[value=outline]").first.check()
    page.locator("input[value=without]").last.check()
    page.locator("body").screenshot(path=HERE / "sign_pair.png")


def draw_swap(browser: Any, folder: Path) -> None:
    html = scanner_figure().html
    page = opened(browser, folder, html, 520)
    page.locator("figure").screenshot(path=HERE / "scanner_swap.png")


def draw_quiz(browser: Any, folder: str) -> None:
    command = [sys.executable, "-c", "from cirrnb.cli import main; main()", "learn", "--no-browser"]
    server = subprocess.Popen([*command, "--port=0", f"--cases={CASES}"], cwd=folder, stdout=subprocess.PIPE)
    try:
        url = address(server)
        page = browser.new_page(viewport={"width": 1300, "height": 1200})
        page.goto(url, timeout=PATIENCE)
        quiz = page.locator(".cn-quiz")
        for number in range(3):
            quiz.get_by_text(f"Case {number + 1} of {CASES}").wait_for(timeout=PATIENCE)
            quiz.locator(".cn-pane[tabindex]").first.focus()
            page.keyboard.press("213"[number])
            page.keyboard.press("Enter")
            quiz.locator(".cn-onward").wait_for(timeout=PATIENCE)
            if number < 2:
                page.keyboard.press("n")
        page.wait_for_timeout(1500)
        quiz.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        quiz.screenshot(path=HERE / "quiz.png")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


if __name__ == "__main__":
    main()
