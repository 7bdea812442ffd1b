"""Links to the documentation from whatever is read: the course and the explorer, notebooks, reports.

Sentences name a page as docs/NAME.md, which suits a terminal and a table. Where HTML is made of them, `linked` turns
the name into a link to ../docs/NAME.md. It opens in JupyterLab, where notebooks lie beside docs/, and on the server of
the course and the explorer, which answers with `documentation_html`. A page that is written carries its documentation
along: `with_pages` writes it beside the page.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import cache
from html import escape, unescape
from pathlib import Path

import cirrnb
from cirrnb.data.atomic_files import atomic_file, atomic_write
from cirrnb.data.errors import InputError

FOLDER = "documentation"
"""Folder of the documentation beside written pages."""

_INSIDE = Path(cirrnb.__file__).parent / "docs"  # in a wheel
SOURCE = _INSIDE if _INSIDE.is_dir() else Path(cirrnb.__file__).parents[1] / "docs"

_TAG = re.compile(r"(<script\b.*?</script>|<style\b.*?</style>|<a\b.*?</a>|<[^>]*>)", re.DOTALL)
_MENTION = re.compile(r"(?<![\w/.])docs/(\w+)\.md\b")
_LINK = re.compile(r'<a\b[^>]*href="\.\./docs/(\w+)\.md(#[\w-]*)?"[^>]*>(.*?)</a>', re.DOTALL)


def documentation_link(name: str, words: str = "", anchor: str = "") -> str:
    """A link to a page of the documentation ("real_people") in a tab of its own, as HTML."""
    shown = escape(words) or f"documentation: {escape(name.replace('_', ' '))}"
    return f'<a href="../docs/{name}.md{anchor}" target="_blank" rel="noopener">{shown}</a>'


def linked(html: str) -> str:
    """The HTML with a link for each docs/NAME.md in its text; tags, scripts and links stay as they are."""
    if "docs/" not in html:
        return html
    parts = _TAG.split(html)
    parts[::2] = [_MENTION.sub(lambda match: documentation_link(match[1]), text) for text in parts[::2]]
    return "".join(parts)


def in_words(text: str) -> str:
    """The text with words for each docs/NAME.md, for readers who have no such file, as in a DICOM archive."""
    return _MENTION.sub(lambda match: f"documentation of cirrnb: {match[1].replace('_', ' ')}", text)


def with_pages(html: str, folder: Path | None, above: int = 0) -> str:
    """The HTML of a page that is written into `folder`, with links to documentation beside it, which is written too.

    `above` is how many folders further up the documentation lies; without a folder, links become plain words.
    """
    html = linked(html)

    def beside(match: re.Match[str]) -> str:
        name, anchor, words = match.groups(default="")
        if folder is None or not exists(name):
            return words
        target = folder.joinpath(*[".."] * above) / FOLDER / f"{name}.html"
        _write(name, target)
        return f'<a href="{"../" * above}{FOLDER}/{name}.html{anchor}">{words}</a>'

    return _LINK.sub(beside, html)


def notebook_with_pages(notebook: Path, folder: Path) -> str:
    """The text of a tutorial for another folder. Pages and pictures that it links are written into `FOLDER` there."""

    def beside(match: re.Match[str]) -> str:
        name, kind, anchor = match.groups(default="")
        target = folder / FOLDER / f"{name}.{'html' if kind == 'md' else kind}"
        if kind == "md":
            _write(name, target)
        else:
            with atomic_file(target) as partial:
                partial.write_bytes((SOURCE / f"{name}.{kind}").read_bytes())
        return f"]({FOLDER}/{target.name}{anchor})"

    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    return re.sub(r"\]\(\.\./(\w+)\.(md|png)(#[\w-]*)?\)", beside, notebook.read_text(encoding="utf-8"))


def exists(name: str) -> bool:
    """Whether the documentation has a page of that name."""
    return re.fullmatch(r"\w+", name) is not None and (SOURCE / f"{name}.md").is_file()


@cache
def documentation_html(name: str, *, links: bool = True) -> str:
    """A page of the documentation as one file of HTML. `links` keeps those to other pages of the documentation.

    Raises InputError if there is no such page.
    """
    from cirrnb.view.page import page_html

    if not exists(name):
        raise InputError(f"docs/{name}.md", "no such page", "a page of the documentation", "Run: cirrnb docs.")
    text = (SOURCE / f"{name}.md").read_text(encoding="utf-8")
    body = _rendered(text)
    if not links:
        body = re.sub(r'<a href="(?!https?:|#)[^"]*">(.*?)</a>', r"\1", body, flags=re.DOTALL)
    title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), name)
    return page_html(title, f'<section class="prose">{body}</section>', colophon=f"cirrnb {cirrnb.__version__}")


def _rendered(text: str) -> str:
    """Markdown as HTML, with pictures inside and a name for each heading, by which links find it."""
    import mistune  # comes with nbconvert

    render: Callable[[str], str] = mistune.create_markdown(escape=False, plugins=["table", "def_list"])  # type: ignore[assignment]
    body = re.sub(r'src="([\w.-]+)\.png"', _inside, render(text))
    return re.sub(r"<h([1-6])>(.*?)</h\1>", _named, body)


def _inside(match: re.Match[str]) -> str:
    picture = SOURCE / f"{match[1]}.png"
    if not picture.is_file():
        return match[0]
    return f'src="data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"'


def _named(match: re.Match[str]) -> str:
    words = unescape(re.sub(r"<[^>]*>", "", match[2])).lower()
    name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
    return f'<h{match[1]} id="{name}">{match[2]}</h{match[1]}>'


def _write(name: str, target: Path) -> None:
    text = documentation_html(name, links=False)
    if not target.is_file() or target.stat().st_size != len(text.encode()):
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, text)
