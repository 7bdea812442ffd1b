"""`report_studies`: from an inbox of DICOM studies, or an archive, to a report, unattended: import, masks, checks,
staging, pages, results and their way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

import cirrnb
from cirrnb.archive.dicomweb import Archive, ArchiveError, Patience, check_address, check_credentials
from cirrnb.archive.fetching import Fetched, Fetcher, Spool, StudyQuery, record_listings
from cirrnb.archive.inbox import AMBIGUOUS, BURNED_IN, DISK, UNCONVERTED, Inbox, read_inbox
from cirrnb.archive.intake import REFUSED, STATES, Intake, as_row, take_in
from cirrnb.archive.results import FAILED, KEPT, RESULTS, require_writer, results_folder
from cirrnb.archive.returning import ResultOutcome, return_results
from cirrnb.archive.sending import SENDING, Sender, SentOutcome
from cirrnb.data import failure_kinds
from cirrnb.data.csv_file import read_csv, write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.locks import locked
from cirrnb.reports.folder import ReportFolder
from cirrnb.reports.operation import RunStatus, watched
from cirrnb.reports.outcome import add_failures
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
    "results": "of --dicom-out and --to-dicomweb: written (in this run), kept (from an earlier one) or failed; empty "
    "where not asked for",
    "results_reason": "why they could not be written",
    "sent": "of --to-dicomweb: sent (in this run), kept (sent by an earlier one) or failed; empty where not asked for",
    "sent_reason": "why the archive does not have them",
}
"""Columns of studies.csv, a row a study of the inbox or of the archive's list, and what they mean."""

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
    inbox : folder with DICOM studies at any depth; None where they come from an archive.
    burned_in : take series whose pictures hold text as well.
    dicom_out : folder for results as DICOM objects, with the identity of their source images; None writes none.
    from_dicomweb : address of the archive that studies are fetched from. query : which of its studies.
    to_dicomweb : address of the archive that results are sent to.
    spool : folder for studies and results on their way; None takes spool/ and the name of the report.
    patience : limits after which an archive is given up.
    """

    inbox: Path | None = None
    burned_in: bool = False
    dicom_out: Path | None = None
    from_dicomweb: str | None = None
    query: StudyQuery = field(default_factory=StudyQuery)
    to_dicomweb: str | None = None
    spool: Path | None = None
    patience: Patience = field(default_factory=Patience)

    def check(self) -> None:
        """Raise InputError unless there is one source of studies and the addresses can be used."""
        if (self.inbox is None) == (self.from_dicomweb is None):
            problem = "no studies" if self.inbox is None else "an inbox and an archive"
            raise InputError("--from-dicom, --from-dicomweb", problem, "one source of studies", "Give one of them.")
        for option, url in (("--from-dicomweb", self.from_dicomweb), ("--to-dicomweb", self.to_dicomweb)):
            if url is not None:
                check_address(url, option)
        check_credentials(self.from_dicomweb, self.to_dicomweb)
        self.query.filters()


def report_studies(
    studies: StudiesRequest, request: ReportRequest, progress: ProgressLog | None = None
) -> CohortReport:
    """Import the new studies of an inbox or an archive into `request.cohort`, make the report of that cohort, and send
    the results.

    Studies that are not imported stand in failures.csv and in studies.csv, with the reason, and so does what an archive
    did not send or take. One broken study does not stop the others; an interrupted run resumes. Nothing that is written
    outside `dicom_out` and the spool holds a name, a date or a UID of the files.

    Raises
    ------
    InputError, InputErrors
        If there is no such inbox, an address or a query is none, another run is at work on the cohort, and as
        `make_report`.
    """
    progress = progress or ProgressLog()
    studies.check()
    report = ReportFolder(request.out.absolute())
    report.take()
    spool = Spool(studies.spool or Path("spool") / report.path.name)
    out = studies.dicom_out or (spool.outgoing if studies.to_dicomweb else None)
    _require_apart(out, request)
    if request.pdf:
        require_printer()  # before an hour of work
    with ExitStack() as stack:
        status = stack.enter_context(watched(report.status, cirrnb.__version__))
        if studies.from_dicomweb or studies.to_dicomweb:
            stack.enter_context(spool.opened())
        ended = _Run(studies, request, report, progress, status, spool, out).run()
        status.ended(ended.exit_code)
    return ended


class _Run:
    """One run, from the studies to what is sent."""

    def __init__(
        self,
        studies: StudiesRequest,
        request: ReportRequest,
        report: ReportFolder,
        progress: ProgressLog,
        status: RunStatus,
        spool: Spool,
        out: Path | None,
    ):
        self.studies, self.request, self.report = studies, request, report
        self.progress, self.status, self.spool, self.out = progress, status, spool, out
        self.fetcher: Fetcher | None = None
        self.sender: Sender | None = None
        if studies.from_dicomweb is not None:
            archive = Archive(studies.from_dicomweb, "--from-dicomweb", studies.patience)
            self.fetcher = Fetcher(archive, studies.query, spool, request.cohort, burned_in=studies.burned_in)
        if studies.to_dicomweb is not None:
            archive = Archive(studies.to_dicomweb, "--to-dicomweb", studies.patience)
            self.sender = Sender(archive, request.cohort, kept=studies.dicom_out is not None)

    def run(self) -> CohortReport:
        fetched = Fetched() if self.fetcher is None else self._fetch(self.fetcher)
        inbox = read_inbox(self.studies.inbox or self.spool.incoming)
        taken, failed = self._take_in(inbox, fetched)
        imports = tuple(_failures(taken, inbox))
        states = Counter(intake.state for intake in [*taken, *failed])
        self.status.tell(studies={state: states[state] for state in STATES})
        ended = make_report(replace(self.request, not_imported=imports), self.progress, self.status)
        results, sent = self._return(inbox, taken)
        problems = [*_not_fetched(fetched), *_not_returned(results, sent)]
        with locked(self.report.path):
            add_failures(self.report, problems, drift=ended.drift)
            write_studies(self.report.path / STUDIES_TABLE, [*taken, *failed], results, sent)
        return replace(ended, not_exchanged=len(problems))

    def _fetch(self, fetcher: Fetcher) -> Fetched:
        fetched = fetcher.fetch_new(self._report_fetched)
        words = f"{fetched.listed} studies in the archive, {len(fetched.listings)} fetched"
        facts = {"listed": fetched.listed, "fetched": len(fetched.listings), "not_fetched": len(fetched.failed)}
        self.status.tell(archive=facts | {"unanswered": bool(fetched.unanswered)})
        if fetched.unanswered:
            words = f"the archive did not answer: {fetched.unanswered}"
        self.progress.event("archive", words, **facts, reason=fetched.unanswered)
        return fetched

    def _report_fetched(self, name: str, trouble: ArchiveError | None) -> None:
        reason = "" if trouble is None else trouble.reason
        words = f"{name}: not fetched: {reason}" if reason else f"{name}: fetched"
        self.progress.event("fetched", words, study=name, reason=reason)

    def _take_in(self, inbox: Inbox, fetched: Fetched) -> tuple[list[Intake], list[Intake]]:
        """What became of the studies, and those that could not be fetched and of which nothing is known."""
        words = f"{len(inbox.studies)} studies in the inbox"
        self.progress.event("inbox", words, studies=len(inbox.studies), stray=inbox.stray)
        counted = _Counted(self.progress, len(inbox.studies))
        cohort = self.request.cohort
        taken = take_in(inbox, cohort, burned_in=self.studies.burned_in, ended=counted.ended)
        record_listings(cohort, fetched.listings, taken)
        names = {intake.name for intake in taken}
        taken += [intake for intake in fetched.known if intake.name not in names]
        names |= {intake.name for intake in taken}
        failed = [Intake(name, name, REFUSED, fault) for name, fault in fetched.failed.items() if name not in names]
        return taken, failed

    def _return(self, inbox: Inbox, taken: Sequence[Intake]) -> tuple[dict[str, ResultOutcome], dict[str, SentOutcome]]:
        """What became of the results, by subject: as they were written, and as they were sent."""
        results: dict[str, ResultOutcome] = {}
        sent: dict[str, SentOutcome] = {}
        if self.out is None:
            return results, sent
        more: dict[str, Any] = {}
        if self.fetcher is not None:
            more["restored"] = self._restored
        if self.sender is not None and self.studies.dicom_out is None:
            more["done"] = self.sender.is_sent
        results = return_results(self.out, self.request, self.report, inbox, taken, self.progress, **more)
        self.status.tell(results=_counted(RESULTS, results))
        if self.sender is not None:
            with results_folder(self.out) as folder:
                sent = self.sender.send_all(folder, self.progress)
            sent = {subject: SentOutcome(KEPT) for subject, each in results.items() if each.state == KEPT} | sent
            self.status.tell(sent=_counted(SENDING, sent))
        return results, sent

    def _restored(self, names: Sequence[str]) -> Inbox:
        assert self.fetcher is not None
        self.fetcher.fetch_again(names, self._report_fetched)
        return read_inbox(self.spool.incoming)


def _counted(states: Iterable[str], outcomes: Mapping[str, ResultOutcome | SentOutcome]) -> dict[str, int]:
    counts = Counter(outcome.state for outcome in outcomes.values())
    return {state: counts[state] for state in states}


def _not_fetched(fetched: Fetched) -> Iterator[Failure]:
    """Failures of no patient: one who is in the cohort keeps the page."""
    if fetched.unanswered:
        yield Failure("", failure_kinds.ARCHIVE, f"no list of studies: {fetched.unanswered}")
    for name, fault in fetched.failed.items():
        kind = failure_kinds.DISK if fault.code == DISK else failure_kinds.ARCHIVE
        yield Failure("", kind, f"{name}, {fault.code}: {fault.text}")


def _not_returned(results: Mapping[str, ResultOutcome], sent: Mapping[str, SentOutcome]) -> Iterator[Failure]:
    for subject, written in results.items():
        if written.state == FAILED:
            kind = failure_kinds.DISK if written.reason == failure_kinds.DISK else failure_kinds.BROKEN
            yield Failure(subject, kind, f"results not written: {written.reason}")
    for subject, outcome in sent.items():
        if outcome.state == FAILED:
            yield Failure(subject, failure_kinds.ARCHIVE, f"results not sent: {outcome.reason}")


def _require_apart(dicom_out: Path | None, request: ReportRequest) -> None:
    """Raise InputError if results, which carry identities, would lie where none belongs, or cannot be written."""
    if dicom_out is None:
        return
    require_writer()
    others = (request.out, request.cohort, *filter(None, (request.prepared, request.explanations)))
    if any(dicom_out.resolve().is_relative_to(other.resolve()) for other in others):
        expected = "a folder of its own: these files carry names"
        problem = "a folder of the report, its cohort or its maps"
        raise InputError("--dicom-out or --spool", problem, expected, "Choose another.")


def _failures(taken: Iterable[Intake], inbox: Inbox) -> Iterable[Failure]:
    for intake in taken:
        if intake.fault is not None:
            kind = _KINDS.get(intake.fault.code, failure_kinds.WRONG_INPUT)
            yield Failure(intake.subject, kind, f"{intake.fault.code}: {intake.fault.text}")
    if inbox.stray:
        reason = f"{inbox.stray} damaged files of the inbox of which no study is known; send their studies again"
        yield Failure("", failure_kinds.WRONG_INPUT, reason)


def write_studies(
    path: Path, taken: Sequence[Intake], results: Mapping[str, ResultOutcome], sent: Mapping[str, SentOutcome]
) -> None:
    """Write studies.csv, atomically. `results` and `sent` are by subject."""
    rows = []
    for intake in sorted(taken, key=lambda entry: entry.name):
        written = results.get(intake.subject, ResultOutcome(""))
        outcome = sent.get(intake.subject, SentOutcome(""))
        row = {**as_row(intake), "results": written.state, "results_reason": written.reason}
        rows.append({**row, "sent": outcome.state, "sent_reason": outcome.reason})
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
