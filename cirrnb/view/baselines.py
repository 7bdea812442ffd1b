"""Whom each baseline gets wrong, and what a classifier leans on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.view.forest import WIDTH
from cirrnb.view.theme import ACCENT, INK, finish

RIGHT, NOT_TOLD = "#F2F4F7", "#FFFFFF"


def mistakes(
    answers: Mapping[str, pd.DataFrame], *, split: str = "test", simulated: bool, stages: StageScale = CIRRHOSIS
) -> go.Figure:
    """Who gets whom wrong: a row for each baseline, a column for each patient.

    `answers` is name -> predictions (subject, split, stage, predicted), all of the same patients. Patients stand by
    their true stage, within it those first whom most get right. A mistake has the colour of the stage that was told.
    Raises ValueError if there is no patient of the split.
    """
    first = next(iter(answers.values()))
    truth = first[(first["split"] == split) & first["stage"].notna()].set_index("subject")["stage"].map(stages.index)
    if truth.empty:
        raise ValueError(f"no patient of split {split}")
    told = pd.DataFrame(
        {name: table.set_index("subject")["predicted"].reindex(truth.index) for name, table in answers.items()}
    )
    said = told.apply(lambda column: column.map({stage: place for place, stage in enumerate(stages)}))
    wrong = said.ne(truth, axis=0) & said.notna()
    order = pd.DataFrame({"stage": truth, "wrong": wrong.sum(axis=1)}).sort_values(["stage", "wrong"]).index
    shown = said.where(wrong, -1).where(said.notna(), -2).loc[order].T
    palette = [NOT_TOLD, RIGHT, *stages.colours]
    steps = [[(place + end) / len(palette), colour] for place, colour in enumerate(palette) for end in (0, 1)]
    words = {-2: "not told", -1: "right", **{place: f"told {stage}" for place, stage in enumerate(stages)}}
    hover = [
        [f"{subject}, {stages[truth[subject]]}: {words[int(value)]}" for subject, value in zip(order, row, strict=True)]
        for row in shown.to_numpy()
    ]
    names = [f"{name} ({int(wrong[name].sum())} wrong)" for name in shown.index]
    figure = go.Figure(
        go.Heatmap(
            z=shown.to_numpy(),
            y=names,
            text=hover,
            hovertemplate="%{text}<extra>%{y}</extra>",
            zmin=-2.5,
            zmax=len(stages) - 0.5,
            colorscale=steps,
            showscale=False,
            ygap=2,
            xgap=1 if len(order) < 200 else 0,
        )
    )
    for stage, colour in stages.colour.items():
        mark = {"symbol": "square", "size": 12, "color": colour}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=mark, name=f"wrongly told {stage}")
    _name_stages(figure, truth.loc[order].to_numpy(), stages)
    figure.update_xaxes(
        showgrid=False, showticklabels=False, ticks="", title={"text": "patients, by their true stage", "standoff": 26}
    )
    figure.update_yaxes(showgrid=False, autorange="reversed", ticks="")
    figure.update_layout(width=WIDTH + 120)
    return finish(figure, "Who gets whom wrong", simulated=simulated, height=190 + 24 * len(names))


def _name_stages(figure: go.Figure, truth: np.ndarray, stages: StageScale) -> None:
    """The true stage under its patients, and a line between two stages."""
    for place, stage in enumerate(stages):
        at = np.flatnonzero(truth == place)
        if not len(at):
            continue
        figure.add_annotation(
            x=float(at.mean()), y=0, yref="paper", yanchor="top", yshift=-2, text=stage, showarrow=False, font_color=INK
        )
        if at[0]:
            figure.add_vline(x=at[0] - 0.5, line_color=INK, line_width=1)


def importance_bars(table: pd.DataFrame, *, name: str, simulated: bool, most: int = 12) -> go.Figure:
    """What a classifier leans on; `table` as `cirrnb.measure.baselines.importance` returns."""
    shown = table.head(most).iloc[::-1]
    figure = go.Figure(
        go.Bar(
            x=shown["loss"],
            y=[f"{group} ({count})" if count > 1 else group for group, count in shown[["group", "features"]].values],
            orientation="h",
            marker_color=ACCENT,
            error_x={"type": "data", "array": shown["sd"], "thickness": 1.5, "color": INK},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="rise of the log loss when exchanged between patients (mean and spread)")
    figure.update_layout(width=WIDTH)
    return finish(figure, f"What {name} leans on", simulated=simulated, height=150 + 28 * len(shown))
