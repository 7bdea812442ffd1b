"""An HTML page that opens offline and asks the network for nothing: the shell around what notebooks showed."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from cirrnb.data.writing import write_whole
from cirrnb.view.notice import SIMULATED

RESEARCH_ONLY = "Research and education only. Not a medical device, no diagnosis."
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


def write_page(
    out: Path,
    title: str,
    body: str,
    *,
    simulated: bool,
    links: Sequence[tuple[str, str]] = (),
    colophon: str = "",
) -> Path:
    """Write a page beside and rename it; where it holds figures, plotly comes to lie in the same folder, once.

    Parameters
    ----------
    body : HTML of the page's content.
    simulated : put the banner for simulated cohorts on top.
    links : (file name, words) of the pages it belongs with; a file name of its own is shown as the present place.
    colophon : where the page comes from, one line of plain text.
    """
    has_figures = '<figure class="plot"' in body
    text = _SHELL.format(
        policy=_POLICY,
        title=html.escape(title),
        style=_asset("page.css"),
        banner=f'<div class="banner" role="note">{SIMULATED}</div>' if simulated else "",
        links=_navigation(links, out.name),
        toggle=_TOGGLE if '<div class="code">' in body else "",
        body=body,
        research_only=RESEARCH_ONLY,
        colophon=html.escape(colophon),
        scripts=f'<script src="{PLOTLY}"></script>\n<script>\n{_asset("page.js")}</script>' if has_figures else "",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if has_figures:
        _bring_plotly(out.parent)
    write_whole(out, text)
    return out


_TOGGLE = '<label class="toggle"><input type="checkbox" id="show-code"> show code</label>'


def _navigation(links: Sequence[tuple[str, str]], here: str) -> str:
    words = (
        f"<b>{html.escape(name)}</b>" if target == here else f'<a href="{html.escape(target)}">{html.escape(name)}</a>'
        for target, name in links
    )
    return f"<nav>{' '.join(words)}</nav>"


def _asset(name: str) -> str:
    return files("cirrnb.run").joinpath(name).read_text(encoding="utf-8")


def _bring_plotly(folder: Path) -> None:
    source = Path(str(files("plotly.package_data").joinpath(PLOTLY)))
    target = folder / PLOTLY
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    growing = folder / f".{PLOTLY}.{os.getpid()}"
    shutil.copyfile(source, growing)
    growing.replace(target)
