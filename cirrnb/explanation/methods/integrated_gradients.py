"""Gradients added up on the straight way from the baseline to the patient."""

from __future__ import annotations

import torch
from captum.attr import IntegratedGradients

from cirrnb.explanation.methods import Attributed, Request, attribution_method


@attribution_method(
    name="integrated_gradients",
    label="Integrated gradients",
    signed=True,
    compares=True,
    several=True,
    settings={"steps": 32},
    quick={"steps": 8},
    passes=lambda settings, shape: int(settings["steps"]) + 2,
    source="Sundararajan, Taly and Yan, Axiomatic attribution for deep networks, ICML 2017",
)
def _run(request: Request) -> Attributed:
    score, baseline = request.score, request.baseline
    assert baseline is not None
    found = [_one(score, one[None], int(request.settings["steps"])) for one in baseline]
    return Attributed(
        torch.stack([maps for maps, _ in found]).mean(dim=0), sum(delta for _, delta in found) / len(found)
    )


def _one(score: torch.nn.Module, baseline: torch.Tensor, steps: int) -> tuple[torch.Tensor, float]:
    maps, delta = IntegratedGradients(score).attribute(
        score.slices,
        baseline,
        n_steps=steps,
        # A patient is one example: one step at a time, and the score's own chunks bound the memory.
        internal_batch_size=1,
        return_convergence_delta=True,
    )
    return maps[0].float(), float(delta[0])
