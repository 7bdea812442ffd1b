"""Many patients side by side: in worker processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cirrnb
from cirrnb.data import failure_kinds
from cirrnb.data import workers as crew
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.reports.compute import ReportSettings
from cirrnb.reports.patient_report import VERSION
from cirrnb.reports.render import templates_hash

WORK = "cirrnb.reports.worker"
"""Module whose `run_job` makes a page."""

_Raw = crew.Outcome | crew.WorkerDied


@dataclass(frozen=True)
class PageJob:
    """One patient's page to be made.

    Attributes
    ----------
    subject : the patient.
    page : file of the page; JSON and mark lie beside it.
    leaves : other files that have to be there for the page to count as done.
    identity : of model and patient, as `cirrnb.reports.compute.identity`; a worker that finds another one fails.
    places : where model, cohort, prepared scans, explanations and overlays lie; no part of the key.
    settings : what shapes the page.
    links : (address from the page, words) of the pages it belongs with.
    claim : folder of the report and word: results are thrown away where the folder no longer belongs to that run.
    sequences : names in the cohort's table; None takes the model's.
    plugin : files that register heads, backbones or methods.
    force : answer for scans that a check refuses; they are doubtful.
    """

    subject: str
    page: Path
    identity: str
    places: Mapping[str, str]
    leaves: tuple[Path, ...] = ()
    settings: ReportSettings = field(default_factory=ReportSettings)
    links: tuple[tuple[str, str], ...] = ()
    claim: tuple[Path, str] | None = None
    sequences: str | None = None
    plugin: tuple[str, ...] = ()
    force: bool = False

    @property
    def mark(self) -> Path:
        """File that says with which key the page was made, and the patient's row of summary.csv."""
        return self.page.with_name(f".{self.page.stem}.key")

    @property
    def key(self) -> str:
        """SHA-256 over all that shapes the page: identity, settings, links, templates, versions."""
        parts = [cirrnb.__version__, VERSION, templates_hash(), self.identity, asdict(self.settings), self.links]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def record(self) -> dict[str, Any] | None:
        """What was written down when the page was made with the same key (`key`, `summary`, `seconds`, `finished`), if
        all its files are still there; otherwise None."""
        try:
            stored = read_object(self.mark, "a whole file", "Delete it.", 2**28, finite=False)
            files = (self.page, self.page.with_suffix(".json"), *self.leaves)
            return stored if stored["key"] == self.key and all(path.exists() for path in files) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def as_job(self) -> crew.Job:
        """The job as a worker process gets it, with paths that hold in any folder."""
        return {
            "subject": self.subject,
            "page": str(self.page.absolute()),
            "mark": str(self.mark.absolute()),
            "key": self.key,
            "identity": self.identity,
            "settings": asdict(self.settings),
            "links": [list(link) for link in self.links],
            "claim": [str(self.claim[0].absolute()), self.claim[1]] if self.claim else None,
            "sequences": self.sequences,
            "plugin": list(self.plugin),
            "force": self.force,
            **self.places,
        }


@dataclass(frozen=True)
class PageOutcome:
    """How a job ended.

    Attributes
    ----------
    job : the job.
    state : "done", "kept" (it was made before, with the same key) or "failed".
    reason, kind, trace : why it failed, or "".
    seconds : it took; 0 where nothing was run.
    summary : the patient's row of summary.csv, or None.
    """

    job: PageJob
    state: str
    reason: str = ""
    kind: str = ""
    trace: str = ""
    seconds: float = 0.0
    summary: Mapping[str, Any] | None = None


def make_pages(
    jobs: Sequence[PageJob],
    workers: int | None = None,
    cluster: str | None = None,
    limit: float | None = None,
    ended: Callable[[PageOutcome], object] = lambda outcome: None,
) -> list[PageOutcome]:
    """Make the pages of many patients; how each ended, in the order of `jobs`.

    A page that is there with the same key is kept. One patient's failure does not stop the others.

    Parameters
    ----------
    workers : processes on this machine; None takes as many as there are processors, which are shared among them.
    cluster : address of a Dask scheduler ("tcp://..."), whose workers then make the pages, as many at a time as they
        have threads. They need this package and must see the same folders under the same paths. Whoever reaches a
        scheduler can run code on it: bind it to 127.0.0.1 or to a network you trust.
    limit : seconds that one patient may take; a worker that takes longer is ended.
    ended : called with the outcome of each job as it ends.

    Raises
    ------
    InputError
        If `workers` is below 1, or `cluster` is asked for and Dask is missing or does not answer.
    """
    if workers is not None and workers < 1:
        raise InputError("workers", str(workers), "at least 1", "Leave it out to use every core.")
    outcomes: dict[int, PageOutcome] = {}
    for place, job in enumerate(jobs):
        if (record := job.record()) is not None:
            outcomes[place] = PageOutcome(job, "kept", summary=record["summary"])
            ended(outcomes[place])
    places = [place for place in range(len(jobs)) if place not in outcomes]
    todo = [jobs[place].as_job() for place in places]
    with closing(_on_cluster(todo, cluster, limit) if cluster else _here(todo, workers, limit)) as results:
        for number, raw in results:
            place = places[number]
            outcomes[place] = _outcome(jobs[place], raw)
            ended(outcomes[place])
    return [outcomes[place] for place in range(len(jobs))]


def _outcome(job: PageJob, raw: _Raw) -> PageOutcome:
    if isinstance(raw, crew.WorkerDied):
        kind = failure_kinds.TIME if isinstance(raw, crew.TookTooLong) else failure_kinds.WORKER
        return PageOutcome(job, "failed", str(raw), kind)
    if raw["failure"]:
        return PageOutcome(job, "failed", raw["failure"], raw["kind"], raw["trace"], raw["seconds"])
    return PageOutcome(job, "done", seconds=raw["seconds"], summary=raw["summary"])


def _here(jobs: list[crew.Job], workers: int | None, limit: float | None) -> Generator[tuple[int, _Raw]]:
    cores = crew.processors()
    at_a_time = max(1, min(workers or cores, len(jobs)))
    yield from crew.in_parallel(jobs, at_a_time, WORK, max(1, cores // at_a_time), _ENVIRONMENT, limit)


_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait by spinning slow small networks down many times where others use the cores too."""


def _on_cluster(jobs: list[crew.Job], address: str, limit: float | None) -> Generator[tuple[int, _Raw]]:
    client = crew.connect(address)
    try:
        from distributed import as_completed

        # Never taken from Dask's own memory: what is done already was found by its key.
        places = {client.submit(run_on_cluster, job, WORK, limit, pure=False): place for place, job in enumerate(jobs)}
        try:
            for future in as_completed(places):
                error = future.exception()
                yield places[future], future.result() if error is None else crew.WorkerDied(f"on the cluster: {error}")
        finally:
            client.cancel(list(places))
    finally:
        client.close()


def run_on_cluster(job: crew.Job, work: str, limit: float | None) -> crew.Outcome:
    """What a Dask worker does: one job in a process of its own, with its share of the machine's processors."""
    from distributed import get_worker

    side_by_side = get_worker().state.nthreads
    process = crew.Worker(work, max(1, crew.processors() // side_by_side), _ENVIRONMENT)
    try:
        return process.run(job, limit)
    except crew.WorkerDied as died:
        kind = failure_kinds.TIME if isinstance(died, crew.TookTooLong) else failure_kinds.WORKER
        return {"seconds": 0.0, "failure": str(died), "kind": kind, "trace": "", "summary": None}
    finally:
        process.stop()
