"""Stagers compared: each with its interval, paired differences, who gets whom wrong, and feature importance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.view.forest import WIDTH, finish_forest, forest, vertical_line
from cirrnb.view.palette import ACCENT, INK, MUTED
from cirrnb.view.theme import finish


def model_forest(
    tables: Mapping[str, pd.DataFrame], *, metric: str = "quadratic weighted kappa", simulated: bool
) -> go.Figure:
    """One metric of several stagers with its 95 % interval, and where chance, majority and ceiling stand.

    `tables` is name -> `Evaluation.table`, all for the same patients. Overlapping intervals do not show that two are
    alike: that is what `difference_forest` is for. Raises ValueError if there is no table or one has no such metric.
    """
    if not tables:
        raise ValueError("nothing to draw: no tables")
    rows = {}
    for name, table in tables.items():
        matches = table[table["metric"] == metric]
        if len(matches) != 1:
            raise ValueError(f"{name} has no {metric}; it has {', '.join(table['metric'])}")
        rows[name] = matches.iloc[0]
    joined = pd.DataFrame(rows).T
    figure = forest(joined["value"], joined["low"], joined["high"], list(joined.index), signed=False)
    marks = _marks(joined.iloc[0])
    for (value, names), dash in zip(marks.items(), ("dot", "dash", "solid"), strict=False):
        vertical_line(figure, value, f"{' and '.join(names)} {value:.2f}", dash)
    higher = bool(joined["higher_is_better"].iloc[0])
    shown = [*joined[["low", "value", "high"]].to_numpy(dtype=float).ravel(), *marks, 0.0, *([1.0] if higher else [])]
    room = 0.04 * float(np.nanmax(shown) - np.nanmin(shown))
    better = "higher is better" if higher else "lower is better"
    figure.update_xaxes(range=[np.nanmin(shown) - room, np.nanmax(shown) + room], title_text=f"{metric} ({better})")
    return finish_forest(figure, f"{metric[0].upper()}{metric[1:]}, 95 % intervals", len(joined), simulated=simulated)


def difference_forest(
    comparisons: pd.DataFrame, *, reference: str, metric: str = "quadratic weighted kappa", simulated: bool
) -> go.Figure:
    """By how much a stager is better than each of several others, on the same patients.

    `comparisons` as `cirrnb.evaluation.comparison.compare_all` returns. Right of zero the reference is better; an
    interval that leaves zero out says so with 95 % confidence, before the number of baselines is allowed for, which
    p (Holm) does. Raises ValueError if there is no row of the metric.
    """
    table = comparisons[comparisons["metric"] == metric]
    if table.empty:
        raise ValueError(f"no rows of {metric}")
    names = [
        f"{baseline}<br><span style='font-size:11px;color:{MUTED}'>p (Holm) {_p(p)}</span>"
        for baseline, p in zip(table["baseline"], table["p_holm"], strict=True)
    ]
    figure = forest(table["difference"], table["low"], table["high"], names, signed=True)
    vertical_line(figure, 0.0, None, "solid")
    shown = [*table[["difference", "low", "high"]].to_numpy(dtype=float).ravel(), -0.02, 0.02]
    room = 0.05 * float(np.nanmax(shown) - np.nanmin(shown))
    figure.update_xaxes(
        range=[np.nanmin(shown) - room, np.nanmax(shown) + room],
        title_text=f"difference in {metric}; right of 0 {reference} is better",
    )
    title = f"{reference} less each of the others, paired 95 % intervals"
    return finish_forest(figure, title, len(table), simulated=simulated)


def _marks(row: pd.Series) -> dict[float, list[str]]:
    """Where chance, majority and ceiling stand; equal ones share one line."""
    marks: dict[float, list[str]] = {}
    for name in ("chance", "majority", "ceiling"):
        if name in row and pd.notna(row[name]):
            marks.setdefault(round(float(row[name]), 2), []).append(name)
    return marks


def _p(value: float) -> str:
    if not np.isfinite(value):
        return "not defined"
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


RIGHT, NO_PREDICTION = "#F2F4F7", "#FFFFFF"


def mistakes(
    answers: Mapping[str, pd.DataFrame], *, split: str = "test", simulated: bool, stages: StageScale = CIRRHOSIS
) -> go.Figure:
    """Who gets whom wrong: a row for each baseline, a column for each patient.

    `answers` is name -> predictions (subject, split, stage, predicted), all of the same patients. Patients stand by
    their true stage, within it those first whom most get right. A mistake has the colour of the predicted stage.
    Raises ValueError if there is no patient of the split.
    """
    first = next(iter(answers.values()))
    truth = first[(first["split"] == split) & first["stage"].notna()].set_index("subject")["stage"].map(stages.index)
    if truth.empty:
        raise ValueError(f"no patient of split {split}")
    named = pd.DataFrame(
        {name: table.set_index("subject")["predicted"].reindex(truth.index) for name, table in answers.items()}
    )
    predicted = named.apply(lambda column: column.map({stage: place for place, stage in enumerate(stages)}))
    wrong = predicted.ne(truth, axis=0) & predicted.notna()
    order = pd.DataFrame({"stage": truth, "wrong": wrong.sum(axis=1)}).sort_values(["stage", "wrong"]).index
    shown = predicted.where(wrong, -1).where(predicted.notna(), -2).loc[order].T
    palette = [NO_PREDICTION, RIGHT, *stages.colours]
    steps = [[(place + end) / len(palette), colour] for place, colour in enumerate(palette) for end in (0, 1)]
    words = {-2: "no prediction", -1: "right", **{place: f"predicted {stage}" for place, stage in enumerate(stages)}}
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
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=mark, name=f"wrongly {stage}")
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
