"""`make_report`: one call from a cohort to a folder of pages, whatever happens on the way."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

from cirrnb.data.locking import locked
from cirrnb.data.names import file_stem
from cirrnb.data.plugins import load_plugins
from cirrnb.data.prepared import Bag
from cirrnb.data.scan import Cohort
from cirrnb.data.writing import write_whole
from cirrnb.model.provenance import model_fingerprint
from cirrnb.model.trained import load_model
from cirrnb.run import faults
from cirrnb.run.fanout import JobOutcome, fan_out
from cirrnb.run.faults import without_folders
from cirrnb.run.job import NotebookJob
from cirrnb.run.page import Place
from cirrnb.run.provenance import now
from cirrnb.run.reports.case import identity
from cirrnb.run.reports.folder import ReportFolder
from cirrnb.run.reports.index import LINKS
from cirrnb.run.reports.order import Order
from cirrnb.run.reports.outcome import Outcome
from cirrnb.run.reports.patients import TRIES, Failure, choose, make_ready, read_people
from cirrnb.run.reports.telling import Teller

PATIENT = "07_patient_report"
ALL_MADE, SOME_FAILED, NONE_MADE = 0, 3, 4
"""Exit codes."""


def make_report(order: Order, teller: Teller | None = None, kernels: Mapping[str, str] | None = None) -> int:
    """Make the report that is asked for; an exit code: 0 all made, 3 some failed, 4 none made.

    Whatever goes wrong with one patient is recorded, tried once more, and costs nobody else anything. `kernels` is what
    `warm_kernels` yields, and makes it quicker.

    Raises
    ------
    InputError, InputErrors
        If the cohort or the model cannot be read at all, a patient is not in it, `out` is no report, or another run is
        at work in it.
    OSError
        If the tables themselves cannot be written; those of an earlier run are then whole.
    """
    teller = teller or Teller()
    report = ReportFolder(order.out.absolute())
    report.take()
    with locked(report.path):
        return _Run(order, report, teller, kernels or {}).run()


class _Run:
    """One run, from reading to the index; the lock is held."""

    def __init__(self, order: Order, report: ReportFolder, teller: Teller, kernels: Mapping[str, str]):
        self.order, self.report, self.teller, self.kernels = order, report, teller, kernels
        self.started, self.word = now(), uuid.uuid4().hex

    def run(self) -> int:
        order, report = self.order, self.report
        write_whole(report.claim, self.word)
        report.prepare()
        load_plugins(order.plugin)
        model = load_model(order.model)
        people, failures = read_people(order.cohort, model, order.sequences)
        asked = choose(people, failures, order.patients)
        if order.fresh:
            report.forget()
        elsewhere = [] if not order.patients else self._others(people, {*asked, *failures})
        folder = order.prepared or Path("prepared") / people.name
        words = f"{len(asked)} patients of {people.name}, model {model.name}"
        self.teller.event("started", words, patients=len(asked), cohort=people.name, model=model.name)
        ready = make_ready(people, [*asked, *elsewhere], folder, model.preparation, order.jobs)
        failures |= {name: one for name, one in ready.failures.items() if name in asked}
        for one in failures.values():
            self._tell_failure(one)
        known = model_fingerprint(model)
        jobs = {name: self._job(bag, known, people, folder) for name, bag in ready.bags.items()}
        todo = {name: job for name, job in jobs.items() if name in asked or job.is_done()}
        made = self._fan_out(todo, failures)
        reported = {name: ready.bags[name] for name in made}
        left = Outcome(report, order, made, failures, self.kernels)
        left.write(model, known, people, reported, notebook=PATIENT, started=self.started, claim=self.word)
        failed = len(left.failures)
        code = ALL_MADE if not failed else SOME_FAILED if made else NONE_MADE
        words = f"{len(made)} pages, {failed} failures: {report.path.name}/index.html"
        self.teller.event("finished", words, made=len(made), failed=failed, exit_code=code)
        return code

    def _others(self, people: Cohort, asked: set[str]) -> list[str]:
        """Patients of the cohort that were not asked for and have a page already."""
        subjects = dict.fromkeys(scan.subject for scan in people.scans)
        return [subject for subject in subjects if subject not in asked and self.report.known(file_stem(subject))]

    def _job(self, bag: Bag, known: str, people: Cohort, prepared: Path) -> NotebookJob:
        order, name = self.order, file_stem(bag.subject)
        places = {
            "run": order.model if order.model == "shipped" else str(Path(order.model).absolute()),
            "cohort": str(order.cohort.absolute()),
            "prepared": str(prepared.absolute()),
            "explanations": str(order.explanations.absolute()),
            "overlays": str(self.report.overlays / name),
        }
        named = {"sequences": order.sequences} if order.sequences else {}
        if order.plugin:
            places["plugin"] = ",".join(str(Path(file).absolute()) for file in order.plugin)
        files = tuple(
            self.report.overlays / name / f"{file_stem(bag.subject, one, order.method)}.nii.gz" for one in bag.scans
        )
        links = tuple((f"../{target}", words) for target, words in LINKS)
        title = f"Patient {faults.printable(bag.subject)}"
        return NotebookJob(
            PATIENT,
            {"patient": bag.subject, "method": order.method, **named},
            self.report.patients,
            leaves=files[:1],
            after=identity(known, bag, people.simulated),
            places=places,
            stem=name,
            place=Place(links, title, above=1, single_file=order.single_file),
            limit=order.limit,
            keeps=False,
            claim=(self.report.claim, self.word),
        )

    def _fan_out(self, todo: Mapping[str, NotebookJob], failures: dict[str, Failure]) -> dict[str, JobOutcome]:
        """Run the notebooks; those that failed once more. Fills in `failures`."""
        made: dict[str, JobOutcome] = {}
        remaining = list(todo)
        for attempt in range(1, TRIES + 1):
            with self.teller.counting(len(remaining)):
                names = {id(todo[name]): name for name in remaining}

                def ended(outcome: JobOutcome, names: dict[int, str] = names, attempt: int = attempt) -> None:
                    self._tell(names[id(outcome.job)], outcome, attempt)

                jobs = [todo[name] for name in remaining]
                outcomes = fan_out(jobs, self.order.jobs, self.order.cluster, lambda _: None, ended, self.kernels)
            tried = dict(zip(remaining, outcomes, strict=True))
            # Looked at again, since whoever still was at work in the folder may have replaced something.
            made |= {name: one for name, one in tried.items() if one.state != "failed" and todo[name].is_done()}
            remaining = [name for name in remaining if name not in made]
            for name in remaining:
                one = tried[name]
                kind, message = (one.kind, one.message) if one.message else (faults.CHANGED, "its page is gone")
                failures[name] = Failure(name, kind, without_folders(message), attempt, without_folders(one.trace))
            if not remaining:
                break
        for name in made:
            failures.pop(name, None)
        return {name: made[name] for name in todo if name in made}

    def _tell(self, name: str, outcome: JobOutcome, attempt: int) -> None:
        self.teller.step()
        summary = outcome.summary or {}
        facts = {"subject": name, "state": outcome.state, "seconds": round(outcome.seconds, 1), "try": attempt}
        if outcome.state == "failed":
            reason = without_folders(outcome.message)
            words = f"{name}: failed after {outcome.seconds:.0f} s ({outcome.kind}): {reason}"
            self.teller.event("patient", words, **facts, kind=outcome.kind, reason=reason)
            return
        stage = summary.get("predicted")
        told = {"done": f"done in {outcome.seconds:.0f} s", "kept": "unchanged"}[outcome.state]
        self.teller.event("patient", f"{name}: {told}, {stage}", **facts, predicted=stage, flags=summary.get("flags"))

    def _tell_failure(self, one: Failure) -> None:
        words = f"{one.subject or 'a row of the cohort'}: failed ({one.kind}): {one.reason}"
        facts = {"subject": one.subject, "state": "failed", "kind": one.kind, "reason": one.reason, "try": one.tries}
        self.teller.event("patient", words, **facts)
