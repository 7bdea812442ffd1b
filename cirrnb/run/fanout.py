"""Many notebooks, each in a process of its own: as many at a time as there are cores, or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cirrnb.data import failure_kinds
from cirrnb.data import workers as crew
from cirrnb.data.errors import InputError, InputErrors, listed
from cirrnb.run.job import NotebookJob

_WORK = "cirrnb.run.job"
_Raw = crew.Outcome | crew.WorkerDied


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

    A job whose results are there with the same key is passed over, so that a sweep that was killed goes on where it
    stopped. A job that fails is told in its outcome, and the others go on.

    Parameters
    ----------
    workers : notebooks at a time; None takes as many as there are cores. The cores are shared among them.
    cluster : address of a Dask scheduler ("tcp://..."), whose workers then run the notebooks, as many at a time as they
        have threads. They need this package and must see the same folders under the same paths. Whoever reaches a
        scheduler can run code on it: bind it to 127.0.0.1 or to a network you trust.
    tell : takes a line of text as each job ends.

    Raises
    ------
    InputError
        If two jobs would write the same files, `workers` is below 1, or `cluster` is asked for and Dask is missing or
        does not answer.
    """
    _require_apart(jobs)
    if workers is not None and workers < 1:
        raise InputError("workers", str(workers), "at least 1", "Leave it out to use every core.")
    outcomes: dict[int, JobOutcome] = {}
    todo: dict[int, crew.Job] = {}
    for place, job in enumerate(jobs):
        before = _before(job)
        if before is None:
            todo[place] = job.told(Path.cwd())
        else:
            outcomes[place] = before
            tell(str(before))
    places, told = list(todo), list(todo.values())
    with closing(_on_cluster(told, cluster) if cluster else _here(told, workers)) as results:
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


def _outcome(job: NotebookJob, raw: _Raw) -> JobOutcome:
    if isinstance(raw, crew.WorkerDied):
        return JobOutcome(job, "failed", str(raw), kind=failure_kinds.WORKER)
    if raw["failure"]:
        return JobOutcome(job, "failed", raw["failure"], raw["seconds"], raw["kind"])
    return JobOutcome(job, "done", "", raw["seconds"])


def _here(jobs: list[crew.Job], workers: int | None) -> Generator[tuple[int, _Raw]]:
    cores = crew.processors()
    at_a_time = max(1, min(workers or cores, len(jobs)))
    yield from crew.in_parallel(jobs, at_a_time, _WORK, max(1, cores // at_a_time))


def _on_cluster(jobs: list[crew.Job], address: str) -> Generator[tuple[int, _Raw]]:
    client = crew.connect(address)
    try:
        from distributed import as_completed

        # Never taken from Dask's own memory: what is done already was found by its key.
        places = {client.submit(run_on_cluster, job, pure=False): place for place, job in enumerate(jobs)}
        try:
            for future in as_completed(places):
                error = future.exception()
                yield places[future], future.result() if error is None else crew.WorkerDied(f"on the cluster: {error}")
        finally:
            client.cancel(list(places))
    finally:
        client.close()


def run_on_cluster(job: crew.Job) -> crew.Outcome:
    """What a Dask worker does: one job in a process of its own, with its share of the machine's cores."""
    from distributed import get_worker

    side_by_side = get_worker().state.nthreads
    process = crew.Worker(_WORK, threads=max(1, crew.processors() // side_by_side))
    try:
        return process.run(job)
    except crew.WorkerDied as died:
        return {"seconds": 0.0, "failure": str(died), "kind": failure_kinds.WORKER}
    finally:
        process.stop()
