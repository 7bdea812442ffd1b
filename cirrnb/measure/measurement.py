"""One measured number with its unit, and measuring many scans in parallel, each result stored in a file of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cirrnb.data.json_file import read_object
from cirrnb.data.numbers import figure
from cirrnb.data.workers import Job, Outcome, in_parallel, processors


@dataclass(frozen=True)
class Measurement:
    """One thing measured of one scan.

    Attributes
    ----------
    name : the field's term, in words.
    value : in `unit`; None where it could not be measured.
    unit : "mL", "mm", ...; empty for a ratio or a score without a unit.
    note : the reason if there is no value; otherwise a caveat, or empty.
    source : of the definition.
    reference : what is usual in healthy adults, with its source; or why there is no such range; or nothing.
    """

    name: str
    value: float | None
    unit: str = ""
    note: str = ""
    source: str = ""
    reference: str = ""

    @property
    def reason(self) -> str:
        """Why there is no value; empty if there is one."""
        return self.note if self.value is None else ""

    @property
    def amount(self) -> str:
        """Value and unit as text."""
        return "not measured" if self.value is None else f"{_rounded(self.value)} {self.unit}".strip()

    def __str__(self) -> str:
        return f"{self.name}: {self.amount}" + (f" ({self.note})" if self.note else "")


def _rounded(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else figure(value, 3)


def result_path(folder: Path, request: dict[str, Any]) -> str:
    """File of the measurement that a request asks for; another request has another file."""
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]
    return str(folder / f"{key}.json")


def read_result(job: Job) -> dict[str, Any] | None:
    """What was measured, or None where nothing whole lies in the job's file."""
    try:
        return read_object(Path(job["file"]), "a whole file", "Delete it.", finite=False)
    except (OSError, ValueError):
        return None


def measure_all(
    jobs: Sequence[Job], run_job: Callable[[Job], Outcome], workers: int | None, progress: bool, what: str
) -> None:
    """Run the jobs without a result file. `run_job` is a module's function of that name and writes the file; a job that
    dies in a worker leaves none."""
    from tqdm.auto import tqdm

    pending = [job for job in jobs if read_result(job) is None]
    crew = min(workers or processors(), len(pending))
    done, hidden = len(jobs) - len(pending), not progress or not pending
    bar = tqdm(total=len(jobs), initial=done, desc=what, unit="scan", disable=hidden)
    with bar:
        if crew > 1:
            with closing(in_parallel(pending, crew, run_job.__module__)) as outcomes:
                for _ in outcomes:
                    bar.update()
        else:
            for job in pending:
                run_job(job)
                bar.update()
