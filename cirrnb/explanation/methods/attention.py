"""Where the stager itself looked: its spatial attention at all scales, times the weights of slice and sequence."""

from __future__ import annotations

import torch

from cirrnb.data.errors import InputError
from cirrnb.explanation.cells import to_pixels
from cirrnb.explanation.methods import Attributed, Method, Request
from cirrnb.explanation.score import PatientScore
from cirrnb.model.network.stager import Stager


@torch.no_grad()
def _run(request: Request) -> Attributed:
    score = request.score
    score.tick()
    return Attributed(torch.stack([_attention(stager, score) for stager in score.members]).mean(dim=0))


def _attention(stager: Stager, score: PatientScore) -> torch.Tensor:
    batch = score.batch
    if stager.settings.attention == "none":
        raise InputError(
            "method", "'attention' for a stager without it", "a stager with attention", "Choose another method."
        )
    scales = stager.attention_maps(batch, score.chunk)
    size = (score.slices.shape[2], score.slices.shape[3])
    places = torch.stack([to_pixels(one, stager, scale, size) for scale, one in enumerate(scales)]).mean(dim=0)
    said = stager.stage_embedded(stager.embed(batch, score.chunk), batch)
    weights = said.slice_weights * said.sequence_weights[0, batch.sequence]
    return places * weights[:, None, None]


METHOD = Method(
    name="attention",
    label="The model's own attention",
    run=_run,
    signed=False,
    compares=False,
    source="the stager's gates; after Woo et al., CBAM, ECCV 2018, and Ilse et al., ICML 2018",
)
