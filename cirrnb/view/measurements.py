"""Measurements of a patient's scans as a table that the explorer and the pages of reports share, and the main ones as a
line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from cirrnb.measure.biomarkers import is_doubted
from cirrnb.measure.masks import CUT_OFF
from cirrnb.measure.measurement import Measurement
from cirrnb.view.documentation import linked

NOTHING = "No biomarkers were measured."
MAIN = ("liver volume", "spleen volume", "ascites volume", "surface nodularity", "caudate-to-right-lobe volume")
"""Those that a reader looks for first."""

DOUBTED = "(not to be trusted: the program drew it)"
DOUBTED_CLASS = " class='small cn-small cn-doubted'"
"""Words and look of a value that rests on an outline known to fail on real scans."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class _Notes:
    """Notes below the table, each once however many rows refer to it."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        """A letter that refers to a note; nothing for no note."""
        if not text:
            return ""
        number = self._numbers.setdefault(text, len(self._numbers))
        return f"<sup>{LETTERS[number % len(LETTERS)]}</sup>"

    @property
    def html(self) -> str:
        listed = "".join(f"<li>{linked(escape(text))}</li>" for text in self._numbers)
        return f"<ol type='a' class='small cn-small cn-notes'>{listed}</ol>" if listed else ""


def measurements_html(measurements: Mapping[str, Sequence[Measurement]], *, simulated: bool = False) -> str:
    """A row for each biomarker, a column for each sequence, and what is usual in healthy adults; below it sources and
    notes.

    Parameters
    ----------
    measurements : sequence -> its measurements.
    simulated : True for scans on which the program's outlines of all organs can be trusted.
    """
    rows = {measurement.name: measurement for values in measurements.values() for measurement in values}
    if not rows:
        return f"<p class='small cn-small'>{NOTHING}</p>"
    notes = _Notes()
    by_name = {
        sequence: {measurement.name: measurement for measurement in values} for sequence, values in measurements.items()
    }
    heads = "".join(f"<th scope='col'>{escape(sequence)}</th>" for sequence in by_name)
    body = ""
    for name, measurement in rows.items():
        cells = "".join(
            f"<td data-of='{escape(sequence)}'>{_cell(values.get(name), notes, simulated)}</td>"
            for sequence, values in by_name.items()
        )
        usual, source = _usual(measurement.reference)
        body += (
            f"<tr><th scope='row'>{escape(name)}</th>{cells}"
            f"<td class='small cn-small' data-of='healthy adults'>{escape(usual)}{notes.mark(source)}</td></tr>"
        )
    return (
        f"<table class='cn-measured'><thead><tr><th scope='col'>Measured in the outlines</th>{heads}"
        f"<th scope='col'>Healthy adults</th></tr></thead><tbody>{body}</tbody></table>{notes.html}"
    )


def main_measurements_html(measurements: Mapping[str, Sequence[Measurement]], *, simulated: bool = False) -> str:
    """The `MAIN` ones in a line, with what is usual; of two sequences both values. A star where a note in the table
    says what to know of a value."""
    by_measurement: dict[str, list[Measurement]] = {name: [] for name in MAIN}
    for measurement in (entry for several in measurements.values() for entry in several):
        if measurement.name in by_measurement and _measured(measurement):
            by_measurement[measurement.name].append(measurement)
    items = []
    for name, several in by_measurement.items():
        if not several:
            continue
        amounts = " / ".join(
            measurement.amount.removesuffix(measurement.unit).strip() + _outside(measurement, simulated)
            for measurement in several
        )
        usual = _usual(several[0].reference)[0]
        # A range alone: a line has no room for why there is none.
        usual_range = f" <span class='cn-small'>(usual {escape(usual)})</span>" if usual[:1].isdigit() else ""
        star = "*" if any(measurement.note for measurement in several) else ""
        amount = f"{amounts} {several[0].unit}".strip()
        if len(several) == 1:
            amount = several[0].amount + _outside(several[0], simulated)
        if doubted := any(_doubted(measurement, simulated) for measurement in several):
            star = f"{star} {DOUBTED}"
        value = f"<span>{escape(amount)}</span>" if doubted else f"<b>{escape(amount)}</b>"
        row = f"{escape(name)} {value}{star}{usual_range}"
        items.append(f"<span{DOUBTED_CLASS if doubted else ''}>{row}</span>")
    if not items:
        return ""
    order = " / ".join(measurements) if len(measurements) > 1 else ""
    head = f"Measured{f', {escape(order)}' if order else ''}:"
    star = "<span class='cn-small'>* see the notes</span>" if any("*" in item for item in items) else ""
    return f"<p class='cn-glance'><span>{head}</span>{''.join(items)}{star}</p>"


def folded_measurements_html(
    measurements: Mapping[str, Sequence[Measurement]], note: str = "", *, simulated: bool = False
) -> str:
    """The main ones in a line, and below it all of them, folded away; `note` is HTML for the end."""
    line = main_measurements_html(measurements, simulated=simulated)
    table = measurements_html(measurements, simulated=simulated) + note
    if not line:
        return table
    return f"{line}<details class='cn-all'><summary>All measurements, with notes</summary>{table}</details>"


def _usual(reference: str) -> tuple[str, str]:
    """What is usual, and where that is from."""
    usual, opened, source = reference.partition(" (")
    return (usual, source.removesuffix(")")) if opened else (reference, "")


def _measured(measurement: Measurement) -> bool:
    return measurement.value is not None and measurement.value == measurement.value


def _doubted(measurement: Measurement, simulated: bool) -> bool:
    return not simulated and is_doubted(measurement)


def _cell(measurement: Measurement | None, notes: _Notes, simulated: bool) -> str:
    if measurement is None:
        return ""
    if not _measured(measurement):
        return f"<span class='small cn-small'>not measured{notes.mark(measurement.note)}</span>"
    mark = notes.mark(measurement.note)
    if _doubted(measurement, simulated):
        return f"<span{DOUBTED_CLASS}>{escape(measurement.amount)} {DOUBTED}{mark}</span>"
    return f"{escape(measurement.amount)}{_outside(measurement, simulated)}{mark}"


def _outside(measurement: Measurement, simulated: bool) -> str:
    """On which side of the range of healthy adults a value lies; nothing within it, without one, or in doubt."""
    limits = re.match(r"([\d.]+) to ([\d.]+) ", measurement.reference)
    if limits is None or not _measured(measurement) or _doubted(measurement, simulated):
        return ""
    value, (low, high) = float(measurement.value or 0), limits.groups()
    if value > float(high):
        return f" (above {high})"
    whole = CUT_OFF not in measurement.note  # of a part nobody knows how large the whole is
    return f" (below {low})" if whole and value < float(low) else ""
