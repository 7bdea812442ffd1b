"""An HTML page that opens offline and asks the network for nothing: the shell around what notebooks showed."""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cirrnb.data.writing import replacing, write_whole
from cirrnb.view.notice import RESEARCH_ONLY

PLOTLY = "plotly.min.js"

# The browser itself refuses whatever would leave the folder, also for output that a notebook's author put in.
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; font-src data:; "
    "script-src 'self' file: 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
{banner}
<header>{links}{toggle}</header>
<main>
{body}
</main>
<footer><p>{research_only}</p><p>{colophon}</p></footer>
{scripts}
</body>
</html>
"""


Links = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Place:
    """Where a page stands among others.

    Attributes
    ----------
    links : (file name, words) of the pages it belongs with; a file name of its own is shown as the present place.
    title : of the page, in place of its notebook's first heading; "" for that one.
    above : how many folders further up plotly lies, for pages that share it.
    single_file : plotly inside the page, which then needs no other file and is 5 MB larger.
    """

    links: Links = ()
    title: str = ""
    above: int = 0
    single_file: bool = False


def write_page(
    out: Path,
    title: str,
    body: str,
    *,
    banner: str = "",
    place: Place | None = None,
    colophon: str = "",
    script: str = "",
) -> Path:
    """Write a page beside and rename it; where it holds figures, plotly comes to lie in its folder, once.

    Parameters
    ----------
    body : HTML of the page's content.
    banner : on top of the page, see `cirrnb.view.notice.banner`.
    colophon : where the page comes from, one line of plain text.
    script : JavaScript of the page's own, at its end.
    """
    place = place or Place()
    has_figures = '<figure class="plot"' in body
    text = _SHELL.format(
        policy=_POLICY,
        title=html.escape(title),
        style=_asset("page.css"),
        banner=f'<div class="banner" role="note">{html.escape(banner)}</div>' if banner else "",
        links=_navigation(place.links, out.name),
        toggle=_TOGGLE if '<div class="code">' in body else "",
        body=body,
        research_only=RESEARCH_ONLY,
        colophon=html.escape(colophon),
        scripts="\n".join(_scripts(place, has_figures, script)),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if has_figures and not place.single_file:
        _bring_plotly(out.parent.joinpath(*[".."] * place.above))
    write_whole(out, text)
    return out


def _scripts(place: Place, has_figures: bool, script: str) -> Iterator[str]:
    if has_figures and place.single_file:
        yield f"<script>{_plotly().read_text(encoding='utf-8')}</script>"
    elif has_figures:
        yield f'<script src="{"../" * place.above}{PLOTLY}"></script>'
    if has_figures:
        yield f"<script>\n{_asset('page.js')}</script>"
    if script:
        yield f"<script>\n{script}</script>"


_TOGGLE = '<label class="toggle"><input type="checkbox" id="show-code"> show code</label>'


def _navigation(links: Links, here: str) -> str:
    words = (
        f"<b>{html.escape(name)}</b>" if target == here else f'<a href="{html.escape(target)}">{html.escape(name)}</a>'
        for target, name in links
    )
    return f"<nav>{' '.join(words)}</nav>"


def _asset(name: str) -> str:
    return files("cirrnb.run").joinpath(name).read_text(encoding="utf-8")


def _bring_plotly(folder: Path) -> None:
    source = _plotly()
    target = folder / PLOTLY
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    with replacing(target) as growing:
        shutil.copyfile(source, growing)


def _plotly() -> Path:
    return Path(str(files("plotly.package_data").joinpath(PLOTLY)))
