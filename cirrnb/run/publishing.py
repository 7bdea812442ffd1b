"""From executed notebooks to HTML pages: one page each, and an index of several."""

from __future__ import annotations

import html
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TextIO

import nbformat
from nbconvert.filters.ansi import ansi2html
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from cirrnb.data.numbers import figure
from cirrnb.run.execution import run_notebook
from cirrnb.run.parameters import TAG, parse_schema
from cirrnb.run.streams import Echo
from cirrnb.view.page import FIGURE_OPENS, FRAGMENT_OPENS, NOTICE, SUMMARY, Links, Place, write_page

FIGURE = "application/vnd.plotly.v1+json"
PROGRESS = "progress"
"""Tag of cells that print how far they are, of which the page shows nothing."""

_TEXTUAL = {"text/html", "text/markdown", "image/svg+xml", "text/plain"}


def render_cells(notebook: NotebookNode) -> str:
    """All cells as HTML, in order. The parameters cell becomes a table of the values the run had."""
    return "\n".join(piece for cell in notebook.cells if (piece := _render_cell(cell, notebook)))


def render_outputs(cell: NotebookNode) -> str:
    """What a code cell showed: figures, tables, pictures and printed text; not its warnings and progress bars."""
    return "\n".join(piece for output in _joined(cell.get("outputs", [])) if (piece := _render_output(output)))


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Text that was printed piece by piece, one after the other, as one output."""
    joined: list[NotebookNode] = []
    for output in outputs:
        before = joined[-1] if joined else {}
        if output.output_type == "stream" and before.get("name") == output.name:
            joined[-1] = NotebookNode(before | {"text": before["text"] + output.text})
        else:
            joined.append(output)
    return joined


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    """The cells that carry a tag."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def banner_of(notebook: NotebookNode) -> str:
    """What a notice in the notebook wants on top of its page, the first where there are several; or nothing."""
    data = (output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
    return next((str(part[NOTICE]["banner"]) for part in data if NOTICE in part and part[NOTICE]["banner"]), "")


def summary_of(notebook: NotebookNode) -> dict[str, Any] | None:
    """The summary that a notebook leaves (`cirrnb.view.page.Summary`), the last where there are several, or None."""
    data = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    summaries = [part[SUMMARY] for part in data if SUMMARY in part]
    return json.loads(json.dumps(summaries[-1])) if summaries else None


def render_markdown(source: str) -> str:
    """Markdown as HTML, without anchors behind its headings."""
    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True)
    return str(MarkdownWithMath(renderer=renderer).render(source))


def render_parameters(notebook: NotebookNode) -> str:
    """A table of the parameters a run had: name, value, meaning. Of a path only the last name is shown."""
    cells = tagged(notebook, TAG)
    if not cells:
        return ""
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    rows = [
        (name, _shown(given.get(name, parameter.default)), parameter.help)
        for name, parameter in parse_schema(cells[0].source, "notebook").items()
    ]
    body = "".join(
        f"<tr><th>{name}</th><td>{_quoted(value)}</td><td>{_quoted(meaning)}</td></tr>" for name, value, meaning in rows
    )
    return f'<details class="parameters"><summary>Parameters of this run</summary><table>{body}</table></details>'


def without_paths(text: str) -> str:
    """The text with each path into this machine's own folders cut down to its last name."""
    folders = {str(folder) for folder in (Path.cwd(), Path.home(), tempfile.gettempdir(), sys.prefix)} - {"/"}
    longest_first = sorted(folders, key=len, reverse=True)
    anywhere = re.compile(
        rf"(?<![\w/.])(?:{'|'.join(map(re.escape, longest_first))})(?:[/\\][^\s'\"<>:,;()]*)?(?![\w])"
    )
    return anywhere.sub(lambda match: re.split(r"[/\\]", match[0].rstrip("/\\"))[-1], text)


def _render_cell(cell: NotebookNode, notebook: NotebookNode) -> str:
    tags = cell.metadata.get("tags", [])
    if cell.cell_type == "markdown":
        return f'<section class="prose">{render_markdown(cell.source)}</section>'
    if cell.cell_type != "code" or "injected-parameters" in tags:
        return ""
    if TAG in tags:
        return render_parameters(notebook)
    code = Highlight2HTML()(cell.source, language="python")
    outputs = "" if PROGRESS in tags else render_outputs(cell)
    return f'<section class="cell"><div class="code">{code}</div>{outputs}</section>'


def _render_output(output: NotebookNode) -> str:
    if output.output_type == "stream":
        if output.name != "stdout" or not output.text.strip():
            return ""
        return f'<pre class="printed">{ansi2html(without_paths(output.text))}</pre>'
    if output.output_type == "error":
        return f'<pre class="error">{_quoted(f"{output.ename}: {output.evalue}")}</pre>'
    return _render_data(output.data, output.get("metadata", {}))


def _render_data(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    if FIGURE in data:
        return render_figure(data[FIGURE])
    shown = data.get("text/html", "")
    if shown.startswith(FIGURE_OPENS) or (shown.startswith(FRAGMENT_OPENS) and FIGURE_OPENS in shown):
        return str(shown)  # our own, and its packed pictures are no text to look for paths in
    if NOTICE in data or SUMMARY in data:
        return ""  # The page has its own banner.
    if "application/vnd.jupyter.widget-view+json" in data and "text/html" not in data:
        return ""  # A widget without any text is empty without a kernel.
    clean = {kind: without_paths(value) if kind in _TEXTUAL else value for kind, value in data.items()}
    if clean.get("text/html", "").startswith(FRAGMENT_OPENS):
        return str(clean["text/html"])
    if "text/html" in clean:
        return f'<div class="table">{clean["text/html"]}</div>'
    if "text/markdown" in clean:
        return f'<div class="prose">{render_markdown(clean["text/markdown"])}</div>'
    for kind in ("image/png", "image/jpeg"):
        if kind in clean:
            words = html.escape(str(metadata.get(kind, {}).get("alt", "picture")))
            return f'<img alt="{words}" src="data:{kind};base64,{"".join(clean[kind].split())}">'
    return f'<pre class="printed">{_quoted(clean["text/plain"])}</pre>' if "text/plain" in clean else ""


def render_figure(figure: Mapping[str, Any]) -> str:
    """A plotly figure as data in the page, drawn by the page's one copy of plotly."""
    layout = figure.get("layout", {})
    title = layout.get("title", {})
    words = html.escape(str(title.get("text", "figure") if isinstance(title, Mapping) else title), quote=True)
    height = int(layout.get("height", 420))
    return (
        f'<figure class="plot" role="img" aria-label="{words}" style="min-height:{height}px"><div></div>'
        f'<script type="application/json">{script_safe({"data": figure["data"], "layout": layout})}</script></figure>'
    )


def script_safe(value: Any) -> str:
    """JSON that is safe inside a <script> element for any text."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, str):
        return (PureWindowsPath(value) if "\\" in value else PurePosixPath(value)).name if _is_path(value) else value
    return (
        {None: "none", True: "yes", False: "no"}.get(value, str(value)) if not _is_number(value) else figure(value, 6)
    )


def _is_path(text: str) -> bool:
    return "\n" not in text and ("/" in text or "\\" in text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quoted(text: str) -> str:
    return html.escape(without_paths(text))


INDEX_TAG = "index"
"""Cells of a notebook whose prose or outputs the index repeats."""


def run_and_publish(
    notebook: str | Path,
    folder: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
    cwd: Path | None = None,
    links: Links = (),
    echo: TextIO | Echo | None = None,
) -> Path:
    """Execute a notebook into `folder` and write its page there; returns the page's path. Raises as `run_notebook`."""
    out = folder / f"{Path(notebook).stem}.ipynb"
    return publish(run_notebook(notebook, out, parameters, timeout=timeout, cwd=cwd, echo=echo), links)


def publish(executed: Path, links: Links = (), place: Place | None = None, out: Path | None = None) -> Path:
    """Write the page of an executed notebook to `out`, by default `<name>.html` in the notebook's folder.

    `links` are the pages it belongs with; `place` tells more than these, and then in their stead.
    """
    notebook = nbformat.read(executed, as_version=4)
    place = place or Place(links)
    return write_page(
        out or executed.with_suffix(".html"),
        place.title or title_of(notebook, executed.stem),
        render_cells(notebook),
        banner=banner_of(notebook),
        place=place,
        colophon=colophon(notebook),
    )


def publish_index(out: Path, title: str, lead: str, executed: Sequence[Path], links: Links = ()) -> Path:
    """Write a page that shows, of each executed notebook, the cells tagged `index`, with a link to the whole.

    `lead` is Markdown under the title. One simulated notebook makes the whole page simulated.
    """
    notebooks = {path: nbformat.read(path, as_version=4) for path in executed}
    top = render_markdown(f"# {title}\n\n{lead}")
    pieces = [f'<section class="prose lead">{top}</section>']
    for path, notebook in notebooks.items():
        pieces.append(f"<h2>{title_of(notebook, path.stem)}</h2>")
        pieces += [_index_section(cell) for cell in tagged(notebook, INDEX_TAG)]
        pieces.append(f'<p class="more"><a href="{path.stem}.html">The whole notebook, step by step</a></p>')
    return write_page(
        out,
        title,
        "\n".join(pieces),
        banner=next(filter(None, map(banner_of, notebooks.values())), ""),
        place=Place(links),
        colophon=colophon(*notebooks.values()),
    )


def title_of(notebook: NotebookNode, otherwise: str) -> str:
    """The first heading of a notebook."""
    prose = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    lines = (line for source in prose for line in source.splitlines())
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), otherwise)


def _index_section(cell: NotebookNode) -> str:
    if cell.cell_type == "markdown":
        # One level down: on the index, the notebook's own title stands above.
        source = re.sub(r"^(#+ )", r"#\1", cell.source, flags=re.MULTILINE)
        return f'<section class="prose">{render_markdown(source)}</section>'
    return render_outputs(cell)


def colophon(*notebooks: NotebookNode) -> str:
    """One line about where executed notebooks come from, "" where none of them tells."""
    stamps: list[dict[str, Any]] = [
        notebook.metadata["cirrnb"] for notebook in notebooks if "cirrnb" in notebook.metadata
    ]
    if not stamps:
        return ""
    last = max(stamps, key=lambda stamp: str(stamp["finished"]))
    versions = last["versions"]
    source = f"cirrnb {versions['cirrnb']}" + (f", commit {last['commit'][:10]}" if last["commit"] else "")
    day = str(last["finished"]).replace("T", " ").removesuffix("+00:00")
    return f"Made with {source}, Python {versions['python']}, torch {versions['torch']}, on {day} UTC."
