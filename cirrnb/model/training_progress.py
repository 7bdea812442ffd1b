"""What a training says while it runs: a bar or lines, and how long it will take."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tqdm.auto import tqdm

from cirrnb.model.callbacks import Step, TrainingCallback

Tell = Callable[[str], None]

STEPS_TIMED = 3
"""Steps after which the time of an epoch is estimated; the first one is slower than the others and is not counted."""
LINE_SECONDS = 20.0
"""Seconds between two lines of those who get no bar."""
LOSS_SECONDS = 1.0
"""Seconds between two looks at the loss, for each of which the host waits for the device."""


def teller(progress: bool | Tell) -> Tell:
    """A function that shows a line: the one given, one that writes above a bar for True, and none for False."""
    if callable(progress):
        return progress
    return (lambda line: tqdm.write(line, file=sys.stderr)) if progress else (lambda line: None)


def notebook_progress() -> bool | Tell:
    """What a notebook hands to a training: True, a bar, where somebody watches it, and lines where it is executed."""
    return print if os.environ.get("TQDM_DISABLE") else True


class TrainingProgress(TrainingCallback):
    """Progress over the epochs of one training. A context manager, and a callback.

    Parameters
    ----------
    progress : True shows a bar and lines, a function is called with each line, False shows nothing.
    epochs : most epochs. done : those that an interrupted training did before.
    """

    def __init__(self, progress: bool | Tell, epochs: int, done: int):
        self._tell, self._epochs, self._done = teller(progress), epochs, done
        self._lines, self._bar_shown = callable(progress), progress is True
        self._bar: tqdm[Any] | None = None
        self._since: float | None = None
        self._estimates_given = 0
        self._kappa, self._seconds = math.nan, math.nan
        self._looked = self._last_line = time.perf_counter()

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def step(self, step: Step) -> None:
        """After each step: the bar moves; after a few of the first epoch, tell how long all will take."""
        now = time.perf_counter()
        if self._bar_shown:
            self._move(step, now)
        elif self._lines and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            self._tell(f"{self._place(step.epoch, step.number, step.steps)}: loss {step.loss:.3f}{self._further(step)}")
        if self._estimates_given:
            return
        if step.number == 0:
            self._since = now
        elif self._since is not None and step.number == min(STEPS_TIMED, step.steps - 1):
            self._estimate((now - self._since) / step.number * step.steps)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """After each epoch, with its row of the history: the first time, report its duration and an estimate."""
        self._done += 1
        self._kappa, self._seconds = row.get("valid_kappa", math.nan), row["seconds"]
        if self._estimates_given < 2 and self._done < self._epochs:
            self._estimate(row["seconds"])
            self._estimates_given = 2

    def end(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _move(self, step: Step, now: float) -> None:
        if self._bar is None:
            self._bar = tqdm(
                initial=step.epoch * step.steps, total=self._epochs * step.steps, unit="step", mininterval=0.5
            )
        if now - self._looked >= LOSS_SECONDS:
            self._looked = now
            kappa = "" if math.isnan(self._kappa) else f", valid kappa {self._kappa:.2f}"
            self._bar.set_description(f"epoch {step.epoch + 1}/{self._epochs}", refresh=False)
            self._bar.set_postfix_str(f"loss {step.loss:.3f}{kappa}", refresh=False)
        self._bar.update()

    def _place(self, epoch: int, number: int, steps: int) -> str:
        return f"Epoch {epoch + 1} of {self._epochs}, step {number + 1} of {steps}"

    def _further(self, step: Step) -> str:
        """The validation kappa of the previous epoch and the remaining time."""
        text = "" if math.isnan(self._kappa) else f", validation kappa {self._kappa:.2f}"
        if math.isnan(self._seconds):
            return text
        remaining = self._epochs - step.epoch - (step.number + 1) / step.steps
        return f"{text}, at most {duration(self._seconds * remaining)} left"

    def _estimate(self, seconds: float) -> None:
        remaining = self._epochs - self._done
        self._estimates_given = 1
        self._tell(
            f"An epoch takes about {duration(seconds)}, the {remaining} left about {duration(seconds * remaining)}."
        )


def duration(seconds: float) -> str:
    """A time in the unit that people would use: "40 s", "3 minutes", "2.5 hours"."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"
