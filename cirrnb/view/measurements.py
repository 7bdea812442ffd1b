"""Measurements of a patient's scans as a table that the explorer and the pages of reports share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from cirrnb.measure.measurement import Measurement
from cirrnb.view.documentation import linked

NOTHING = "No biomarkers were measured."


def measurements_html(measurements: Mapping[str, Sequence[Measurement]]) -> str:
    """A row for each biomarker, a column for each sequence, and what is usual in healthy adults, with its source.

    Parameters
    ----------
    measurements : sequence -> its measurements.
    """
    rows = {measurement.name: measurement for found in measurements.values() for measurement in found}
    if not rows:
        return f"<p class='small cn-small'>{NOTHING}</p>"
    by_name = {
        sequence: {measurement.name: measurement for measurement in found} for sequence, found in measurements.items()
    }
    heads = "".join(f"<th scope='col'>{escape(sequence)}</th>" for sequence in by_name)
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>"
        + "".join(f"<td>{_cell(found.get(name))}</td>" for found in by_name.values())
        + f"<td class='small cn-small'>{escape(measurement.reference)}</td></tr>"
        for name, measurement in rows.items()
    )
    return (
        f"<table class='cn-measured'><thead><tr><th scope='col'>Biomarker</th>{heads}"
        f"<th scope='col'>Healthy adults</th></tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(measurement: Measurement | None) -> str:
    if measurement is None:
        return ""
    if measurement.value is None or measurement.value != measurement.value:
        return f"<span class='small cn-small'>not measured: {linked(escape(measurement.note))}</span>"
    note = f" <span class='small cn-small'>{linked(escape(measurement.note))}</span>" if measurement.note else ""
    return f"{escape(measurement.amount)}{note}"
