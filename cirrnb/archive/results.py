"""What goes back to where the images are: segmentation, structured report and encapsulated PDF of each patient.

These objects carry the identity of their source images. They are written into a folder of their own, never into a
report's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cirrnb.archive import codes
from cirrnb.archive.encapsulated import write_pdf
from cirrnb.archive.findings import Findings, ModelFacts, findings_of, refusal
from cirrnb.archive.structured_report import write_report
from cirrnb.data.atomic_files import atomic_folder, atomic_write, file_stem
from cirrnb.data.bag import Bag
from cirrnb.data.dicom.conversion import Segment, missing, source_headers, write_segmentation
from cirrnb.data.dicom.series import Series
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.locks import locked
from cirrnb.data.nifti.reading import read_mask
from cirrnb.data.prepared import PreparedScan
from cirrnb.measure.organs import read_organs

MARK = ".cirrnb-results"
_KEY = ".key"
VERSION = 2
"""Raised by hand when the same report gives other objects; those of another version are written anew."""

SERIES_NUMBER = 9900
"""Of the structured report; the PDF's is one more. Segmentations have 9000 and the number of their source series."""

WRITTEN, KEPT, FAILED = "written", "kept", "failed"
RESULTS = {
    WRITTEN: "in this run",
    KEPT: "by an earlier run from the same report",
    FAILED: "could not be written; the reason is beside it",
}
"""What became of a patient's objects."""


@dataclass(frozen=True)
class Answer:
    """The result for one patient.

    Attributes
    ----------
    subject : source and id. page : key of the page, or the refusal: the result depends on it.
    series : sequence -> hash of the DICOM series that was imported.
    model : which answered, or refused.
    stored : JSON of the report; None for a patient whom a check refused, for `reason`.
    pdf : file of the page; None where none was printed.
    model_simulated : whether the model learnt from simulated images.
    """

    subject: str
    page: str
    series: Mapping[str, str]
    model: ModelFacts
    stored: Path | None = None
    reason: str = ""
    pdf: Path | None = None
    model_simulated: bool = False

    @property
    def key(self) -> str:
        """Stands for all that the objects depend on; their UIDs are made from it."""
        parts = (VERSION, self.subject, self.page, sorted(self.series.items()), self.model)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def content(self) -> str:
        """Stands for the objects as a whole. A page that is printed in a later run joins the others, which stay."""
        return f"{self.key} {'with' if self.pdf is not None else 'without'} page"

    def findings(self) -> Findings:
        """The content of the structured report. Raises InputError where the JSON of the report cannot be read."""
        if self.stored is None:
            return refusal(self.reason, self.model, simulated=False, model_simulated=self.model_simulated)
        return findings_of(read_object(self.stored, "the JSON of a report", "Make the report again."), self.model)


def require_writer() -> None:
    """Raise InputError if the extra for DICOM is not installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise missing("highdicom") from error


@contextmanager
def results_folder(folder: Path) -> Iterator[Path]:
    """A folder for results, made if need be and locked until the block ends.

    Raises InputError where something else stands there, or another run is at work in it.
    """
    acceptable = (folder / MARK).is_file() or not folder.exists()
    if not acceptable and (not folder.is_dir() or any(entry.name != ".lock" for entry in folder.iterdir())):
        raise InputError(
            folder, "something that is no folder of results", "nothing there, or results", "Choose another folder."
        )
    with locked(folder):
        atomic_write(folder / MARK, "DICOM results by cirrnb, with the identity of their source images.\n")
        yield folder


def is_written(folder: Path, answer: Answer) -> bool:
    """True if the objects of this very answer are there."""
    written = _written(folder / file_stem(answer.subject))
    return written is not None and written.content == answer.content


@dataclass(frozen=True)
class Written:
    """The objects of one patient in a folder of results. `content` is that of the answer they are of."""

    folder: Path
    subject: str
    content: str


def written_answers(folder: Path) -> list[Written]:
    """All patients' objects in a folder of results, in the order of the folders' names."""
    answers = (_written(place) for place in sorted(folder.iterdir()) if not place.name.startswith("."))
    return [written for written in answers if written is not None]


def _written(place: Path) -> Written | None:
    try:
        stored = read_object(place / _KEY, "a whole file", "Delete it.")
        return Written(place, str(stored["subject"]), str(stored["content"]))
    except (OSError, ValueError, KeyError):
        return None


def write_answer(folder: Path, answer: Answer, series: Mapping[str, Series], bag: Bag | None) -> None:
    """Write the objects of one patient into <folder>/<patient>, all of them or none.

    The same answer always has the same UIDs, so that an archive that gets it twice holds it once.

    Parameters
    ----------
    series : sequence -> the DICOM series it was imported from.
    bag : prepared scans with masks and organs; None writes a structured report alone.

    Raises InputError where a scan or a mask cannot be read or lies elsewhere than its series, OSError where the disk is
    full, ValueError or AttributeError where the source images lack what DICOM requires.
    """
    stem, findings = file_stem(answer.subject), answer.findings()
    with atomic_folder(folder / stem) as partial:
        sources = {name: source_headers(each) for name, each in series.items()}
        segmentations = {
            name: path
            for name, each in series.items()
            if bag is not None and name in bag.scans
            if (path := _segmentation(partial, each, bag.scans[name], answer)) is not None
        }
        report = partial / f"{stem}_report.dcm"
        uids = _uids(answer.key, "report")
        write_report(report, findings, sources, segmentations, uids=uids, series_number=SERIES_NUMBER)
        if answer.pdf is not None:
            write_pdf(
                partial / f"{stem}_page.dcm",
                answer.pdf,
                next(iter(sources.values()))[0],
                uids=_uids(answer.key, "page"),
                series_number=SERIES_NUMBER + 1,
                version=answer.model.version,
            )
        atomic_write(partial / _KEY, json.dumps({"subject": answer.subject, "content": answer.content}) + "\n")


def _uids(key: str, what: str) -> tuple[str, str]:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=[key, what, "series"]), generate_uid(entropy_srcs=[key, what, "object"])


def _segmentation(folder: Path, series: Series, prepared: PreparedScan, answer: Answer) -> Path | None:
    """Liver and organs of one sequence as a segmentation object; None where nothing is outlined."""
    segments = _segments(prepared)
    if not segments:
        return None
    name = prepared.scan.sequence
    return write_segmentation(
        folder / f"{file_stem(answer.subject, name, 'segmentation')}.dcm",
        series,
        prepared.source_grid,
        segments,
        description=f"liver and organs, {name}",
        version=answer.model.version,
        uids=_uids(answer.key, f"segmentation {name}"),
    )


def _segments(prepared: PreparedScan) -> list[Segment]:
    scan, grid = prepared.scan, prepared.source_grid
    masks: dict[str, Any] = {} if scan.mask is None else {"liver": read_mask(scan.mask, grid)}
    named = scan.extra.get("organs")
    if isinstance(named, str) and named:
        masks |= read_organs(scan.image.parent / Path(named), grid)
    made_by = str(scan.extra.get("mask_by") or "") or None
    return [
        Segment(codes.ORGANS[organ], masks[organ], made_by, codes.ASCITES_CATEGORY if organ == "ascites" else None)
        for organ in codes.ORGANS
        if organ in masks and masks[organ].any()
    ]
