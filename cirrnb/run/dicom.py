"""`cirrnb import-dicom`: what lies in a folder, what each series is taken for, and the questions that this leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cirrnb.data.dicom.importing import BURNED_IN, DicomFolder, Imported, import_dicom, list_series
from cirrnb.data.dicom.series_choice import NONE, Ask, Judged
from cirrnb.data.errors import listed

Tell = Callable[[str], None]


def import_folder(
    folder: Path,
    out: Path | None,
    *,
    t1w: int | None = None,
    t2w: int | None = None,
    patient: int | None = None,
    name: str | None = None,
    others: bool = False,
    tell: Tell = print,
) -> bool:
    """List a DICOM folder and, where `out` is given, import it; False where nothing of it can be staged.

    Raises InputError as `cirrnb.data.dicom.importing.import_dicom` does. Questions are asked at a
    terminal only.
    """
    looked = list_series(folder)
    for line in listing(looked):
        tell(line)
    if out is None:
        return True
    ask = _asking(tell) if sys.stdin.isatty() else None
    made = import_dicom(
        looked, out, t1w=t1w, t2w=t2w, patient=patient, name=name, others=others, ask=ask,
        waiting=lambda: tell(f"Another import into {out} is under way; waiting for it."),
    )  # fmt: skip
    for line in _outcome_lines(made, out):
        tell(line)
    return bool(made.scans)


def listing(looked: DicomFolder) -> list[str]:
    """One line a volume: number, description, size, and what it is taken for and why."""
    lines, heading = [], None
    for volume in looked.judged:
        series = volume.series
        if (series.patient, series.study) != heading:
            heading = series.patient, series.study
            lines.append(f"Patient {series.patient}, study {series.study}")
        size = f"{series.tags['Columns']} x {series.tags['Rows']} x {series.slices}"
        lines.append(f"  {series.number:3d}  {series.description:32}  {size:15}  {_taken_for(volume)}")
    lines += _burned_in(looked.judged)
    lines += [f"Skipped: {len(paths)} {reason}" for reason, paths in looked.files.skipped.items()]
    return lines


def _taken_for(volume: Judged) -> str:
    verdict = volume.verdict
    if verdict.sequence is None:
        return f"{'not staged' if verdict.never else 'unclear'}: {verdict.why}"
    moment = f"; {volume.moment}" if volume.moment else ""
    return f"{verdict.sequence}{'' if verdict.sure else ' perhaps'}: {verdict.why}{moment}"


def _burned_in(judged: Sequence[Judged]) -> list[str]:
    """A warning about series whose pictures hold text."""
    numbers = listed(volume.number for volume in judged if volume.series.burned_in)
    warning = f"Careful: {BURNED_IN}, series {numbers}. It may be a person's name; look before you pass them on."
    return [warning] if numbers else []


def _asking(tell: Tell) -> Ask:
    def ask(sequence: str, open_ones: Sequence[Judged]) -> int:
        tell(f"Which series is the {sequence} scan?")
        for volume in open_ones:
            tell(f"  {volume.number:3d}  {volume.summary}")
        known = {volume.number for volume in open_ones} | {NONE}
        while True:
            answer = input(f"Number, or {NONE} if there is none: ").strip()
            if answer.isdigit() and int(answer) in known:
                return int(answer)
            tell("Please give one of these numbers.")

    return ask


def _outcome_lines(made: Imported, out: Path) -> list[str]:
    lines = [f"{sequence}: series {volume.number}, since: {why}" for sequence, (volume, why) in made.scans.items()]
    if made.scans:
        missing = [sequence for sequence in ("T1W", "T2W") if sequence not in made.scans]
        lines += [f"No {sequence} scan: the stager works with the other one alone." for sequence in missing]
        burned = _burned_in([volume for volume, _ in made.scans.values()])
        where = "in the files' headers" if burned else ""
        kept = " ".join(filter(None, (f"Imported as {made.name}, without names, dates or free text", where)))
        lines += [f"{kept}. Open it: cirrnb explore {out}", *burned]
    else:
        reasons = [f"series {volume.number}, {volume.verdict.why}" for volume in made.others]
        lines.append(f"Converted as {made.name}, but nothing of it can be staged: {'; '.join(reasons)}")
    return lines
