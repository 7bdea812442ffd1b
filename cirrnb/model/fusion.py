"""From slice embeddings to one vector a patient: pooling over slices, attention between sequences, fusion."""

from __future__ import annotations

import torch
from torch import nn

from cirrnb.model.batch import Batch, Layout


class GatedAttentionPooling(nn.Module):
    """Weighted mean over the slices of each group, the weights made by a small gated network, or all alike.

    Ilse et al., *Attention-based Deep Multiple Instance Learning*, ICML 2018, equation 9:
    a = softmax(w (tanh(V h) * sigmoid(U h))).
    """

    def __init__(self, width: int, hidden: int, learned: bool = True):
        super().__init__()
        self.learned = learned
        if learned:
            self.content, self.tanh = nn.Linear(width, hidden), nn.Tanh()
            self.gate, self.sigmoid = nn.Linear(width, hidden), nn.Sigmoid()
            self.score = nn.Linear(hidden, 1)

    def forward(self, embedded: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pool `embedded` (slices, width) within each group of the `layout`.

        Returns the pooled vectors (groups, width), the groups' values (groups,) in rising order, and the weight of
        each slice (slices,), which sum to one within a group.
        """
        scores = self._scores(embedded)
        groups, member = layout.groups, layout.member
        # A dense (groups, slices) table instead of scattered sums: small, and the same on every run.
        belongs = member[None] == torch.arange(len(groups), device=member.device)[:, None]
        weights = scores.expand(len(groups), -1).masked_fill(~belongs, -torch.inf).softmax(dim=1)
        return weights @ embedded, groups, weights.sum(dim=0)

    def _scores(self, embedded: torch.Tensor) -> torch.Tensor:
        if not self.learned:
            return embedded.new_zeros(len(embedded))
        return self.score(self.tanh(self.content(embedded)) * self.sigmoid(self.gate(embedded)))[:, 0]


HEADS = 4
REACH = 12.0
"""Distance in mm over which attention to the other sequence begins to fall, before training: about two T2W slices."""


def present(batch: Batch) -> torch.Tensor:
    """(patients, sequences) bool: which sequences each patient of a batch has slices of."""
    groups = torch.arange(len(batch) * len(batch.sequences), device=batch.patient.device)
    return (batch.group == groups[:, None]).any(dim=1).reshape(len(batch), -1)


class CrossSequenceAttention(nn.Module):
    """Each slice takes up what the other sequences show at its height.

    Scaled dot-product attention (Vaswani et al., 2017) from every slice to the slices of other sequences of the same
    patient, less a penalty for their distance along the body; how far it reaches is learned. Where another sequence
    is missing, a learned missing-sequence token takes its place. Begins as doing nothing.
    """

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.softmax = nn.Softmax(dim=-1)
        self.reach = nn.Parameter(torch.full((HEADS,), REACH).log())
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, embedded: torch.Tensor, batch: Batch, missing_token: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (slices, width) with the other sequence added, given a `missing_token` (sequences, width).

        Returns them and the attention (heads, slices, slices + sequences): rows sum to one, the last columns are the
        missing-sequence tokens.
        """
        has_sequence = present(batch)
        ids = torch.arange(len(batch.sequences), device=batch.sequence.device)
        other = batch.sequence[:, None] != batch.sequence
        allowed = (batch.patient[:, None] == batch.patient) & other
        lacking = ~has_sequence[batch.patient] & (batch.sequence[:, None] != ids)
        tokens = torch.cat([embedded, missing_token])
        query, key, value = (
            layer(given).unflatten(1, (HEADS, -1)).transpose(0, 1)
            for layer, given in ((self.query, embedded), (self.key, tokens), (self.value, tokens))
        )
        apart = (batch.position[:, None] - batch.position) / self.reach.exp()[:, None, None]
        near = nn.functional.pad(-0.5 * apart**2, (0, len(batch.sequences)))
        scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5 + near
        weights = self.softmax(scores.masked_fill(~torch.cat([allowed, lacking], dim=1), -torch.inf))
        seen = (weights @ value).transpose(0, 1).flatten(1)
        return embedded + self.out(seen), weights


class SequenceFusion(nn.Module):
    """Weighted mean over the sequences of a patient; "mean" weighs them alike, the others by a learned score.

    With "cross" each sequence first goes through a layer of its own, and a missing one is replaced by its
    missing-sequence token.
    """

    def __init__(self, width: int, kind: str, sequences: int):
        super().__init__()
        self.score = None if kind == "mean" else nn.Linear(width, 1)
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(sequences)) if kind == "cross" else None

    def forward(
        self, pooled: torch.Tensor, groups: torch.Tensor, there: torch.Tensor, missing_token: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse `pooled` (groups, width), where group = patient * sequences + sequence. `there` (patients, sequences) is
        True for the sequences that a patient has.

        Returns the fused vectors (patients, width) and the weights (patients, sequences), which sum to one over a
        patient; a missing sequence has weight 0, or that of its missing-sequence token (sequences, width) where there
        is one.
        Raises ValueError if a patient has no slice at all.
        """
        # On a GPU the check would synchronise; there `collate` has made it.
        if there.device.type == "cpu" and not there.any(dim=1).all():
            raise ValueError("every patient of a batch needs at least one slice")
        empty = (
            pooled.new_zeros(there.shape[1], pooled.shape[1])
            if missing_token is None
            else missing_token.to(pooled.dtype)
        )
        vectors = empty.repeat(len(there), 1).index_copy(0, groups, pooled).unflatten(0, there.shape)
        if self.own is not None:
            vectors = torch.stack([layer(vectors[:, index]) for index, layer in enumerate(self.own)], dim=1)
        scores = vectors.new_zeros(there.shape) if self.score is None else self.score(vectors)[..., 0]
        if missing_token is None:
            scores = scores.masked_fill(~there, -torch.inf)
        weights = scores.softmax(dim=1)
        return (weights[..., None] * vectors).sum(dim=1), weights
