"""Figures of explanations: maps on slices, Shapley values of slices and sequences, faithfulness of the maps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots
from scipy.ndimage import gaussian_filter

from cirrnb.data.bag import Bag
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.explanation.control_maps import beats_controls
from cirrnb.explanation.explanation import Explanation
from cirrnb.view.palette import ACCENT, INK, MUTED
from cirrnb.view.slices import Slice, montage
from cirrnb.view.theme import finish, sequence_colours

SMOOTHING = 3.0
"""mm, standard deviation by which a map is smoothed within the slice before it is shown."""

STRONGEST = 99.5
"""Percentile of a map's size that gets the full colour, the same on all slices of a figure."""


def attribution_montage(bag: Bag, explanation: Explanation, *, count: int = 3) -> go.Figure:
    """The slices that count most, as they are and with the map on them, a pair of rows for each sequence.

    Orange speaks for the score that is explained, violet against it; a method without signs shows in orange where it
    is above its own median. The number on a slice is the slice's share of the score, with the sampling error, in
    log-odds.
    """
    rows = slices_that_count(bag, explanation, count=count)
    return montage(rows, simulated=explanation.simulated, title=f"{explanation.label}: {colours(explanation)}")


def colours(explanation: Explanation) -> str:
    """What the colours of a map mean."""
    if explanation.signed:
        return f"what speaks for {explanation.target} (orange) and against it (violet)"
    return "where it is more than usual (orange)"


def slices_that_count(
    bag: Bag, explanation: Explanation, *, count: int = 3, windows: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, list[Slice | None]]:
    """The slices with the largest Shapley values, from the head down: for each sequence a row as they are, and one with
    the map and the Shapley value on them. `windows` are intensities that become black and white, 0 and 1 by
    default."""
    rows: dict[str, list[Slice | None]] = {}
    maps = drawn(explanation).maps
    for sequence in explanation.maps:
        prepared, window = bag.scans[sequence], (windows or {}).get(sequence, (0.0, 1.0))
        shares, errors = explanation.shapley.slices[sequence], explanation.shapley.errors[sequence]
        chosen = np.sort(np.argsort(-np.abs(shares), kind="stable")[:count])[::-1]  # from the head down
        plain: list[Slice | None] = [None] * count
        over: list[Slice | None] = [None] * count
        for place, index in enumerate(chosen):
            image = np.asarray(prepared.image[index], dtype=np.float32)
            spacing, height = prepared.grid.spacing[1:], float(prepared.positions[index])
            plain[place] = Slice(image, spacing, height, window=window)
            share_text = f"{shares[index]:+.2f} ± {errors[index]:.2f}"
            over[place] = Slice(
                image, spacing, height, overlay=maps[sequence][index], caption=share_text, window=window
            )
        rows[sequence], rows[f"{sequence}, why"] = plain, over
    return rows


@dataclass(frozen=True, eq=False)
class Drawn:
    """Maps as they are drawn: sequence -> (slices, rows, columns) from -1 (or 0, without signs) to 1, and what 1 stands
    for, in units of the score a pixel."""

    maps: Mapping[str, NDArray[np.float32]]
    limit: float


def drawn(explanation: Explanation) -> Drawn:
    """The maps smoothed, the strongest half percent of pixels at -1 or 1; those without signs from their median up."""
    smooth = {}
    for name, array in explanation.maps.items():
        width = SMOOTHING / explanation.grids[name].spacing[1]
        smooth[name] = gaussian_filter(np.asarray(array, dtype=np.float32), (0, width, width))
    every = np.concatenate([array.ravel() for array in smooth.values()])
    ground = 0.0 if explanation.signed else float(np.median(every))
    limit = max(float(np.percentile(np.abs(every - ground), STRONGEST)), 1e-12)
    least = -1.0 if explanation.signed else 0.0
    return Drawn({name: np.clip((array - ground) / limit, least, 1) for name, array in smooth.items()}, limit)


def share_profile(bag: Bag, explanation: Explanation) -> go.Figure:
    """What each slice adds to the score, by height in the body, beside how much attention the stager paid to it."""
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.05, column_widths=[0.6, 0.4])
    palette = sequence_colours(explanation.shapley.slices)
    for name, shares in explanation.shapley.slices.items():
        heights, colour = bag.scans[name].positions, palette[name]
        figure.add_scatter(
            x=shares,
            y=heights,
            name=f"{name}: {explanation.shapley.sequences[name]:+.2f} in all",
            mode="lines+markers",
            line={"color": colour, "width": 1.5},
            marker={"size": 6},
            error_x={"array": explanation.shapley.errors[name], "thickness": 1, "width": 0, "color": colour},
            hovertemplate="%{y:.0f} mm: %{x:+.2f} log-odds<extra></extra>",
            row=1,
            col=1,
        )
        figure.add_scatter(
            x=100 * explanation.shapley.weights[name],
            y=heights,
            showlegend=False,
            mode="lines",
            line={"color": colour, "width": 1.5},
            hovertemplate="%{y:.0f} mm: %{x:.1f} %<extra></extra>",
            row=1,
            col=2,
        )
    figure.add_vline(x=0, line={"color": MUTED, "width": 1}, row=1, col=1)
    figure.update_xaxes(title_text=f"share of {explanation.target} (log-odds)", row=1, col=1)
    figure.update_xaxes(title_text="attention (%)", rangemode="tozero", row=1, col=2)
    figure.update_yaxes(title_text="height, towards the head (mm)", row=1, col=1)
    title = f"What each slice adds to {explanation.score:+.2f}, from {explanation.shapley.nothing:+.2f} for none"
    return finish(figure, title, simulated=explanation.simulated, height=440)


def faithfulness_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Several explanations' `faithfulness` side by side: measure, which way is good, and for each method its value,
    with an asterisk where it is better than all of its own control maps."""
    first = next(iter(tables.values()))
    joined = pd.DataFrame({"measure": first["measure"], "better": first["better"]})
    for name, table in tables.items():
        joined[name] = [_faithfulness_cell(row) for row in table.to_dict("records")]
    return joined


def _faithfulness_cell(row: dict[Hashable, Any]) -> str:
    return "undefined" if np.isnan(row["value"]) else f"{row['value']:.2f}{'*' if beats_controls(row) else ''}"


def sum_table(explanations: Mapping[str, Explanation]) -> pd.DataFrame:
    """Whether the maps add up to what they explain: score, that of the baseline, the map's sum, and what it misses."""
    rows = []
    for name, explanation in explanations.items():
        missed = explanation.relative_delta
        rows.append(
            {
                "method": name,
                "score": explanation.score,
                "baseline": explanation.baseline_score if explanation.baseline else np.nan,
                "sum of the map": sum(float(part.sum()) for part in explanation.maps.values())
                if explanation.signed
                else np.nan,
                "missed": "no sum promised" if missed is None else f"{missed:.1%}",
            }
        )
    return pd.DataFrame(rows)


def sign_figure(effects: pd.DataFrame, attributed: pd.DataFrame, *, method: str, simulated: bool) -> go.Figure:
    """What taking a sign away does to the score, beside what a method attributes to the sign's own voxels.

    `effects` as `sign_effects` returns, `attributed` as `attributed_to_signs`. The two need not be equal, since a
    method speaks of pixels and a sign of many at once; a sign without effect should get nothing.
    """
    both = effects.merge(attributed, on="sign").sort_values("effect")
    figure = go.Figure()
    for column, name, colour in (
        ("effect", "effect of taking the sign away", INK),
        ("attributed", f"attributed by {method}", ACCENT),
    ):
        figure.add_bar(y=both["sign"], x=both[column], name=name, orientation="h", marker={"color": colour})
    figure.update_xaxes(title_text="log-odds")
    title = "What the stager uses of each sign, and what is attributed to it"
    return finish(figure, title, simulated=simulated, height=120 + 44 * max(len(both), 1))


def stage_signs_figure(
    table: pd.DataFrame, *, method: str, simulated: bool, stages: StageScale = CIRRHOSIS
) -> go.Figure:
    """What a stager uses of each sign in each stage, beside what a method attributes to the sign's voxels.

    `table` as `cirrnb.explanation.localisation.signs_by_stage` returns, one panel a stage, all of one scale; how many
    patients show the sign stands behind its name. Raises ValueError if there is no row.
    """
    if table.empty:
        raise ValueError("nothing to draw: no patient shows a sign")
    shown = [stage for stage in stages if (table["stage"] == stage).any()]
    figure = make_subplots(
        1,
        len(shown),
        shared_xaxes="all",
        horizontal_spacing=0.16,
        subplot_titles=[f"{stage} patients" for stage in shown],
    )
    for place, stage in enumerate(shown, start=1):
        of_stage = table[table["stage"] == stage].sort_values("effect")
        names = [f"{row.sign} ({row.patients})" for row in of_stage.itertuples()]
        for column, name, colour in (
            ("effect", "effect on the score", INK),
            ("attributed", f"attributed by {method}", ACCENT),
        ):
            bars = {"y": names, "x": of_stage[column], "name": name, "orientation": "h", "marker": {"color": colour}}
            figure.add_bar(**bars, legendgroup=name, showlegend=place == 1, row=1, col=place)
    figure.update_xaxes(title_text="log-odds", matches="x")
    rows = int(table.groupby("stage").size().max())
    figure.update_layout(width=340 * len(shown) + 120)
    title = "What the stager uses, by stage (patients in brackets)"
    finish(figure, title, simulated=simulated, height=230 + 40 * rows)
    return figure.update_layout(legend={"y": -72 / (40 * rows + 80), "yanchor": "top"}, margin={"t": 82, "b": 96})


def localisation_table(tables: Mapping[str, pd.DataFrame], used: Sequence[str]) -> pd.DataFrame:
    """How well each method's map finds each sign (AUROC, 0.5 is chance), the signs that the stager uses marked."""
    rows = {name: table.set_index("sign")["auroc"] for name, table in tables.items()}
    table = pd.DataFrame(rows)
    table.insert(0, "used", ["yes" if sign in used else "" for sign in table.index])
    return table.round(2).rename_axis("sign").reset_index()


def side_by_side(columns: Mapping[str, pd.Series] | pd.DataFrame) -> pd.DataFrame:
    """Columns with one index as a table to read, the index in front."""
    return pd.DataFrame(columns if isinstance(columns, pd.DataFrame) else dict(columns)).reset_index()


def plain_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table to read: its first column names the rows, numbers have two decimals, and what is unknown is empty."""
    named = table.set_index(pd.Index(table.iloc[:, 0].astype(str).to_list())).iloc[:, 1:]
    return named.round(2).astype(object).where(named.notna(), "")
