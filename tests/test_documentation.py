"""The documentation site builds without warnings, needs no network, and fits a phone."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from offline_browser import opened

from cirrnb.data.errors import InputError
from cirrnb.run import documentation

DOCS = Path(__file__).parents[1] / "docs"
LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=["'](?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with no tutorial executed."""
    return documentation.first_page(site=tmp_path_factory.mktemp("site")).parent


def test_the_site_builds_and_loads_nothing_from_the_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    names = {page.relative_to(site).as_posix() for page in pages}
    assert {"index.html", "search.html", "api/cirrnb.html", "cards/stager.html", "changelog.html"} <= names
    assert {f"tutorials/{name}.html" for name in documentation.tutorials()} <= names
    loaded = {page.name for page in pages if LOADED.search(page.read_text(encoding="utf-8"))}
    assert not loaded
    assert "read_cohort" in (site / "searchindex.js").read_text(encoding="utf-8"), "search works without a server"


def test_every_picture_has_words_for_those_who_do_not_see_it(site: Path) -> None:
    silent = {
        page.name: found
        for page in site.rglob("*.html")
        if (found := re.findall(r'<img(?![^>]*\balt="[^"]+")[^>]*>', page.read_text(encoding="utf-8")))
    }
    assert not silent


def test_no_picture_is_older_than_what_it_shows() -> None:
    pictures = runpy.run_path(str(DOCS / "pictures.py"))
    assert not pictures["outdated"](), "python docs/pictures.py makes them again"
    shown = {path.name for path in DOCS.glob("*.png")}
    assert shown == set(pictures["PICTURES"])


def test_what_is_there_is_opened_and_what_is_missing_is_said(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (site / "index.html").stat().st_mtime_ns
    assert documentation.first_page(site=site) == site / "index.html"
    assert (site / "index.html").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="student"):
        documentation.first_page(execute=["nobody"], site=site)
    monkeypatch.setattr(documentation, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=re.escape('pip install "cirrnb[docs]"')):
        documentation.first_page(True, site=site)


@pytest.mark.browser
def test_no_page_scrolls_sideways_on_a_phone(site: Path) -> None:
    with opened(site / "index.html", width=390) as shown:
        wide = {}
        for path in sorted(site.rglob("*.html")):
            if "_modules" not in path.parts:
                shown.page.goto(path.as_uri())
                width = shown.page.evaluate("document.documentElement.scrollWidth")
                if width > 390:
                    wide[path.name] = width
        asked = [address for address in shown.requests if not address.startswith(("file:", "data:"))]
    assert not wide and not asked
    assert not shown.complaints
