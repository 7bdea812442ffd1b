"""The documentation site builds without warnings, needs no network, and fits a phone."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from offline_browser import opened
from typer.testing import CliRunner

from cirrnb.cli import app
from cirrnb.data.errors import InputError
from cirrnb.run import documentation

DOCS = Path(__file__).parents[1] / "docs"
LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=["'](?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with no tutorial executed."""
    return documentation.first_page(execute=(), site=tmp_path_factory.mktemp("site")).parent


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
        documentation.first_page(True, ["nobody"], site=site)
    monkeypatch.setattr(documentation, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=re.escape('pip install "cirrnb[docs]"')):
        documentation.first_page(True, site=site)


class FakeSphinx:
    """In place of the build: keeps what it was asked for, and writes an empty first page."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.executed: list[str] = []
        (root / "docs" / "tutorials").mkdir(parents=True)
        (root / "docs" / "conf.py").touch()
        for path in (DOCS / "tutorials").glob("*.ipynb"):
            shutil.copy(path, root / "docs" / "tutorials")
        monkeypatch.setattr(documentation, "SOURCE", root / "docs")
        monkeypatch.setattr(documentation.subprocess, "run", self.run)

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.executed = options["env"]["CIRRNB_EXECUTED_TUTORIALS"].split(",")
        Path(command[-1]).mkdir(parents=True)
        Path(command[-1], "index.html").touch()
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.mark.parametrize(
    ("options", "executed"),
    [
        ((), ["clinician", "night", "researcher", "student"]),
        (("--execute", "student,night"), ["student", "night"]),
        (("--no-execute",), [""]),
    ],
)
def test_the_command_executes_every_tutorial_unless_asked_for_others(
    options: tuple[str, ...], executed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sphinx = FakeSphinx(monkeypatch, tmp_path)
    monkeypatch.setattr(documentation.first_page, "__defaults__", (False, ("all",), tmp_path / "site", print))
    shown = CliRunner().invoke(app, ["docs", "--no-browser", *options])
    assert shown.exit_code == 0, shown.output
    assert sphinx.executed == executed
    assert shown.stdout.strip() == str(tmp_path / "site" / "index.html")
    assert len(shown.stderr.splitlines()) == 1, "one line says what is built and how long it takes"


def test_the_tutorials_are_copied_with_the_pages_that_they_link(tmp_path: Path) -> None:
    folder = tmp_path / "tutorials"
    shown = CliRunner().invoke(app, ["docs", "--tutorials", str(folder)])
    assert shown.exit_code == 0 and "jupyter lab" in shown.output
    assert sorted(path.stem for path in folder.glob("*.ipynb")) == documentation.tutorials()
    for notebook in folder.glob("*.ipynb"):
        nbformat.validate(nbformat.read(notebook, as_version=4))
        text = notebook.read_text(encoding="utf-8")
        linked = re.findall(r"\]\((?!https?:)([\w/.]+)", text)
        assert "](../" not in text and all((folder / name).is_file() for name in linked), notebook.name
    (folder / "student.ipynb").write_text("mine")
    CliRunner().invoke(app, ["docs", "--tutorials", str(folder)])
    assert (folder / "student.ipynb").read_text() == "mine", "somebody's changes stay"


def test_execute_and_no_execute_exclude_each_other() -> None:
    found = CliRunner().invoke(app, ["docs", "--no-browser", "--no-execute", "--execute", "student"])
    assert isinstance(found.exception, InputError)


def test_every_tutorial_has_a_measured_time() -> None:
    assert set(documentation.TUTORIAL_SECONDS) == set(documentation.tutorials())


def test_outputs_of_another_package_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "cirrnb"
    (package / "site").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(documentation.cirrnb, "__file__", str(package / "__init__.py"))
    first = documentation.cache_folder()
    (package / "site" / "index.html").write_text("the site itself is no input")
    assert documentation.cache_folder() == first
    (package / "network.py").write_text("x = 1")
    assert documentation.cache_folder() != first


def test_what_is_kept_is_not_announced_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_cache import get_cache

    FakeSphinx(monkeypatch, tmp_path)
    known = documentation.tutorials()
    before = documentation.announcement(known)
    assert "4 tutorials" in before and "5 minutes" in before
    for path in (tmp_path / "docs" / "tutorials").glob("s*.ipynb"):
        get_cache(str(documentation.cache_folder())).cache_notebook_file(path, check_validity=False)
    assert "3 tutorials" in documentation.announcement(known)
    assert "student" not in documentation.announcement(known)
    assert documentation.announcement(["student"]) == documentation.announcement([])


CELLS = """
import ipywidgets
import plotly.graph_objects as go
from IPython.display import display

display(ipywidgets.IntProgress(description="waiting"))
go.Figure(go.Bar(x=["mild", "severe"], y=[1, 2]))
"""


@pytest.mark.browser
def test_figures_of_an_executed_notebook_are_drawn_without_a_network(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    cells = [nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell(CELLS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source / "index.ipynb")
    command = [sys.executable, "-m", "sphinx", "-q", "-c", str(DOCS), "-D", f"nb_execution_cache_path={tmp_path}/kept"]
    subprocess.run([*command, str(source), str(tmp_path / "site")], check=True, capture_output=True, text=True)
    with opened(tmp_path / "site" / "index.html") as shown:
        shown.page.locator(".plotly-graph-div .barlayer .point").nth(1).wait_for()
        asked = [address for address in shown.requests if not address.startswith(("file:", "data:"))]
    assert not asked and not shown.complaints


@pytest.mark.browser
@pytest.mark.parametrize("word", ["segment", "predict", "adapt", "explain", "report", "train"])
def test_guides_come_before_the_api_in_the_search(site: Path, word: str) -> None:
    found = search(site, word)
    api = [place for place, page in enumerate(found) if page.startswith("api/")]
    guides = [place for place, page in enumerate(found) if not page.startswith(("api/", "changelog", "contributing"))]
    assert guides and api and max(guides) < min(api)


@pytest.mark.browser
def test_a_page_with_the_word_in_its_title_comes_first(site: Path) -> None:
    assert search(site, "segmenter")[0] == "segmenter.html"


@pytest.mark.browser
def test_a_name_in_python_finds_the_api_first(site: Path) -> None:
    assert search(site, "read_cohort")[0].startswith("api/")


def search(site: Path, words: str) -> list[str]:
    """Pages that the site's own search finds, in its order."""
    with opened(site / "index.html") as shown:
        shown.page.goto(f"{(site / 'search.html').as_uri()}?q={words}")
        shown.page.locator("#search-results .search-summary", has_text=re.compile(r"\d")).wait_for()
        links = shown.page.locator("#search-results ul.search li > a")
        return [Path(href.split("#")[0].split("?")[0]).as_posix() for href in links.evaluate_all(HREFS)]


@pytest.mark.browser
def test_the_search_shows_lines_around_what_it_found_without_a_server(site: Path) -> None:
    with opened(site / "index.html") as shown:
        shown.page.goto(f"{(site / 'search.html').as_uri()}?q=ascites")
        lines = shown.page.locator("#search-results p.context")
        lines.first.wait_for()
        assert "ascites" in lines.first.inner_text().lower()
        lines.nth(5).wait_for()  # results come one by one
        assert not shown.complaints


HREFS = "links => links.map(one => one.getAttribute('href'))"


def test_a_chart_has_a_version_for_dark_pages(site: Path) -> None:
    page = (site / "reading_an_attribution.html").read_text(encoding="utf-8")
    assert re.search(r'<img[^>]*class="[^"]*only-light[^"]*"[^>]*scanner_swap\.png', page)
    assert re.search(r'<img[^>]*class="[^"]*only-dark[^"]*"[^>]*scanner_swap_dark\.png', page)


@pytest.mark.browser
def test_no_page_scrolls_sideways_on_a_phone(site: Path) -> None:
    with opened(site / "index.html", width=390) as shown:
        picture = shown.page.locator("img[src*='simulated.png']")
        assert picture.bounding_box()["width"] >= 600, "each of three columns of slices is legible"
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
