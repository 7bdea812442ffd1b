"""Methods on the feature maps: Grad-CAM and the stager's own attention, at one scale or at all."""

from __future__ import annotations

import torch
from captum.attr import LayerGradCam
from torch import nn

from cirrnb.data.errors import InputError
from cirrnb.explanation.methods import Attributed, Request, attribution_method
from cirrnb.explanation.receptive_fields import scales_named, to_pixels
from cirrnb.explanation.score import PatientScore, score_of
from cirrnb.model.encoder import SliceEncoder
from cirrnb.model.stager import Stager
from cirrnb.simulation.signs import CHANNELS

SLICES_PER_PASS = 64
"""Slices up to which one pass does it all; more are taken chunk by chunk, in two passes, to bound the memory."""


@attribution_method(
    name="grad_cam",
    label="Grad-CAM",
    signed=True,
    compares=False,
    settings={"scale": "all"},
    source="Selvaraju et al., Grad-CAM, ICCV 2017; at each scale what that scale itself hands on",
)
def _grad_cam(request: Request) -> Attributed:
    score, scale = request.score, request.settings["scale"]
    return Attributed(torch.stack([_cam(stager, score, scale) for stager in score.members]).mean(dim=0))


def _cam(stager: Stager, score: PatientScore, scale: int | str) -> torch.Tensor:
    """(slices, rows, columns) of one stager, in units of the score."""
    wanted = scales_named(scale, stager)
    size = (score.slices.shape[2], score.slices.shape[3])
    result = torch.zeros_like(score.slices[0])
    whole = len(score.batch.slices) <= SLICES_PER_PASS
    for encoder, numbers in stager.readers(score.there):
        if not len(numbers):
            continue
        scales = _whole(stager, score, encoder) if whole else _in_chunks(stager, score, encoder, numbers)
        for place in wanted:
            result[numbers.cpu()] += to_pixels(scales[place], stager, place, size)
    return result


def _whole(stager: Stager, score: PatientScore, encoder: SliceEncoder) -> list[torch.Tensor]:
    alone = PatientScore([stager], score.batch, score.target, score.tick, chunk=None)
    cams = LayerGradCam(alone, encoder.maps).attribute(score.slices)
    return [
        cam_of_scale[:, 0].detach().float().cpu() for cam_of_scale in (cams if isinstance(cams, tuple) else (cams,))
    ]


def _in_chunks(stager: Stager, score: PatientScore, encoder: SliceEncoder, numbers: torch.Tensor) -> list[torch.Tensor]:
    """The same by the chain rule: the score's gradient for each embedding first, then each embedding's for its maps."""
    with torch.no_grad():
        embedded = stager.embed(score.there, score.chunk)
    embedded.requires_grad_()
    scores = score_of(stager, stager.stage_embedded(embedded, score.there), score.target)
    gradient = torch.autograd.grad(scores.sum(), embedded)[0]
    cam = LayerGradCam(_Toward(encoder), encoder.maps)
    parts = []
    for chosen in numbers.split(score.chunk or len(numbers)):
        score.tick()
        maps = cam.attribute(
            score.there.slices[chosen], additional_forward_args=(score.there.sequence[chosen], gradient[chosen])
        )
        parts.append([array[:, 0].detach().float().cpu() for array in (maps if isinstance(maps, tuple) else (maps,))])
    return [torch.cat(scale) for scale in zip(*parts, strict=True)]


class _Toward(nn.Module):
    """How far each slice's embedding points along a direction of its own."""

    def __init__(self, encoder: SliceEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, slices: torch.Tensor, sequence: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        return (self.encoder(slices, sequence)[0] * direction).sum(dim=1)


@attribution_method(
    name="attention",
    label="The model's own attention",
    signed=False,
    compares=False,
    settings={"scale": "all"},
    source="the stager's gates; after Woo et al., CBAM, ECCV 2018, and Ilse et al., ICML 2018",
)
@torch.no_grad()
def _model_attention(request: Request) -> Attributed:
    score, scale = request.score, request.settings["scale"]
    score.tick()
    return Attributed(torch.stack([_attention(stager, score, scale) for stager in score.members]).mean(dim=0))


def _attention(stager: Stager, score: PatientScore, scale: int | str) -> torch.Tensor:
    batch = score.there
    if stager.settings.attention == "none":
        raise InputError(
            "method", "'attention' for a stager without it", "a stager with attention", "Choose another method."
        )
    wanted = scales_named(scale, stager)
    scales = [attention.cpu() for attention in stager.attention_maps(batch, score.chunk)]
    size = (score.slices.shape[2], score.slices.shape[3])
    places = torch.stack([to_pixels(scales[chosen], stager, chosen, size) for chosen in wanted]).mean(dim=0)
    staging = stager.stage_embedded(stager.embed(batch, score.chunk), batch)
    weights = staging.slice_weights * staging.sequence_weights[0, batch.sequence]
    return places * weights.cpu()[:, None, None]


@attribution_method(
    name="sign_map",
    label="The model's own map of a sign",
    signs_only=True,
    signed=False,
    compares=False,
    source="an output of the model, trained on simulated patients whose signs are known pixel by pixel",
)
@torch.no_grad()
def _sign_map(request: Request) -> Attributed:
    score = request.score
    score.tick()
    return Attributed(torch.stack([_own_map(stager, score) for stager in score.members]).mean(dim=0))


def _own_map(stager: Stager, score: PatientScore) -> torch.Tensor:
    names = stager.settings.signs
    if not stager.settings.maps or score.target not in names:
        wrong = f"'sign_map' of {score.target!r}" if stager.settings.maps else "'sign_map' for a stager without maps"
        expected = f"one of the signs {', '.join(names)} as the target, of a stager with maps of signs"
        raise InputError("method", wrong, expected, "Choose a sign, or another method.")
    sign_maps = stager.sign_maps(score.there, score.chunk)
    assert sign_maps is not None
    maps = sign_maps.cpu()
    where = {channel.name: channel.sequences for channel in CHANNELS}.get(score.target, score.batch.sequences)
    seen = [score.batch.sequences[number] in where for number in score.batch.sequence.tolist()]
    return maps[:, names.index(score.target)] * torch.tensor(seen).to(maps)[:, None, None]
