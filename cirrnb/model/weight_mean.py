"""The running mean of a training's weights, which is validated and kept in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class WeightMean:
    """Exponential mean of the parameters over the steps (Tarvainen and Valpola, NeurIPS 2017).

    In the first steps it follows faster: with a share of at most (1 + step) / (10 + step), random first weights are
    soon forgotten.
    """

    def __init__(self, network: nn.Module, share: float):
        """`share` of the mean that stays at each step, below 1."""
        self._network, self._share = network, share
        self.steps = 0
        self.values = {name: value.detach().clone() for name, value in network.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the optimiser."""
        share = min(self._share, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        present = [value.detach() for _, value in self._network.named_parameters()]
        torch._foreach_lerp_(list(self.values.values()), present, 1 - share)

    def to(self, device: torch.device) -> None:
        """Keep the mean where the network is."""
        self.values = {name: value.to(device) for name, value in self.values.items()}

    def stored(self) -> dict[str, torch.Tensor]:
        """What a state of the training holds."""
        return {**self.values, "steps": torch.tensor(self.steps)}

    @torch.no_grad()
    def restore(self, stored: Mapping[str, torch.Tensor]) -> None:
        """Take up what `stored` gave."""
        self.steps = int(stored["steps"])
        for name, value in self.values.items():
            value.copy_(stored[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean weights into the network inside the block; its previous weights are restored after it."""
        weights = {name: value.detach().clone() for name, value in self._network.named_parameters()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(weights)

    def take(self) -> None:
        """Leave the mean in the network."""
        self._put(self.values)

    @torch.no_grad()
    def _put(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, value in self._network.named_parameters():
            value.copy_(values[name])
