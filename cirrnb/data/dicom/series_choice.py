"""Which DICOM series are staged: what each is, from its timing and its name, and which of them is taken."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cirrnb.data.dicom.phases import TIMES_OF_DAY, starts
from cirrnb.data.dicom.series import Series
from cirrnb.data.dicom.series_kinds import Verdict, judge
from cirrnb.data.errors import InputError
from cirrnb.data.sequences import T1W_T2W

PORTAL = re.compile(
    r"portal|(?<![a-z])p\.?v\.?p?(?![a-z])|ven(ous|os)|(?<!\d)(60|65|70|75|80) ?s(ec)?\b", re.IGNORECASE
)
"""What names the portal venous phase, in which most published T1W scans were taken."""
PORTAL_DELAY = (55.0, 90.0)
"""s from the contrast agent to the portal venous phase."""
LONGEST_DELAY = 3600.0
"""s after which a volume is of no phase of the same injection."""

NONE = 0
"""In place of a series' number: this patient has no such scan."""


Ask = Callable[[str, Sequence["Judged"]], int]
"""Called with a sequence and its candidates; returns a number of the listing or `NONE`."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A volume, what it is, and when it was taken: "70 s after the contrast agent", or empty where that is unknown."""

    series: Series
    verdict: Verdict
    moment: str = ""

    @property
    def number(self) -> int:
        return self.series.number

    @property
    def summary(self) -> str:
        """Description, reasons and moment in one line."""
        return "".join((f"{self.series.description}: {self.verdict.why}", f"; {self.moment}" if self.moment else ""))


def judge_all(series: Sequence[Series]) -> list[Judged]:
    """Each volume with what it is, and T1W ones with the moment at which they were taken."""
    judged = [Judged(volume, judge(volume)) for volume in series]
    exams: dict[tuple[int, int], list[Judged]] = defaultdict(list)
    for candidate in judged:
        if candidate.verdict.sequence == "T1W":
            exams[candidate.series.patient, candidate.series.study].append(candidate)
    moments = {number: text for exam in exams.values() for number, text in _moments(exam).items()}
    return [replace(candidate, moment=moments.get(candidate.number, "")) for candidate in judged]


def _moments(exam: Sequence[Judged]) -> dict[int, str]:
    """Number of a volume -> when it was taken: after the contrast agent, or after the first volume of the study."""
    began = starts([candidate.series.instances for candidate in exam], TIMES_OF_DAY) or [0.0] * len(exam)
    first = min(zip(began, (candidate.number for candidate in exam), strict=True))
    moments = {}
    for candidate, start in zip(exam, began, strict=True):
        after, later = candidate.series.after_agent, start - first[0]
        if after is not None and after <= LONGEST_DELAY:
            moments[candidate.number] = f"{after:.0f} s after the contrast agent"
        elif 0 < later <= LONGEST_DELAY and candidate.series.delay is None:
            moments[candidate.number] = f"{later:.0f} s after series {first[1]}"
    return moments


def _is_portal(candidate: Judged) -> bool:
    after = candidate.series.after_agent
    timed = after is not None and PORTAL_DELAY[0] <= after <= PORTAL_DELAY[1]
    return timed or bool(PORTAL.search(candidate.series.name))


def choose(
    judged: Sequence[Judged], named: Mapping[str, int | None], ask: Ask | None = None
) -> dict[str, tuple[Judged, str]]:
    """Sequence -> the volume to be staged and why it was taken. A sequence that the patient lacks is absent.

    Parameters
    ----------
    judged : the volumes of one patient.
    named : sequence -> number in the listing that the user gave, `NONE` for no such scan, or None to have it suggested.
    ask : called where it is not clear; without it InputError says how to name a series.

    Raises
    ------
    InputError
        For a number that is not listed or names what cannot be staged, one volume for both sequences, or where it is
        not clear and `ask` is None.
    """
    chosen: dict[str, tuple[Judged, str]] = {}
    for sequence in T1W_T2W:
        number = named.get(sequence)
        if number is None:
            clear, candidates = _suggest(sequence, judged)
            if clear is not None:
                chosen[sequence] = clear
                continue
            if not candidates:
                continue
            if ask is None:
                raise _unclear(sequence, candidates)
            number = ask(sequence, candidates)
        if number != NONE:
            chosen[sequence] = _named(sequence, number, judged), "named by the user"
    if len({id(volume) for volume, _ in chosen.values()}) < len(chosen):
        number = chosen["T1W"][0].number
        raise InputError(f"series {number}", "one series for T1W and T2W", "a series for each", "Name another for one.")
    return chosen


def _suggest(sequence: str, judged: Sequence[Judged]) -> tuple[tuple[Judged, str] | None, list[Judged]]:
    """The volume to take and why, or None and the candidates to choose from."""
    known = [each for each in judged if each.verdict.sequence == sequence]
    sure = [each for each in known if each.verdict.sure]
    if any(each.verdict.part == "water" for each in sure):  # in-phase images show the same with the fat bright
        sure = [each for each in sure if each.verdict.part != "in-phase"]
    if len(sure) == 1:
        return (sure[0], sure[0].verdict.why), sure
    portal = [each for each in sure if _is_portal(each)]
    if sequence == "T1W" and len(portal) == 1:
        return (portal[0], f"{portal[0].verdict.why}; of {len(sure)} the one in the portal venous phase"), portal
    unclear = [
        each for each in judged if each.verdict.sequence is None and not each.verdict.never and not each.verdict.sure
    ]
    return None, sure or known or unclear


def _unclear(sequence: str, candidates: Sequence[Judged]) -> InputError:
    shown = "; ".join(f"{each.number} ({each.summary})" for each in candidates[:8])
    rest = f"; and {len(candidates) - 8} more" if len(candidates) > 8 else ""
    option = f"--{sequence.lower()}"
    return InputError(
        sequence,
        f"{len(candidates)} series that may be it: {shown}{rest}",
        "one that is clearly it",
        f"Name it with {option} {candidates[0].number}, or say {option} {NONE} if there is none.",
    )


def _named(sequence: str, number: int, judged: Sequence[Judged]) -> Judged:
    volume = next((candidate for candidate in judged if candidate.number == number), None)
    if volume is None:
        numbers = ", ".join(str(candidate.number) for candidate in judged[:12])
        raise InputError(
            f"series {number}", "no such number for this patient", f"one of {numbers}", "See --list for the listing."
        )
    if volume.verdict.never:
        raise InputError(
            f"series {number} ({volume.series.description})", volume.verdict.why, f"a {sequence} scan of the abdomen",
            volume.verdict.remedy,
        )  # fmt: skip
    return volume
