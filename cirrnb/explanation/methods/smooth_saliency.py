"""How fast the score changes with each pixel, averaged over noisy copies of the patient."""

from __future__ import annotations

import torch
from captum.attr import NoiseTunnel, Saliency

from cirrnb.explanation.methods import Attributed, Request, attribution_method


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
def _run(request: Request) -> Attributed:
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
