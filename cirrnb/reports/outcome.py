"""How a report of a cohort ended, and what is written of it besides pages: tables, logs, provenance, history, index."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import atomic_write, file_stem
from cirrnb.data.bag import Bag
from cirrnb.data.csv_file import write_csv
from cirrnb.data.json_file import read_object
from cirrnb.data.scan import Cohort
from cirrnb.data.stage_scale import StageScale
from cirrnb.model.provenance import commit, fingerprint, now, versions
from cirrnb.reports.cohort_figures import scale_of
from cirrnb.reports.compute import ReportModel
from cirrnb.reports.drift import Drift, compare, read_history, tally, write_history
from cirrnb.reports.folder import ReportFolder
from cirrnb.reports.formats import templates_hash, write_index
from cirrnb.reports.pages import PageOutcome
from cirrnb.reports.patients import Failure
from cirrnb.reports.request import ReportRequest
from cirrnb.reports.tables import FAILURES, read_failures, read_summary, summary_columns, write_table
from cirrnb.view.page import banner


@dataclass(frozen=True)
class Outcome:
    """Pages that were made, by subject in the cohort's order, and failures, by subject."""

    request: ReportRequest
    made: Mapping[str, PageOutcome]
    failures: Mapping[str, Failure]

    def write(
        self, report: ReportFolder, model: ReportModel, cohort: Cohort, bags: Mapping[str, Bag], started: str
    ) -> Drift:
        """Write everything, each file atomically, the index last. `bags` are the patients with a page. Returns the run
        beside the last ones."""
        drift = self._drift(report, model.model.stages)
        report.sweep({file_stem(name) for name in self.made})
        self._write_tables(report, summary_columns(model.model.stages, cohort.sequences))
        provenance = {
            "started": started,
            "finished": now(),
            "cohort": {"name": cohort.name, "simulated": cohort.simulated, "patients": len(cohort.patients)},
            "data": fingerprint(bags.values()),
            "model": {
                "name": model.model.name,
                "fingerprint": model.model.fingerprint,
                "simulated": model.model.simulated,
            },
            "parameters": {
                "method": self.request.method,
                "limit": self.request.limit,
                "patients": list(self.request.patients),
            },
            "templates": templates_hash(),
            "versions": versions(),
            "commit": commit(),
            "made": len(self.made),
            "failed": len(self.failures),
        }
        atomic_write(report.provenance, json.dumps(provenance, indent=2) + "\n")
        made_by = f"cirrnb {versions()['cirrnb']}, model {model.model.name} {model.model.fingerprint[:16]}"
        if not self.made:
            report.cohort.unlink(missing_ok=True)
        write_index(
            report,
            f"Report of {cohort.name}",
            read_summary(report.path),
            read_failures(report.path),
            banner=banner(cohort.simulated, model.model.simulated),
            stages=model.model.stages,
            colophon=f"Made with {made_by}, on {now()[:10]}.",
            drift=str(drift),
        )
        return drift

    @property
    def new(self) -> list[PageOutcome]:
        """Pages that were made in this run."""
        return [outcome for outcome in self.made.values() if outcome.state == "done"]

    def _drift(self, report: ReportFolder, stages: StageScale) -> Drift:
        """The new patients of this run beside those of the last ones, whose history it joins."""
        refused = {subject for subject, failure in self.failures.items() if failure.kind == failure_kinds.REFUSED}
        if report.failures.exists():
            refused -= set(map(str, read_failures(report.path)["subject"]))
        rows = [outcome.summary for outcome in self.new if outcome.summary is not None]
        run, history = tally(now(), rows, len(refused), stages), read_history(report.history)
        if run.patients:
            write_history(report.history, [*history, run])
        return compare(run, history)

    def _write_tables(self, report: ReportFolder, columns: Sequence[str]) -> None:
        rows = []
        for name, outcome in self.made.items():
            record = outcome.job.record() or {}
            times = {"finished": record.get("finished"), "seconds": round(record.get("seconds", outcome.seconds), 1)}
            rows.append({**(outcome.summary or {}), "page": f"patients/{file_stem(name)}.html", **times})
        write_table(report.summary, rows, columns)
        logs = {name: _write_log(report, name, failure) for name, failure in self.failures.items()}
        for path in report.logs.iterdir():
            if f"logs/{path.name}" not in logs.values():
                path.unlink()
        failed = [_failure_row(failure, logs[name]) for name, failure in self.failures.items()]
        write_table(report.failures, failed, list(FAILURES))


def _failure_row(failure: Failure, log: str) -> dict[str, Any]:
    row = {name: value for name, value in asdict(failure).items() if name in FAILURES}
    return {**row, "subject": failure.subject or None, "log": log, "finished": now()}


def _write_log(report: ReportFolder, name: str, failure: Failure) -> str:
    path = report.logs / f"{file_stem(name)}.txt"
    who = failure.subject or "a row of the cohort"
    trace = f"\n{failure.trace}\n" if failure.trace else ""
    atomic_write(path, f"{who}\n{failure.kind}, tried {failure.tries} times\n\n{failure.reason}\n{trace}")
    return f"logs/{path.name}"


def add_failures(report: ReportFolder, failures: Sequence[Failure], drift: str = "") -> None:
    """Add what failed after the report was made, of patients with a page too; the index is written again, with this
    line of drift."""
    if not failures:
        return
    rows = []
    for number, failure in enumerate(failures):
        name = failure.subject or f"?{failure.reason}"
        rows.append(_failure_row(failure, _write_log(report, f"{name} {number} archive", failure)))
    written = read_failures(report.path)
    write_csv(report.failures, pd.DataFrame([*written.to_dict("records"), *rows], columns=list(FAILURES)))
    rewrite_index(report, drift)


def rewrite_index(report: ReportFolder, drift: str = "") -> None:
    """Write the index from what stands in a report's folder, after rows were added or removed."""
    made, failed = read_summary(report.path), read_failures(report.path)
    stored = read_object(report.provenance, "the provenance of a report", "Make the report again.")
    model = stored["model"]
    made_by = f"cirrnb {stored['versions']['cirrnb']}, model {model['name']} {model['fingerprint'][:16]}"
    write_index(
        report,
        f"Report of {stored['cohort']['name']}",
        made,
        failed,
        banner=banner(bool(stored["cohort"]["simulated"]), bool(model["simulated"])),
        stages=scale_of(made),
        colophon=f"Made with {made_by}, on {str(stored['finished'])[:10]}.",
        drift=drift,
    )
