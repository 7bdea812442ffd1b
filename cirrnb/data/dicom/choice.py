"""Which of a folder's series are staged: suggested where that is clear, asked for where it is not, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cirrnb.data.dicom.series import Series
from cirrnb.data.dicom.weighting import PORTAL, Verdict, judge
from cirrnb.data.errors import InputError
from cirrnb.data.scan import T1W_T2W

NONE = 0
"""In place of a series' number: this patient has no such scan."""

Ask = Callable[[str, Sequence["Judged"]], int]
"""Asked for one sequence: its name and those that come into question; answers a number of the listing or `NONE`."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A volume and what it is."""

    series: Series
    verdict: Verdict

    @property
    def number(self) -> int:
        return self.series.number


def judge_all(series: Sequence[Series]) -> list[Judged]:
    return [Judged(one, judge(one)) for one in series]


def choose(
    judged: Sequence[Judged], named: Mapping[str, int | None], ask: Ask | None = None
) -> dict[str, tuple[Judged, str]]:
    """Sequence -> the volume to be staged and why it was taken. A sequence that the patient lacks is absent.

    Parameters
    ----------
    judged : the volumes of one patient.
    named : sequence -> number in the listing that the user gave, `NONE` for no such scan, or None to have it suggested.
    ask : called where it is not clear; without it that is told as an error that says how to name a series.

    Raises
    ------
    InputError
        For a number that is not listed or names what cannot be staged, one volume for both sequences, or where it is
        not clear and nobody can be asked.
    """
    chosen: dict[str, tuple[Judged, str]] = {}
    for sequence in T1W_T2W:
        number = named.get(sequence)
        if number is None:
            clear, open_ones = _suggest(sequence, judged)
            if clear is not None:
                chosen[sequence] = clear
                continue
            if not open_ones:
                continue
            if ask is None:
                raise _unclear(sequence, open_ones)
            number = ask(sequence, open_ones)
        if number != NONE:
            chosen[sequence] = _named(sequence, number, judged), "named by the user"
    if len({id(one) for one, _ in chosen.values()}) < len(chosen):
        number = chosen["T1W"][0].number
        raise InputError(f"series {number}", "one series for T1W and T2W", "a series for each", "Name another for one.")
    return chosen


def _suggest(sequence: str, judged: Sequence[Judged]) -> tuple[tuple[Judged, str] | None, list[Judged]]:
    """The volume to take and why, or None and those among which somebody has to choose."""
    known = [one for one in judged if one.verdict.sequence == sequence]
    sure = [one for one in known if one.verdict.sure]
    if len(sure) == 1:
        return (sure[0], sure[0].verdict.why), sure
    portal = [one for one in sure if PORTAL.search(one.series.description)]
    if sequence == "T1W" and len(portal) == 1:
        return (portal[0], f"{portal[0].verdict.why}; of {len(sure)} the one in the portal venous phase"), portal
    unclear = [one for one in judged if one.verdict.sequence is None and not one.verdict.never and not one.verdict.sure]
    return None, sure or known or unclear


def _unclear(sequence: str, open_ones: Sequence[Judged]) -> InputError:
    shown = "; ".join(f"{one.number} ({one.series.description}: {one.verdict.why})" for one in open_ones[:8])
    rest = f"; and {len(open_ones) - 8} more" if len(open_ones) > 8 else ""
    option = f"--{sequence.lower()}"
    return InputError(
        sequence,
        f"{len(open_ones)} series that may be it: {shown}{rest}",
        "one that is clearly it",
        f"Name it with {option} {open_ones[0].number}, or say {option} {NONE} if there is none.",
    )


def _named(sequence: str, number: int, judged: Sequence[Judged]) -> Judged:
    found = next((one for one in judged if one.number == number), None)
    if found is None:
        numbers = ", ".join(str(one.number) for one in judged[:12])
        raise InputError(
            f"series {number}", "no such number for this patient", f"one of {numbers}", "See --list for the listing."
        )
    if found.verdict.never:
        raise InputError(
            f"series {number} ({found.series.description})", found.verdict.why, f"a {sequence} scan of the abdomen",
            found.verdict.remedy,
        )  # fmt: skip
    return found
