"""Where a patient stands among those the stager learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import pandas as pd

from cirrnb.data.prepared import Bag
from cirrnb.model.prediction import Prediction
from cirrnb.model.trained import TrainedModel
from cirrnb.view.piece import Piece
from cirrnb.view.theme import GRID, INK, MUTED, SIMULATED


def severity(probabilities: Mapping[str, float]) -> float:
    """The stage to be expected, from 0 (surely mild) over 1 (moderate) to 2 (surely severe).

    `probabilities` are stage -> probability, in order.
    """
    return float(sum(place * value for place, value in enumerate(probabilities.values())))


def with_severity(answers: pd.DataFrame | None) -> pd.DataFrame | None:
    """Answers (stage, and a probability for each stage, in order) with a column severity; None stays None."""
    if answers is None or answers.empty:
        return None
    return answers.assign(
        severity=sum(place * answers[stage] for place, stage in enumerate(name for name in answers if name != "stage"))
    )


_WIDTH, _ROW, _LEFT, _TOP = 720, 46, 150, 26


def standing_figure(training: pd.DataFrame, said: Prediction, *, simulated: bool) -> Piece:
    """Training patients by recorded stage and expected one, and a line where this patient is.

    `training` as `with_severity` returns it. A drawing that needs no script, so that it prints as it stands.
    """
    here, stages = severity(said.probabilities), said.stages
    last = len(stages) - 1
    at = _x(here, last)
    height = _TOP + _ROW * len(stages) + 40
    parts = []
    for place, (stage, colour) in enumerate(stages.colour.items()):
        values = np.sort(training.loc[training["stage"] == stage, "severity"].to_numpy(dtype=float))
        middle = _TOP + _ROW * (place + 0.5)
        parts.append(_text(0, middle + 5, f"{stage} ({len(values)})"))
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{middle}" y2="{middle}" stroke="{GRID}"/>')
        for number, value in enumerate(values):
            # Spread by their order, so that patients alike do not hide one another, the same way every time.
            y = middle + 0.64 * _ROW * (number * 0.618 % 1 - 0.5)
            parts.append(f'<circle cx="{_x(value, last):.1f}" cy="{y:.1f}" r="3.2" fill="{colour}" opacity="0.75"/>')
    bottom = _TOP + _ROW * len(stages)
    parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 6}" y2="{bottom}" stroke="{INK}" stroke-width="2"/>')
    near = "end" if here > last - 0.5 else "start" if here < 0.5 else "middle"
    parts.append(_text(at, _TOP - 11, "this patient", near, bold=True))
    parts += [_text(_x(place, last), bottom + 18, stage, "middle") for place, stage in enumerate(stages)]
    words = "recorded stage (patients), by the stage to be expected from the answer"
    parts.append(_text(0, bottom + 36, words + (f"; {SIMULATED}" if simulated else "")))
    told = f"Training patients by recorded and expected stage; this patient is expected at {here:.2f}"
    drawing = (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{told}" '
        f'style="max-width:{_WIDTH}px;width:100%">{"".join(parts)}</svg>'
    )
    return Piece(drawing, "standing")


def _x(value: float, last: int) -> float:
    return _LEFT + 30 + (_WIDTH - _LEFT - 60) * value / last


def _text(x: float, y: float, words: str, anchor: str = "start", *, bold: bool = False) -> str:
    weight, colour = ("600", INK) if bold else ("400", MUTED)
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="13" font-weight="{weight}" '
        f'fill="{colour}">{escape(words)}</text>'
    )


def standing(training: pd.DataFrame | None, said: Prediction, model: TrainedModel, bag: Bag, how: str) -> Piece:
    """The same in words, and how much the patient's scans look like those in training.

    `how` says how the training patients were asked.
    """
    here, lines = severity(said.probabilities), []
    numbered = ", ".join(f"{place} {stage}" for place, stage in enumerate(said.stages))
    used = {name: bag.scans[name] for name in said.sequence_weights}
    distances = model.familiarity.distances(used) if model.familiarity else {}
    if training is not None:
        parts = []
        for stage in said.stages:
            values = training.loc[training["stage"] == stage, "severity"]
            if len(values):
                parts.append(f"{int((values < here).sum())} of {len(values)} recorded as {stage}")
        lines.append(
            f"The expected stage is {here:.2f} ({numbered}). Of the training patients there lie "
            f"below it {', '.join(parts)}. {how}"
        )
    else:
        lines.append(
            f"The expected stage is {here:.2f} ({numbered}). The model keeps no answers of "
            "its training patients to compare it with."
        )
    for name, distance in distances.items():
        judged = "looks like the training scans" if distance <= 1 else "looks unlike the training scans"
        lines.append(f"{name} {judged}: {distance:.2f} of the largest usual distance.")
    if not distances:
        lines.append("The model does not know what its training scans looked like.")
    return Piece("".join(f"<p>{escape(line)}</p>" for line in lines), "standing")
