"""Whether a map depends on what the model learned: its weights are thrown away from the head down, and it is made anew.

Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch

from cirrnb.model.network.stager import Stager
from cirrnb.model.trained import TrainedModel

PARTS: dict[str, tuple[str, ...]] = {
    "head": ("head.", "person."),
    "fusion and pooling": ("fusion.", "pooling.", "crossing.", "stand_in", "sequence_embedding."),
    "slice embedding": (".join.", ".levels.", ".attention."),
    "backbone": (".backbone.",),
}
"""What is randomised together, in this order, each with all before it; names of weights begin or go on with these."""


def randomised(model: TrainedModel, seed: int = 0) -> Iterator[tuple[str, TrainedModel]]:
    """The model with more and more of its weights as they were before training: (the part that came last, the
    model)."""
    members = [copy.deepcopy(member.stager) for member in model.members]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = [Stager(stager.settings, False, stager.stages, stager.sequences).eval() for stager in members]
    for part, names in PARTS.items():
        for stager, new in zip(members, fresh, strict=True):
            known = new.state_dict()
            with torch.no_grad():
                for name, values in stager.named_parameters():
                    if any(name.startswith(one) or (one.startswith(".") and one in name) for one in names):
                        values.copy_(known[name])
        kept = [replace(m, stager=copy.deepcopy(s)) for m, s in zip(model.members, members, strict=True)]
        yield part, replace(model, members=tuple(kept))
