"""Differences from the baseline handed back layer by layer; refused where the network's layers do not allow it."""

from __future__ import annotations

import warnings

import torch
from captum.attr import DeepLift

from cirrnb.data.errors import InputError
from cirrnb.explanation.methods import Attributed, Request, attribution_method
from cirrnb.explanation.score import PatientScore
from cirrnb.model.network.stager import Stager

TOLERATED = 0.05
"""Largest part of the score's difference that may be unaccounted for."""


@attribution_method(
    name="deep_lift",
    label="DeepLift",
    signed=True,
    compares=True,
    passes=lambda settings, shape: 4,
    source="Shrikumar, Greenside and Kundaje, Learning important features through propagating activation differences, "
    "ICML 2017",
)
def _run(request: Request) -> Attributed:
    baseline = request.baseline
    assert baseline is not None
    found = [_one(request.score, stager, baseline[:1]) for stager in request.score.members]
    maps, delta = torch.stack([one for one, _ in found]).mean(dim=0), sum(one for _, one in found) / len(found)
    with torch.no_grad():
        apart = float(request.score(request.score.slices)[0] - request.score(baseline[:1])[0])
    if not abs(delta) <= TOLERATED * abs(apart):  # a sum that is no number misses too
        raise InputError(
            "method 'deep_lift'",
            f"a sum that misses the score's difference of {apart:.3g} by {delta:.3g}",
            f"at most {TOLERATED:.0%}",
            "This network has layers that DeepLift's rules do not cover (attention, gates). "
            "Choose integrated_gradients.",
        )
    return Attributed(maps, delta)


def _one(score: PatientScore, stager: Stager, baseline: torch.Tensor) -> tuple[torch.Tensor, float]:
    alone = PatientScore([stager], score.batch, score.target, score.tick, chunk=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that hooks are set and removed
        maps, delta = DeepLift(alone).attribute(score.slices, baseline, return_convergence_delta=True)
    return maps[0].detach().float(), float(delta[0])
