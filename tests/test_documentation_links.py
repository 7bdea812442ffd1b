"""Mentions of the documentation are links that open: on the server, and beside a written page."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from cirrnb.explorer.upload import OWN_SCANS
from cirrnb.run.execution import find_notebook
from cirrnb.view.documentation import SOURCE, documentation_html, exists, linked
from cirrnb.view.measurements import measurements_html
from cirrnb.view.page import REAL_PEOPLE, Notice, Place, write_page

HREF = re.compile(r'href="([^"]*)"')


@pytest.mark.parametrize(
    "html",
    [OWN_SCANS, linked(REAL_PEOPLE), Notice(False, True)._repr_mimebundle_()["text/markdown"]],
    ids=["own scans", "answer", "notice"],
)
def test_what_mentions_the_documentation_links_to_a_page_that_is_there(html):
    [target] = HREF.findall(html)
    assert target == "../docs/real_people.md" and (SOURCE / "real_people.md").is_file()
    assert "docs/" not in re.sub(r"<[^>]*>", "", html)


def test_notes_of_measurements_are_linked():
    from cirrnb.measure.measurement import Measurement

    made = Measurement("spleen volume", 200.0, "mL", note="see docs/real_people.md <b>")
    html = measurements_html({"T1W": [made]})
    assert HREF.findall(html) == ["../docs/real_people.md"] and "&lt;b&gt;" in html


def test_only_text_is_linked():
    kept = '<script>"docs/real_people.md"</script><a href="docs/real_people.md">docs/real_people.md</a> a/docs/x.md'
    assert linked(kept) == kept


@pytest.mark.parametrize("path", sorted(find_notebook("00_learn_staging").parent.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_link_to_pages_that_are_there(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"(?<!\.\./)docs/\w+\.md", cell.source), "a mention that is no link"
            for name in re.findall(r"\(\.\./docs/(\w+)\.md", cell.source):
                assert exists(name), name


@pytest.mark.parametrize("above", [0, 1])
def test_a_written_page_carries_the_documentation_that_it_links_to(tmp_path, above):
    out = tmp_path.joinpath(*["patients"] * above) / "page.html"
    body = '<p>See <a href="../docs/glossary.md#stage">the glossary</a>, docs/nothing.md</p>'
    text = write_page(out, "A page", body, banner="x < y docs/glossary.md", place=Place(above=above)).read_text()
    targets = HREF.findall(text)
    assert len(targets) == 2 and "x &lt; y" in text
    for target in targets:
        page = out.parent / target.split("#")[0]
        assert page.resolve().parent == tmp_path / "documentation" and "Glossary" in page.read_text()


def test_a_page_of_one_file_has_no_link_to_another(tmp_path):
    write_page(tmp_path / "page.html", "A page", "<p>docs/glossary.md</p>", place=Place(single_file=True))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert HREF.findall((tmp_path / "page.html").read_text()) == []


@pytest.mark.parametrize("page", sorted(path.stem for path in Path(SOURCE).glob("*.md")))
def test_every_page_needs_nothing_but_itself_and_its_neighbours(page):
    html = documentation_html(page, links=False)
    assert all(one.startswith("data:") for one in re.findall(r'<img[^>]*src="([^"]*)"', html))
    assert all(one.startswith(("http", "#")) for one in HREF.findall(html))
    assert all(one[1:] in re.findall(r'id="([^"]*)"', html) for one in HREF.findall(html) if one.startswith("#"))
