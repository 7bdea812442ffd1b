"""A `PatientReport` as a page, as sections for a notebook, and as JSON."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from markupsafe import Markup

from cirrnb.data.atomic_files import write_whole
from cirrnb.data.failure_kinds import printable
from cirrnb.reports.patient_report import MapTest, PatientReport
from cirrnb.view import sentences
from cirrnb.view.notice import RESEARCH_ONLY, banner
from cirrnb.view.page import Place, templates, write_page
from cirrnb.view.piece import Piece
from cirrnb.viewer.slice_browser import browser_html

SECTIONS = ("head", "images", "answer", "slices", "map_test", "browser", "measured", "training", "model")
"""Of a patient's page, in order: images are looked at before the answer."""


def section(report: PatientReport, name: str) -> Piece:
    """One of `SECTIONS`, to be shown in a notebook."""
    return Piece(_section(report, name), "section")


def write_patient_page(report: PatientReport, path: Path, *, place: Place, colophon: str) -> Path:
    """Write the page of a patient, complete in one file; written atomically."""
    body = "\n".join(f'<section class="{name}">{_section(report, name)}</section>' for name in SECTIONS)
    title = f"Patient {printable(report.subject)}"
    warning = banner(report.simulated, report.model_simulated)
    return write_page(path, title, body, banner=warning, place=place, colophon=colophon)


def write_patient_json(report: PatientReport, path: Path, pictures: bool = False) -> Path:
    """Write the report as JSON, atomically; without its pictures it takes a few kB."""
    write_whole(path, json.dumps(report.as_dict(pictures), indent=1, allow_nan=False) + "\n")
    return path


@cache
def templates_hash() -> str:
    """SHA-256 over the templates of a patient's page and its style: pages made with others are out of date."""
    own = files("cirrnb.reports").joinpath("templates")
    shell = files("cirrnb.view")
    parts = [own.joinpath("patient.html.j2"), own.joinpath("pieces.html.j2")]
    parts += [shell.joinpath("page.html.j2"), shell.joinpath("page.css")]
    return hashlib.sha256(b"\0".join(part.read_bytes() for part in parts)).hexdigest()


def _section(report: PatientReport, name: str) -> str:
    module: Any = templates("cirrnb.reports").get_template("patient.html.j2").module
    warning = banner(report.simulated, report.model_simulated)
    colours = report.prediction.stages.colour
    told = SimpleNamespace(research_only=RESEARCH_ONLY, banner=warning, colours=colours, **_SENTENCES)
    return str(getattr(module, name)(report, told))


def _measures(tests: tuple[MapTest, ...]) -> Markup:
    return Markup(sentences.measures_html([vars(one) for one in tests]))


# Sentences and the slice browser are the explorer's; they escape what comes from outside themselves.
_SENTENCES = {
    "prediction": lambda *given, **named: Markup(sentences.prediction_html(*given, **named)),
    "reasons": lambda *given: Markup(sentences.reasons_html(*given)),
    "measures": _measures,
    "browser": lambda *given: Markup(browser_html(*given)),
}
