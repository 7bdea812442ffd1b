"""How figures look: colours of stages and signs, letters, white ground, "simulated" where it belongs."""

from __future__ import annotations

from collections.abc import Iterable

import plotly.graph_objects as go

from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.view.palette import ACCENT, FONT, GRID, INK, MUTED, SIMULATED

_FURTHER = ("#7A4F9E", "#3A7D44", "#A6487B", "#5F6B2D", "#2E7F8F", "#8A8D91")


_AXIS = {
    "showgrid": True,
    "gridcolor": GRID,
    "zeroline": False,
    "linecolor": "#9AA5B1",
    "showline": True,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": "#9AA5B1",
    "automargin": True,
    "title": {"font": {"size": 13, "color": MUTED}, "standoff": 10},
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "title": {
            "font": {"size": 16, "color": INK},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 14},
        },
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": [ACCENT, *CIRRHOSIS.colours],
        "margin": {"l": 70, "r": 24, "t": 56, "b": 56},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1,
            "yanchor": "bottom",
            "yref": "paper",
            "title": {"text": ""},
            "font": {"size": 13},
        },
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"font": {"family": FONT, "size": 13}},
        "bargap": 0.35,
    }
)


_LEGEND_HEIGHT = 26


def sequence_colours(names: Iterable[str]) -> dict[str, str]:
    """Sequence -> colour, in the order given; T1W and T2W have the same in every figure."""
    usual, further = {"T1W": ACCENT, "T2W": "#9A6324"}, iter(_FURTHER)
    return {name: usual.get(name) or next(further, MUTED) for name in names}


def on_colour(colour: str) -> str:
    """Black or white, whichever is read more easily on a colour "#rrggbb"."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else "white"


def finish(figure: go.Figure, title: str, *, simulated: bool, height: int) -> go.Figure:
    """The figure in the package's style, with its title, its height in pixels and, where simulated, the word for it.

    `simulated` has no default, so that no caller forgets it.
    """
    has_legend = sum(trace.showlegend is not False and trace.name is not None for trace in figure.data) > 1
    top = figure.layout.margin.t or TEMPLATE.layout.margin.t + _LEGEND_HEIGHT * has_legend
    figure.update_layout(template=TEMPLATE, title_text=title, height=height, margin_t=top)
    if simulated:
        figure.add_annotation(
            text=SIMULATED,
            name=SIMULATED,
            xref="paper",
            yref="paper",
            x=1,
            y=1,
            xanchor="right",
            yanchor="bottom",
            yshift=top - 36,  # The line of the title, since the shift counts from the upper edge of the plot.
            showarrow=False,
            font={"size": 12, "color": MUTED},
        )
    return figure
