"""The network that reads one patient's slices of every sequence and gives a score for each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import interpolate

from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.model import mambavision  # noqa: F401 -- registers its backbone
from cirrnb.model.batch import Batch
from cirrnb.model.classifiers import WholeNetwork
from cirrnb.model.encoder import SliceEncoder
from cirrnb.model.first_weights import FirstWeights
from cirrnb.model.fusion import CrossSequenceAttention, GatedAttentionPooling, SequenceFusion, present
from cirrnb.model.heads_and_losses import HEADS, SignMaps, SignOutputs, StageHead, stage_loss
from cirrnb.model.settings import StagerSettings


@dataclass(frozen=True)
class Staging:
    """What a stager says about a batch.

    Attributes
    ----------
    scores : (patients, outputs) raw scores: one a stage for a cross-entropy head, log-odds of the stages above the
        first, above the second, ... for the ordered heads. Means over slices where every slice is staged by itself.
    log_probabilities : (patients, stages) of each stage.
    slice_weights : (slices,) share of each slice in its sequence of its patient; they sum to one there.
    sequence_weights : (patients, sequences) share of each sequence in its patient; rows sum to one. A missing sequence
        has 0, or the share of the learned missing-sequence token that takes its place.
    slice_log_probabilities : (slices, stages) where every slice is staged by itself, else None.
    signs : (patients, signs) log-odds of the strength of each sign, 0 (absent) to 1; None for a stager without.
    signs_log_probabilities : (patients, stages) from the strengths alone; None for a stager without.
    """

    scores: torch.Tensor
    log_probabilities: torch.Tensor
    slice_weights: torch.Tensor
    sequence_weights: torch.Tensor
    slice_log_probabilities: torch.Tensor | None = None
    signs: torch.Tensor | None = None
    signs_log_probabilities: torch.Tensor | None = None

    def cpu(self) -> Staging:
        """The same on the CPU."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: None if tensor is None else tensor.cpu() for name, tensor in tensors.items()}
        return Staging(**moved)


class Stager(nn.Module):
    """Slices to stage: an encoder with attention at four scales, slices of all sequences that look at each other,
    attention over the slices of each sequence, then over the sequences, and an ordered head.

    A shared encoder runs once over all slices together. A patient with one sequence is staged all the same. No
    activation overwrites its input and none is used twice, which attribution by hooks needs.
    """

    def __init__(
        self,
        settings: StagerSettings | None = None,
        fetch: bool = True,
        stages: StageScale = CIRRHOSIS,
        sequences: tuple[str, ...] | None = None,
        weights: Path | None = None,
    ):
        """`fetch=False` leaves even a pretrained backbone's weights random, for those who load their own next.

        `weights` is a safetensors file of the backbone's first weights, taken in place of fetched ones.

        `stages` are the classes. `sequences` are those that tensors number, `settings.sequences` unless a saved model
        has others beside them.
        """
        super().__init__()
        self.settings = settings = settings or StagerSettings()
        self.stages, self.sequences = stages, sequences or settings.sequences
        if not set(settings.sequences) <= set(self.sequences):
            raise ValueError(f"a stager looks at {settings.sequences} and numbers only {self.sequences}")
        count = len(self.sequences)
        names = settings.sequences if settings.encoders == "separate" else ("shared",)
        first = FirstWeights(fetch and settings.pretrained is True, weights if fetch else None)
        encoders: dict[str, SliceEncoder] = {
            name: WholeNetwork(settings, first) if settings.classifier else SliceEncoder(settings, first, count)
            for name in names
        }
        width = encoders[names[0]].width
        self.encoders = nn.ModuleDict({self._key(name): encoder for name, encoder in encoders.items()})
        self.backbone_weights = encoders[names[0]].backbone_weights
        self.sequence_embedding = None if settings.classifier else nn.Embedding(count, width)
        if self.sequence_embedding is not None:
            nn.init.normal_(self.sequence_embedding.weight, std=0.02)
        crossing = settings.fusion == "cross" and len(settings.sequences) > 1
        self.crossing = CrossSequenceAttention(width) if crossing else None
        # The missing-sequence tokens; saved models have them under this name.
        self.stand_in = nn.Parameter(torch.randn(count, width) * 0.02) if crossing else None
        self.pooling = GatedAttentionPooling(width, max(width // 2, 1), learned=settings.pooling == "attention")
        self.fusion = SequenceFusion(width, settings.fusion if len(settings.sequences) > 1 else "mean", count)
        self.person = nn.Linear(4, width, bias=False) if settings.demographics else None
        self.dropout = nn.Dropout(settings.dropout)
        self.head: StageHead = HEADS[settings.head](width, len(stages))
        self.signs = SignOutputs(width, settings, len(stages)) if settings.signs else None
        self.maps = SignMaps(encoders[names[0]].channels, len(settings.signs)) if settings.maps else None

    @property
    def scales(self) -> int:
        """How many feature maps are used; a backbone may have fewer than the settings ask for."""
        return len(cast(SliceEncoder, next(iter(self.encoders.values()))).levels)

    def forward(self, batch: Batch, chunk: int | None = None) -> torch.Tensor:
        """Raw scores (patients, outputs). `chunk` encodes that many slices at a time, which bounds the memory."""
        return self.stage(batch, chunk).scores

    def stage(self, batch: Batch, chunk: int | None = None, strengths: torch.Tensor | None = None) -> Staging:
        """As `forward`, together with probabilities and the weights of the slices and of the sequences; `strengths` as
        in `stage_embedded`."""
        return self.stage_embedded(self.embed(batch, chunk), batch, strengths)

    def embed(
        self, batch: Batch, chunk: int | None = None, encoders: Sequence[SliceEncoder] | None = None
    ) -> torch.Tensor:
        """Slice embeddings (slices, width), each slice separately. `encoders` replace the stager's encoders, in the
        order of `readers`."""
        readers = self.readers(batch)
        pairs = [
            (encoder, numbers)
            for encoder, (_, numbers) in zip(encoders or [encoder for encoder, _ in readers], readers, strict=True)
        ]
        parts = [(encoder, numbers) for encoder, numbers in pairs if len(numbers)]
        if len(parts) == 1:  # without a copy of the slices
            embedded = parts[0][0].embed(batch.slices, batch.sequence, chunk)
        else:
            apart = [encoder.embed(batch.slices[numbers], batch.sequence[numbers], chunk) for encoder, numbers in parts]
            embedded = torch.cat(apart)[torch.cat([numbers for _, numbers in parts]).argsort()]
        return embedded if self.sequence_embedding is None else embedded + self.sequence_embedding(batch.sequence)

    def stage_embedded(self, embedded: torch.Tensor, batch: Batch, strengths: torch.Tensor | None = None) -> Staging:
        """What follows the encoder, given slice embeddings (slices, width) of the batch.

        `strengths` (patients, signs) log-odds replace the predicted ones except where they are NaN.
        """
        has_sequence = present(batch)
        if self.settings.pooling == "slice":
            return self._stage_slices(embedded, batch, has_sequence)
        if self.crossing is not None and self.stand_in is not None:
            embedded, _ = self.crossing(embedded, batch, self.stand_in)
        pooled, groups, slice_weights = self.pooling(embedded, batch.layout)
        fused, sequence_weights = self.fusion(pooled, groups, has_sequence, self.stand_in)
        if self.signs is None:
            scores = self._score(fused, batch.person)
            return Staging(scores, self.head.log_probabilities(scores), slice_weights, sequence_weights)
        seen = self.signs(fused)
        strengths = seen if strengths is None else torch.where(strengths.isnan(), seen, strengths)
        by_signs = self.signs.for_the_stage(strengths.sigmoid())
        scores = self._score(fused + by_signs if self.settings.residual else by_signs, batch.person)
        return Staging(
            scores,
            self.head.log_probabilities(scores),
            slice_weights,
            sequence_weights,
            signs=strengths,
            signs_log_probabilities=self.signs.stage_alone(strengths.sigmoid().detach()),
        )

    def loss(
        self,
        staging: Staging,
        batch: Batch,
        weights: torch.Tensor | None = None,
        focus: float = 0,
        loss: str = "likelihood",
    ) -> torch.Tensor:
        """Loss (patients,) of the outputs for a batch; see `stage_loss`. If every slice is staged separately, it is the
        mean over the patient's slices."""
        if staging.slice_log_probabilities is None:
            return stage_loss(staging.log_probabilities.float(), batch.stage, weights, focus, loss)
        losses = stage_loss(staging.slice_log_probabilities.float(), batch.stage[batch.patient], weights, focus, loss)
        return _mean_by_patient(losses[:, None], batch)[:, 0]

    @torch.inference_mode()
    def attention_maps(self, batch: Batch, chunk: int | None = None) -> list[torch.Tensor]:
        """Attention maps (slices, rows, columns), one per scale, the finest first; each slice sums to one. Empty
        without attention."""
        maps: list[torch.Tensor] = []
        for encoder, chosen in self.readers(batch):
            parts = [
                encoder(batch.slices[part], batch.sequence[part])[1]
                for part in chosen.split(chunk or max(len(chosen), 1))
            ]
            scales = [torch.cat(scale) for scale in zip(*parts, strict=True)]
            maps = maps or [scale.new_zeros(len(batch.slices), *scale.shape[1:]) for scale in scales]
            maps = [whole.index_copy(0, chosen, scale) for whole, scale in zip(maps, scales, strict=True)]
        return maps

    @torch.inference_mode()
    def sign_maps(self, batch: Batch, chunk: int | None = None) -> torch.Tensor | None:
        """(slices, signs, rows, columns) probability of each sign of `settings.signs` at a pixel; None without maps."""
        if self.maps is None:
            return None
        size = batch.slices.shape[-2:]
        chances = batch.slices.new_zeros(len(batch.slices), len(self.settings.signs), *size)
        for encoder, chosen in self.readers(batch):
            for part in chosen.split(chunk or max(len(chosen), 1)):
                log_odds = self.maps(encoder.features(batch.slices[part]))
                chances[part] = interpolate(log_odds, size=size, mode="bilinear").sigmoid()
        return chances

    @torch.inference_mode()
    def crossing_weights(self, batch: Batch, chunk: int | None = None) -> torch.Tensor | None:
        """Attention between the sequences (heads, slices, slices + missing-sequence tokens); None without it."""
        if self.crossing is None or self.stand_in is None:
            return None
        return self.crossing(self.embed(batch, chunk), batch, self.stand_in)[1]

    def forget_statistics(self) -> None:
        """Let every batch normalisation average over the steps from here on, evenly.

        Called as an epoch begins. The usual exponential mean, a tenth a step, is still half made of the first steps'
        weights after the few dozen steps that a small cohort allows, and evaluation falls far behind training.
        """
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None
                module.reset_running_stats()

    def readers(self, batch: Batch) -> list[tuple[SliceEncoder, torch.Tensor]]:
        """Each encoder with the indices of the slices it reads."""
        pairs = []
        shared = self.settings.encoders == "shared"
        for name in ("shared",) if shared else self.settings.sequences:
            encoder = self.encoders[self._key(name)]
            assert isinstance(encoder, SliceEncoder)
            number = 0 if shared else self.sequences.index(name)
            every = torch.arange(len(batch.sequence), device=batch.sequence.device)
            pairs.append((encoder, every if shared else batch.layout.of_sequence[number]))
        return pairs

    def _key(self, name: str) -> str:
        """Under which weights an encoder is kept; names of sequences may hold what names of modules may not."""
        return name if name in ("shared", *T1W_T2W) else f"sequence_{self.sequences.index(name)}"

    def _score(self, fused: torch.Tensor, person: torch.Tensor) -> torch.Tensor:
        fused = self.dropout(fused)
        return self.head(fused if self.person is None else fused + self.person(person))

    def _stage_slices(self, embedded: torch.Tensor, batch: Batch, has_sequence: torch.Tensor) -> Staging:
        scores = self._score(embedded, batch.person[batch.patient])
        slices = self.head.log_probabilities(scores)
        groups = torch.arange(has_sequence.numel(), device=has_sequence.device)
        counts = (batch.group == groups[:, None]).sum(dim=1).reshape(has_sequence.shape)
        if has_sequence.device.type == "cpu" and not has_sequence.any(dim=1).all():
            raise ValueError("every patient of a batch needs at least one slice")
        return Staging(
            _mean_by_patient(scores, batch),
            _mean_by_patient(slices.exp(), batch).log(),
            1 / counts.flatten()[batch.group].to(scores),
            (counts / counts.sum(dim=1, keepdim=True)).to(scores),
            slices,
        )


def _mean_by_patient(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(patients, n) means of (slices, n) over each patient's slices."""
    belongs = (batch.patient == torch.arange(len(batch), device=batch.patient.device)[:, None]).to(values)
    return belongs @ values / belongs.sum(dim=1, keepdim=True)
