"""Measurements of many scans: in parallel, each kept in a file of its own, so that nothing is measured twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from cirrnb.data.json_file import read_object
from cirrnb.data.workers import Job, Outcome, in_parallel, processors


def file_of(folder: Path, said: dict[str, Any]) -> str:
    """Where the measurement lies that depends on all that is `said`."""
    key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
    return str(folder / f"{key}.json")


def kept(job: Job) -> dict[str, Any] | None:
    """What was measured, or None where nothing whole lies in the job's file."""
    try:
        return read_object(Path(job["file"]), "a whole file", "Delete it.", finite=False)
    except (OSError, ValueError):
        return None


def measure_all(
    jobs: Sequence[Job], run_job: Callable[[Job], Outcome], workers: int | None, progress: bool, what: str
) -> None:
    """Do those jobs whose file is not there yet. `run_job` is a module's function of that name and writes the file; one
    that dies in a worker leaves none."""
    from tqdm.auto import tqdm

    left = [job for job in jobs if kept(job) is None]
    crew = min(workers or processors(), len(left))
    bar = tqdm(total=len(jobs), initial=len(jobs) - len(left), desc=what, unit="scan", disable=not progress or not left)
    with bar:
        if crew > 1:
            with closing(in_parallel(left, crew, run_job.__module__)) as outcomes:
                for _ in outcomes:
                    bar.update()
        else:
            for job in left:
                run_job(job)
                bar.update()
