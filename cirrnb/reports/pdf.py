"""Patients' pages as PDF, printed by Chromium with the network off.

WeasyPrint was tried and draws the pages' pictures as strips, since it does not know `aspect-ratio`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cirrnb.data.atomic_files import atomic_file
from cirrnb.data.errors import InputError

PROGRAM = "CIRRNB_CHROMIUM"
"""Environment variable that names the browser's program."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")
PATIENCE = 180.0
"""Seconds that the browser may take to start, and each page."""


class PrintError(RuntimeError):
    """A page could not be printed."""


def require_printer() -> None:
    """Raise InputError where pages cannot be printed here: without the extra, or without Chromium."""
    _alone(_print_all, ())


def print_pages(pages: Iterable[Path]) -> dict[Path, PrintError]:
    """Print pages to PDF files of the same name; what went wrong, by page. One page does not stop the others.

    Raises InputError as `require_printer`, and OSError where a file cannot be written.
    """
    pages = tuple(pages)
    return _alone(_print_all, pages) if pages else {}


def _alone(
    work: Callable[[tuple[Path, ...]], dict[Path, PrintError]], pages: tuple[Path, ...]
) -> dict[Path, PrintError]:
    """Run in a thread of its own: a notebook's has an event loop, in which playwright's plain functions do not work."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, pages).result()


def _print_all(pages: tuple[Path, ...]) -> dict[Path, PrintError]:
    failed = {}
    with _browser() as browser:
        for page in pages:
            try:
                _print(browser, page, page.with_suffix(".pdf"))
            except PrintError as error:
                failed[page] = error
    return failed


def _print(browser: Any, source: Path, target: Path) -> None:
    from playwright.sync_api import Error

    try:
        context = browser.new_context()
        try:
            context.set_offline(True)
            context.set_default_timeout(PATIENCE * 1000)
            page = context.new_page()
            page.goto(source.absolute().as_uri())
            content = page.pdf(format="A4", print_background=True)
        finally:
            context.close()
    except Error as error:
        raise PrintError(f"Chromium did not print the page ({type(error).__name__})") from error
    with atomic_file(target) as partial:
        partial.write_bytes(content)


@contextmanager
def _browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        remedy = 'Install it: pip install ".[pdf]"'
        raise InputError("playwright", "not installed", "the extra for PDF", remedy) from error
    flags = [*_FLAGS, *(("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ())]
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=_program(), args=flags, timeout=PATIENCE * 1000)
        except Error as error:
            remedy = f"Install it (apt-get install chromium, or playwright install chromium), or name it in {PROGRAM}."
            raise InputError("Chromium", "no browser that starts", "Chromium for PDF", remedy) from error
        try:
            yield browser
        finally:
            browser.close()


def _program() -> str | None:
    """The browser's program; None leaves it to playwright, which knows its own."""
    return os.environ.get(PROGRAM) or next(filter(None, map(shutil.which, _NAMES)), None)
