"""The folder of a report: where its pages, overlays and tables lie, and what may be swept out of it."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from cirrnb.data.atomic_files import atomic_write, remove_unfinished
from cirrnb.data.errors import InputError

MARK = ".cirrnb-report"
COHORT_PAGE = "08_cohort_report.html"
"""Page of the cohort as a whole."""

LINKS = (("index.html", "All patients"), (COHORT_PAGE, "The whole cohort"))
"""Pages of a report: address from its folder, and words."""


class ReportFolder:
    """`patients/<name>.html`, `.json`, `.pdf`, `overlays/<name>/`, `logs/<name>.txt`, and index and tables on top."""

    def __init__(self, path: Path):
        self.path = path
        self.patients, self.overlays, self.logs = path / "patients", path / "overlays", path / "logs"
        self.summary, self.failures = path / "summary.csv", path / "failures.csv"
        self.provenance, self.index = path / "provenance.json", path / "index.html"
        self.history, self.status = path / "history.csv", path / "status.json"
        self.cohort = path / COHORT_PAGE
        self.claim = path / ".claim"

    def take(self) -> None:
        """Make the folder, or take up the one that is there.

        Raises InputError where something else than a report stands there.
        """
        available = (self.path / MARK).is_file() or not self.path.exists()
        if not available and (not self.path.is_dir() or any(path.name != ".lock" for path in self.path.iterdir())):
            raise InputError(
                self.path, "something that is no report", "nothing there, or a report", "Choose another folder."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / MARK).is_file():
            atomic_write(self.path / MARK, "A report by cirrnb: what lies here is made again when it is asked for.\n")

    def prepare(self) -> None:
        """Make the folders inside, and remove what a run that was killed left half-written."""
        for folder in (self.patients, self.overlays, self.logs):
            folder.mkdir(exist_ok=True)
        for folder in (self.path, self.patients, self.logs, *self.overlays.glob("*/")):
            remove_unfinished(folder)

    def known(self, name: str) -> bool:
        """True if a page was made under this file name, whatever of."""
        return (self.patients / f".{name}.key").is_file()

    def sweep(self, kept: Collection[str]) -> None:
        """Remove pages and overlays of all but these file names: of patients who failed, left the cohort or changed."""
        for path in self.patients.iterdir():
            name = path.name.removeprefix(".").removesuffix(".key")
            for ending in (".html", ".json", ".pdf"):
                name = name.removesuffix(ending)
            if name not in kept and path.is_file():
                path.unlink()
        for folder in self.overlays.iterdir():
            if folder.name not in kept and folder.is_dir():
                shutil.rmtree(folder)

    def forget(self) -> None:
        """Let nothing count as done any more, so that all of it is made anew."""
        for mark in self.patients.glob(".*.key"):
            mark.unlink()


def holds_claim(folder: Path, claim: str) -> bool:
    """True while no later run has taken the folder over: its file `.claim` holds the word of this run."""
    try:
        return ReportFolder(folder).claim.read_text(encoding="utf-8") == claim
    except OSError:
        return False
