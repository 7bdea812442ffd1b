"""Whether a scan can be answered for: answered, doubtful or refused, with reasons that tables carry as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cirrnb.data.errors import InputError
from cirrnb.data.scan import Scan

ANSWERED, DOUBTFUL, REFUSED = "answered", "doubtful", "refused"
STATUSES = (ANSWERED, DOUBTFUL, REFUSED)
"""From the best to the gravest."""

STATUS_COLUMN, REASONS_COLUMN = "checked", "check_reasons"
"""Columns of a cohort's table: what checks made of a scan, and why."""


USUAL, UNUSUAL, FAR = "usual", "unusual", "far"
GRADES = (USUAL, UNUSUAL, FAR)
"""How far a scan lies from those that models learnt from; of a patient with a scan that is far the stage is hidden on
screen until the reader asks for it."""

GRADE_COLUMN, DISTANCE_COLUMN = "likeness", "likeness_distance"
"""Columns of a cohort's table: a scan's grade, and its distance, 1 being the limit of usual."""

IMPORT_DOUBTS = "import_doubts"
"""Column of a cohort's table: what spoke against a DICOM series when it was imported."""


@dataclass(frozen=True)
class Reason:
    """Why an answer is doubtful or refused.

    Attributes
    ----------
    code : one word, such as "presence", "sequence", "side", "pair", "forced", "unusual".
    text : for a reader. remedy : what to do; may be empty.
    """

    code: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" + (f" ({self.remedy})" if self.remedy else "")


class Refused(InputError):
    """A patient who is not staged because a check of the scans failed."""


def reasons_text(reasons: Iterable[Reason]) -> str:
    """Reasons as one cell of a table."""
    return " | ".join(str(reason) for reason in reasons)


_REASON = re.compile(r"(?P<code>[a-z ]+): (?P<text>.*?)(?: \((?P<remedy>[^()]*)\))?")


def reasons_of(text: str | None) -> tuple[Reason, ...]:
    """Reasons from a cell that `reasons_text` wrote; text of another form becomes a reason unchanged."""
    reasons = []
    for part in filter(None, (text or "").split(" | ")):
        match = _REASON.fullmatch(part)
        reasons.append(Reason(match["code"], match["text"], match["remedy"] or "") if match else Reason("check", part))
    return tuple(reasons)


def status_of_scans(scans: Sequence[Scan]) -> tuple[str, tuple[Reason, ...]]:
    """The gravest status of some scans of one patient, and all their reasons; "answered" where nothing was checked."""
    statuses = [str(scan.extra.get(STATUS_COLUMN) or ANSWERED) for scan in scans]
    gravest = max((status for status in statuses if status in STATUSES), key=STATUSES.index, default=ANSWERED)
    reasons: dict[str, Reason] = {}
    for scan in scans:
        if doubts := scan.extra.get(IMPORT_DOUBTS):
            text = f"{scan.sequence}: {doubts}"
            reasons[f"import {text}"] = Reason("import", text, "Check which series was imported.")
            gravest = max(gravest, DOUBTFUL, key=STATUSES.index)
        of_scan = reasons_of(scan.extra.get(REASONS_COLUMN))
        without_liver = any(reason.code == "presence" for reason in of_scan)
        for reason in of_scan:
            if without_liver and reason.code == "side":
                continue  # sides are judged from the liver
            shown = (
                reason
                if reason.code == "pair"
                else Reason(reason.code, f"{scan.sequence}: {reason.text}", reason.remedy)
            )
            reasons.setdefault(str(shown), shown)
    return gravest, tuple(reasons.values())


def grade_of(scan: Scan) -> str | None:
    """The grade that a scan was given; None where nothing is known."""
    grade = scan.extra.get(GRADE_COLUMN)
    return grade if grade in GRADES else None


def distance_of(scan: Scan) -> float | None:
    """How far a scan lies from the usual ones, 1 being the limit; None where nothing is known."""
    try:
        distance = float(scan.extra.get(DISTANCE_COLUMN) or "nan")
    except (TypeError, ValueError):  # a table is somebody's text
        return None
    return distance if math.isfinite(distance) else None


def likeness_reasons(scans: Iterable[Scan]) -> tuple[Reason, ...]:
    """A reason for each scan that is unusual or far."""
    reasons = []
    for scan in scans:
        grade, distance = grade_of(scan), distance_of(scan)
        if grade in (UNUSUAL, FAR):
            amount = "" if distance is None else f" ({distance:.1f} times the usual distance)"
            how = "look unlike" if grade == UNUSUAL else "are far from"
            text = f"{scan.sequence}: the liver and its surroundings {how} those of simulated patients{amount}"
            reasons.append(Reason(str(grade), text))
    return tuple(reasons)


def doubted(scan: Scan, reason: Reason) -> Scan:
    """The scan, at least doubtful, with one more reason; one of the same code is replaced."""
    before = str(scan.extra.get(STATUS_COLUMN) or ANSWERED)
    kept = [earlier for earlier in reasons_of(scan.extra.get(REASONS_COLUMN)) if earlier.code != reason.code]
    status = max(before, DOUBTFUL, key=STATUSES.index)
    return replace(scan, extra={**scan.extra, STATUS_COLUMN: status, REASONS_COLUMN: reasons_text([*kept, reason])})


def forced(scan: Scan) -> Scan:
    """The scan as it is, or, if a check refused it, marked doubtful with the reason that it was forced."""
    if scan.extra.get(STATUS_COLUMN) != REFUSED:
        return scan
    reasons = (*reasons_of(scan.extra.get(REASONS_COLUMN)), Reason("forced", "a check refused it and was overruled"))
    return replace(scan, extra={**scan.extra, STATUS_COLUMN: DOUBTFUL, REASONS_COLUMN: reasons_text(reasons)})
