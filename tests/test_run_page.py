"""Pages made from executed notebooks: nothing from the net, nothing of the machine, nothing that breaks out of data."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from offline_browser import opened

from cirrnb.run.publishing import publish, publish_index, render_outputs, script_safe, without_paths
from cirrnb.view.page import SIMULATED, Notice

EVIL = "</script><script>document.title = 'taken over'</script><!-- & \u2028"
OUTSIDE = re.compile(
    r"""(?:\b(?:src|srcset|data|poster)\s*=|<link[^>]*href\s*=|@import|\burl\()\s*["']?\s*(?:https?:)?//"""
)


def figure(title: str = "A figure") -> dict:
    made = go.Figure(go.Scatter(x=[1, 2], y=[3, 4])).update_layout(title_text=title, height=300)
    return json.loads(made.to_json())


def write_notebook(path: Path, *, simulated: bool = True, title: str = "The story") -> Path:
    notebook = nbformat.v4.new_notebook()
    notice = Notice(simulated)._repr_mimebundle_()
    secret = str(Path.home() / "secret" / "cohort" / "file.nii.gz")
    notebook.cells = [
        new_markdown_cell(f"# {title}\n\nText with [a link](https://doi.org/10.1000/1)."),
        new_code_cell(
            'cohort: str = "x"  # where it is\nepochs: int = 3\nrate: float = 0.5\nflag: bool = True',
            metadata={"tags": ["parameters"]},
        ),
        new_code_cell(f"cohort = {secret!r}", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("import this_is_code", outputs=[new_output("display_data", data=notice)]),
        new_markdown_cell("## Shown on the index", metadata={"tags": ["index"]}),
        new_code_cell(
            "show()",
            metadata={"tags": ["index"]},
            outputs=[
                new_output("display_data", data={"application/vnd.plotly.v1+json": figure(EVIL), "text/html": "no"})
            ],
        ),
        new_code_cell(
            "print()",
            outputs=[
                new_output("stream", name="stdout", text=f"read {secret} <b>now</b>\n"),
                new_output("stream", name="stderr", text="a warning nobody should read\n"),
                new_output(
                    "execute_result",
                    data={"text/html": f"<table><tr><td>{secret}</td></tr></table>", "text/plain": "plain"},
                ),
                new_output(
                    "display_data", data={"application/vnd.jupyter.widget-view+json": {}, "text/plain": "a dead widget"}
                ),
                new_output("display_data", data={"image/png": "iVBORw0KGgo=\n", "text/plain": "<Figure>"}),
                new_output("display_data", data={"text/plain": "<Thing>"}),
            ],
        ),
    ]
    notebook.metadata["papermill"] = {"parameters": {"cohort": secret, "epochs": 7}}
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return publish(write_notebook(tmp_path / "01_story.ipynb"), [("index.html", "Report"), ("01_story.html", "Story")])


def test_a_page_asks_the_network_for_nothing(page: Path) -> None:
    text = page.read_text()
    assert not OUTSIDE.search(text)
    assert re.findall(r'<script[^>]*src="([^"]*)"', text) == ["plotly.min.js"]
    assert "Content-Security-Policy" in text and "default-src 'none'" in text
    assert (page.parent / "plotly.min.js").stat().st_size > 1_000_000


@pytest.mark.parametrize(
    "text",
    ['<img src="https://a.b/c.png">', "<link rel=x href='//a.b'>", "@import 'http://a.b'", "url(https://a.b)"],
)
def test_the_search_for_addresses_finds_them(text: str) -> None:
    assert OUTSIDE.search(text)


def test_a_page_says_what_it_is(page: Path) -> None:
    text = page.read_text()
    assert text.count(SIMULATED) == 1 and text.index(SIMULATED) < text.index("<main>")
    assert "Not a medical device, no diagnosis" in text[text.index("<footer>") :]
    assert "<title>The story</title>" in text
    assert '<a href="index.html">Report</a> <b>Story</b>' in text


def test_a_page_from_real_scans_has_no_banner(tmp_path: Path) -> None:
    assert SIMULATED not in publish(write_notebook(tmp_path / "n.ipynb", simulated=False)).read_text()


def test_cells_become_what_a_reader_wants(page: Path) -> None:
    text = page.read_text()
    for shown in (
        "this_is_code",
        "show code",
        "&lt;b&gt;now&lt;/b&gt;",
        "&lt;Thing&gt;",
        "data:image/png;base64,iVBORw0KGgo=",
    ):
        assert shown in text
    for hidden in ("a warning nobody should read", "injected", "a dead widget", "&lt;Figure&gt;", "plain</pre>"):
        assert hidden not in text


def test_text_printed_piece_by_piece_is_one_piece() -> None:
    printed = [new_output("stream", name="stdout", text=f"line {number}\n") for number in range(3)]
    warned = new_output("stream", name="stderr", text="a warning")
    assert render_outputs(new_code_cell("x", outputs=printed)).count("<pre") == 1
    assert render_outputs(new_code_cell("x", outputs=[*printed, warned, printed[0]])).count("<pre") == 2
    assert [one.text for one in printed] == ["line 0\n", "line 1\n", "line 2\n"], "the notebook stays as it is"


def test_the_parameters_of_the_run_are_shown_without_paths(page: Path) -> None:
    text = page.read_text()
    row = re.escape("<tr><th>cohort</th><td>file.nii.gz</td><td>where it is</td></tr>")
    assert re.search(row, text)
    assert "<tr><th>epochs</th><td>7</td>" in text
    assert "<tr><th>rate</th><td>0.5</td>" in text and "<tr><th>flag</th><td>yes</td>" in text
    assert str(Path.home()) not in text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"in {Path.home()}/a/b.csv, ok", "in b.csv, ok"),
        (f"{Path.cwd()}/runs/x: done", "x: done"),
        (f"'{tempfile.gettempdir()}/y/z'", "'z'"),
        ("1/2 and a/b/c and /usr", "1/2 and a/b/c and /usr"),
        (f"https://a.b{Path.home()}/x", f"https://a.b{Path.home()}/x"),
    ],
)
def test_paths_lose_their_folders(text: str, clean: str) -> None:
    assert without_paths(text) == clean


def test_data_in_a_script_stays_data() -> None:
    safe = script_safe({"x": EVIL})
    assert json.loads(safe) == {"x": EVIL}
    assert not set("<>&\u2028") & set(safe)


def test_plotly_is_brought_once(page: Path) -> None:
    file = page.parent / "plotly.min.js"
    before = file.stat()
    publish(write_notebook(page.parent / "02_story.ipynb"))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    file.write_text("half")
    publish(write_notebook(page.parent / "02_story.ipynb"))
    assert file.stat().st_size == before.st_size
    assert page.stat().st_size < 100_000


def test_a_page_without_figures_brings_no_plotly(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[new_markdown_cell("# Words")])
    nbformat.write(notebook, tmp_path / "words.ipynb")
    page = publish(tmp_path / "words.ipynb")
    assert "<script" not in page.read_text()
    assert not (tmp_path / "plotly.min.js").exists()


def test_the_index_shows_what_is_tagged(tmp_path: Path) -> None:
    executed = [
        write_notebook(tmp_path / "01.ipynb", title="First"),
        write_notebook(tmp_path / "02.ipynb", simulated=False, title="Second"),
    ]
    text = publish_index(tmp_path / "index.html", "Both", "A **lead**.", executed).read_text()
    assert SIMULATED in text  # one simulated notebook is enough
    assert "<strong>lead</strong>" in text
    assert (
        text.index("First</h2>")
        < text.index('href="01.html"')
        < text.index("Second</h2>")
        < text.index('href="02.html"')
    )
    assert text.count("<h3>Shown on the index</h3>") == 2 and text.count('<figure class="plot"') == 2
    assert "this_is_code" not in text and "where it is" not in text


@pytest.mark.browser
def test_the_browser_draws_it_offline_and_lets_nothing_out(tmp_path: Path) -> None:
    notebook = nbformat.read(write_notebook(tmp_path / "n.ipynb"), as_version=4)
    outside = '<img src="https://example.org/x.png"><script>fetch("https://example.org/y")</script>'
    notebook.cells.append(new_code_cell("", outputs=[new_output("display_data", data={"text/html": outside})]))
    nbformat.write(notebook, tmp_path / "n.ipynb")
    with opened(publish(tmp_path / "n.ipynb")) as result:
        page = result.page
        assert page.title() == "The story"
        assert page.locator("figure.plot svg.main-svg .scatterlayer .point").count() == 2
        assert "taken over" in page.locator(".gtitle").first.text_content()
        assert not page.locator(".code").first.is_visible()
        page.locator("#show-code").check()
        assert page.locator(".code").first.is_visible()
        refused = [text for text in result.complaints if "Content Security Policy" in text]
        # What a notebook's author put in is refused by the page's own policy, not by the missing network.
        assert any("x.png" in text for text in refused) and any("/y" in text for text in refused)
