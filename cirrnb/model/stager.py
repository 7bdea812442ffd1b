"""The network that reads one patient's T1W and T2W slices and gives a score for each stage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from cirrnb.data.scan import SEQUENCES, STAGES
from cirrnb.model.backbone import MEAN, STANDARD_DEVIATION, build_backbone
from cirrnb.model.batch import Batch
from cirrnb.model.pooling import GatedAttentionPooling, SequenceFusion

FUSIONS = ("mean", "learned")


@dataclass(frozen=True)
class StagerSettings:
    """What a stager is built of; together with its weights this is the whole model.

    Attributes
    ----------
    backbone : name of a timm model; `test_resnet` is timm's smallest residual network (0.4 M parameters) and made for
        two cores.
    pretrained : begin from timm's pretrained weights where they can be fetched.
    width : length of a slice's embedding.
    fusion : "mean" weighs the sequences of a patient alike, "learned" weighs them by a score of their embeddings.
    dropout : share of the embedding switched off in training, before the last layer.
    """

    backbone: str = "test_resnet"
    pretrained: bool = False
    width: int = 128
    fusion: str = "mean"
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is at least 1, not {self.width}")
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion is one of {FUSIONS}, not {self.fusion!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is at least 0 and below 1, not {self.dropout}")


@dataclass(frozen=True)
class Staging:
    """What a stager says about a batch.

    Attributes
    ----------
    logits : (patients, stages) raw scores; their softmax are the probabilities.
    slice_weights : (slices,) share of each slice in its sequence of its patient; they sum to one there.
    sequence_weights : (patients, sequences) share of each sequence in its patient, 0 where missing; rows sum to one.
    """

    logits: torch.Tensor
    slice_weights: torch.Tensor
    sequence_weights: torch.Tensor


class Stager(nn.Module):
    """Slices to stage: one encoder for both sequences, attention over the slices of each, then over the sequences.

    The encoder runs once over all slices together. A learned vector tells the sequences apart; gated attention
    (Ilse et al., *Attention-based Deep Multiple Instance Learning*, ICML 2018) pools the slices of each sequence;
    the sequences that exist are fused, so that a patient with one of them is staged all the same. No activation
    overwrites its input and none is used twice, which attribution by hooks needs.
    """

    def __init__(self, settings: StagerSettings | None = None, fetch: bool = True):
        """`fetch=False` leaves even a pretrained backbone's weights random, for those who load their own next."""
        super().__init__()
        self.settings = settings or StagerSettings()
        self.backbone, features, self.backbone_weights = build_backbone(
            self.settings.backbone, self.settings.pretrained and fetch
        )
        width = self.settings.width
        self.embedding = nn.Linear(features, width)
        self.sequence_embedding = nn.Embedding(len(SEQUENCES), width)
        nn.init.normal_(self.sequence_embedding.weight, std=0.02)
        self.pooling = GatedAttentionPooling(width, max(width // 2, 1))
        self.fusion = SequenceFusion(width, learned=self.settings.fusion == "learned")
        self.dropout = nn.Dropout(self.settings.dropout)
        self.head = nn.Linear(width, len(STAGES))

    def forward(self, batch: Batch, chunk: int | None = None) -> torch.Tensor:
        """Logits (patients, stages). `chunk` encodes that many slices at a time, which bounds the memory."""
        return self.stage(batch, chunk).logits

    def stage(self, batch: Batch, chunk: int | None = None) -> Staging:
        """As `forward`, together with the weights of the slices and of the sequences."""
        embedded = self.embed(batch, chunk)
        group = batch.patient * len(SEQUENCES) + batch.sequence
        pooled, groups, slice_weights = self.pooling(embedded, group)
        fused, sequence_weights = self.fusion(pooled, groups, len(batch))
        return Staging(self.head(self.dropout(fused)), slice_weights, sequence_weights)

    def forget_statistics(self) -> None:
        """Let every batch normalisation average over the steps from here on, evenly.

        Called as an epoch begins. The usual exponential mean, a tenth a step, is still half made of the first steps'
        weights after the few dozen steps that a small cohort allows, and evaluation falls far behind training.
        """
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None
                module.reset_running_stats()

    def embed(self, batch: Batch, chunk: int | None = None) -> torch.Tensor:
        """Slice embeddings (slices, width)."""
        parts = (batch.slices,) if chunk is None else batch.slices.split(chunk)
        features = torch.cat([self.backbone((part - MEAN) / STANDARD_DEVIATION) for part in parts])
        return self.embedding(features) + self.sequence_embedding(batch.sequence)
