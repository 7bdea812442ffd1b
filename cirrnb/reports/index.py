"""index.html of a report: all patients, sorted, filtered and searched without a server, 200 rows a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.data.status import STATUSES
from cirrnb.reports.cohort_figures import CERTAINTY, counts
from cirrnb.reports.folder import LINKS, ReportFolder
from cirrnb.view.page import Place, asset, templates, write_page

ROWS = 200
"""Rows on a page of the table."""

_HEADS = ("Patient", "Most likely", "Probability", "Possible", "Certainty", "Status", "Recorded", "Sequences", "Flags")
_USUAL = ("one stage", "two stages", "any stage", "not calibrated")


def write_index(
    report: ReportFolder,
    title: str,
    made: pd.DataFrame,
    failed: pd.DataFrame,
    *,
    banner: str,
    colophon: str,
    stages: StageScale = CIRRHOSIS,
) -> None:
    """Write the index from the tables of a report, atomically.

    All rows stand in the page as data; the table shows `ROWS` of them at a time. Without a script it shows the first.
    """
    rows = [_made_row(row) for row in made.to_dict("records")] + [_failed_row(row) for row in failed.to_dict("records")]
    body = (
        templates("cirrnb.reports")
        .get_template("index.html.j2")
        .render(
            title=title,
            counts=counts(made, failed),
            heads=_HEADS,
            rows=rows,
            stages=list(stages),
            certainties=[name for name in CERTAINTY if name in _USUAL or (made["certainty"] == name).any()],
            statuses=STATUSES,
            colours=stages.colour,
            limit=ROWS,
        )
    )
    script = asset("cirrnb.reports", "templates/index.js")
    place = Place(LINKS if len(made) else LINKS[:1])
    write_page(report.index, title, body, banner=banner, place=place, colophon=colophon, script=script)


def _made_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    known = {name: "" if pd.isna(value) else value for name, value in row.items()}
    stage = str(known["predicted"])
    return {
        "subject": str(known["subject"]),
        "page": str(known["page"]),
        "predicted": stage,
        "probability": round(float(row[stage]), 4),
        "set": str(known["set"]).replace("|", " or "),
        "certainty": str(known["certainty"]),
        "status": str(known["status"]),
        "reasons": str(known["reasons"]),
        "recorded": str(known["stage"]),
        "sequences": str(known["sequences"]),
        "flags": str(known["flags"]),
    }


def _failed_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    known = {name: "" if pd.isna(value) else str(value) for name, value in row.items()}
    subject = known["subject"] or "a row of the cohort"
    return {"subject": subject, "kind": known["kind"], "reason": known["reason"], "log": known["log"]}
