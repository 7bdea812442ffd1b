"""What a worker of a report does: one patient's report computed, rendered and marked as done."""

from __future__ import annotations

import json
import time
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any

from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import file_stem, write_whole
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.plugins import load_plugins
from cirrnb.data.scan import Cohort
from cirrnb.data.status import Refused
from cirrnb.data.workers import Job, Outcome
from cirrnb.model.provenance import made_with, now
from cirrnb.reports.compute import ReportModel, ReportSettings, identity, open_cohort, patient_report, prepare_patient
from cirrnb.reports.folder import holds_claim
from cirrnb.reports.patient_report import PatientReport
from cirrnb.reports.render import write_patient_json, write_patient_page
from cirrnb.reports.tables import summary_row
from cirrnb.view.page import Place


class Changed(RuntimeError):
    """The patient's scans, or the model, are not those that the run began with."""


class Overtaken(RuntimeError):
    """Another run has taken the folder over: what was made is of no use."""


def run_job(job: Job) -> Outcome:
    """Make one patient's page. `job` as `PageJob.as_job` gives it.

    Returns `seconds`, in `failure` why there is no page, or "", with `kind` (see `cirrnb.data.failure_kinds.KINDS`) and
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
    bag = prepare_patient(people, job["subject"], job["prepared"], model.model, force=job["force"])
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
    report = compute_report(job)
    require_claim(job["claim"])
    place = Place(tuple((target, words) for target, words in job["links"]), above=1)
    write_patient_json(report, page.with_suffix(".json"))
    write_patient_page(report, page, place=place, colophon=made_with())
    require_claim(job["claim"])
    summary = summary_row(report, f"overlays/{file_stem(report.subject)}")
    record = {"key": job["key"], "summary": summary, "seconds": time.monotonic() - began, "finished": now()}
    write_whole(mark, json.dumps(record))
    return summary


def require_claim(claim: list[str] | None) -> None:
    """Raise Overtaken unless the report's folder `claim[0]` still belongs to the run of the word `claim[1]`."""
    if claim is not None and not holds_claim(Path(claim[0]), claim[1]):
        raise Overtaken("another run has taken over this folder")
