"""How a stager was trained and how good it is: learning curve, confusion matrix, metrics with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.view.forest import error_bars, interval_text
from cirrnb.view.palette import ACCENT, GRID, INK, MUTED
from cirrnb.view.theme import finish

_LINES = (("train", "training patients", MUTED, "dot"), ("valid", "validation patients", ACCENT, "solid"))
_PANELS = (("loss", "cross-entropy"), ("kappa", "quadratic weighted kappa"))


def learning_curve(history: pd.DataFrame, *, simulated: bool) -> go.Figure:
    """Loss and quadratic weighted kappa after each epoch.

    `history` has one row an epoch with the columns epoch, train_loss, valid_loss, train_kappa and valid_kappa, as
    history.csv of a run; columns without numbers (no validation patients) are excluded.
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


HEADLINE = ("quadratic weighted kappa", "accuracy", "balanced accuracy")
"""What is shown first: all three are 1 for a perfect stager."""

_WHITE_TO_ACCENT = [[0, "#FFFFFF"], [1, ACCENT]]


def confusion_matrix(counts: ArrayLike, *, simulated: bool, stages: StageScale = CIRRHOSIS) -> go.Figure:
    """How many patients of each stage were given which stage, with the share of the true stage.

    `counts` is (stages, stages), rows the radiologist's stage, columns the predicted one, in the order of the scale.
    Raises ValueError for another shape.
    """
    matrix = np.asarray(counts, dtype=int)
    if matrix.shape != (len(stages), len(stages)):
        raise ValueError(f"a confusion matrix of {len(stages)} stages is square, not {matrix.shape}")
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(100 * matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    cells = [
        [f"<b>{count}</b><br>{part:.0f} %" if total else "" for count, part in zip(row, parts, strict=True)]
        for row, parts, total in zip(matrix, share, totals[:, 0], strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=share,
            x=list(stages),
            y=[f"{stage}<br>n = {total}" for stage, total in zip(stages, totals[:, 0], strict=True)],
            text=cells,
            texttemplate="%{text}",
            textfont={"size": 15},
            zmin=0,
            zmax=100,
            colorscale=_WHITE_TO_ACCENT,
            xgap=3,
            ygap=3,
            showscale=False,
            hovertemplate="%{y}, predicted %{x}: %{text}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="predicted stage", showgrid=False, showline=False, ticks="")
    figure.update_yaxes(
        title_text="radiologist's stage", showgrid=False, showline=False, ticks="", autorange="reversed"
    )
    title = "Patients, and their share of the true stage"
    return finish(figure, title, simulated=simulated, height=420).update_layout(width=640, plot_bgcolor=GRID)


def metric_forest(metrics: pd.DataFrame, *, simulated: bool) -> go.Figure:
    """Each metric with its interval, and where chance, the majority stage and the ceiling would stand.

    `metrics` has one row a metric with the columns metric, value, low, high, chance, majority and perhaps ceiling, as
    `Evaluation.table`; the metrics of `HEADLINE` are shown.
    """
    table = metrics[metrics["metric"].isin(HEADLINE) & metrics["value"].notna()]
    figure = go.Figure()
    for column, symbol, name in (
        ("chance", "line-ns", "chance"),
        ("majority", "x-thin", "majority stage"),
        ("ceiling", "diamond-open", "ceiling, where known"),
    ):
        if column not in table or table[column].isna().all():
            continue
        figure.add_scatter(
            x=table[column],
            y=table["metric"],
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 15, "color": MUTED, "line": {"width": 2, "color": MUTED}},
            hovertemplate=f"%{{y}}, {name}: %{{x:.2f}}<extra></extra>",
        )
    figure.add_scatter(
        x=table["value"],
        y=table["metric"],
        mode="markers+text",
        name="stager, 95 % interval",
        text=[interval_text(*row) for row in table[["value", "low", "high"]].to_numpy(dtype=float)],
        textposition="top center",
        textfont={"size": 13, "color": INK},
        marker={"size": 12, "color": ACCENT},
        error_x=error_bars(table["low"], table["value"], table["high"]),
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    lowest = min(0.0, float(table[["low", "chance", "majority"]].min().min()))
    figure.update_xaxes(range=[lowest - 0.04, 1.04], dtick=0.2, title_text="1 is perfect")
    figure.update_yaxes(range=[len(table) - 0.5, -0.6], showgrid=False)
    return finish(figure, "How good it is on test patients", simulated=simulated, height=150 + 80 * len(table))


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""


def metric_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """All metrics with interval, chance and majority, as a table to read; `metrics` as `Evaluation.table`."""
    better = metrics["higher_is_better"].map({True: "higher", False: "lower"})
    values = metrics[["value", "low", "high"]].to_numpy(dtype=float)
    ceiling = metrics.get("ceiling", pd.Series(np.nan, index=metrics.index))
    return pd.DataFrame(
        {
            "value (95 % interval)": [interval_text(*row) for row in values],
            "chance": metrics["chance"].map(_number),
            "majority": metrics["majority"].map(_number),
            **({"ceiling": ceiling.map(_number)} if ceiling.notna().any() else {}),
            "better is": better,
            "counted over": metrics["n"],
        }
    ).set_index(pd.Index(metrics["metric"].to_list()))


def mistaken_patients(predictions: pd.DataFrame, stages: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """The patients given another stage than the radiologist's, worst first, as a table to read.

    `predictions` has one row a patient, as `cirrnb.predict` returns; `stages` is the scale.
    """
    staged = predictions.dropna(subset=["stage", "predicted"])
    wrong = staged[staged["stage"] != staged["predicted"]].copy()
    wrong["off by"] = (wrong["predicted"].map(stages.index) - wrong["stage"].map(stages.index)).abs()
    wrong["sure"] = [float(row[row["predicted"]]) for _, row in wrong.iterrows()]
    wrong = wrong.sort_values(["off by", "sure"], ascending=False)
    shown = wrong[["subject", "stage", "predicted", "off by", *stages, "sequences"]].rename(
        columns={"stage": "radiologist's stage", **{stage: f"p({stage})" for stage in stages}}
    )
    return shown.set_index("subject").rename_axis(None).round(2)


def group_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The headline metrics of each group of patients as a table to read.

    `rows` as `cirrnb.evaluation.evaluation.by_group` returns; empty if no group has two patients.
    """
    shown = {}
    for group, part in rows.groupby("group", sort=False):
        by_metric = part.set_index("metric")
        values = by_metric.loc[list(HEADLINE), ["value", "low", "high"]].to_numpy(dtype=float)
        shown[group] = {"patients": by_metric.loc["accuracy", "n"]} | {
            name: interval_text(*row) for name, row in zip(HEADLINE, values, strict=True)
        }
    return pd.DataFrame.from_dict(shown, orient="index", columns=["patients", *HEADLINE])


def published_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy here and in the reference paper as a table to read; `rows` as `beside_published` returns."""
    limits = rows[["accuracy", "low", "high"]].to_numpy(dtype=float)
    return pd.DataFrame(
        {
            "accuracy (95 % interval)": [
                f"{100 * value:.1f} %" + (f" ({100 * low:.0f} to {100 * high:.0f})" if np.isfinite(low) else "")
                for value, low, high in limits
            ],
            "majority": [f"{100 * value:.1f} %" for value in rows["majority"].to_numpy(dtype=float)],
            "counted by": rows["counted"],
            "n": rows["n"],
            "patients": rows["patients"],
            "comparable with the paper": rows["comparable"],
        }
    ).set_index(pd.Index(rows["who"].to_list()))
