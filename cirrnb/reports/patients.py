"""Which patients a report is about, their scans made ready, and who cannot be reported and why."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cirrnb
from cirrnb.data import failure_kinds
from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError, InputErrors, listed
from cirrnb.data.failure_kinds import without_names
from cirrnb.data.prepared import PreparationSettings
from cirrnb.data.scan import Cohort
from cirrnb.model.trained_model import TrainedModel
from cirrnb.preparation.store import StorageError
from cirrnb.reports.compute import unreadable

TRIES = 2
"""How often anything is tried."""


@dataclass(frozen=True)
class Failure:
    """Why a patient has no page. `subject` is "" where the patient of a row is unknown."""

    subject: str
    kind: str
    reason: str
    tries: int = 1
    trace: str = ""


@dataclass
class Ready:
    """Patients whose scans are all there, as bags, and the failures of the others, by subject."""

    bags: dict[str, Bag] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)


def read_patients(
    path: Path | str, model: TrainedModel, sequences: str | None = None
) -> tuple[Cohort, dict[str, Failure]]:
    """The cohort in the model's stages and sequences (or those named), and why some of its patients cannot be reported.

    Raises InputErrors where nothing can be read.

    A patient with one wrong row is left out as a whole: a stage from half of what there is would look like any other.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the problems are listed in failures.csv
        cohort = cirrnb.read_cohort(path, on_problem="skip", **model.vocabulary(sequences))
    failures: dict[str, Failure] = {}
    for problem in cohort.problems:
        reason = without_names(f"{problem.where}: {problem.found}; expected {problem.expected}")
        for subject in problem.subjects or ("",):
            failures.setdefault(subject or f"?{problem.where}", Failure(subject, failure_kinds.WRONG_INPUT, reason))
    return cohort, failures


def choose(cohort: Cohort, failures: Mapping[str, Failure], wanted: Sequence[str]) -> list[str]:
    """Subjects in the cohort's order; an id alone ("12") does where one patient has it; no name asks for all.

    Raises InputError for a name that nobody or several have.
    """
    known = [*dict.fromkeys(scan.subject for scan in cohort.scans)]
    known += [subject for subject in failures if subject not in known and not subject.startswith("?")]
    if not wanted:
        return [subject for subject in known if subject not in failures]
    chosen = set()
    for name in wanted:
        matches = [subject for subject in known if subject == name or subject.partition("/")[2] == name]
        if len(matches) != 1:
            many = listed(matches) if matches else "nobody of this name"
            expected = f"one of {len(known)} patients, for example {listed(known[:3])}"
            raise InputError("patients", f"{name!r}: {many}", expected, "Write source/id.")
        chosen.add(matches[0])
    return [subject for subject in known if subject in chosen and subject not in failures]


def make_ready(
    cohort: Cohort,
    subjects: Sequence[str],
    folder: Path,
    settings: PreparationSettings,
    workers: int | None,
    *,
    force: bool = False,
) -> Ready:
    """Prepare the scans of these patients; what fails is tried once more. `force` as `cirrnb.prepare` takes it."""
    ready = Ready()
    remaining = list(subjects)
    for _ in range(TRIES):
        attempt = _prepare(cohort, remaining, folder, settings, workers, force)
        ready.bags |= attempt.bags
        ready.failures = attempt.failures
        remaining = list(attempt.failures)
        if not remaining:
            break
    failures = {
        name: Failure(failure.subject, failure.kind, failure.reason, TRIES) for name, failure in ready.failures.items()
    }
    return Ready({name: ready.bags[name] for name in subjects if name in ready.bags}, failures)


def _prepare(
    cohort: Cohort,
    subjects: Sequence[str],
    folder: Path,
    settings: PreparationSettings,
    workers: int | None,
    force: bool,
) -> Ready:
    try:
        return _sorted_out(_prepared(cohort.select(keep=subjects), folder, settings, workers, force))
    except (InputErrors, StorageError):
        # Nothing at all, or no room for more: patient by patient, so that what is prepared already is found.
        return _together(_alone(cohort, subject, folder, settings, force) for subject in subjects)


def _prepared(
    cohort: Cohort, folder: Path, settings: PreparationSettings, workers: int | None, force: bool
) -> PreparedCohort:
    watched = sys.stderr.isatty() and len(cohort) > len(cohort.sequences)
    return cirrnb.prepare(cohort, folder, settings, workers=workers, progress=watched, force=force)


def _alone(cohort: Cohort, subject: str, folder: Path, settings: PreparationSettings, force: bool) -> Ready:
    scans = cohort.select(keep=[subject])
    try:
        return _sorted_out(_prepared(scans, folder, settings, 1, force))
    except InputErrors as errors:
        names = [f"{scan.sequence}: {error.found}" for scan, error in zip(scans.scans, errors.errors, strict=False)]
        return Ready({}, {subject: Failure(subject, failure_kinds.WRONG_INPUT, without_names("; ".join(names)))})
    except StorageError as error:
        kind = failure_kinds.DISK if failure_kinds.is_full(error) else failure_kinds.BROKEN
        return Ready({}, {subject: Failure(subject, kind, without_names(f"prepared scans: {error.found}"))})


def _sorted_out(prepared: PreparedCohort) -> Ready:
    failed = {
        str(subject): Failure(str(subject), failure_kinds.WRONG_INPUT, without_names(unreadable(rows)))
        for subject, rows in prepared.failures.groupby("subject", sort=False)
    }
    bags = {bag.subject: bag for bag in prepared.bags() if bag.subject not in failed}
    return Ready(bags, failed)


def _together(parts: Iterable[Ready]) -> Ready:
    whole = Ready()
    for part in parts:
        whole.bags |= part.bags
        whole.failures |= part.failures
    return whole
