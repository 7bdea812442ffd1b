"""What is asked of a report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

LIMIT = 1800.0
"""Seconds that one patient may take."""

IMPORTED = (
    "cirrnb.explanation.explain",
    "cirrnb.explanation.faithfulness",
    "cirrnb.model.card",
    "cirrnb.run.reports.biomarkers",
    "cirrnb.run.reports.case",
    "cirrnb.run.reports.tables",
    "cirrnb.view.explorer.browser",
    "cirrnb.view.patient",
    "cirrnb.view.report",
    "cirrnb.view.standing",
    *("matplotlib_inline.backend_inline", "IPython.core.completer", "plotly.io", "plotly.graph_objs"),
)
"""What the notebooks of a report import: kernels may have it before they start."""


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes
    ----------
    cohort : folder in the published layout, or a CSV table.
    model : folder of a model, or "shipped".
    out : folder of the report.
    patients : subjects or ids; none asks for all. Pages of others that are still true stay.
    prepared : folder of prepared scans; None takes prepared/ and the cohort's name.
    explanations : folder in which explanations are kept.
    method : how maps are made.
    jobs : notebooks at a time; None takes as many as there are cores.
    cluster : address of a Dask scheduler that runs them instead.
    fresh : make every page anew.
    single_file : no page needs a file beside it, also that of the cohort.
    limit : seconds that one patient may take.
    sequences : names in the cohort's table; None takes the model's.
    plugin : files that register heads, backbones or methods.
    """

    cohort: Path
    model: str
    out: Path
    patients: tuple[str, ...] = ()
    prepared: Path | None = None
    explanations: Path = field(default_factory=lambda: Path("explanations"))
    method: str = "grad_cam"
    jobs: int | None = None
    cluster: str | None = None
    fresh: bool = False
    single_file: bool = False
    limit: float = LIMIT
    sequences: str | None = None
    plugin: tuple[Path, ...] = ()
