"""Where the stager itself looked: its spatial attention, at one scale or all, times slice and sequence weights."""

from __future__ import annotations

import torch

from cirrnb.data.errors import InputError
from cirrnb.explanation.cells import scales_named, to_pixels
from cirrnb.explanation.methods import Attributed, Request, attribution_method
from cirrnb.explanation.score import PatientScore
from cirrnb.model.network.stager import Stager


@torch.no_grad()
@attribution_method(
    name="attention",
    label="The model's own attention",
    signed=False,
    compares=False,
    settings={"scale": "all"},
    source="the stager's gates; after Woo et al., CBAM, ECCV 2018, and Ilse et al., ICML 2018",
)
def _run(request: Request) -> Attributed:
    score, scale = request.score, request.settings["scale"]
    score.tick()
    return Attributed(torch.stack([_attention(stager, score, scale) for stager in score.members]).mean(dim=0))


def _attention(stager: Stager, score: PatientScore, scale: int | str) -> torch.Tensor:
    batch = score.batch
    if stager.settings.attention == "none":
        raise InputError(
            "method", "'attention' for a stager without it", "a stager with attention", "Choose another method."
        )
    wanted = scales_named(scale, stager)
    scales = stager.attention_maps(batch, score.chunk)
    size = (score.slices.shape[2], score.slices.shape[3])
    places = torch.stack([to_pixels(scales[one], stager, one, size) for one in wanted]).mean(dim=0)
    said = stager.stage_embedded(stager.embed(batch, score.chunk), batch)
    weights = said.slice_weights * said.sequence_weights[0, batch.sequence]
    return places * weights[:, None, None]
