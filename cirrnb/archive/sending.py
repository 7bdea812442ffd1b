"""Results sent to an archive: each object once, in the order in which they refer to each other."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cirrnb.archive.dicomweb import Archive, ArchiveError
from cirrnb.archive.fetching import STRIKES
from cirrnb.archive.records import read_record, write_record
from cirrnb.archive.results import Answer, Written, written_answers
from cirrnb.data.atomic_files import file_stem
from cirrnb.reports.report import ProgressLog

SENT, KEPT, FAILED = "sent", "kept", "failed"
SENDING = {
    SENT: "in this run",
    KEPT: "by an earlier run, nothing of it changed",
    FAILED: "not taken by the archive; the reason is beside it, and the next run tries again",
}
"""What became of a patient's objects on their way."""


@dataclass(frozen=True)
class SentOutcome:
    """What became of one patient's objects: a state of `SENDING` and why it failed."""

    state: str
    reason: str = ""


class Sender:
    """Sends results of one cohort to one archive, and remembers in the cohort what was sent.

    Parameters
    ----------
    cohort : folder with the records.
    kept : whether objects stay in their folder once they are sent.
    """

    def __init__(self, archive: Archive, cohort: Path, *, kept: bool):
        self._archive, self._cohort, self._kept = archive, cohort, kept
        self._where = hashlib.sha256(archive.url.encode()).hexdigest()[:16]

    def is_sent(self, answer: Answer) -> bool:
        """True if the objects of this very answer were sent to this archive."""
        return self._sent(answer.subject) == answer.content

    def send_all(self, folder: Path, progress: ProgressLog) -> dict[str, SentOutcome]:
        """Send the objects in a folder of results that were not sent; what became of them, by subject.

        One that is rejected stops no other. Where the archive does not answer at all the rest is left for the next run.
        """
        outcomes: dict[str, SentOutcome] = {}
        strikes = 0
        for written in written_answers(folder):
            if self._sent(written.subject) == written.content:
                outcomes[written.subject] = SentOutcome(KEPT)
            elif strikes >= STRIKES:
                reason = "not tried, since the archive did not answer for the results before it"
                outcomes[written.subject] = SentOutcome(FAILED, reason)
            else:
                outcome, down = self._send(written)
                strikes = strikes + 1 if down else 0
                outcomes[written.subject] = outcome
            outcome = outcomes[written.subject]
            if outcome.state != FAILED and not self._kept:
                shutil.rmtree(written.folder)
            words = f": {outcome.reason}" if outcome.reason else ""
            facts = {"subject": written.subject, "state": outcome.state, "reason": outcome.reason}
            progress.event("sent", f"{written.subject}: {outcome.state}{words}", **facts)
        return outcomes

    def _sent(self, subject: str) -> str | None:
        sent = read_record(self._cohort, sent_record(subject)).get(self._where)
        return str(sent) if sent else None

    def _send(self, written: Written) -> tuple[SentOutcome, bool]:
        """The outcome, and whether the archive did not answer at all."""
        for kind, path in _in_order(written.folder):
            try:
                self._send_one(path)
            except ArchiveError as error:
                return SentOutcome(FAILED, f"{kind}: {error.reason}"), error.down
        write_record(self._cohort, sent_record(written.subject), **{self._where: written.content})
        return SentOutcome(SENT), False

    def _send_one(self, path: Path) -> None:
        """Send an object unless it is there, as after a run that was killed before it could remember."""
        from pydicom import dcmread

        data = dcmread(path, stop_before_pixels=True, specific_tags=_UIDS)
        if not self._archive.holds(*(str(data[name].value) for name in _UIDS)):
            self._archive.store(path)


def sent_record(subject: str) -> str:
    """Name of the record of what was sent of a patient."""
    return f"{file_stem(subject)}.sent"


_UIDS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]

_ORDER = {"_segmentation.dcm": "segmentation", "_report.dcm": "structured report", "_page.dcm": "page as PDF"}
"""The structured report refers to the segmentations."""


def _in_order(folder: Path) -> Iterator[tuple[str, Path]]:
    for ending, kind in _ORDER.items():
        for path in sorted(folder.glob(f"*{ending}")):
            yield kind, path
