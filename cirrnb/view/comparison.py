"""Stagers beside one another: each with its interval, and by how much one is better than the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cirrnb.view.forest import finish_forest, forest, upright, words
from cirrnb.view.theme import MUTED


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
        found = table[table["metric"] == metric]
        if len(found) != 1:
            raise ValueError(f"{name} has no {metric}; it has {', '.join(table['metric'])}")
        rows[name] = found.iloc[0]
    told = pd.DataFrame(rows).T
    figure = forest(told["value"], told["low"], told["high"], list(told.index), signed=False)
    marks = _marks(told.iloc[0])
    for (value, names), dash in zip(marks.items(), ("dot", "dash", "solid"), strict=False):
        upright(figure, value, f"{' and '.join(names)} {value:.2f}", dash)
    higher = bool(told["higher_is_better"].iloc[0])
    shown = [*told[["low", "value", "high"]].to_numpy(dtype=float).ravel(), *marks, 0.0, *([1.0] if higher else [])]
    room = 0.04 * float(np.nanmax(shown) - np.nanmin(shown))
    better = "higher is better" if higher else "lower is better"
    figure.update_xaxes(range=[np.nanmin(shown) - room, np.nanmax(shown) + room], title_text=f"{metric} ({better})")
    return finish_forest(figure, f"{metric[0].upper()}{metric[1:]}, 95 % intervals", len(told), simulated=simulated)


def difference_forest(
    comparisons: pd.DataFrame, *, reference: str, metric: str = "quadratic weighted kappa", simulated: bool
) -> go.Figure:
    """By how much a stager is better than each of several others, on the same patients.

    `comparisons` as `cirrnb.evaluation.comparison.compare_all` returns. Right of zero the reference is better; an
    interval that leaves zero out says so with 95 % confidence, before the number of baselines is allowed for, which
    p (Holm) does. Raises ValueError if there is no row of the metric.
    """
    told = comparisons[comparisons["metric"] == metric]
    if told.empty:
        raise ValueError(f"no rows of {metric}")
    names = [
        f"{baseline}<br><span style='font-size:11px;color:{MUTED}'>p (Holm) {_p(p)}</span>"
        for baseline, p in zip(told["baseline"], told["p_holm"], strict=True)
    ]
    figure = forest(told["difference"], told["low"], told["high"], names, signed=True)
    upright(figure, 0.0, None, "solid")
    shown = [*told[["difference", "low", "high"]].to_numpy(dtype=float).ravel(), -0.02, 0.02]
    room = 0.05 * float(np.nanmax(shown) - np.nanmin(shown))
    figure.update_xaxes(
        range=[np.nanmin(shown) - room, np.nanmax(shown) + room],
        title_text=f"difference in {metric}; right of 0 {reference} is better",
    )
    title = f"{reference} less each of the others, paired 95 % intervals"
    return finish_forest(figure, title, len(told), simulated=simulated)


def difference_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """All paired differences as a table to read; `comparisons` as `compare_all` returns."""
    limits = comparisons[["difference", "low", "high"]].to_numpy(dtype=float)
    return pd.DataFrame(
        {
            "metric": comparisons["metric"],
            "difference (95 % interval)": [words(*row, signed=True) for row in limits],
            "p": comparisons["p"].map(_p),
            "p (Holm)": comparisons["p_holm"].map(_p),
            "test": comparisons["test"],
            "patients": comparisons["n"],
        }
    ).set_index(pd.Index(comparisons["baseline"].to_list()))


def _marks(row: pd.Series) -> dict[float, list[str]]:
    """Where chance, majority and ceiling stand; those that cannot be told apart share one line."""
    marks: dict[float, list[str]] = {}
    for name in ("chance", "majority", "ceiling"):
        if name in row and pd.notna(row[name]):
            marks.setdefault(round(float(row[name]), 2), []).append(name)
    return marks


def _p(value: float) -> str:
    if not np.isfinite(value):
        return "not defined"
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
