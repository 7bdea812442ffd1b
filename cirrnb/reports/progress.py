"""What a run tells while it is at work: a line a patient with time and outcome, in words or as JSON."""

from __future__ import annotations

import json
from typing import Any

from cirrnb.data.faults import printable
from cirrnb.model.provenance import now


class ProgressLog:
    """Lines on standard output.

    Parameters
    ----------
    as_json : one JSON object a line, with time, event and its facts, in place of words.
    """

    def __init__(self, as_json: bool = False):
        self._json = as_json

    def event(self, event: str, words: str, **facts: Any) -> None:
        """One line: in words, or `facts` as JSON."""
        line = f"{now()} {printable(words)}"
        if self._json:
            line = json.dumps({"time": now(), "event": event, **facts}, ensure_ascii=True)
        print(line, flush=True)
