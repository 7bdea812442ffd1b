"""Methods that need gradients for the pixels or change pixels: integrated and expected gradients, saliency, DeepLift,
occlusion."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from captum.attr import DeepLift, GradientShap, IntegratedGradients, NoiseTunnel, Occlusion, Saliency

from cirrnb.data.errors import InputError
from cirrnb.data.numbers import figure
from cirrnb.explanation.methods import Attributed, Request, attribution_method
from cirrnb.explanation.score import PatientScore
from cirrnb.model.stager import Stager


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
def _integrated_gradients(request: Request) -> Attributed:
    score, baseline = request.score, request.baseline
    assert baseline is not None
    integrals = [_integrate(score, volume[None], int(request.settings["steps"])) for volume in baseline]
    return Attributed(
        torch.stack([maps for maps, _ in integrals]).mean(dim=0), sum(delta for _, delta in integrals) / len(integrals)
    )


def _integrate(score: torch.nn.Module, baseline: torch.Tensor, steps: int) -> tuple[torch.Tensor, float]:
    maps, delta = IntegratedGradients(score).attribute(
        score.slices,
        baseline,
        n_steps=steps,
        # A patient is one example: one step at a time, and the score's own chunks bound the memory.
        internal_batch_size=1,
        return_convergence_delta=True,
    )
    return maps[0].float(), float(delta[0])


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
def _gradient_shap(request: Request) -> Attributed:
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


@attribution_method(
    name="smooth_saliency",
    label="Smoothed saliency",
    signed=False,
    compares=False,
    settings={"samples": 16, "noise": 0.05},
    quick={"samples": 4},
    passes=lambda settings, shape: int(settings["samples"]),
    source="Simonyan, Vedaldi and Zisserman, arXiv 1312.6034; Smilkov et al., SmoothGrad, arXiv 1706.03825",
)
def _smooth_saliency(request: Request) -> Attributed:
    score, settings = request.score, request.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        maps = NoiseTunnel(Saliency(score)).attribute(
            score.slices,
            nt_type="smoothgrad",
            nt_samples=int(settings["samples"]),
            nt_samples_batch_size=1,
            stdevs=float(settings["noise"]),
            abs=True,
        )
    return Attributed(maps[0].float())


DEEP_LIFT_TOLERANCE = 0.05
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
def _deep_lift(request: Request) -> Attributed:
    baseline = request.baseline
    assert baseline is not None
    members = [_lift(request.score, stager, baseline[:1]) for stager in request.score.members]
    maps = torch.stack([attribution for attribution, _ in members]).mean(dim=0)
    delta = sum(difference for _, difference in members) / len(members)
    with torch.no_grad():
        apart = float(request.score(request.score.slices)[0] - request.score(baseline[:1])[0])
    if not abs(delta) <= DEEP_LIFT_TOLERANCE * abs(apart):  # also true for NaN
        raise InputError(
            "method 'deep_lift'",
            f"a sum that misses the score's difference of {figure(apart, 3)} by {figure(delta, 3)}",
            f"at most {DEEP_LIFT_TOLERANCE:.0%}",
            "This network has layers that DeepLift's rules do not cover (attention, gates). "
            "Choose integrated_gradients.",
        )
    return Attributed(maps, delta)


def _lift(score: PatientScore, stager: Stager, baseline: torch.Tensor) -> tuple[torch.Tensor, float]:
    alone = PatientScore([stager], score.batch, score.target, score.tick, chunk=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that hooks are set and removed
        maps, delta = DeepLift(alone).attribute(score.slices, baseline, return_convergence_delta=True)
    return maps[0].detach().float(), float(delta[0])


PATCHES_PER_PASS = 16
"""Patches tried in one pass; only the slices they lie in are encoded anew."""


def _occlusion_passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> int:
    patch = int(settings["patch"])
    return math.ceil(shape[0] * math.ceil(shape[1] / patch) * math.ceil(shape[2] / patch) / PATCHES_PER_PASS) + 1


@attribution_method(
    name="occlusion",
    label="Occlusion by patches",
    signed=True,
    compares=True,
    settings={"patch": 8},
    quick={"patch": 24},
    passes=_occlusion_passes,
    source="Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014",
)
def _occlusion(request: Request) -> Attributed:
    score, baseline, settings = request.score, request.baseline, request.settings
    assert baseline is not None
    patch = int(settings["patch"])
    _, _, rows, columns = score.slices.shape
    window = (1, min(patch, rows), min(patch, columns))
    with torch.no_grad():
        maps = Occlusion(score).attribute(
            score.slices,
            sliding_window_shapes=window,
            strides=window,
            baselines=baseline[:1],
            perturbations_per_eval=PATCHES_PER_PASS,
        )
    # Captum writes a patch's whole effect into each of its pixels; shared out among them, pixels can be added up.
    return Attributed(_shared_out(maps[0].float(), window[1], window[2]))


def _shared_out(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    _, rows, columns = maps.shape
    heights = torch.tensor([min(height, rows - row // height * height) for row in range(rows)])
    widths = torch.tensor([min(width, columns - column // width * width) for column in range(columns)])
    return maps / (heights[:, None] * widths)
