"""An HTML page that opens offline and asks the network for nothing: the shell around what notebooks showed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cirrnb.data.atomic_files import replacing, write_whole
from cirrnb.view.notice import RESEARCH_ONLY

PLOTLY = "plotly.min.js"

# The browser itself refuses whatever would leave the folder, also for output that a notebook's author put in.
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; font-src data:; "
    "script-src 'self' file: 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

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
    shared_plotly = has_figures and not place.single_file
    scripts = [_plotly().read_text(encoding="utf-8")] if has_figures and place.single_file else []
    text = (
        templates("cirrnb.view", ".")
        .get_template("page.html.j2")
        .render(
            policy=_POLICY,
            title=title,
            style=asset("cirrnb.view", "page.css"),
            banner=banner,
            links=place.links,
            here=out.name,
            has_code='<div class="code">' in body,
            body=body,
            research_only=RESEARCH_ONLY,
            colophon=colophon,
            linked_scripts=[f"{'../' * place.above}{PLOTLY}"] if shared_plotly else [],
            scripts=[
                *scripts,
                *([asset("cirrnb.view", "page.js")] if has_figures else []),
                *([script] if script else []),
            ],
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if shared_plotly:
        _bring_plotly(out.parent.joinpath(*[".."] * place.above))
    write_whole(out, text)
    return out


@cache
def templates(package: str, folder: str = "templates") -> Environment:
    """The Jinja templates of a package's folder. What is put into them is escaped; an unknown name is an error."""
    return Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def asset(package: str, name: str) -> str:
    """A text file of a package: a script, a style sheet, a template."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _bring_plotly(folder: Path) -> None:
    source = _plotly()
    target = folder / PLOTLY
    if target.exists() and target.stat().st_size == source.stat().st_size:
        return
    with replacing(target) as growing:
        shutil.copyfile(source, growing)


def _plotly() -> Path:
    return Path(str(files("plotly.package_data").joinpath(PLOTLY)))
