"""What a training says while it runs: a bar or lines, and how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tqdm import tqdm

Tell = Callable[[str], None]

STEPS_TIMED = 3
"""Steps after which the time of an epoch is estimated; the first one is slower than the others and is not counted."""


def teller(progress: bool | Tell) -> Tell:
    """A function that shows a line: the one given, one that writes above a bar for True, and none for False."""
    if callable(progress):
        return progress
    return (lambda line: tqdm.write(line, file=sys.stderr)) if progress else (lambda line: None)


class TrainingProgress:
    """Progress over the epochs of one training. A context manager.

    Parameters
    ----------
    progress : True shows a bar and lines, a function is called with each line, False shows nothing.
    epochs : most epochs. done : those that an interrupted training did before.
    """

    def __init__(self, progress: bool | Tell, epochs: int, done: int):
        self._tell, self._epochs, self._done = teller(progress), epochs, done
        self._bar = tqdm(initial=done, total=epochs, desc="training", unit="epoch", disable=progress is not True)
        self._since: float | None = None
        self._told = 0

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def step(self, number: int, steps: int) -> None:
        """After each step of an epoch, counted from 0: after a few of them, tell how long all will take."""
        if self._told:
            return
        now = time.perf_counter()
        if number == 0:
            self._since = now
        elif self._since is not None and number == min(STEPS_TIMED, steps - 1):
            self._estimate((now - self._since) / number * steps)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """After each epoch, with its row of the history: the first time, tell what it took and what that makes."""
        self._done += 1
        self._bar.set_postfix_str(f"loss {row['train_loss']:.3f}, valid {row['valid_loss']:.3f}")
        self._bar.update()
        if self._told < 2 and self._done < self._epochs:
            self._estimate(row["seconds"])
            self._told = 2

    def _estimate(self, seconds: float) -> None:
        left = self._epochs - self._done
        self._told = 1
        self._tell(f"An epoch takes about {duration(seconds)}, the {left} left about {duration(seconds * left)}.")


def duration(seconds: float) -> str:
    """A time in the unit that people would use: "40 s", "3 minutes", "2.5 hours"."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"
