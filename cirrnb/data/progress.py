"""Progress over many items: a bar where somebody watches, lines where a function takes them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Tell = Callable[[str], None]
Progress = bool | Tell | None
"""True shows a bar, False shows nothing, None shows a bar in a terminal and in a notebook. A function is called with
lines of text."""
Item = TypeVar("Item")

LINE_SECONDS = 10.0
"""Seconds before the first line and between two lines."""


def watched(
    items: Iterable[Item], *, total: int, desc: str, unit: str = "it", progress: Progress = None, done: int = 0
) -> Iterator[Item]:
    """The items, with progress over `total` of them, `done` of which were done before."""
    if callable(progress):
        return _with_lines(items, total, desc, unit, progress, done)
    return _drawn(items, total, desc, unit, hidden(progress) if total > done else True, done)


def hidden(progress: bool | None) -> bool | None:
    """What tqdm takes as `disable`: None leaves the choice to tqdm, which draws in terminals and notebooks."""
    if progress is not None:
        return not progress
    return True if os.environ.get("TQDM_DISABLE") else None


def _drawn(items: Iterable[Item], total: int, desc: str, unit: str, disable: bool | None, done: int) -> Iterator[Item]:
    from tqdm.auto import tqdm

    yield from tqdm(items, total=total, initial=done, desc=desc, unit=unit, disable=disable)


def _with_lines(items: Iterable[Item], total: int, desc: str, unit: str, tell: Tell, done: int) -> Iterator[Item]:
    began = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_SECONDS and done + count < total:
            remaining = (now - began) / count * (total - done - count)
            tell(f"{desc}: {done + count} of {total} {unit}s, about {_duration(remaining)} left")
            last = now


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 100 else f"{round(seconds / 60)} minutes"
