"""Cells of a packaged notebook executed within the process of the tests: no kernel, no second import of libraries.

That a kernel executes them, and what papermill leaves, is proved by `test_run_execution` and by the demo.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.io
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from cirrnb.run.execution import packaged_notebooks
from cirrnb.run.parameters import check, read_cells, read_schema


def shown(name: str, parameters: Mapping[str, Any], folder: Path) -> str:
    """All that the cells of a notebook put out, executed from top to bottom with `folder` as the current one.

    Raises what a cell raises.
    """
    notebook = packaged_notebooks()[name]
    values = check(read_schema(notebook), parameters, name)
    shell = InteractiveShell(user_ns={})
    before, renderer = Path.cwd(), plotly.io.renderers.default
    outputs: list[str] = []
    os.chdir(folder)
    plotly.io.renderers.default = "plotly_mimetype"
    try:
        for cell in read_cells(notebook):
            if cell["cell_type"] != "code":
                continue
            with capture_output() as captured:
                shell.run_cell("".join(cell["source"]), silent=False).raise_error()
            outputs += [captured.stdout, *(str(output.data) for output in captured.outputs)]
            if "parameters" in cell["metadata"].get("tags", []):
                shell.user_ns.update(values)
    finally:
        os.chdir(before)
        plotly.io.renderers.default = renderer
    return " ".join(outputs)
