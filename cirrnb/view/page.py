"""An HTML page that opens offline and asks the network for nothing, its notices, and fragments of it in a notebook."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cirrnb.data.atomic_files import atomic_file, atomic_write
from cirrnb.view.documentation import linked, with_pages

NOTICE = "application/vnd.cirrnb.notice+json"
SUMMARY = "application/vnd.cirrnb.summary+json"
SIMULATED = "Simulated cohort: nothing here means anything for a patient."
REAL_PEOPLE = "What is known on real people: docs/real_people.md."
LEARNT = f"The model learnt from simulated patients: nothing it says means anything for a patient. {REAL_PEOPLE}"
"""Where the scans may be real: calling them simulated would be as wrong as saying nothing."""

RESEARCH_ONLY = "Research and education only. Not a medical device, no diagnosis."


def banner(simulated: bool, learnt: bool = False) -> str:
    """What stands on top of a page about simulated scans, or about real ones and a model that learnt from simulated
    ones; nothing where both are real."""
    return SIMULATED if simulated else LEARNT if learnt else ""


def about(simulated: bool, learnt: bool = False) -> str:
    """What stands behind `RESEARCH_ONLY` beside pictures and answers: `banner`, in as few words."""
    return SIMULATED if simulated else "The model learnt from simulated patients." if learnt else ""


class Notice:
    """Says in a notebook, and to the page made from it, whether the cohort is simulated, or what the model learnt from.

    `Notice(cohort.simulated, model.simulated)` as the last line of a cell.
    """

    def __init__(self, simulated: bool, learnt: bool = False):
        self.banner = banner(simulated, learnt)

    def __str__(self) -> str:
        return self.banner or RESEARCH_ONLY

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": str(self), "text/markdown": f"**{linked(str(self))}**", NOTICE: {"banner": self.banner}}


class Summary:
    """What a notebook reports about itself to a caller that runs many; pages do not show it.

    `Summary(figures)` as the last line of a cell; `figures` is ready for JSON.
    """

    def __init__(self, figures: Mapping[str, Any]):
        self.figures = dict(figures)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": f"{len(self.figures)} figures for the summary", SUMMARY: self.figures}


FRAGMENT_OPENS = '<section class="piece'
"""How the HTML of a piece begins, by which a page made from a notebook takes it as it is."""

FIGURE_OPENS = '<figure class="slice-browser"'
"""How the HTML of a slice browser begins."""


@dataclass(frozen=True)
class Fragment:
    """`body` is HTML; `kind` names its style."""

    body: str
    kind: str = "plain"

    def _repr_html_(self) -> str:
        return f'{FRAGMENT_OPENS} {self.kind}">{self.body}</section>'


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
    """Write a page atomically; a page with figures gets one copy of plotly in its folder.

    Parameters
    ----------
    body : HTML of the page's content.
    banner : on top of the page, see `cirrnb.view.page.banner`.
    colophon : where the page comes from, one line of plain text.
    script : JavaScript of the page's own, at its end.
    """
    place = place or Place()
    has_figures = '<figure class="plot"' in body
    shared_plotly = has_figures and not place.single_file
    inside = [_plotly().read_text(encoding="utf-8")] if has_figures and place.single_file else []
    folder = None if place.single_file else out.parent
    text = page_html(
        title,
        with_pages(body, folder, place.above),
        banner=with_pages(escape(banner), folder, place.above),
        links=place.links,
        here=out.name,
        colophon=colophon,
        linked_scripts=[f"{'../' * place.above}{PLOTLY}"] if shared_plotly else [],
        scripts=[*inside, *([asset("cirrnb.view", "page.js")] if has_figures else []), *([script] if script else [])],
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if shared_plotly:
        _bring_plotly(out.parent.joinpath(*[".."] * place.above))
    atomic_write(out, text)
    return out


def page_html(
    title: str,
    body: str,
    *,
    banner: str = "",
    links: Links = (),
    here: str = "",
    colophon: str = "",
    linked_scripts: Sequence[str] = (),
    scripts: Sequence[str] = (),
) -> str:
    """A page as HTML; `body` and `banner` are HTML, `here` is the file name among the links."""
    return (
        templates("cirrnb.view", ".")
        .get_template("page.html.j2")
        .render(
            policy=_POLICY,
            title=title,
            style=asset("cirrnb.view", "page.css"),
            banner=banner,
            links=links,
            here=here,
            has_code='<div class="code">' in body,
            body=body,
            research_only=RESEARCH_ONLY,
            colophon=colophon,
            linked_scripts=linked_scripts,
            scripts=scripts,
        )
    )


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
    with atomic_file(target) as growing:
        shutil.copyfile(source, growing)


def _plotly() -> Path:
    return Path(str(files("plotly.package_data").joinpath(PLOTLY)))
