"""status.json of a report, for whoever watches it: what the last run did, or that one is at work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.json_file import read_object
from cirrnb.model.provenance import now

STATUS = "status.json"
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"

FIELDS = {
    "state": "running, finished, or stopped (the run ended before its end). A run that was killed leaves running",
    "version": "of cirrnb",
    "started": "of the run, UTC",
    "finished": "of the run, UTC; null while it runs",
    "exit_code": "of the run: 0 all made, 3 some failed, 4 none made; null while it runs and where it stopped",
    "model": "name and fingerprint of the model",
    "patients": "made, new (pages made in this run), failed",
    "studies": "imported, known and refused, with --from-dicom or --from-dicomweb",
    "archive": "studies listed, fetched and not_fetched, with --from-dicomweb; unanswered where it gave no list",
    "results": "written, kept and failed, with --dicom-out or --to-dicomweb",
    "sent": "results sent, kept and failed, with --to-dicomweb",
    "drift": "new and earlier patients, figures compared, how many lie outside their range, and those beyond chance",
}
"""Fields of status.json and what they mean; those that do not apply are absent."""


class RunStatus:
    """The facts of one run, written as they become known."""

    def __init__(self, path: Path, version: str):
        self._path = path
        self._facts: dict[str, Any] = {"state": RUNNING, "version": version, "started": now(), "finished": None}
        self._facts["exit_code"] = None

    def tell(self, **facts: Any) -> None:
        """Add facts of `FIELDS` and write them all, atomically."""
        self._facts |= facts
        atomic_write(self._path, json.dumps(self._facts, indent=1) + "\n")

    def ended(self, exit_code: int) -> None:
        """The run came to its end."""
        self.tell(state=FINISHED, finished=now(), exit_code=exit_code)

    @property
    def is_finished(self) -> bool:
        return bool(self._facts["state"] == FINISHED)


@contextmanager
def watched(path: Path, version: str) -> Iterator[RunStatus]:
    """Status of a run: running in the block, and stopped where the block ends without `RunStatus.ended`."""
    status = RunStatus(path, version)
    status.tell()
    try:
        yield status
    finally:
        if not status.is_finished:
            status.tell(state=STOPPED, finished=now())


def read_status(report: Path | str) -> dict[str, Any]:
    """status.json of a report. Raises InputError where it is not whole, OSError where there is none."""
    return dict(read_object(Path(report) / STATUS, "a whole file", "Make the report again."))
