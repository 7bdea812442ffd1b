"""What a run leaves beside the patients' pages: tables, logs, the page of the whole cohort, provenance and index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cirrnb.data.names import file_stem
from cirrnb.data.prepared import Bag
from cirrnb.data.scan import Cohort
from cirrnb.data.writing import write_whole
from cirrnb.model.provenance import commit, fingerprint, versions
from cirrnb.model.trained import TrainedModel
from cirrnb.run.fanout import JobOutcome, fan_out
from cirrnb.run.faults import without_folders
from cirrnb.run.job import NotebookJob
from cirrnb.run.notebooks import find_notebook
from cirrnb.run.page import Place
from cirrnb.run.provenance import now
from cirrnb.run.reports.folder import ReportFolder
from cirrnb.run.reports.index import COHORT, LINKS, write_index
from cirrnb.run.reports.order import Order
from cirrnb.run.reports.patients import TRIES, Failure
from cirrnb.run.reports.tables import FAILURES, read_failures, read_summary, summary_columns, write_table
from cirrnb.view.notice import banner

WHOLE = "08_cohort_report"


@dataclass
class Outcome:
    """Who has a page, as subject -> how it was made, and who has none, as subject -> why."""

    report: ReportFolder
    order: Order
    made: Mapping[str, JobOutcome]
    failures: dict[str, Failure]
    kernels: Mapping[str, str] = field(default_factory=dict)

    def write(
        self,
        model: TrainedModel,
        known: str,
        people: Cohort,
        bags: Mapping[str, Bag],
        *,
        notebook: str,
        started: str,
        claim: str,
    ) -> None:
        """Write everything, each file whole or not at all, the index last.

        Parameters
        ----------
        known : the model's fingerprint. bags : the patients who have a page. notebook : that made them.
        """
        report = self.report
        report.sweep({file_stem(name) for name in self.made})
        columns = summary_columns(model.stages, people.sequences)
        self._write_tables(columns)
        failure = self._whole(claim)
        if failure is not None:
            self.failures["?whole"] = failure
            self._write_tables(columns)
        told = {
            "started": started,
            "finished": now(),
            "cohort": {"name": people.name, "simulated": people.simulated, "patients": len(people.patients)},
            "data": fingerprint(bags.values()),
            "model": {"name": model.name, "fingerprint": known, "simulated": model.simulated},
            "parameters": {
                "method": self.order.method,
                "limit": self.order.limit,
                "single_file": self.order.single_file,
                "patients": list(self.order.patients),
            },
            "notebooks": {find_notebook(name).stem: _hash(find_notebook(name)) for name in (notebook, WHOLE)},
            "versions": versions(),
            "commit": commit(),
            "made": len(self.made),
            "failed": len(self.failures),
        }
        write_whole(report.provenance, json.dumps(told, indent=2) + "\n")
        write_index(
            report,
            f"Report of {people.name}",
            read_summary(report.path),
            read_failures(report.path),
            banner=banner(people.simulated, model.simulated),
            whole=bool(self.made) and failure is None,
            stages=model.stages,
            colophon=f"Made with cirrnb {versions()['cirrnb']}, model {model.name} {known[:16]}, on {now()[:10]}.",
        )

    def _write_tables(self, columns: Sequence[str]) -> None:
        rows = []
        for name, outcome in self.made.items():
            told = {key: value for key, value in (outcome.summary or {}).items() if key != "after"}
            record = outcome.job.record() or {}
            times = {"finished": record.get("finished"), "seconds": round(record.get("seconds", outcome.seconds), 1)}
            rows.append({**told, "page": f"patients/{file_stem(name)}.html", **times})
        write_table(self.report.summary, rows, columns)
        logs = {name: self._log(name, one) for name, one in self.failures.items()}
        for path in self.report.logs.iterdir():
            if f"logs/{path.name}" not in logs.values():
                path.unlink()
        said = [
            {
                "subject": one.subject or None,
                "kind": one.kind,
                "reason": one.reason,
                "tries": one.tries,
                "log": logs[name],
                "finished": now(),
            }
            for name, one in self.failures.items()
        ]
        write_table(self.report.failures, said, list(FAILURES))

    def _log(self, name: str, one: Failure) -> str:
        path = self.report.logs / f"{file_stem(name)}.txt"
        who = one.subject or "a row of the cohort"
        write_whole(path, f"{who}\n{one.kind}, tried {one.tries} times\n\n{one.reason}\n\n{one.trace}\n")
        return f"logs/{path.name}"

    def _whole(self, claim: str) -> Failure | None:
        """Make the page of the whole cohort; why that failed, or None."""
        page = self.report.path / COHORT
        if not self.made:
            page.unlink(missing_ok=True)
            return None
        reasons = "".join(read_failures(self.report.path)["reason"].fillna(""))
        job = NotebookJob(
            WHOLE,
            {},
            self.report.path,
            after=hashlib.sha256((_hash(self.report.summary) + reasons).encode()).hexdigest(),
            places={"report": str(self.report.path)},
            place=Place(LINKS, single_file=self.order.single_file),
            limit=self.order.limit,
            keeps=False,
            claim=(self.report.claim, claim),
        )
        for _ in range(TRIES):
            [outcome] = fan_out([job], 1, tell=lambda _: None, environment=self.kernels)
            if outcome.state != "failed":
                return None
        page.unlink(missing_ok=True)
        reason, trace = f"{WHOLE}: {without_folders(outcome.message)}", without_folders(outcome.trace)
        return Failure("", outcome.kind, reason, TRIES, trace)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
