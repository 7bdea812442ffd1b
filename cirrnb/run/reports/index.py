"""index.html of a report: a table of all patients that sorts, filters and searches without a server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

import pandas as pd

from cirrnb.data.stages import CIRRHOSIS, StageScale
from cirrnb.run.page import Place, write_page
from cirrnb.run.reports.folder import ReportFolder
from cirrnb.view.report import CERTAINTY, counts

COHORT = "08_cohort_report.html"
LINKS = (("index.html", "All patients"), (COHORT, "The whole cohort"))
_HEADS = ("Patient", "Most likely", "Probability", "Possible", "Certainty", "Recorded", "Sequences", "Flags")


def write_index(
    report: ReportFolder,
    title: str,
    made: pd.DataFrame,
    failed: pd.DataFrame,
    *,
    banner: str,
    whole: bool,
    colophon: str,
    stages: StageScale = CIRRHOSIS,
) -> None:
    """Write the index. `whole` says whether there is a page of the whole cohort to link to."""
    rows = [_row(row, stages) for row in made.to_dict("records")] + [_failed(row) for row in failed.to_dict("records")]
    heads = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name in _HEADS)
    body = (
        f"<h1>{escape(title)}</h1>{counts(made, failed)._repr_html_()}"
        f"{_controls(stages, made)}<div class='table'><table class='patients'><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        "<p class='more'><a href='summary.csv'>summary.csv</a>, <a href='failures.csv'>failures.csv</a>, "
        "<a href='provenance.json'>provenance.json</a></p>"
    )
    script = files("cirrnb.run.reports").joinpath("index.js").read_text(encoding="utf-8")
    place = Place(LINKS if whole else LINKS[:1])
    write_page(report.index, title, body, banner=banner, place=place, colophon=colophon, script=script)


def _controls(stages: StageScale, made: pd.DataFrame) -> str:
    usual = ("one stage", "two stages", "any stage", "not calibrated")
    sizes = [name for name in CERTAINTY if name in usual or (made["certainty"] == name).any()]
    return (
        "<div class='controls' hidden><input type='search' placeholder='Search' aria-label='Search'>"
        + _choice("stage", "Every stage", stages)
        + _choice("certainty", "Every certainty", sizes)
        + _choice("state", "With and without page", ("flagged", "failed"))
        + "<span class='shown' role='status'></span></div>"
    )


def _choice(name: str, every: str, values: Iterable[str]) -> str:
    options = "".join(f"<option value='{_value(value)}'>{escape(value)}</option>" for value in values)
    return f"<select name='{name}' aria-label='{every}'><option value=''>{every}</option>{options}</select>"


def _value(text: str) -> str:
    """What a filter compares: without spaces, which part values there."""
    return escape(text.replace(" ", "-"))


def _row(row: Mapping[Any, Any], stages: StageScale) -> str:
    told = {name: "" if pd.isna(value) else value for name, value in row.items()}
    stage, certainty = str(told["predicted"]), str(told["certainty"])
    place = stages.index(stage)
    chance = float(row[stage])
    swatch = f"<span class='stage' style='background:{stages.colour[stage]}'></span>"
    cells = [
        f"<th scope='row'><a href='{escape(str(told['page']))}'><bdi>{escape(str(told['subject']))}</bdi></a></th>",
        f"<td class='likely' data-sort='{place}'>{swatch}{escape(stage)}</td>",
        f"<td data-sort='{chance:.4f}'>{chance:.0%}</td>",
        f"<td class='set'>{escape(str(told['set']).replace('|', ' or '))}</td>",
        f"<td data-sort='{list(CERTAINTY).index(certainty)}'>{escape(certainty)}</td>",
        f"<td>{escape(str(told['stage']))}</td>",
        f"<td>{escape(str(told['sequences']))}</td>",
        f"<td class='flags'>{escape(str(told['flags']))}</td>",
    ]
    state = "flagged" if told["flags"] else ""
    facts = (
        f"data-stage='{stage.replace(' ', '-')}' data-certainty='{certainty.replace(' ', '-')}' data-state='{state}'"
    )
    return f"<tr {facts}>{''.join(cells)}</tr>"


def _failed(row: Mapping[Any, Any]) -> str:
    told = {name: "" if pd.isna(value) else str(value) for name, value in row.items()}
    who = escape(told["subject"] or "a row of the cohort")
    link = f" <a href='{escape(told['log'])}'>log</a>" if told["log"] else ""
    return (
        f"<tr class='failed' data-state='failed'><th scope='row'><bdi>{who}</bdi></th>"
        f"<td colspan='7' data-sort='9'><b>No page: {escape(told['kind'])}.</b> "
        f"{escape(told['reason'])}{link}</td></tr>"
    )
