"""New studies of an inbox imported into a cohort: which series and why, or the reason why a study is not imported."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cirrnb
from cirrnb.archive.cohort_rows import read_table, remove_patient, rows_of
from cirrnb.archive.inbox import (
    AMBIGUOUS,
    BURNED_IN,
    COLLIDING,
    DISK,
    FAULTS,
    INCOMPLETE,
    NO_LIVER_MR,
    UNCONVERTED,
    Fault,
    Inbox,
    Study,
    is_name,
)
from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.dicom.importing import SOURCE, DicomFolder, hash_of, import_dicom
from cirrnb.data.dicom.series_choice import NONE, Judged, choose
from cirrnb.data.dicom.series_faults import find_fault
from cirrnb.data.errors import InputError
from cirrnb.data.failure_kinds import is_full, without_names
from cirrnb.data.json_file import read_object
from cirrnb.data.layouts.folder import TABLE
from cirrnb.data.locks import locked
from cirrnb.data.sequences import T1W_T2W

RECORDS = ".studies"
"""Folder in the cohort with a record of each study that was looked at."""

IMPORTED, KNOWN, REFUSED, FORGOTTEN = "imported", "known", "refused", "forgotten"
STATES = {
    IMPORTED: "its scans were added to the cohort in this run",
    KNOWN: "its scans were added by an earlier run, and nothing of it changed",
    REFUSED: "it has no scans in the cohort; the fault says why",
    FORGOTTEN: "`cirrnb forget` removed it, and it is not imported again",
}

_VERSION = 1
"""Raised by hand when the same study gets another record; studies with another are looked at again."""

_QUOTED_BY_PROGRAM = re.compile(r"; its last error: .*?(?=\)$|$)", re.DOTALL)


@dataclass(frozen=True)
class Intake:
    """What became of one study.

    Attributes
    ----------
    name : of the study, as `Study.name`.
    patient : the id in the cohort: the same, or what somebody called the study who imported it by hand.
    state : one of `STATES`.
    fault : why it is not in the cohort, or None.
    series : sequence -> hash of the series that was taken, as in the cohort's table.
    reasons : sequence -> why that series was taken.
    """

    name: str
    patient: str
    state: str
    fault: Fault | None = None
    series: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """Source and id, as in the cohort."""
        return f"{SOURCE}/{self.patient}"


class _Unclear(Exception):
    """Several series may be one sequence."""

    def __init__(self, sequence: str, candidates: Sequence[Judged]):
        super().__init__(sequence)
        self.sequence, self.candidates = sequence, candidates


def forget_study(cohort: Path, patient: str) -> bool:
    """Have a study that was imported as this patient never imported again; what is kept of it is the hash that is its
    name. False where there is no record of it. Raises InputError if a run is at work on the cohort."""
    records = cohort / RECORDS
    if not records.is_dir():
        return False
    with locked(records):
        for path in sorted(records.glob("*.json")):
            try:
                stored = read_object(path, "a whole record", "Delete it.")
                name, matches = str(stored["name"]), stored["patient"] == patient
            except (OSError, ValueError, KeyError):
                continue
            if matches:
                forgotten = Intake(name, name, FORGOTTEN)
                atomic_write(path, json.dumps({"key": "", **asdict(forgotten)}, indent=1) + "\n")
                return True
    return False


def take_in(
    inbox: Inbox,
    cohort: Path,
    *,
    burned_in: bool = False,
    ended: Callable[[Intake], object] = lambda intake: None,
) -> list[Intake]:
    """Import each new study of an inbox; one that fails does not stop the others.

    A study that was looked at before and has the same files is not looked at again. One to which files came is, and
    its scans are replaced if other series are chosen now. A run that was stopped goes on with the next.

    Parameters
    ----------
    cohort : folder to which scans are added; made if need be.
    burned_in : take series whose pictures hold text (BurnedInAnnotation YES) as well.
    ended : called with what became of each study.

    Raises
    ------
    InputError
        If another run is at work on the cohort, its folder cannot be written, or its table cannot be read.
    """
    records = cohort / RECORDS
    outcomes = []
    with locked(records):
        for study in inbox.studies:
            outcomes.append(_take_in(study, inbox.path, cohort, burned_in))
            ended(outcomes[-1])
    return outcomes


def judgement(burned_in: bool) -> str:
    """Stands for how studies are judged; whatever was judged in another way is looked at again."""
    return f"{_VERSION} {cirrnb.__version__} {burned_in}"


def remembered(cohort: Path, name: str) -> Intake | None:
    """What the last run that looked at this study made of it; None where none did, its scans are gone, or it is worth
    another try."""
    before = _recorded(_record(cohort, name))
    return before if before is not None and _holds(cohort, before) else None


def _record(cohort: Path, name: str) -> Path:
    return cohort / RECORDS / f"{name}.json"


def _take_in(study: Study, folder: Path, cohort: Path, burned_in: bool) -> Intake:
    key = f"{judgement(burned_in)} {study.content}"
    path = _record(cohort, study.name)
    if (before := _recorded(path, key)) is not None and _holds(cohort, before):
        return before
    try:
        intake = _import(study, folder, cohort, burned_in)
    except OSError as error:
        if not is_full(error):
            raise
        return _refused(study, Fault(DISK, FAULTS[DISK]))  # no record: it is tried again
    try:
        atomic_write(path, json.dumps({"key": key, **asdict(intake)}, indent=1) + "\n")
    except OSError as error:
        if not is_full(error):
            raise  # without a record the study is looked at again; its scans are whole
    return intake


def _recorded(path: Path, key: str | None = None) -> Intake | None:
    """What an earlier run found, or None where there was none, or the study is another now. Any study without key."""
    try:
        stored = read_object(path, "a whole record", "Delete it.")
        if stored["state"] == FORGOTTEN:
            return Intake(stored["name"], stored["patient"], FORGOTTEN)
        if key is not None and stored["key"] != key:
            return None
        fault = Fault(**stored["fault"]) if stored["fault"] else None
        state = KNOWN if stored["state"] == IMPORTED else stored["state"]
        if fault is not None and fault.code in (UNCONVERTED, DISK):
            return None
        return Intake(stored["name"], stored["patient"], state, fault, stored["series"], stored["reasons"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holds(cohort: Path, intake: Intake) -> bool:
    """True if the cohort still holds the scans of the record, files included."""
    if intake.state in (REFUSED, FORGOTTEN):
        return True
    rows = rows_of(cohort, intake.patient)
    held = {str(row.get("sequence")): row.get("series") for row in rows}
    return held == dict(intake.series) and all((cohort / str(row["image"])).is_file() for row in rows)


def _refused(study: Study, fault: Fault) -> Intake:
    return Intake(study.name, study.name, REFUSED, fault)


def _by_hand(listing: DicomFolder, name: str, cohort: Path) -> Intake | None:
    """The study as somebody imported it with `cirrnb import-dicom`, or None where nobody did."""
    hashes = {hash_of(volume.series) for volume in listing.judged}
    rows = [row for row in read_table(cohort / TABLE) if row.get("series") in hashes and row.get("patient") != name]
    if not rows:
        return None
    patient = str(rows[0]["patient"])
    patient_rows = [row for row in rows if row["patient"] == patient]
    series = {row["sequence"]: str(row["series"]) for row in patient_rows}
    return Intake(name, patient, KNOWN, None, series, {row["sequence"]: row["chosen_because"] for row in patient_rows})


def _is_of_another_study(cohort: Path, named: Intake) -> bool:
    """Whether the patient whose series the study has was imported from another study."""
    if is_name(named.patient):
        return True
    for path in (cohort / RECORDS).glob("*.json"):
        other = _recorded(path)
        if other is not None and other.name != named.name and other.patient == named.patient:
            return True
    return False


def _import(study: Study, folder: Path, cohort: Path, burned_in: bool) -> Intake:
    """Import one study. Whatever of it stood in the cohort and is not true any more is removed first."""
    if study.fault is not None:
        remove_patient(cohort, study.name)
        return _refused(study, study.fault)
    listing = study.listing(folder)
    if (named := _by_hand(listing, study.name, cohort)) is not None:
        remove_patient(cohort, study.name)
        if _is_of_another_study(cohort, named):
            # Else this study would get the answer of another patient.
            return _refused(study, Fault(COLLIDING, "a SeriesInstanceUID is that of a study that was imported before"))
        return named
    chosen, fault = _chosen(listing, burned_in)
    if fault is not None:
        remove_patient(cohort, study.name)
        return _refused(study, fault)
    series = {sequence: hash_of(volume.series) for sequence, (volume, _) in chosen.items()}
    reasons = {sequence: why for sequence, (_, why) in chosen.items()}
    intake = Intake(study.name, study.name, IMPORTED, None, series, reasons)
    if _holds(cohort, intake):
        return replace(intake, state=KNOWN)
    remove_patient(cohort, study.name)
    try:
        import_dicom(listing, cohort, name=study.name, ask=_refuse_to_guess)
    except InputError as error:
        return _refused(study, Fault(UNCONVERTED, _error_text(error)))
    return intake


def _chosen(listing: DicomFolder, burned_in: bool) -> tuple[Mapping[str, tuple[Judged, str]], Fault | None]:
    """Sequence -> volume and why, and what speaks against taking them."""
    judged = listing.judged
    try:
        chosen = choose(judged, {}, _refuse_to_guess)
    except _Unclear as unclear:
        shown = "; ".join(f"series {each.number} ({each.verdict.why})" for each in unclear.candidates[:8])
        rest = f"; and {len(unclear.candidates) - 8} more" if len(unclear.candidates) > 8 else ""
        text = f"{len(unclear.candidates)} series may be {unclear.sequence}: {shown}{rest}"
        return {}, Fault(AMBIGUOUS, without_names(text))
    except InputError:
        return {}, Fault(AMBIGUOUS, "one series would be both T1W and T2W")
    if len(chosen) < len(T1W_T2W):
        # A scan with a hole must not leave the study to be staged from the other one alone.
        for volume in judged:
            fault = find_fault(volume.series)
            if fault is not None and "missing: " in fault[0]:
                return {}, Fault(INCOMPLETE, without_names(f"series {volume.number}: {fault[0]}"))
    if not chosen:
        shown = "; ".join(f"series {each.number}: {each.verdict.why}" for each in judged[:6])
        rest = f"; and {len(judged) - 6} more" if len(judged) > 6 else ""
        return {}, Fault(NO_LIVER_MR, without_names(f"{shown}{rest}"))
    texts = [str(volume.number) for volume, _ in chosen.values() if volume.series.burned_in]
    if texts and not burned_in:
        return {}, Fault(BURNED_IN, f"series {', '.join(texts)}: text is part of the pictures (BurnedInAnnotation YES)")
    return chosen, None


def _refuse_to_guess(sequence: str, candidates: Sequence[Judged]) -> int:
    if not candidates:
        return NONE
    raise _Unclear(sequence, candidates)


def _error_text(error: InputError) -> str:
    """The error of an import, without the series' description and without the output of another program."""
    return without_names(_QUOTED_BY_PROGRAM.sub("", error.found))


def as_row(intake: Intake) -> dict[str, Any]:
    """A row of studies.csv."""
    choice = {
        name: value
        for sequence in T1W_T2W
        for name, value in (
            (f"{sequence}_series", intake.series.get(sequence)),
            (f"{sequence}_chosen_because", intake.reasons.get(sequence)),
        )
    }
    fault = intake.fault or Fault("", "")
    return {
        "study": intake.name,
        "subject": intake.subject,
        "state": intake.state,
        "fault": fault.code,
        "reason": fault.text,
        **choice,
    }
