"""From executed notebooks to the pages somebody reads: one page each, and an index that shows what matters of all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from cirrnb.run.cells import banner_of, render_cells, render_markdown, render_outputs, tagged
from cirrnb.run.execution import run_notebook
from cirrnb.run.provenance import colophon
from cirrnb.view.page import Links, Place, write_page

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
) -> Path:
    """Execute a notebook into `folder` and write its page beside it; the page's path. Raises as `run_notebook`."""
    out = folder / f"{Path(notebook).stem}.ipynb"
    return publish(run_notebook(notebook, out, parameters, timeout=timeout, cwd=cwd), links)


def publish(executed: Path, links: Links = (), place: Place | None = None, out: Path | None = None) -> Path:
    """Write the page of an executed notebook to `out`, by default beside it, `<name>.html`.

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
        pieces += [_piece(cell) for cell in tagged(notebook, INDEX_TAG)]
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


def _piece(cell: NotebookNode) -> str:
    if cell.cell_type == "markdown":
        # One level down: on the index, the notebook's own title stands above.
        source = re.sub(r"^(#+ )", r"#\1", cell.source, flags=re.MULTILINE)
        return f'<section class="prose">{render_markdown(source)}</section>'
    return render_outputs(cell)
