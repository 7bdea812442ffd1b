"""The explained quantity: one raw score (log-odds) of the patient, as a function of all slices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import cast

import torch
from torch import nn

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import StageScale
from cirrnb.model.batch import Batch
from cirrnb.model.encoder import SliceEncoder, folded
from cirrnb.model.heads_and_losses import StageHead
from cirrnb.model.signs import visible
from cirrnb.model.stager import Stager, Staging

SEVERITY = "severity"
"""Default target of every head: evidence for later stages against earlier ones."""

CHUNK = 32
"""Slices encoded at a time; it bounds the memory of every method."""

QUICK_CHUNK = 16
"""Slices encoded at a time without gradients, where nothing is kept for the way back: more leave the cache."""


class Cancelled(RuntimeError):
    """The explanation was cancelled; nothing of it is kept."""


def targets(stager: Stager) -> tuple[str, ...]:
    """The scores of a stager that can be explained, by name, the default first.

    Ordered heads: "severity", the sum of the cumulative log-odds ("above mild", "above moderate"), or one of these.
    Heads that score each stage: "severity", which is the last less the first ("severe - mild"), the logit of a stage,
    or the difference of two. Of a stager with sign outputs also each sign, whose score is the log-odds of its strength.
    """
    of_stages = stage_targets(stager)
    return of_stages + tuple(sign for sign in _signs(stager) if sign not in of_stages)


def stage_targets(stager: Stager) -> tuple[str, ...]:
    """Those of `targets` that are scores of the stage."""
    stages = stager.stages
    if stager.head.ordered:
        return (SEVERITY, *stages.thresholds)
    return (SEVERITY, *stages, *(f"{stage} - {other}" for stage in stages for other in stages if stage != other))


def targets_of(stager: Stager, sequences: Collection[str]) -> tuple[str, ...]:
    """The `targets` for a patient with these sequences, without signs that none of the sequences can show."""
    names = _signs(stager)
    hidden = {name for name, is_visible in zip(names, visible(names, sequences), strict=True) if not is_visible}
    stages = {SEVERITY, *stager.stages, *stager.stages.thresholds}
    return tuple(name for name in targets(stager) if name in stages or name not in hidden)


def _signs(stager: Stager) -> tuple[str, ...]:
    """Names of the signs that a stager puts out; a network of one's own that only embeds has no settings."""
    settings = getattr(stager, "settings", None)
    return settings.signs if settings is not None else ()


def require_target(stager: Stager, target: str) -> None:
    """Raise InputError for a target that the stager does not have."""
    known = targets(stager)
    if target not in known:
        raise InputError("target", repr(target), f"one of {', '.join(map(repr, known))}", "Choose one of these.")


def score_of(stager: Stager, staging: Staging, target: str) -> torch.Tensor:
    """(patients,) the raw score `target` of a stager's output.

    Raises InputError for a target that the stager does not have.
    """
    require_target(stager, target)
    names, signs = _signs(stager), staging.signs
    if signs is not None and target in names and target not in (SEVERITY, *stager.stages, *stager.stages.thresholds):
        return signs[:, names.index(target)]
    return score_of_stage(stager.head, staging.scores, target, stager.stages)


def score_of_stage(head: StageHead, scores: torch.Tensor, target: str, stages: StageScale) -> torch.Tensor:
    """(patients,) score named `target` of a head's raw scores (patients, outputs)."""
    if not head.ordered:
        upper, _, other = (f"{stages[-1]} - {stages[0]}" if target == SEVERITY else target).partition(" - ")
        value = scores[:, stages.index(upper)]
        return value - scores[:, stages.index(other)] if other else value
    first, *others = above = head.log_odds_above(scores).unbind(dim=1)
    return sum(others, start=first) if target == SEVERITY else above[stages.thresholds.index(target)]


class PatientScore(nn.Module):
    """The score of one patient, mean over a model's stagers, as Captum wants it: a patient is one example.

    Who asks hands in slices, and gets scores, on the CPU; the network is asked where it is.

    Without gradients, slices that equal the patient's own, or those of `keep`, are not encoded again: their embeddings
    are kept.
    """

    def __init__(
        self,
        stagers: Sequence[Stager],
        batch: Batch,
        target: str = SEVERITY,
        tick: Callable[[], None] = lambda: None,
        chunk: int | None = CHUNK,
    ):
        """`batch` holds one patient. `tick` is called before each pass; it shows progress, or raises `Cancelled`."""
        super().__init__()
        if len(batch) != 1:
            raise ValueError(f"one patient is explained at a time, not {len(batch)}")
        self.stagers = nn.ModuleList(stagers)
        self.batch, self.target, self.tick, self.chunk = batch, target, tick, chunk
        self.there = batch.to(next(stagers[0].parameters()).device)  # the batch on the network's device
        self._embedded: list[torch.Tensor] | None = None
        self._others: tuple[torch.Tensor, list[torch.Tensor]] | None = None
        self._quick: list[list[SliceEncoder]] = []  # a plain list: these are no parts of the score
        require_target(stagers[0], target)

    @property
    def members(self) -> list[Stager]:
        return [cast(Stager, stager) for stager in self.stagers]

    @property
    def slices(self) -> torch.Tensor:
        """(1, slices, rows, columns): the patient's own."""
        return self.batch.slices[:, 0][None]

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Scores (examples,) of the patient with slices replaced by `slices` (examples, slices, rows, columns)."""
        self.tick()
        examples, slices = len(slices), slices.to(self.there.slices.device)
        batch = repeated(self.there, examples)
        if torch.is_grad_enabled():
            filled = batch.replace_slices(slices.flatten(0, 1)[:, None])
            embedded = [stager.embed(filled, self.chunk) for stager in self.members]
        else:
            embedded = self._embed_changed(slices)
        return (
            torch.stack(
                [
                    score_of(stager, stager.stage_embedded(vectors, batch), self.target)
                    for stager, vectors in zip(self.members, embedded, strict=True)
                ]
            )
            .mean(dim=0)
            .cpu()
        )

    @torch.no_grad()
    def embeddings(self) -> list[torch.Tensor]:
        """For each stager, on its device, the embeddings (slices, width) of the patient's own slices; computed once."""
        if self._embedded is None:
            self._embedded = self._embed(self.there)
        return self._embedded

    @torch.no_grad()
    def keep(self, slices: torch.Tensor) -> None:
        """Encode other slices (slices, rows, columns) in the same places once, for all calls in which they come up."""
        slices = slices.to(self.there.slices.device)
        self._others = slices, self._embed(self.there.replace_slices(slices[:, None]))

    def _embed(self, batch: Batch) -> list[torch.Tensor]:
        """For each stager, embeddings (slices, width) without gradients, from encoders made quicker for it."""
        if not all(isinstance(member, Stager) for member in self.members):  # a network of one's own, which only embeds
            return [member.embed(batch, self.chunk) for member in self.members]
        if not self._quick:
            # Two slices show whether an encoder made quicker still says the same.
            few = slice(len(self.there.sequence) // 2, len(self.there.sequence) // 2 + 2)
            example = self.there.slices[few], self.there.sequence[few]
            self._quick = [
                [folded(encoder, *example) for encoder, _ in member.readers(batch)] for member in self.members
            ]
        chunk = None if self.chunk is None else min(self.chunk, QUICK_CHUNK)
        return [
            stager.embed(batch, chunk, encoders) for stager, encoders in zip(self.members, self._quick, strict=True)
        ]

    @torch.no_grad()
    def subset_scores(self, kept: torch.Tensor) -> torch.Tensor:
        """Scores (subsets,) of the patient with only the slices for which `kept` (subsets, slices) bool is True, as if
        the others had not been acquired. Every subset keeps at least one slice."""
        self.tick()
        subset, index = (indices.to(self.there.slices.device) for indices in torch.nonzero(kept, as_tuple=True))
        batch = self.there.taking(index, subset, len(kept))
        return (
            torch.stack(
                [
                    score_of(stager, stager.stage_embedded(embedding[index], batch), self.target)
                    for stager, embedding in zip(self.members, self.embeddings(), strict=True)
                ]
            )
            .mean(dim=0)
            .cpu()
        )

    def _embed_changed(self, slices: torch.Tensor) -> list[torch.Tensor]:
        original, given = self.there.slices[:, 0], slices.flatten(0, 1)
        changed = (slices != original).flatten(2).any(dim=2).flatten()
        known = [vectors.repeat(len(slices), 1) for vectors in self.embeddings()]
        if self._others is not None:
            others, embedded = self._others
            equal = changed & (slices == others).flatten(2).all(dim=2).flatten()
            places = torch.nonzero(equal)[:, 0]
            known = [
                vectors.index_copy(0, places, kept[places % len(original)])
                for vectors, kept in zip(known, embedded, strict=True)
            ]
            changed &= ~equal
        places = torch.nonzero(changed)[:, 0]
        if len(places):
            part = self.there.taking(places % len(original), torch.zeros_like(places), 1)
            part = part.replace_slices(given[places][:, None])
            known = [vectors.index_copy(0, places, new) for vectors, new in zip(known, self._embed(part), strict=True)]
        return known


def repeated(batch: Batch, times: int) -> Batch:
    """The one patient of a batch `times` over, its slices left out."""
    count = len(batch.sequence)
    index = torch.arange(count, device=batch.sequence.device).repeat(times)
    return batch.taking(index, torch.arange(times, device=index.device).repeat_interleave(count), times)
