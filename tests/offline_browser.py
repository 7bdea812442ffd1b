"""Opening a page in Debian's chromium with the network off, and what it asked for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 180_000
"""ms that a page may take on a machine that does other work meanwhile."""
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@dataclass
class Opened:
    """A page in the browser: the playwright page, what it requested, and what it complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def opened(path: Path, width: int = 1100) -> Generator[Opened]:
    """The page of a file, loaded and drawn. Skips where there is no browser."""
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        try:
            context = browser.new_context(viewport={"width": width, "height": 900})
            context.set_offline(True)
            context.set_default_timeout(PATIENCE)
            result = Opened(context.new_page())
            result.page.on("request", lambda request: result.requests.append(request.url))
            result.page.on("requestfailed", lambda request: result.complaints.append(f"failed: {request.url}"))
            result.page.on("pageerror", lambda error: result.complaints.append(f"error: {error}"))
            result.page.on(
                "console", lambda said: said.type == "error" and result.complaints.append(f"console: {said.text}")
            )
            result.page.goto(path.resolve().as_uri())
            # As many drawings as figures: each has at least one main <svg>.
            result.page.wait_for_function(
                "() => [...document.querySelectorAll('figure.plot')].every(one => one.querySelector('svg.main-svg'))"
            )
            yield result
        finally:
            browser.close()
