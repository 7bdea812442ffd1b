"""What a run says while it is at work: a line a patient with time and outcome, in words or as JSON, and a bar."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tqdm import tqdm

from cirrnb.run.faults import printable


class Teller:
    """Lines on standard output, a bar on the terminal where there is one.

    Parameters
    ----------
    as_json : one JSON object a line, with time, event and what belongs to it, in place of words.
    """

    def __init__(self, as_json: bool = False):
        self._json = as_json
        self._bar: Any = None

    def event(self, event: str, words: str, **facts: Any) -> None:
        """One line: in words, or `facts` as JSON."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        line = f"{when} {printable(words)}"
        if self._json:
            line = json.dumps({"time": when, "event": event, **facts}, ensure_ascii=True)
        if self._bar is None:
            print(line, flush=True)
        else:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()

    @contextmanager
    def counting(self, total: int) -> Iterator[None]:
        """Show a bar on standard error while the block lasts, if that is a terminal."""
        with tqdm(total=total, unit="patient", disable=not sys.stderr.isatty(), leave=False) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def step(self) -> None:
        """One more patient is done with."""
        if self._bar is not None:
            self._bar.update()
