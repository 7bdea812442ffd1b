"""Marks with intervals, one row each, their numbers in a column to the right of the plot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from cirrnb.view.palette import ACCENT, INK, MUTED
from cirrnb.view.theme import finish

WIDTH = 860
"""Pixels: names, plot and numbers side by side. A narrower page scrolls inside the figure."""

BEHIND = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
"""An axis for lines that run from top to bottom, whatever the rows are."""

NUMBERS = 170
"""Pixels right of the plot for the numbers."""

_ROW = 44


def forest(value: ArrayLike, low: ArrayLike, high: ArrayLike, names: Sequence[str], *, signed: bool) -> go.Figure:
    """A mark and its interval for each of `names`, (rows,) each, the first on top; NaN limits draw no interval."""
    values, lows, highs = (np.asarray(part, dtype=float) for part in (value, low, high))
    texts = [interval_text(*row, signed=signed) for row in zip(values, lows, highs, strict=True)]
    figure = go.Figure()
    figure.add_scatter(
        x=values,
        y=list(names),
        mode="markers",
        showlegend=False,
        text=texts,
        marker={"size": 10, "color": ACCENT},
        error_x=error_bars(lows, values, highs),
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    write_numbers(figure, names, texts)
    return figure


def error_bars(low: ArrayLike, value: ArrayLike, high: ArrayLike) -> dict[str, object]:
    """Plotly's error bars from limits, (rows,) each."""
    lows, values, highs = (np.asarray(part, dtype=float) for part in (low, value, high))
    bars = {"type": "data", "symmetric": False, "array": highs - values, "arrayminus": values - lows}
    return {**bars, "color": ACCENT, "thickness": 2.5, "width": 5}


def write_numbers(figure: go.Figure, names: Sequence[str], texts: Sequence[str]) -> None:
    """Write a word for each row right of the first plot."""
    for name, text in zip(names, texts, strict=True):
        figure.add_annotation(
            x=1,
            xref="x domain",
            y=name,
            yref="y",
            text=text,
            showarrow=False,
            xanchor="left",
            xshift=10,
            font={"size": 13, "color": INK},
        )


def vertical_line(figure: go.Figure, x: float, name: str | None, dash: str) -> None:
    """A line from top to bottom; its name stands in the legend, where it meets no mark."""
    figure.add_scatter(
        x=[x, x],
        y=[0, 1],
        yaxis="y2",
        mode="lines",
        name=name,
        showlegend=name is not None,
        line={"color": MUTED, "width": 1.5, "dash": dash},
        hoverinfo="skip",
    )


def finish_forest(figure: go.Figure, title: str, rows: int, *, simulated: bool) -> go.Figure:
    """The forest in the package's style, with room for its rows and numbers."""
    figure.update_yaxes(range=[rows - 0.5, -0.5], showgrid=False)
    named = any(trace.showlegend for trace in figure.data)
    figure.update_layout(yaxis2=BEHIND, width=WIDTH, margin_r=NUMBERS, margin_t=82 if named else 56)
    return finish(figure, title, simulated=simulated, height=150 + _ROW * rows)


def interval_text(value: float, low: float, high: float, *, signed: bool = False) -> str:
    """A number and its interval as a reader wants it."""
    sign = "+" if signed else ""
    if not np.isfinite(value):
        return "not defined"
    text = f"{value:{sign}.2f}"
    if not np.isfinite([low, high]).all():
        return f"{text} (no interval)"
    return f"{text} ({low:{sign}.2f} to {high:{sign}.2f})"
