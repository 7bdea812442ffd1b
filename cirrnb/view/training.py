"""How a training went: loss and agreement after each epoch, on the patients it learns from and on others."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cirrnb.view.theme import ACCENT, MUTED, finish

_LINES = (("train", "training patients", MUTED, "dot"), ("valid", "validation patients", ACCENT, "solid"))
_PANELS = (("loss", "cross-entropy"), ("kappa", "quadratic weighted kappa"))


def learning_curve(history: pd.DataFrame, *, simulated: bool) -> go.Figure:
    """Loss and quadratic weighted kappa after each epoch.

    `history` has one row an epoch with the columns epoch, train_loss, valid_loss, train_kappa and valid_kappa, as
    history.csv of a run; a column without a number in it (nobody validates) is left out.
    """
    figure = make_subplots(rows=1, cols=len(_PANELS), horizontal_spacing=0.1)
    for column, (measure, words) in enumerate(_PANELS, start=1):
        for split, name, colour, dash in _LINES:
            values = history[f"{split}_{measure}"]
            if values.notna().any():
                figure.add_scatter(
                    x=history["epoch"],
                    y=values,
                    mode="lines+markers",
                    name=name,
                    legendgroup=split,
                    showlegend=column == 1,
                    line={"color": colour, "dash": dash, "width": 2},
                    marker={"size": 5},
                    hovertemplate=f"epoch %{{x}}, {name}: %{{y:.2f}}<extra></extra>",
                    row=1,
                    col=column,
                )
        figure.update_yaxes(title_text=words, row=1, col=column)
    # Whole epochs only, however few there are.
    figure.update_xaxes(title_text="epoch", tickformat="d", dtick=max(1, round(len(history) / 10)), tick0=0)
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    # Kappa is 0 for guessing and rarely below; the scale always shows how far it is to 1.
    lowest = history[["train_kappa", "valid_kappa"]].min().min()
    figure.update_yaxes(range=[min(-0.1, float(lowest) - 0.05) if pd.notna(lowest) else -0.1, 1.02], row=1, col=2)
    figure.add_hline(y=0, line={"color": MUTED, "width": 1}, row=1, col=2)
    return finish(figure, "Learning curve", simulated=simulated, height=380)
