"""Whether a stager is as sure as it ought to be: confidence against accuracy, and what its sets of stages hold."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.view.forest import BEHIND, WIDTH, error_bars, write_numbers
from cirrnb.view.palette import ACCENT, INK, MUTED
from cirrnb.view.theme import finish

_SHADES = (ACCENT, "#9DB8CC", "#C3D3DF", "#D3DEE6", "#E1E8ED")
_ALL = "all"


def reliability_diagram(table: pd.DataFrame, *, simulated: bool, stages: StageScale = CIRRHOSIS) -> go.Figure:
    """How often the stager was right among patients for whom it was about as sure.

    `table` as `cirrnb.evaluation.reliability.reliability_table` returns: one row a bin with from, to, n, confidence,
    accuracy, low and high. Above, accuracy (95 % interval) against confidence, both in percent: on the line the stager
    is as often right as it says, below it is too sure. Below, how many patients there are of each confidence.
    """
    filled = table[table["n"] > 0]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.74, 0.26], vertical_spacing=0.06)
    figure.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        name="as often right as it says",
        line={"color": MUTED, "width": 1.5, "dash": "dash"},
        hoverinfo="skip",
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=100 * filled["confidence"],
        y=100 * filled["accuracy"],
        # No line joins them: between two bins of three patients it would show a trend that is not there.
        mode="markers",
        name="stager, 95 % interval",
        marker={"size": 10, "color": ACCENT},
        error_y=error_bars(100 * filled["low"], 100 * filled["accuracy"], 100 * filled["high"]),
        customdata=filled["n"],
        hovertemplate="says %{x:.0f} %, right %{y:.0f} % of %{customdata} patients<extra></extra>",
        row=1,
        col=1,
    )
    _patients_by_confidence(figure, table)
    # Of three stages nobody's most probable one has less than a third.
    figure.update_xaxes(range=[100 // len(stages) - 5, 102], dtick=10)
    figure.update_xaxes(title_text="confidence: probability of the stage that was answered (%)", row=2, col=1)
    figure.update_yaxes(range=[-3, 103], dtick=20, title_text="staged right (%)", row=1, col=1)
    title = "How sure it is, and how often right"
    return finish(figure, title, simulated=simulated, height=560).update_layout(width=640)


def set_coverage(table: pd.DataFrame, *, aimed: float | None = None, simulated: bool) -> go.Figure:
    """How often the set of stages held the true one, and how many stages it named, over all and by true stage.

    `table` as `cirrnb.evaluation.coverage.set_coverage` returns; `aimed` is the coverage that the sets promise over
    all patients, 0 to 1, drawn as a line where it is known.
    """
    rows = table[table["n"] > 0]
    names = [f"{_label(stage)}<br>n = {n}" for stage, n in zip(rows["stage"], rows["n"], strict=True)]
    # Room between the panels for the numbers, which would run into the line if they stood above their marks.
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.19, column_widths=[0.5, 0.5])
    figure.add_scatter(
        x=100 * rows["coverage"],
        y=names,
        mode="markers",
        showlegend=False,
        marker={"size": 11, "color": ACCENT},
        error_x=error_bars(100 * rows["low"], 100 * rows["coverage"], 100 * rows["high"]),
        hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
        row=1,
        col=1,
    )
    write_numbers(figure, names, [_percent(*row) for row in rows[["coverage", "low", "high"]].to_numpy(dtype=float)])
    _sizes_of_sets(figure, rows, names)
    lowest = min(float(rows["low"].min()), aimed if aimed is not None else 1.0)
    figure.update_xaxes(range=[100 * max(lowest - 0.05, -0.03), 102], title_text="true stage in the set (%)", col=1)
    figure.update_xaxes(range=[0, 100.5], title_text="patients by stages in their set (%)", col=2)
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5], showgrid=False)
    if aimed is not None:
        figure.add_scatter(
            x=[100 * aimed] * 2,
            y=[0, 1],
            yaxis="y3",
            mode="lines",
            name=f"coverage aimed at, {100 * aimed:.0f} %",
            line={"color": MUTED, "width": 1.5, "dash": "dash"},
            hoverinfo="skip",
        )
    figure.update_layout(barmode="stack", legend_traceorder="normal", yaxis3=BEHIND, width=WIDTH)
    height = 150 + 58 * len(rows)
    return finish(figure, "Sets of stages: do they hold, and do they say something", simulated=simulated, height=height)


def set_table(table: pd.DataFrame) -> pd.DataFrame:
    """Coverage and size of the sets as a table to read; `table` as `cirrnb.evaluation.coverage.set_coverage`."""
    values = table[["coverage", "low", "high"]].to_numpy(dtype=float)
    shown = {
        "patients": table["n"],
        "set holds the true stage (95 % interval)": [_percent(*row) for row in values],
        "stages in a set": [f"{size:.1f}" if size == size else "" for size in table["mean_size"]],
        **{
            words: [f"{share:.0%}" if share == share else "" for share in table[name]]
            for name, words, _ in _sizes(table)
        },
    }
    return pd.DataFrame(shown).set_index(pd.Index([_label(stage) for stage in table["stage"]]))


def _patients_by_confidence(figure: go.Figure, table: pd.DataFrame) -> None:
    figure.add_bar(
        x=50 * (table["from"] + table["to"]),
        y=table["n"],
        width=100 * (table["to"] - table["from"]) * 0.92,
        marker={"color": ACCENT, "opacity": 0.55},
        text=[str(n) if n else "" for n in table["n"]],
        textposition="outside",
        cliponaxis=False,
        showlegend=False,
        hovertemplate="%{y} patients<extra></extra>",
        row=2,
        col=1,
    )
    most = max(int(table["n"].max()), 1)
    figure.update_yaxes(range=[0, 1.3 * most], nticks=4, title_text="patients", row=2, col=1)


def _sizes_of_sets(figure: go.Figure, rows: pd.DataFrame, names: list[str]) -> None:
    for column, words, colour in _sizes(rows):
        share = 100 * rows[column]
        figure.add_bar(
            x=share,
            y=names,
            orientation="h",
            name=words,
            width=0.5,
            marker={"color": colour, "line": {"color": "white", "width": 1}},
            text=[f"{part:.0f} %" if part >= 9 else "" for part in share],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": "white" if colour == ACCENT else INK},
            hovertemplate=f"%{{y}}: {words} %{{x:.0f}} %<extra></extra>",
            row=1,
            col=2,
        )


def _sizes(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Column, words and shade for each size that a set may have."""
    names = [str(name) for name in table.columns[list(table.columns).index("mean_size") + 1 :]]
    sizes = []
    for place, name in enumerate(names):
        words = "one stage" if not place else f"all {name}" if place == len(names) - 1 else f"{name} stages"
        shade = _SHADES[-1] if place and place == len(names) - 1 else _SHADES[min(place, len(_SHADES) - 2)]
        sizes.append((name, words, shade))
    return sizes


def _label(stage: str) -> str:
    return "all patients" if stage == _ALL else stage


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * value:.0f} % ({100 * low:.0f} to {100 * high:.0f})" if value == value else "nobody"
