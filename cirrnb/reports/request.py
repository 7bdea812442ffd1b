"""What a report of a cohort is asked for, and what it tells while it is at work."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cirrnb.data.failure_kinds import printable
from cirrnb.model.provenance import now

LIMIT = 1800.0
"""Seconds that one patient may take."""


@dataclass(frozen=True)
class ReportRequest:
    """What a report of a cohort is asked for.

    Attributes
    ----------
    cohort : folder in the published layout, or a CSV table.
    model : folder of a model, or "shipped".
    out : folder of the report.
    patients : subjects or ids; none asks for all. Pages of others that are still true stay.
    prepared : folder of prepared scans; None takes prepared/ and the cohort's name.
    explanations : folder in which explanations are kept.
    method : how maps are made.
    jobs : patients at a time; None takes as many as there are cores.
    cluster : address of a Dask scheduler whose workers make the pages instead.
    fresh : make every page anew.
    limit : seconds that one patient may take.
    sequences : names in the cohort's table; None takes the model's.
    plugin : files that register heads, backbones or methods.
    force : answer for patients whose scans a check refuses; they are doubtful.
    """

    cohort: Path
    model: str
    out: Path
    patients: tuple[str, ...] = ()
    prepared: Path | None = None
    explanations: Path = field(default_factory=lambda: Path("explanations"))
    method: str = "grad_cam"
    jobs: int | None = None
    cluster: str | None = None
    fresh: bool = False
    limit: float = LIMIT
    sequences: str | None = None
    plugin: tuple[Path, ...] = ()
    force: bool = False


class ProgressLog:
    """A line a patient on standard output, with time and outcome.

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
