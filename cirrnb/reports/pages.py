"""The pages of many patients: one job a patient, done by worker processes of this machine or of a Dask cluster."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cirrnb
from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import atomic_write, file_stem
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.json_file import read_object
from cirrnb.data.plugins import load_plugins
from cirrnb.data.scan import Cohort
from cirrnb.data.status import Refused
from cirrnb.data.workers import Job, Outcome, TookTooLong, WorkerDied, spread
from cirrnb.model.provenance import made_with, now
from cirrnb.reports.compute import ReportModel, ReportSettings, identity, open_cohort, patient_report, prepare_patient
from cirrnb.reports.folder import holds_claim
from cirrnb.reports.formats import templates_hash, write_patient_json, write_patient_page
from cirrnb.reports.patient_report import VERSION, PatientReport
from cirrnb.reports.tables import summary_row
from cirrnb.view.page import Place

WORK = "cirrnb.reports.pages"
"""Module whose `run_job` makes a page."""


@dataclass(frozen=True)
class PageJob:
    """One patient's page to be made.

    Attributes
    ----------
    subject : the patient.
    page : file of the page; JSON and mark lie beside it.
    identity : of model and patient, as `cirrnb.reports.compute.identity`; a worker that finds another one fails.
    places : where model, cohort, prepared scans, explanations and overlays lie; no part of the key.
    settings : what shapes the page.
    links : (address from the page, words) of the pages it belongs with.
    claim : folder of the report and word: results are thrown away where the folder no longer belongs to that run.
    sequences : names in the cohort's table; None takes the model's.
    plugin : files that register heads, backbones or methods.
    masks : liver masks that the reader supplied for this patient.
    force : answer for scans that a check refuses; they are doubtful.
    """

    subject: str
    page: Path
    identity: str
    places: Mapping[str, str]
    settings: ReportSettings = field(default_factory=ReportSettings)
    links: tuple[tuple[str, str], ...] = ()
    claim: tuple[Path, str] | None = None
    sequences: str | None = None
    plugin: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
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
            # Which maps there are is known once the page is made: of a sequence that was not used there is none.
            maps = [Path(self.places["overlays"], Path(name).name) for name in _names(stored["summary"]["overlays"])]
            files = (self.page, self.page.with_suffix(".json"), *maps)
            return stored if stored["key"] == self.key and all(path.exists() for path in files) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def as_job(self) -> Job:
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
            "masks": list(self.masks),
            "force": self.force,
            **self.places,
        }


def _names(joined: str) -> list[str]:
    return [name for name in joined.split("|") if name]


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
    workers, cluster : as for `cirrnb.data.workers.spread`.
    limit : seconds that one patient may take; a worker that takes longer is ended.
    ended : called with the outcome of each job as it ends.

    Raises
    ------
    InputError
        If `workers` is below 1, or `cluster` is asked for and Dask is missing or does not answer.
    """
    outcomes: dict[int, PageOutcome] = {}
    for place, job in enumerate(jobs):
        if (record := job.record()) is not None:
            outcomes[place] = PageOutcome(job, "kept", summary=record["summary"])
            ended(outcomes[place])
    places = [place for place in range(len(jobs)) if place not in outcomes]
    todo = [jobs[place].as_job() for place in places]
    with closing(spread(todo, WORK, workers, cluster, limit)) as results:
        for number, raw in results:
            place = places[number]
            outcomes[place] = _outcome(jobs[place], raw)
            ended(outcomes[place])
    return [outcomes[place] for place in range(len(jobs))]


def _outcome(job: PageJob, raw: Outcome | WorkerDied) -> PageOutcome:
    if isinstance(raw, WorkerDied):
        kind = failure_kinds.TIME if isinstance(raw, TookTooLong) else failure_kinds.WORKER
        return PageOutcome(job, "failed", str(raw), kind)
    if raw["failure"]:
        return PageOutcome(job, "failed", raw["failure"], raw["kind"], raw["trace"], raw["seconds"])
    return PageOutcome(job, "done", seconds=raw["seconds"], summary=raw["summary"])


class Changed(RuntimeError):
    """The patient's scans, or the model, are not those that the run began with."""


class Overtaken(RuntimeError):
    """Another run has taken the folder over: what was made is of no use."""


def run_job(job: Job) -> Outcome:
    """Make one patient's page. `job` as `PageJob.as_job` gives it.

    Returns `seconds`, in `failure` why there is no page, or "", with `kind` (of `cirrnb.data.failure_kinds`) and
    `trace`, and in `summary` the patient's row of summary.csv.
    """
    began = time.monotonic()
    ended: dict[str, Any] = {"failure": "", "kind": "", "trace": "", "summary": None}
    try:
        ended["summary"] = _make(job, began)
    except Changed as error:
        ended |= {"failure": str(error), "kind": failure_kinds.CHANGED}
    except Refused as error:
        ended |= {"failure": error.found, "kind": failure_kinds.REFUSED}
    except (InputError, InputErrors) as error:
        ended |= {"failure": str(error), "kind": failure_kinds.WRONG_INPUT}
    except (ArithmeticError, OSError, RuntimeError, ValueError) as error:  # files and numbers; a defect ends the worker
        kind = failure_kinds.DISK if failure_kinds.is_full(error) else failure_kinds.BROKEN
        ended |= {"failure": f"{type(error).__name__}: {error}", "kind": kind, "trace": traceback.format_exc()}
    return {"seconds": time.monotonic() - began, **ended}


def compute_report(job: Job) -> PatientReport:
    """The report of a job's patient. Raises Changed where model or scans are not those that the run began with."""
    model, bag, simulated = read_patient(job)
    settings = ReportSettings(**job["settings"])
    stores = {"store": job["explanations"], "overlays": job["overlays"]}
    return patient_report(model, bag, settings, simulated=simulated, **stores)


def read_patient(job: Job) -> tuple[ReportModel, Bag, bool]:
    """Model, prepared scans, and whether they are simulated. Raises Changed as `compute_report`."""
    load_plugins(job["plugin"])
    model, people = _model(job["run"]), _cohort(job["cohort"], job["run"], job["sequences"])
    given = {"masks": job["masks"], "force": job["force"]}
    bag = prepare_patient(people, job["subject"], job["prepared"], model.model, **given)
    if identity(model.model, bag, people.simulated) != job["identity"]:
        raise Changed("the scan or the model changed while it was read")
    return model, bag, people.simulated


# A worker makes many pages of one model and one cohort.
_model = lru_cache(maxsize=1)(ReportModel.load)


@lru_cache(maxsize=1)
def _cohort(cohort: str, run: str, sequences: str | None) -> Cohort:
    return open_cohort(cohort, _model(run).model, sequences)


def _make(job: Job, began: float) -> dict[str, Any]:
    page, mark = Path(job["page"]), Path(job["mark"])
    # Gone before anything is replaced: a mark never stands beside results of another key.
    mark.unlink(missing_ok=True)
    page.with_suffix(".pdf").unlink(missing_ok=True)
    report = compute_report(job)
    require_claim(job["claim"])
    place = Place(tuple((target, words) for target, words in job["links"]), above=1)
    write_patient_json(report, page.with_suffix(".json"))
    write_patient_page(report, page, place=place, colophon=made_with())
    require_claim(job["claim"])
    summary = summary_row(report, f"overlays/{file_stem(report.subject)}")
    record = {"key": job["key"], "summary": summary, "seconds": time.monotonic() - began, "finished": now()}
    atomic_write(mark, json.dumps(record))
    return summary


def require_claim(claim: list[str] | None) -> None:
    """Raise Overtaken unless the report's folder `claim[0]` still belongs to the run of the word `claim[1]`."""
    if claim is not None and not holds_claim(Path(claim[0]), claim[1]):
        raise Overtaken("another run has taken over this folder")
