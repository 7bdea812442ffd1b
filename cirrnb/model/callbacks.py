"""What follows a training step by step: a bar, TensorBoard, or a plug-in's own tracking.

A plug-in adds one: `@CALLBACKS.register("name")` above a function that takes the run folder and gives a
`TrainingCallback`; `cirrnb train --plugin FILE.py --track name` uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cirrnb.data.errors import InputError
from cirrnb.data.plugins import Registry


@dataclass(frozen=True)
class Step:
    """One step of a training, numbers counted from 0.

    Attributes
    ----------
    epoch, number : which epoch, and which of its `steps`.
    """

    epoch: int
    number: int
    steps: int
    _loss: torch.Tensor

    @property
    def loss(self) -> float:
        """Mean loss of the step. Whoever asks waits for the device; ask seldom."""
        return float(self._loss.detach().float())


class TrainingCallback:
    """Called as a training goes on, in its main process; every method may be left as it is."""

    def begin(self, epochs: int, done: int) -> None:
        """Before the first step: most epochs, and those that an interrupted training did before."""

    def step(self, step: Step) -> None:
        """After each step."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """After each epoch, with its row of the history."""

    def end(self) -> None:
        """After the last epoch, or an error."""


CALLBACKS: Registry[Callable[[Path], TrainingCallback]] = Registry("callback")
"""name -> maker, given the run folder that will be written."""


def callbacks_named(names: str | Sequence[str] | None, run: Path) -> list[TrainingCallback]:
    """Callbacks of a training into `run` by their names ("tensorboard, mine"). Raises InputError for unknown names."""
    listed = names.split(",") if isinstance(names, str) else names or ()
    chosen = [name.strip() for name in listed if name.strip()]
    for name in chosen:
        if name not in CALLBACKS:
            known = ", ".join(CALLBACKS.names)
            raise InputError("track", repr(name), f"one of {known}", "Correct it, or load the plug-in with --plugin.")
    return [CALLBACKS[name](run) for name in chosen]


@CALLBACKS.register("tensorboard")
def tensorboard(run: Path) -> TrainingCallback:
    """Curves for TensorBoard in `tensorboard/<run>` beside the run folder. Raises InputError where it is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "track", "tensorboard, which is not installed", "TensorBoard", 'Install it: pip install "cirrnb[track]".'
        ) from error
    return _TensorBoard(SummaryWriter(str(run.parent / "tensorboard" / run.name)))


class _TensorBoard(TrainingCallback):
    """The history as curves."""

    def __init__(self, writer: Any):
        self._writer = writer

    def epoch(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name != "epoch" and value == value:
                self._writer.add_scalar(name, value, row["epoch"])

    def end(self) -> None:
        self._writer.close()
