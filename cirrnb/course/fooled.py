"""How a model is fooled by a scanner that goes with the stage: one patient on both, and what two models make of it."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cirrnb.data.bag import Bag
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.simulation.scans import SCANNERS
from cirrnb.view.slices import Slice, montage
from cirrnb.view.theme import INK, finish

RECORDED = "scanner_swap.csv"
"""What `python docs/fooled.py` measured: the benchmark's stager with a scanner shortcut, and the package's model."""


def two_scanners(bag: Bag, truth: SimulatedTruth) -> go.Figure:
    """One patient as both scanners see it, where the liver is widest."""
    rows: dict[str, list[Slice | None]] = {name: [] for name in bag.scans}
    for scanner, field in SCANNERS.items():
        for name, image in truth.on_scanner(bag, scanner).items():
            scan = bag.scans[name]
            index = (
                scan.grid.shape[0] // 2 if scan.mask is None else int(np.asarray(scan.mask).sum(axis=(1, 2)).argmax())
            )
            place = float(scan.positions[index])
            rows[name].append(Slice(image[index], scan.grid.spacing[1:], place, f"scanner {scanner}, {field}"))
    return montage(rows, simulated=True, title="One patient on two scanners")


def recorded() -> pd.DataFrame:
    """The measured scores: model, subject, stage, A and B (log-odds for severity on each scanner)."""
    with files("cirrnb.course").joinpath(RECORDED).open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#")


def scanner_figure(table: pd.DataFrame | None = None) -> go.Figure:
    """Each patient's score on scanner A and on B; `table` as `scanner_swap` returns, else as recorded."""
    told = recorded() if table is None else table
    models = list(dict.fromkeys(told["model"]))
    titles = [f"{name}<br>{_moved(told[told['model'] == name])}" for name in models]
    figure = make_subplots(rows=1, cols=len(models), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.05)
    seen: set[str] = set()
    for column, model in enumerate(models, start=1):
        for row in told[told["model"] == model].to_dict("records"):
            stage = str(row["stage"])
            figure.add_scatter(
                x=["scanner A", "scanner B"],
                y=[row["A"], row["B"]],
                mode="lines+markers",
                name=stage,
                legendgroup=stage,
                legendrank=1 + CIRRHOSIS.index(stage),
                showlegend=stage not in seen,
                line={"color": CIRRHOSIS.colour[stage], "width": 1.5},
                marker={"size": 7},
                hovertemplate=f"{stage}, %{{x}}: %{{y:+.1f}} log-odds<extra></extra>",
                row=1,
                col=column,
            )
            seen.add(stage)
    figure.update_annotations(font={"size": 13, "color": INK})
    figure.update_yaxes(title_text="score for severity (log-odds)", row=1, col=1)
    figure = finish(figure, "The same patients on two scanners", simulated=True, height=480)
    return figure.update_layout(margin_t=130, legend_y=1.16)


def _moved(told: pd.DataFrame) -> str:
    step = told["B"] - told["A"]
    return f"B less A: {step.mean():+.1f} log-odds on average ({step.min():+.1f} to {step.max():+.1f})"
