"""Many notebooks side by side: in worker processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cirrnb
from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError, InputErrors, listed
from cirrnb.data.json_file import read_object
from cirrnb.data.workers import Job, Outcome, WorkerDied, spread
from cirrnb.run.execution import NotebookError, find_notebook, run_notebook
from cirrnb.run.parameters import check, read_schema
from cirrnb.run.publishing import publish


@dataclass(frozen=True)
class NotebookJob:
    """A notebook, what it is given, and where its page goes.

    Attributes
    ----------
    notebook : path, or name of one that comes with the package.
    parameters : for its `parameters` cell.
    out : folder of page and executed notebook.
    leaves : what else it has to leave to count as done, such as its run folder.
    after : stands for what it reads (key of another job, hash of data), so that it is done again where that changes.
    """

    notebook: str | Path
    parameters: Mapping[str, Any]
    out: Path
    leaves: tuple[Path, ...] = field(default=())
    after: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{Path(self.notebook).stem} of {self.out.name}"

    @property
    def executed(self) -> Path:
        """The executed notebook; its page lies in the same folder."""
        return self.out / f"{Path(self.notebook).stem}.ipynb"

    @property
    def page(self) -> Path:
        return self.executed.with_suffix(".html")

    @property
    def mark(self) -> Path:
        """File with the key with which it was done."""
        return self.executed.with_name(f".{self.executed.stem}.key")

    @property
    def key(self) -> str:
        """SHA-256 over the notebook's source, the parameters, the version of the package and `after`.

        Raises InputError or InputErrors where there is no such notebook or it takes no such parameters.
        """
        source = find_notebook(self.notebook)
        schema = read_schema(source)
        values = check(schema, self.parameters, source.stem)
        parts = [cirrnb.__version__, hashlib.sha256(source.read_bytes()).hexdigest(), values, self.after]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def is_done(self) -> bool:
        """True if it was done with the same key, and all it left is still there. Raises as `key`."""
        outputs, key = (self.page, self.executed, *self.leaves), self.key
        try:
            stored = read_object(self.mark, "a whole file", "Delete it.", 2**20)
            return bool(stored["key"] == key and all(path.exists() for path in outputs))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def as_job(self, cwd: Path) -> Job:
        """The job as a worker process gets it, with paths that hold in any folder."""
        path = Path(self.notebook)
        return {
            "notebook": str(path.absolute()) if path.is_file() else str(self.notebook),
            "executed": str(self.executed.absolute()),
            "cwd": str(cwd.absolute()),
            "parameters": dict(self.parameters),
            "key": self.key,
            "mark": str(self.mark.absolute()),
        }


def run_job(job: Job) -> Outcome:
    """Run one notebook and write its page: what a worker does.

    Returns `seconds`, and in `failure` why it did not come to its end, or "", with `kind` as NotebookError has it.
    """
    began, ended = time.monotonic(), {"failure": "", "kind": ""}
    try:
        _run(job)
    except NotebookError as error:
        ended = {"failure": str(error), "kind": error.kind}
    except (InputError, InputErrors) as error:
        ended |= {"failure": str(error), "kind": failure_kinds.WRONG_INPUT}
    except (OSError, RuntimeError, ValueError) as error:  # files, a kernel that does not start, a damaged notebook
        kind = failure_kinds.DISK if failure_kinds.is_full(error) else failure_kinds.BROKEN
        ended |= {"failure": f"{type(error).__name__}: {error}", "kind": kind}
    return {"seconds": time.monotonic() - began, **ended}


def _run(job: Job) -> None:
    executed, mark = Path(job["executed"]), Path(job["mark"])
    # Gone before anything is replaced: a mark never stands next to results of another key.
    mark.unlink(missing_ok=True)
    run_notebook(job["notebook"], executed, job["parameters"], cwd=Path(job["cwd"]))
    publish(executed)
    atomic_write(mark, json.dumps({"key": job["key"]}))


_WORK = "cirrnb.run.jobs"


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended.

    Attributes
    ----------
    job : the job.
    state : "done", "kept" (it was done before, with the same key) or "failed".
    message : why it failed, or "".
    seconds : it took; 0 where nothing was run.
    kind : why it failed, as one of `cirrnb.data.failure_kinds.KINDS`, or "".
    """

    job: NotebookJob
    state: str
    message: str = ""
    seconds: float = 0.0
    kind: str = ""

    def __str__(self) -> str:
        ended = {"done": f"done in {self.seconds:.0f} s", "kept": "already done", "failed": f"failed: {self.message}"}
        return f"{self.job.name}: {ended[self.state]}"


def fan_out(
    jobs: Sequence[NotebookJob],
    workers: int | None = None,
    cluster: str | None = None,
    tell: Callable[[str], object] = print,
) -> list[JobOutcome]:
    """Run notebooks side by side; how each ended, in the order of `jobs`.

    A job whose results are there with the same key is kept, so that an interrupted sweep resumes. One failure does
    not stop the others.

    Parameters
    ----------
    workers, cluster : as for `cirrnb.data.workers.spread`.
    tell : takes a line of text as each job ends.

    Raises
    ------
    InputError
        If two jobs would write the same files, `workers` is below 1, or `cluster` is asked for and Dask is missing or
        does not answer.
    """
    _require_apart(jobs)
    outcomes: dict[int, JobOutcome] = {}
    todo: dict[int, Job] = {}
    for place, job in enumerate(jobs):
        before = _before(job)
        if before is None:
            todo[place] = job.as_job(Path.cwd())
        else:
            outcomes[place] = before
            tell(str(before))
    places = list(todo)
    with closing(spread(list(todo.values()), _WORK, workers, cluster)) as results:
        for number, raw in results:
            place = places[number]
            outcomes[place] = _outcome(jobs[place], raw)
            tell(str(outcomes[place]))
    return [outcomes[place] for place in range(len(jobs))]


def _require_apart(jobs: Sequence[NotebookJob]) -> None:
    files = [job.executed.absolute() for job in jobs]
    twice = {job.name for job, file in zip(jobs, files, strict=True) if files.count(file) > 1}
    if twice:
        raise InputError("jobs", f"several of {listed(sorted(twice))}", "a folder for each", "Give them other folders.")


def _before(job: NotebookJob) -> JobOutcome | None:
    """How a job ended that need not or cannot be started, or None."""
    try:
        done = job.is_done()
    except (InputError, InputErrors) as error:
        return JobOutcome(job, "failed", str(error), kind=failure_kinds.WRONG_INPUT)
    return JobOutcome(job, "kept") if done else None


def _outcome(job: NotebookJob, raw: Outcome | WorkerDied) -> JobOutcome:
    if isinstance(raw, WorkerDied):
        return JobOutcome(job, "failed", str(raw), kind=failure_kinds.WORKER)
    if raw["failure"]:
        return JobOutcome(job, "failed", raw["failure"], raw["seconds"], raw["kind"])
    return JobOutcome(job, "done", "", raw["seconds"])
