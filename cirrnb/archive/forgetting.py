"""Deletion: one patient out of a report and all that led to it, and prepared scans beyond an age."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cirrnb.archive.chain import STUDIES_TABLE, read_studies
from cirrnb.archive.cohort_rows import read_table, remove_patient, rows_of
from cirrnb.archive.fetching import Spool
from cirrnb.archive.intake import forget_study
from cirrnb.archive.records import records_of
from cirrnb.archive.results import MARK as RESULTS_MARK
from cirrnb.archive.sending import sent_record
from cirrnb.data.atomic_files import atomic_write, file_stem
from cirrnb.data.csv_file import write_csv
from cirrnb.data.errors import InputError
from cirrnb.data.grid import Grid
from cirrnb.data.json_file import read_object
from cirrnb.data.layouts.folder import TABLE
from cirrnb.data.locks import locked
from cirrnb.data.nifti.reading import read_header
from cirrnb.data.prepared import read_description
from cirrnb.explanation.explanation import Entry
from cirrnb.preparation.cohort import SEGMENTED
from cirrnb.reports.folder import ReportFolder
from cirrnb.reports.outcome import rewrite_index
from cirrnb.reports.tables import read_failures, read_summary

_NEAR = 1e-3
"""mm by which two grids of one scan may differ."""
_PREPARED = "prepared.json"

UNREACHED = (
    "the DICOM files in the inbox and in the archive, and what was sent to an archive",
    "copies and backups of these folders, pages and PDFs that were printed, sent or opened elsewhere",
    "logs of cron, systemd or a scheduler, which name the study by its hash",
    "history.csv, which holds sums over all patients of a run and names nobody",
    "tables of maps' tests among the explanations, which hold a few numbers and name nobody",
)
"""What no command can delete."""


@dataclass(frozen=True)
class Places:
    """Where a patient may have left something; None for what there is not."""

    report: Path
    cohort: Path | None = None
    prepared: Path | None = None
    explanations: Path | None = None
    dicom_out: Path | None = None
    spool: Path | None = None


@dataclass(frozen=True)
class Forgotten:
    """What `forget` did: files and folders that were removed or rewritten, and what it could not reach."""

    subject: str
    removed: tuple[Path, ...]
    unreached: tuple[str, ...]


def forget(patient: str, places: Places) -> Forgotten:
    """Delete one patient: scans, masks, prepared scans, maps, overlays, pages, results as DICOM, and rows of tables.

    Parameters
    ----------
    patient : source and id ("imported/study-..."), or the id alone.

    A study that lies in the inbox still is not imported again. The page of the whole cohort is removed; the next run
    makes it again. A prepared scan of another patient with the very same grid goes too, and is made again when needed.

    Raises InputError where nobody of this name is known, or another run is at work.
    """
    report = ReportFolder(places.report.absolute())
    subject = _subject(patient, report, places.cohort)
    name, removed, unreached = subject.partition("/")[2], [], list(UNREACHED)
    grids: list[Grid] = []
    if places.cohort is not None:
        grids = list(_grids(places.cohort, name))
    if places.prepared is not None:
        removed += _remove_prepared(places.prepared, subject, grids)
        if not grids:
            unreached.append("prepared scans, of which nobody knows whose they are: cirrnb clean removes them by age")
    if places.explanations is not None:
        removed += _remove_maps(places.explanations, subject)
    for folder in filter(None, (places.dicom_out, None if places.spool is None else Spool(places.spool).outgoing)):
        if (folder / RESULTS_MARK).is_file():
            with locked(folder):
                removed += _remove([folder / file_stem(subject)])
    if places.spool is not None:
        removed += _remove([Spool(places.spool).incoming / name])
    if report.path.is_dir():
        with locked(report.path):
            removed += _remove_from_report(report, subject)
    if places.cohort is not None and places.cohort.is_dir():
        removed += remove_patient(places.cohort, name)
        forget_study(places.cohort, name)
        removed += _remove(records_of(places.cohort, name, sent_record(subject)))
        if not grids:
            unreached.append("scans that the cohort's table names in other folders")
    return Forgotten(subject, tuple(dict.fromkeys(removed)), tuple(unreached))


def _subject(patient: str, report: ReportFolder, cohort: Path | None) -> str:
    """Source and id of a patient whom the report or the cohort knows."""
    known: list[str] = []
    for path in (report.summary, report.failures):
        if path.exists():
            known += [row["subject"] for row in read_table(path) if row.get("subject")]
    if cohort is not None:
        known += [f"{row.get('source') or cohort.name}/{row['patient']}" for row in _scans(cohort)]
    subjects = [subject for subject in dict.fromkeys(known) if patient in (subject, subject.partition("/")[2])]
    if len(subjects) != 1:
        some = f"{len(subjects)} patients of this name" if subjects else "nobody of this name"
        raise InputError(repr(patient), some, "one patient of report or cohort", "Write source/id, as in summary.csv.")
    return subjects[0]


def _scans(cohort: Path) -> list[dict[str, str]]:
    return read_table(cohort / TABLE)


def _grids(cohort: Path, patient: str) -> Iterator[Grid]:
    """Grids of a patient's scans."""
    for row in rows_of(cohort, patient):
        try:
            yield read_header(cohort / row["image"]).grid
        except (InputError, OSError):
            continue  # its prepared scan is found by nobody then


def _remove(paths: Iterable[Path]) -> list[Path]:
    """Remove files and folders that are there."""
    removed = []
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.exists() or path.is_symlink():
            path.unlink()
        else:
            continue
        removed.append(path)
    return removed


def _remove_prepared(folder: Path, subject: str, grids: list[Grid]) -> list[Path]:
    """Masks and organs by their name, prepared scans by their grid, and the caches that remember files."""
    stem, segmented = file_stem(subject), folder / SEGMENTED
    removed = _remove(sorted([*segmented.glob(f"masks/{stem}_*"), *segmented.glob(f"organs/{stem}_*")]))
    removed += _remove(path.parent for path in sorted(folder.glob(f"*/{_PREPARED}")) if _lies_on(path.parent, grids))
    if removed:
        removed += _remove([folder / "fingerprints.json", folder / "extents.json"])
    return removed


def _lies_on(prepared: Path, grids: list[Grid]) -> bool:
    try:
        source: Grid = read_description(prepared)["source_grid"]
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return False
    return any(source.shape == grid.shape and abs(source.affine - grid.affine).max() < _NEAR for grid in grids)


def _remove_maps(folder: Path, subject: str) -> list[Path]:
    explanations = {path: Entry(path).read() for path in sorted(folder.glob("*.safetensors"))}
    return _remove(path for path, entry in explanations.items() if entry is not None and entry.subject == subject)


def _remove_from_report(report: ReportFolder, subject: str) -> list[Path]:
    """Pages, maps, log and rows; the index is written again, and the page of the cohort removed."""
    stem = file_stem(subject)
    files = [report.patients / f"{stem}{ending}" for ending in (".html", ".json", ".pdf")]
    files += [report.patients / f".{stem}.key", report.overlays / stem, report.logs / f"{stem}.txt"]
    removed = _remove(files)
    tables = {report.summary: read_summary, report.failures: read_failures, report.path / STUDIES_TABLE: read_studies}
    for path, read in tables.items():
        if path.exists():
            table = read(report.path)
            matches = table["subject"] == subject
            if read is read_failures:  # a study that was not fetched is nobody's row, and the reason names it
                matches |= table["reason"].astype(str).str.startswith(f"{subject.partition('/')[2]}, ")
                removed += _remove(report.path / str(log) for log in table.loc[matches, "log"].dropna())
            if matches.any():
                removed.append(write_csv(path, table[~matches]))
    removed += _remove([report.cohort])
    removed += _drop_request(report.provenance, subject)
    if report.index.exists() and report.summary.exists():
        rewrite_index(report)
        removed.append(report.index)
    return removed


def _drop_request(path: Path, subject: str) -> list[Path]:
    """A patient who was asked for by name stands among the parameters."""
    if not path.exists():
        return []
    stored = read_object(path, "the provenance of a report", "Make the report again.")
    requested = stored["parameters"]["patients"]
    kept = [name for name in requested if name not in (subject, subject.partition("/")[2])]
    if kept == requested:
        return []
    stored["parameters"]["patients"] = kept
    atomic_write(path, json.dumps(stored, indent=2) + "\n")
    return [path]


# ---------------------------------------------------------------------- age


def clean(days: float, prepared: Iterable[Path], explanations: Iterable[Path] = ()) -> list[Path]:
    """Remove prepared scans, masks, organs and maps that were written more than `days` ago; they are made again when
    they are needed. Cohorts, reports and results stay.

    Parameters
    ----------
    prepared : folders of prepared scans (prepared/NAME). explanations : folders of maps.

    Raises InputError for a folder that holds neither.
    """
    limit, removed = time.time() - days * 86400, []
    for folder in prepared:
        if not holds_prepared(folder):
            expected = "a folder of prepared scans, such as prepared/nightly"
            raise InputError(folder, "no prepared scans", expected, "Correct the path.")
        old = [path.parent for path in folder.glob(f"*/{_PREPARED}") if path.stat().st_mtime < limit]
        old += [path for path in (folder / SEGMENTED).glob("*/*") if path.is_file() and path.stat().st_mtime < limit]
        removed += _remove(sorted(old))
    for folder in explanations:
        kinds = (*folder.glob("*.safetensors"), *folder.glob("*.json"))
        removed += _remove(sorted(path for path in kinds if path.stat().st_mtime < limit))
    return removed


def holds_prepared(folder: Path) -> bool:
    """True for a folder of prepared scans or of masks drawn for them."""
    return any(folder.glob(f"*/{_PREPARED}")) or (folder / SEGMENTED).is_dir()


def days_of(age: str) -> float:
    """Days of an age such as 90d, 12h or 8w; a number alone is days. Raises InputError."""
    units = {"h": 1 / 24, "d": 1.0, "w": 7.0}
    number = age.strip().lower()
    unit = units.get(number[-1:], 1.0)
    try:
        value = float(number.rstrip("hdw"))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise InputError("--older-than", repr(age), "an age such as 90d, 12h or 8w", "Correct it.")
    return value * unit
