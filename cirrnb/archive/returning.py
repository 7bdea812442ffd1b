"""The results of a report written for the studies of an inbox: new answers only, and one failure stops no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cirrnb
from cirrnb.archive.findings import ModelFacts
from cirrnb.archive.inbox import Inbox, Study
from cirrnb.archive.intake import IMPORTED, KNOWN, Intake
from cirrnb.archive.results import FAILED, KEPT, WRITTEN, Answer, is_written, results_folder, write_answer
from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import file_stem, remove_unfinished
from cirrnb.data.dicom.importing import hash_of
from cirrnb.data.dicom.series import Series
from cirrnb.data.errors import InputError
from cirrnb.data.failure_kinds import is_full, without_names
from cirrnb.data.json_file import read_object
from cirrnb.model.trained_model import load_model
from cirrnb.reports.folder import ReportFolder
from cirrnb.reports.patients import Ready, make_ready, read_patients
from cirrnb.reports.report import ProgressLog
from cirrnb.reports.request import ReportRequest
from cirrnb.reports.tables import read_failures, read_summary


@dataclass(frozen=True)
class ResultOutcome:
    """What became of one patient's objects: a state of `cirrnb.archive.results.RESULTS` and why it failed."""

    state: str
    reason: str = ""


def return_results(
    folder: Path,
    request: ReportRequest,
    report: ReportFolder,
    inbox: Inbox,
    taken: Sequence[Intake],
    progress: ProgressLog,
    *,
    done: Callable[[Answer], bool] = lambda answer: False,
    restored: Callable[[Sequence[str]], Inbox] | None = None,
) -> dict[str, ResultOutcome]:
    """Write the objects of every study that has an answer, a refusal by a check included; what became of them, by
    subject.

    Parameters
    ----------
    done : whether the objects of an answer are needed no more, as when they were sent.
    restored : fetches the studies of these names once more and gives the inbox with them; None where `inbox` has all.

    Raises InputError where `folder` holds something else or another run is at work in it.
    """
    outcomes: dict[str, ResultOutcome] = {}
    by_subject = {intake.subject: intake for intake in taken if intake.state in (IMPORTED, KNOWN)}
    with results_folder(folder):
        remove_unfinished(folder)
        answers = {answer.subject: answer for answer in _answers(request, report, by_subject)}
        todo = {
            subject: answer for subject, answer in answers.items() if not (is_written(folder, answer) or done(answer))
        }
        outcomes |= {subject: ResultOutcome(KEPT) for subject in answers if subject not in todo}
        ready = _ready(request, [subject for subject, answer in todo.items() if answer.stored is not None])
        names, known = {by_subject[subject].name for subject in todo}, {study.name for study in inbox.studies}
        if restored is not None and not names <= known:
            inbox = restored(sorted(names - known))
        studies = {study.name: study for study in inbox.studies}
        for subject, answer in todo.items():
            outcome = _write(folder, answer, studies.get(by_subject[subject].name), inbox.path, ready)
            outcomes[subject] = outcome
            reason = f": {outcome.reason}" if outcome.reason else ""
            facts = {"subject": subject, "state": outcome.state, "reason": outcome.reason}
            progress.event("results", f"{subject}: results {outcome.state}{reason}", **facts)
    return outcomes


def _answers(request: ReportRequest, report: ReportFolder, taken: Mapping[str, Intake]) -> Iterator[Answer]:
    """The answers that the report holds about these studies."""
    model = read_object(report.provenance, "the provenance of a report", "Make the report again.")["model"]
    facts = ModelFacts(str(model["name"]), cirrnb.__version__, str(model["fingerprint"]))
    for subject in map(str, read_summary(report.path)["subject"]):
        if subject in taken:
            page = report.patients / f"{file_stem(subject)}.html"
            mark = read_object(page.with_name(f".{page.stem}.key"), "a whole file", "Make the page again.", 2**28)
            pdf = page.with_suffix(".pdf")
            yield Answer(
                subject=subject,
                page=str(mark["key"]),
                series=taken[subject].series,
                model=facts,
                stored=page.with_suffix(".json"),
                pdf=pdf if request.pdf and pdf.exists() else None,
                model_simulated=bool(model["simulated"]),
            )
    failed = read_failures(report.path)
    refused = failed[failed["kind"] == failure_kinds.REFUSED]
    for subject, reason in zip(refused["subject"].map(str), refused["reason"].map(str), strict=True):
        if subject in taken:
            yield Answer(
                subject=subject,
                page=reason,
                series=taken[subject].series,
                model=facts,
                reason=reason,
                model_simulated=bool(model["simulated"]),
            )


def _ready(request: ReportRequest, subjects: Sequence[str]) -> Ready:
    """Prepared scans with masks of these patients; they were made for the report and are found again."""
    if not subjects:
        return Ready()
    model = load_model(request.model)
    cohort, _ = read_patients(request.cohort, model, request.sequences)
    folder = request.prepared or Path("prepared") / cohort.name
    return make_ready(cohort, subjects, folder, model.preparation, request.jobs, force=request.force)


def _write(folder: Path, answer: Answer, study: Study | None, inbox: Path, ready: Ready) -> ResultOutcome:
    if study is None:
        return ResultOutcome(FAILED, "its source images could not be fetched once more")
    if answer.stored is not None and answer.subject not in ready.bags:
        return ResultOutcome(FAILED, "its prepared scans are gone")
    try:
        write_answer(folder, answer, _series(study, inbox, answer), ready.bags.get(answer.subject))
    except InputError as error:
        return ResultOutcome(FAILED, without_names(error.found))
    except OSError as error:
        return ResultOutcome(FAILED, failure_kinds.DISK if is_full(error) else type(error).__name__)
    except (AttributeError, TypeError, ValueError) as error:  # of values that DICOM does not allow; they may be names
        return ResultOutcome(FAILED, f"the source images do not allow it ({type(error).__name__})")
    return ResultOutcome(WRITTEN)


def _series(study: Study, inbox: Path, answer: Answer) -> dict[str, Series]:
    known = {hash_of(volume.series): volume.series for volume in study.listing(inbox).judged}
    missing = [sequence for sequence, name in answer.series.items() if name not in known]
    if missing:
        expected = "the DICOM series that were imported"
        raise InputError(study.name, f"no series of its {' and '.join(missing)}", expected, "Restore them.")
    return {sequence: known[name] for sequence, name in answer.series.items()}
