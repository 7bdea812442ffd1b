"""The formats of a report: a patient's HTML page, its sections for a notebook, JSON, and index.html of a cohort."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
from markupsafe import Markup

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.failure_kinds import printable
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.data.status import REFUSED, STATUSES, reasons_of
from cirrnb.measure.biomarkers import is_doubted
from cirrnb.reports.cohort_figures import UNCERTAINTY, counts
from cirrnb.reports.folder import LINKS, ReportFolder
from cirrnb.reports.patient_report import MapTest, PatientReport
from cirrnb.view import sentences
from cirrnb.view.glossary import glossary_details
from cirrnb.view.measurements import measurements_html
from cirrnb.view.page import RESEARCH_ONLY, Fragment, Place, asset, banner, templates, write_page
from cirrnb.viewer.slice_browser import browser_html

SECTIONS = ("head", "images", "answer", "signs", "slices", "map_test", "browser", "measured", "training", "model")
"""Of a patient's page, in order: images are looked at before the answer."""


def section(report: PatientReport, name: str) -> Fragment:
    """One of `SECTIONS`, to be shown in a notebook."""
    return Fragment(_section(report, name), "section")


def write_patient_page(report: PatientReport, path: Path, *, place: Place, colophon: str) -> Path:
    """Write the page of a patient, complete in one file; written atomically."""
    body = "\n".join(f'<section class="{name}">{_section(report, name)}</section>' for name in SECTIONS)
    title = f"Patient {printable(report.subject)}"
    warning = banner(report.simulated, report.model_simulated)
    return write_page(path, title, body, banner=warning, place=place, colophon=colophon)


def patient_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a patient's JSON without pictures, with what each field means."""
    schema: dict[str, Any] = json.loads(files("cirrnb.reports").joinpath("patient.schema.json").read_text("utf-8"))
    return schema


def write_patient_json(report: PatientReport, path: Path, pictures: bool = False) -> Path:
    """Write the report as JSON, atomically; without its pictures it takes a few kB."""
    atomic_write(path, json.dumps(report.as_dict(pictures), indent=1, allow_nan=False) + "\n")
    return path


@cache
def templates_hash() -> str:
    """SHA-256 over the templates of a patient's page and its style: pages made with others are out of date."""
    folder = files("cirrnb.reports").joinpath("templates")
    shell = files("cirrnb.view")
    parts = [folder.joinpath("patient.html.j2"), folder.joinpath("fragments.html.j2")]
    parts += [shell.joinpath("page.html.j2"), shell.joinpath("page.css")]
    return hashlib.sha256(b"\0".join(part.read_bytes() for part in parts)).hexdigest()


def _section(report: PatientReport, name: str) -> str:
    module: Any = templates("cirrnb.reports").get_template("patient.html.j2").module
    warning = banner(report.simulated, report.model_simulated)
    colours = report.prediction.stages.colour
    words = SimpleNamespace(research_only=RESEARCH_ONLY, banner=warning, colours=colours, **_SENTENCES)
    return str(getattr(module, name)(report, words))


def _measures(tests: tuple[MapTest, ...]) -> Markup:
    return Markup(sentences.measures_html([vars(test) for test in tests]))


# Sentences and the slice browser are the explorer's; they escape what comes from outside themselves.
_SENTENCES = {
    "prediction": lambda *given, **named: Markup(sentences.prediction_html(*given, **named)),
    "reasons": lambda *given: Markup(sentences.reasons_html(*given)),
    "by_program": lambda measurements: any(is_doubted(row) for rows in measurements.values() for row in rows),
    "verdict": lambda verdict: Markup(sentences.verdict_of_map(verdict)),
    "asked": lambda *given: Markup(sentences.asked_html(*given)),
    "measures": _measures,
    "measurements": lambda *given, **named: Markup(measurements_html(*given, **named)),
    "browser": lambda *given: Markup(browser_html(*given)),
    "glossary": Markup(glossary_details()),
}


ROWS = 200
"""Rows on a page of the table."""

_HEADS = (
    "Patient",
    "Most likely",
    "Probability",
    "Possible",
    "Uncertainty",
    "Status",
    "Recorded",
    "Sequences",
    "Flags",
)
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
    drift: str = "",
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
            drift=drift,
            heads=_HEADS,
            rows=rows,
            stages=list(stages),
            uncertainties=[name for name in UNCERTAINTY if name in _USUAL or (made["uncertainty"] == name).any()],
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
        "uncertainty": str(known["uncertainty"]),
        "hidden": bool(known["hidden"]),
        "status": str(known["status"]),
        "reasons": _sentences(known["reasons"]),
        "recorded": str(known["stage"]),
        "sequences": str(known["sequences"]),
        "flags": str(known["flags"]),
    }


def _failed_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    known = {name: "" if pd.isna(value) else str(value) for name, value in row.items()}
    subject = known["subject"] or "a row of the cohort"
    reason = " ".join(_sentences(known["reason"])) if known["kind"] == REFUSED else known["reason"]
    return {"subject": subject, "kind": known["kind"], "reason": reason, "log": known["log"]}


def _sentences(reasons: str) -> list[str]:
    """Reasons as a reader reads them, without the word that programs go by."""
    return [". ".join(filter(None, (reason.text.rstrip("."), reason.remedy))) for reason in reasons_of(reasons)]
