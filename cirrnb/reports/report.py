"""Make a report: from a cohort to a folder of pages. The failure of one patient does not stop the others."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import atomic_write, file_stem
from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.failure_kinds import printable, without_folders, without_names
from cirrnb.data.given_masks import absolute, give_masks
from cirrnb.data.layouts.folder import TABLE
from cirrnb.data.locks import locked
from cirrnb.data.plugins import load_plugins
from cirrnb.data.scan import Cohort
from cirrnb.explanation.methods import stage_method_named
from cirrnb.model.provenance import now, versions
from cirrnb.reports.compute import ReportModel, ReportSettings, identity
from cirrnb.reports.folder import LINKS, ReportFolder
from cirrnb.reports.operation import RunStatus, watched
from cirrnb.reports.outcome import Outcome
from cirrnb.reports.pages import PageJob, PageOutcome, make_pages
from cirrnb.reports.patients import TRIES, Failure, choose, make_ready, read_patients
from cirrnb.reports.pdf import print_pages, require_printer
from cirrnb.reports.request import ReportRequest


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


ALL_MADE, SOME_FAILED, NONE_MADE = 0, 3, 4
"""Exit codes."""


@dataclass(frozen=True)
class CohortReport:
    """How a report ended: pages made, failures, and the word by which the folder belongs to this run.

    Attributes
    ----------
    drift : the line of the index. not_exchanged : studies that an archive did not send, and results that were not
        written or sent; they have rows in failures.csv too.
    """

    made: int
    failed: int
    claim: str
    drift: str = ""
    not_exchanged: int = 0

    @property
    def exit_code(self) -> int:
        """0 all made, 3 some failed, 4 none made."""
        if self.failed and not self.made:
            return NONE_MADE
        return SOME_FAILED if self.failed or self.not_exchanged else ALL_MADE


def make_report(
    request: ReportRequest, progress: ProgressLog | None = None, status: RunStatus | None = None
) -> CohortReport:
    """Make the report that is asked for. `status` is that of a run of which this is a part; None has one written.

    One patient's failure is recorded, tried once more at the end, and does not stop the others. Unchanged pages are
    reused; an interrupted run resumes.

    Raises
    ------
    InputError, InputErrors
        If the cohort or the model cannot be read at all, a patient is not in it, `out` is no report, or another run is
        at work in it.
    OSError
        If the tables themselves cannot be written; those of an earlier run are then complete.
    """
    report = ReportFolder(request.out.absolute())
    report.take()
    with locked(report.path):
        run = _Run(request, report, progress or ProgressLog())
        if status is not None:
            return run.run(status)
        with watched(report.status, versions()["cirrnb"]) as watched_status:
            ended = run.run(watched_status)
            watched_status.ended(ended.exit_code)
        return ended


class _Run:
    """One run, from reading to the index; the lock is held."""

    def __init__(self, request: ReportRequest, report: ReportFolder, progress: ProgressLog):
        self.request, self.report, self.progress = request, report, progress
        self.started, self.claim = now(), uuid.uuid4().hex
        self.plugins: dict[str, str] = {}

    def run(self, status: RunStatus) -> CohortReport:
        request, report = self.request, self.report
        if request.pdf:
            require_printer()
        atomic_write(report.claim, self.claim)
        report.prepare()
        loaded = load_plugins(request.plugin)
        self.plugins = {Path(file).name: loaded[Path(file).name] for file in request.plugin}
        stage_method_named(request.method)  # a plug-in's too
        model = ReportModel.load(request.model)
        cohort, failures = self._read(model)
        wanted = choose(cohort, failures, request.patients)
        cohort = _with_given(cohort, request.masks, wanted)
        if request.fresh:
            report.forget()
        elsewhere = [] if not request.patients else self._others(cohort, {*wanted, *failures})
        folder = request.prepared or Path("prepared") / cohort.name
        name = model.model.name
        words = f"{len(wanted)} patients of {cohort.name}, model {name}: preparing their scans"
        self.progress.event("started", words, patients=len(wanted), cohort=cohort.name, model=name)
        subjects = [*wanted, *elsewhere]
        ready = make_ready(cohort, subjects, folder, model.model.preparation, request.jobs, force=request.force)
        self.progress.event("prepared", f"{len(ready.bags)} prepared: making their pages", patients=len(ready.bags))
        failures |= {subject: failure for subject, failure in ready.failures.items() if subject in wanted}
        for failure in failures.values():
            self._log_failure(failure)
        masks = absolute(request.masks)
        jobs = {
            subject: self._job(bag, model, cohort, folder, masks if subject in wanted else ())
            for subject, bag in ready.bags.items()
        }
        todo = {subject: job for subject, job in jobs.items() if subject in wanted or job.record() is not None}
        made = self._make_pages(todo, failures)
        if request.pdf:
            failures |= self._print(made)
        reported = {subject: ready.bags[subject] for subject in made}
        outcome = Outcome(request, made, failures)
        drift = outcome.write(report, model, cohort, reported, self.started)
        ended = CohortReport(len(made), len(failures), self.claim, str(drift))
        status.tell(
            model={"name": name, "fingerprint": model.model.fingerprint},
            patients={"made": len(made), "new": len(outcome.new), "failed": len(failures)},
            drift=drift.as_dict(),
        )
        words = f"{ended.made} pages, {ended.failed} failures: {report.path.name}/index.html"
        self.progress.event("finished", words, made=ended.made, failed=ended.failed, exit_code=ended.exit_code)
        return ended

    def _read(self, model: ReportModel) -> tuple[Cohort, dict[str, Failure]]:
        """The cohort, and who of it cannot be reported and why."""
        request = self.request
        if request.not_imported is None:
            return read_patients(request.cohort, model.model, request.sequences)
        failures = {failure.subject or f"?{failure.reason}": failure for failure in request.not_imported}
        if not (request.cohort / TABLE).is_file():
            name, scale = printable(request.cohort.resolve().name), model.model.stages
            return Cohort((), name, stages=scale, sequences=tuple(model.model.sequences)), failures
        cohort, others = read_patients(request.cohort, model.model, request.sequences)
        return cohort, others | failures

    def _others(self, cohort: Cohort, wanted: set[str]) -> list[str]:
        """Patients of the cohort that were not asked for and have a page already."""
        subjects = dict.fromkeys(scan.subject for scan in cohort.scans)
        return [subject for subject in subjects if subject not in wanted and self.report.known(file_stem(subject))]

    def _job(
        self, bag: Bag, model: ReportModel, cohort: Cohort, prepared: Path, masks: tuple[str, ...] = ()
    ) -> PageJob:
        request, name = self.request, file_stem(bag.subject)
        overlays = self.report.overlays / name
        places = {
            "run": request.model if request.model == "shipped" else str(Path(request.model).absolute()),
            "cohort": str(request.cohort.absolute()),
            "prepared": str(prepared.absolute()),
            "explanations": str(request.explanations.absolute()),
            "overlays": str(overlays),
        }
        return PageJob(
            subject=bag.subject,
            page=self.report.patients / f"{name}.html",
            identity=identity(model.model, bag, cohort.simulated, self.plugins),
            places=places,
            settings=ReportSettings(method=request.method),
            links=tuple((f"../{target}", words) for target, words in LINKS),
            claim=(self.report.path, self.claim),
            sequences=request.sequences,
            plugin=tuple(str(Path(file).absolute()) for file in request.plugin),
            masks=masks,
            force=request.force,
        )

    def _make_pages(self, todo: Mapping[str, PageJob], failures: dict[str, Failure]) -> dict[str, PageOutcome]:
        """Make the pages; those that failed once more. Fills in `failures`."""
        made: dict[str, PageOutcome] = {}
        remaining = list(todo)
        for attempt in range(1, TRIES + 1):
            log = _PatientLog(self.progress, len(remaining), attempt)
            jobs = [todo[subject] for subject in remaining]
            outcomes = make_pages(jobs, self.request.jobs, self.request.cluster, self.request.limit, log.ended)
            tried = dict(zip(remaining, outcomes, strict=True))
            # Looked at again, since whoever still was at work in the folder may have replaced something.
            made |= {
                subject: outcome
                for subject, outcome in tried.items()
                if outcome.state != "failed" and todo[subject].record() is not None
            }
            remaining = [subject for subject in remaining if subject not in made]
            for subject in remaining:
                outcome = tried[subject]
                kind, reason = (
                    (outcome.kind, outcome.reason) if outcome.reason else (failure_kinds.CHANGED, "its page is gone")
                )
                detail = reason.partition(": ")[2] or reason
                trace = without_folders(outcome.trace.replace(detail, without_names(detail)))
                failures[subject] = Failure(subject, kind, without_names(reason), attempt, trace)
            remaining = [subject for subject in remaining if failures[subject].kind != failure_kinds.REFUSED]
            if not remaining:
                break
        for subject in made:
            failures.pop(subject, None)
        return {subject: made[subject] for subject in todo if subject in made}

    def _print(self, made: Mapping[str, PageOutcome]) -> dict[str, Failure]:
        """Print the pages that have no PDF yet; why some could not be printed, by subject."""
        pages = {outcome.job.page: subject for subject, outcome in made.items()}
        missing = [page for page in pages if not page.with_suffix(".pdf").exists()]
        self.progress.event("printing", f"{len(missing)} pages to print", pages=len(missing))
        failed = print_pages(missing)
        failures = {
            pages[page]: Failure(pages[page], failure_kinds.BROKEN, f"no PDF: {error}")
            for page, error in failed.items()
        }
        for failure in failures.values():
            self._log_failure(failure)
        return failures

    def _log_failure(self, failure: Failure) -> None:
        words = f"{failure.subject or 'a row of the cohort'}: failed ({failure.kind}): {failure.reason}"
        facts = {"subject": failure.subject, "state": "failed", "kind": failure.kind, "reason": failure.reason}
        self.progress.event("patient", words, **facts, **{"try": failure.tries})


def _with_given(cohort: Cohort, masks: Sequence[str], wanted: Sequence[str]) -> Cohort:
    """The cohort with the masks that the reader supplied. Raises InputError unless one patient is asked for."""
    if masks and len(wanted) != 1:
        problem = f"a mask for one of {len(wanted)} patients"
        raise InputError("mask", problem, "one patient", "Name the patient with --patients.")
    return give_masks(cohort, masks, wanted[0]) if masks else cohort


class _PatientLog:
    """A line for each patient as the page is made or fails, with how many are done of how many."""

    def __init__(self, progress: ProgressLog, total: int, attempt: int):
        self._progress, self._total, self._attempt, self._done = progress, total, attempt, 0

    def ended(self, outcome: PageOutcome) -> None:
        self._done += 1
        subject, count = outcome.job.subject, f"{self._done}/{self._total}"
        facts = {"subject": subject, "state": outcome.state, "seconds": round(outcome.seconds, 1)}
        facts |= {"try": self._attempt, "done": self._done, "of": self._total}
        if outcome.state == "failed":
            reason = without_names(outcome.reason)
            words = f"{count} {subject}: failed after {outcome.seconds:.0f} s ({outcome.kind}): {reason}"
            self._progress.event("patient", words, **facts, kind=outcome.kind, reason=reason)
            return
        summary = outcome.summary or {}
        stage = summary.get("predicted")
        how = "unchanged" if outcome.state == "kept" else f"done in {outcome.seconds:.0f} s"
        words = f"{count} {subject}: {how}, {'stage hidden' if summary.get('hidden') else stage}"
        self._progress.event("patient", words, **facts, predicted=stage, flags=summary.get("flags"))
