"""Signs as a prediction tells them: strengths with intervals, and the stage that they alone give."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from cirrnb.data.errors import InputError
from cirrnb.model.signs import SignReading, visible
from cirrnb.model.stager import Staging
from cirrnb.model.trained_model import TrainedModel


def changed_strengths(trained: TrainedModel, signs: Mapping[str, float]) -> torch.Tensor | None:
    """(1, signs) log-odds of strengths that take the place of those seen, NaN elsewhere; None where none does.

    Raises InputError for a sign that the model does not have, or a strength outside 0 to 1.
    """
    names = trained.signs
    for name, strength in signs.items():
        if name not in names:
            known = f"one of {', '.join(names)}" if names else "a model with sign outputs"
            raise InputError("signs", repr(name), known, "Correct it.")
        if not 0 <= strength <= 1:
            raise InputError("signs", f"{name} {strength!r}", "a strength from 0 to 1", "Correct it.")
    wanted = torch.tensor([[signs.get(name, float("nan")) for name in names]])
    return torch.logit(wanted, eps=1e-3) if signs else None


def own_strengths(trained: TrainedModel, answers: Sequence[Staging]) -> dict[str, float]:
    """Sign -> strength, of the signs that the stagers read themselves in a model with a sign reader."""
    log_odds = [answer.signs[0] for answer in answers if answer.signs is not None]
    strengths = torch.stack(log_odds).double().sigmoid().mean(dim=0) if trained.own_signs else torch.zeros(0)
    return {name: float(strengths[trained.signs.index(name)]) for name in trained.own_signs}


def summarise_signs(
    trained: TrainedModel,
    answers: Sequence[Staging],
    sequences: tuple[str, ...],
    measured: Collection[str] = (),
    not_measured: Collection[str] = (),
) -> dict[str, Any]:
    """The fields `signs`, `signs_unknown` and `stage_by_signs` of a prediction, averaged over networks.

    Empty for networks without sign outputs. `sequences` are the patient's sequences that were used, `measured` the
    signs whose strengths were measured, `not_measured` the signs that cannot be measured on this patient's scans; these
    are unknown.
    """
    names = trained.signs
    log_odds = [answer.signs[0] for answer in answers if answer.signs is not None]
    alone = [answer.signs_log_probabilities[0] for answer in answers if answer.signs_log_probabilities is not None]
    if not names or len(log_odds) < len(answers):
        return {}
    strengths = torch.stack(log_odds).double().sigmoid().mean(dim=0).tolist()
    intervals = trained.sign_intervals
    readings = tuple(
        replace(
            intervals.reading(name, strength) if intervals else SignReading(name, strength), measured=name in measured
        )
        for name, strength, is_visible in zip(names, strengths, visible(names, sequences), strict=True)
        if is_visible and name not in not_measured
    )
    by_signs = torch.stack(alone).double().softmax(dim=1).mean(dim=0).tolist()
    unknown = sorted(set(names) - {reading.name for reading in readings})
    by_stage = dict(zip(trained.stages, by_signs, strict=True))
    return {"signs": readings, "signs_unknown": tuple(unknown), "stage_by_signs": by_stage}
