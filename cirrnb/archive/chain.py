"""`report_studies`: from an inbox of DICOM studies to a report, unattended: import, masks, checks, staging, pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

import cirrnb
from cirrnb.archive.inbox import AMBIGUOUS, BURNED_IN, DISK, UNCONVERTED, Inbox, read_inbox
from cirrnb.archive.intake import REFUSED, STATES, Intake, as_row, take_in
from cirrnb.archive.results import FAILED, RESULTS, require_writer
from cirrnb.archive.returning import ResultOutcome, return_results
from cirrnb.data import failure_kinds
from cirrnb.data.csv_file import read_csv, write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.locks import locked
from cirrnb.reports.folder import ReportFolder
from cirrnb.reports.operation import RunStatus, watched
from cirrnb.reports.patients import Failure
from cirrnb.reports.pdf import require_printer
from cirrnb.reports.report import CohortReport, ProgressLog, make_report
from cirrnb.reports.request import ReportRequest

STUDIES = {
    "study": "study- and a hash of its StudyInstanceUID, with which the owner of the DICOM files finds it",
    "subject": "source and id in the cohort, as in summary.csv and failures.csv",
    "state": "imported (in this run), known (from an earlier one), refused, or forgotten (by cirrnb forget)",
    "fault": "why it was refused, in one or two words; see the table of faults",
    "reason": "the same for a reader, with the series concerned, by their number in `cirrnb import-dicom --list`",
    "T1W_series": "hash of the series that was taken; empty where it has none",
    "T1W_chosen_because": "why that series",
    "T2W_series": "hash of the series that was taken; empty where it has none",
    "T2W_chosen_because": "why that series",
    "results": "of --dicom-out: written (in this run), kept (from an earlier one) or failed; empty where not asked for",
    "results_reason": "why they could not be written",
}
"""Columns of studies.csv, a row a study of the inbox, and what they mean."""

STUDIES_TABLE = "studies.csv"

_KINDS = {
    AMBIGUOUS: failure_kinds.REFUSED,
    BURNED_IN: failure_kinds.REFUSED,
    DISK: failure_kinds.DISK,
    UNCONVERTED: failure_kinds.BROKEN,
}
"""Kinds of failures.csv; other faults are wrong input."""


@dataclass(frozen=True)
class StudiesRequest:
    """What is asked for besides the report.

    Attributes
    ----------
    inbox : folder with DICOM studies at any depth.
    burned_in : take series whose pictures hold text as well.
    dicom_out : folder for results as DICOM objects, with the identity of their source images; None writes none.
    """

    inbox: Path
    burned_in: bool = False
    dicom_out: Path | None = None


def report_studies(
    studies: StudiesRequest, request: ReportRequest, progress: ProgressLog | None = None
) -> CohortReport:
    """Import the new studies of an inbox into `request.cohort` and make the report of that cohort.

    Studies that are not imported stand in failures.csv and in studies.csv, with the reason. One broken study does not
    stop the others; an interrupted run resumes. Nothing that is written outside `dicom_out` holds a name, a date or a
    UID of the files.

    Raises
    ------
    InputError, InputErrors
        If there is no such inbox, another run is at work on the cohort, and as `make_report`.
    """
    progress = progress or ProgressLog()
    report = ReportFolder(request.out.absolute())
    report.take()
    _require_apart(studies.dicom_out, request)
    if request.pdf:
        require_printer()  # before an hour of work
    with watched(report.status, cirrnb.__version__) as status:
        ended = _run(studies, request, report, progress, status)
        status.ended(ended.exit_code)
    return ended


def _run(
    studies: StudiesRequest, request: ReportRequest, report: ReportFolder, progress: ProgressLog, status: RunStatus
) -> CohortReport:
    inbox = read_inbox(studies.inbox)
    words = f"{len(inbox.studies)} studies in the inbox"
    progress.event("inbox", words, studies=len(inbox.studies), stray=inbox.stray)
    counted = _Counted(progress, len(inbox.studies))
    taken = take_in(inbox, request.cohort, burned_in=studies.burned_in, ended=counted.ended)
    states = Counter(intake.state for intake in taken)
    status.tell(studies={state: states[state] for state in STATES})
    ended = make_report(replace(request, not_imported=tuple(_failures(taken, inbox))), progress, status)
    outcomes: dict[str, ResultOutcome] = {}
    if studies.dicom_out is not None:
        outcomes = return_results(studies.dicom_out, request, report, inbox, taken, progress)
        results = Counter(outcome.state for outcome in outcomes.values())
        status.tell(results={state: results[state] for state in RESULTS})
    with locked(report.path):
        write_studies(report.path / STUDIES_TABLE, taken, outcomes)
    return replace(ended, failed=ended.failed + sum(outcome.state == FAILED for outcome in outcomes.values()))


def _require_apart(dicom_out: Path | None, request: ReportRequest) -> None:
    """Raise InputError if results, which carry identities, would lie where none belongs, or cannot be written."""
    if dicom_out is None:
        return
    require_writer()
    others = (request.out, request.cohort, *filter(None, (request.prepared, request.explanations)))
    if any(dicom_out.resolve().is_relative_to(other.resolve()) for other in others):
        expected = "a folder of its own: these files carry names"
        raise InputError("--dicom-out", "a folder of the report, its cohort or its maps", expected, "Choose another.")


def _failures(taken: Iterable[Intake], inbox: Inbox) -> Iterable[Failure]:
    for intake in taken:
        if intake.fault is not None:
            kind = _KINDS.get(intake.fault.code, failure_kinds.WRONG_INPUT)
            yield Failure(intake.subject, kind, f"{intake.fault.code}: {intake.fault.text}")
    if inbox.stray:
        reason = f"{inbox.stray} damaged files of the inbox of which no study is known; send their studies again"
        yield Failure("", failure_kinds.WRONG_INPUT, reason)


def write_studies(path: Path, taken: Sequence[Intake], outcomes: Mapping[str, ResultOutcome]) -> None:
    """Write studies.csv, atomically. `outcomes` are the results' by subject."""
    rows = []
    for intake in taken:
        outcome = outcomes.get(intake.subject, ResultOutcome(""))
        rows.append({**as_row(intake), "results": outcome.state, "results_reason": outcome.reason})
    write_csv(path, rows, list(STUDIES))


def read_studies(report: Path) -> pd.DataFrame:
    """studies.csv of a report's folder, one row a study; all of it is text. Raises InputError."""
    remedy = "Make the report again."
    return read_csv(report / STUDIES_TABLE, tuple(STUDIES), expected="the folder of a report", remedy=remedy)


class _Counted:
    """A line for each study."""

    def __init__(self, progress: ProgressLog, total: int):
        self._progress, self._total, self._done = progress, total, 0

    def ended(self, intake: Intake) -> None:
        self._done += 1
        detail = f" ({intake.fault.code}): {intake.fault.text}" if intake.fault else ""
        if intake.state != REFUSED:
            detail = "".join(f"; {sequence}, since: {why}" for sequence, why in intake.reasons.items())
        fault = intake.fault.code if intake.fault else ""
        facts = {"study": intake.name, "state": intake.state, "fault": fault, "done": self._done, "of": self._total}
        self._progress.event("study", f"{self._done}/{self._total} {intake.name}: {intake.state}{detail}", **facts)
