"""Expected gradients: at random places on the ways from random baselines to the patient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from captum.attr import GradientShap

from cirrnb.explanation.methods import Attributed, Request, attribution_method


@attribution_method(
    name="gradient_shap",
    label="Expected gradients (GradientShap)",
    signed=True,
    compares=True,
    several=True,
    settings={"samples": 32, "noise": 0.05},
    quick={"samples": 8},
    passes=lambda settings, shape: 3 * int(settings["samples"]),
    source="Lundberg and Lee, A unified approach to interpreting model predictions, NeurIPS 2017; "
    "Erion et al., Nature Machine Intelligence 2021;3:620",
)
def _run(request: Request) -> Attributed:
    score, baseline, settings = request.score, request.baseline, request.settings
    assert baseline is not None
    shap = GradientShap(score)
    total, deltas = torch.zeros_like(score.slices[0]), []
    with torch.random.fork_rng(devices=[]), _numpy_seeded(request.seed):
        torch.manual_seed(request.seed)
        for _ in range(int(settings["samples"])):
            chosen = baseline[torch.randint(len(baseline), (1,))]
            maps, delta = shap.attribute(
                score.slices, chosen, n_samples=1, stdevs=float(settings["noise"]), return_convergence_delta=True
            )
            total += maps[0].float()
            deltas.append(float(delta.mean()))
    return Attributed(total / len(deltas), sum(deltas) / len(deltas))


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Captum draws the places from numpy's global state; it is given back as it was."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
