"""Where a patient stands among those the stager learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cirrnb.data.prepared import Bag
from cirrnb.data.scan import STAGES
from cirrnb.model.prediction import Prediction
from cirrnb.model.trained import TrainedModel
from cirrnb.view.piece import Piece
from cirrnb.view.theme import INK, STAGE_COLOURS, finish


def severity(probabilities: Mapping[str, float]) -> float:
    """The stage to be expected, from 0 (surely mild) over 1 (moderate) to 2 (surely severe)."""
    return float(sum(place * probabilities[stage] for place, stage in enumerate(STAGES)))


def with_severity(answers: pd.DataFrame | None) -> pd.DataFrame | None:
    """Answers (stage, mild, moderate, severe) with a column severity; None stays None."""
    if answers is None or answers.empty:
        return None
    return answers.assign(severity=sum(place * answers[stage] for place, stage in enumerate(STAGES)))


def standing_figure(training: pd.DataFrame, said: Prediction, *, simulated: bool) -> go.Figure:
    """Training patients by recorded stage and expected one, and a line where this patient is.

    `training` as `with_severity` returns it.
    """
    here = severity(said.probabilities)
    figure = go.Figure()
    for place, stage in enumerate(STAGES):
        values = np.sort(training.loc[training["stage"] == stage, "severity"].to_numpy(dtype=float))
        # Spread by their order, so that patients alike do not hide one another, the same way every time.
        spread = 0.28 * (np.arange(len(values)) * 0.618 % 1 - 0.5) * 2
        figure.add_scatter(
            x=values,
            y=place + spread,
            mode="markers",
            showlegend=False,
            marker={"size": 6, "color": STAGE_COLOURS[stage], "opacity": 0.75},
            hovertemplate=f"recorded {stage}, expected %{{x:.2f}}<extra></extra>",
        )
    figure.add_vline(x=here, line={"color": INK, "width": 2})
    figure.add_annotation(
        x=here, y=1, yref="paper", yanchor="bottom", text="<b>this patient</b>", showarrow=False, font={"color": INK}
    )
    names = [f"{stage} ({int((training['stage'] == stage).sum())})" for stage in STAGES]
    figure.update_xaxes(
        range=[-0.06, 2.06], tickvals=[0, 1, 2], ticktext=["mild", "moderate", "severe"], title_text="expected stage"
    )
    figure.update_yaxes(
        range=[-0.5, 2.5], tickvals=[0, 1, 2], ticktext=names, showgrid=False, title_text="recorded stage (patients)"
    )
    figure.update_layout(margin={"t": 76})
    return finish(figure, "Among the patients the stager learnt from", simulated=simulated, height=300)


def standing(training: pd.DataFrame | None, said: Prediction, model: TrainedModel, bag: Bag, how: str) -> Piece:
    """The same in words, and how much the patient's scans look like those in training.

    `how` says how the training patients were asked.
    """
    here, lines = severity(said.probabilities), []
    used = {name: bag.scans[name] for name in said.sequence_weights}
    distances = model.familiarity.distances(used) if model.familiarity else {}
    if training is not None:
        parts = []
        for stage in STAGES:
            values = training.loc[training["stage"] == stage, "severity"]
            if len(values):
                parts.append(f"{int((values < here).sum())} of {len(values)} recorded as {stage}")
        lines.append(
            f"The expected stage is {here:.2f} (0 mild, 1 moderate, 2 severe). Of the training patients lie below it: "
            f"{', '.join(parts)}. {how}"
        )
    else:
        lines.append(
            f"The expected stage is {here:.2f} (0 mild, 1 moderate, 2 severe). The model keeps no answers of "
            "its training patients to compare it with."
        )
    for name, distance in distances.items():
        judged = "looks like the training scans" if distance <= 1 else "looks unlike the training scans"
        lines.append(f"{name} {judged}: {distance:.2f} of the largest usual distance.")
    if not distances:
        lines.append("The model does not know what its training scans looked like.")
    return Piece("".join(f"<p>{escape(line)}</p>" for line in lines), "standing")
