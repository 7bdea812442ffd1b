"""New studies of an archive fetched into a folder of ours, from which they are imported as from any inbox."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from cirrnb.archive.dicomweb import Archive, ArchiveError, ListedSeries, ListedStudy
from cirrnb.archive.inbox import DISK, FAULTS, NOT_FETCHED, Fault, name_of
from cirrnb.archive.intake import FORGOTTEN, Intake, judgement, remembered
from cirrnb.archive.records import read_record, write_record
from cirrnb.archive.results import MARK as RESULTS_MARK
from cirrnb.data.atomic_files import atomic_folder, atomic_write, remove_unfinished
from cirrnb.data.errors import InputError
from cirrnb.data.failure_kinds import is_full
from cirrnb.data.locks import locked

MARK = ".cirrnb-spool"
_LISTING = ".listing"
STRIKES = 2
"""Studies or results in a row for which an archive does not answer at all, after which the others are not tried."""

OnStudy = Callable[[str, ArchiveError | None], None]


@dataclass(frozen=True)
class StudyQuery:
    """Which studies of an archive are asked for.

    Attributes
    ----------
    modality : of series; only such are fetched.
    body_part : BodyPartExamined, several with commas between them; studies whose series do not say it are taken too.
    description : of the study, with * and ?; without them anywhere in it. Upper and lower case are the same.
    date : of the study: YYYYMMDD, YYYYMMDD-YYYYMMDD, YYYYMMDD- or 3d, which is today and the three days before.
    """

    modality: str = "MR"
    body_part: str | None = None
    description: str | None = None
    date: str | None = None

    def filters(self, today: dt.date | None = None) -> dict[str, str]:
        """What the archive is asked for. Raises InputError for a date that is none."""
        filters = {"ModalitiesInStudy": self.modality}
        if self.date:
            filters["StudyDate"] = _dates(self.date, today or dt.date.today())
        return filters

    def wants(self, study: ListedStudy) -> bool:
        """Whether the description is the one that is asked for."""
        if not self.description:
            return True
        pattern = self.description.lower()
        pattern = pattern if set(pattern) & set("*?") else f"*{pattern}*"
        return fnmatchcase(study.description.lower(), pattern.replace("[", "[[]"))

    def wanted(self, series: Sequence[ListedSeries]) -> list[ListedSeries]:
        """The series to fetch: none if the study is of another body part."""
        matching = [entry for entry in series if entry.modality.upper() == self.modality.upper()]
        parts = {entry.body_part.upper() for entry in matching if entry.body_part}
        wanted_parts = {part.strip().upper() for part in (self.body_part or "").split(",") if part.strip()}
        return [] if wanted_parts and parts and not wanted_parts & parts else matching


def _dates(text: str, today: dt.date) -> str:
    """A range as DICOM has it."""
    error = InputError("--date", repr(text), "YYYYMMDD, YYYYMMDD-YYYYMMDD, YYYYMMDD- or 3d", "Correct it.")
    if back := re.fullmatch(r"(\d{1,4})d", text.strip()):
        return f"{today - dt.timedelta(days=int(back[1])):%Y%m%d}-{today:%Y%m%d}"
    days = text.strip().split("-")
    if len(days) > 2 or not any(days):
        raise error
    try:
        known = [dt.datetime.strptime(day, "%Y%m%d") for day in days if day]
    except ValueError:
        raise error from None
    if known != sorted(known) or any(len(day) not in (0, 8) for day in days):
        raise error
    return "-".join(days)


class Spool:
    """`in/` with fetched studies while a run is at work, and `out/` with results until they are sent. Both carry names,
    and nobody else may read them."""

    def __init__(self, path: Path):
        self.path, self.incoming, self.outgoing = path, path / "in", path / "out"

    @contextmanager
    def opened(self) -> Iterator[Spool]:
        """Lock the folder, made if need be; when the block ends, fetched studies are removed.

        Raises InputError where something else stands there, or another run is at work in it.
        """
        acceptable = (self.path / MARK).is_file() or not self.path.exists()
        if not acceptable and (not self.path.is_dir() or any(entry.name != ".lock" for entry in self.path.iterdir())):
            raise InputError(self.path, "something that is no spool", "nothing there, or a spool", "Choose another.")
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        with locked(self.path):
            atomic_write(self.path / MARK, "Studies and results on their way, with names; safe to delete.\n")
            self.incoming.mkdir(exist_ok=True)
            remove_unfinished(self.incoming)
            try:
                yield self
            finally:
                shutil.rmtree(self.incoming, ignore_errors=True)
                if self.outgoing.is_dir() and {entry.name for entry in self.outgoing.iterdir()} <= {
                    RESULTS_MARK,
                    ".lock",
                }:
                    shutil.rmtree(self.outgoing, ignore_errors=True)


@dataclass
class Fetched:
    """What came of the studies that an archive lists.

    Attributes
    ----------
    listed : number of studies that match.
    known : studies that an earlier run looked at, and which the archive lists as they were then.
    failed : studies that could not be fetched, and why. Those that are known stay in the cohort as they are.
    listings : study -> what stands for its listing, of those that were fetched.
    unanswered : why the archive could not be asked at all, or "".
    """

    listed: int = 0
    known: list[Intake] = field(default_factory=list)
    failed: dict[str, Fault] = field(default_factory=dict)
    listings: dict[str, str] = field(default_factory=dict)
    unanswered: str = ""


class Fetcher:
    """Fetches studies of one archive into the spool of one run."""

    def __init__(self, archive: Archive, query: StudyQuery, spool: Spool, cohort: Path, *, burned_in: bool = False):
        self._archive, self._query, self._spool, self._cohort = archive, query, spool, cohort
        self._burned_in, self._strikes = burned_in, 0
        self._found: dict[str, tuple[ListedStudy, list[ListedSeries]]] = {}

    def fetch_new(self, on_study: OnStudy = lambda name, trouble: None) -> Fetched:
        """Fetch the studies that match and are new, or to which pictures came; one that fails stops no other.

        Raises InputError for a query that is none. `on_study` is called for each study that was fetched or was not.
        """
        fetched, filters = Fetched(), self._query.filters()
        try:
            studies = self._archive.find_studies(filters)
        except ArchiveError as error:
            fetched.unanswered = error.reason
            return fetched
        for study in sorted(studies, key=lambda candidate: name_of(candidate.uid)):
            if self._query.wants(study):
                self._look_at(study, fetched, on_study)
        return fetched

    def fetch_again(self, names: Iterable[str], on_study: OnStudy = lambda name, trouble: None) -> dict[str, str]:
        """Fetch listed studies whose pictures are needed once more; name -> why not, of those that did not come."""
        failed = {}
        for name in names:
            if name in self._found and not (self._spool.incoming / name).is_dir():
                fault = self._fetch(name, on_study)
                if fault is not None:
                    failed[name] = fault.text
        return failed

    def _look_at(self, study: ListedStudy, fetched: Fetched, on_study: OnStudy) -> None:
        name = name_of(study.uid)
        before = remembered(self._cohort, name)
        if before is not None and before.state == FORGOTTEN:
            fetched.listed += 1
            fetched.known.append(before)
            return
        try:
            series = [] if self._down else self._query.wanted(self._archive.list_series(study.uid))
        except ArchiveError as error:
            self._struck(error)
            on_study(name, error)
            fetched.listed += 1
            fetched.failed[name] = Fault(NOT_FETCHED, error.reason)
            fetched.known += [before] if before is not None else []
            return
        if not series and not self._down:
            return  # of another modality or body part
        fetched.listed += 1
        self._found[name] = study, series
        listing = self._listing(series)
        unchanged = before is not None and read_record(self._cohort, name).get("listing") == listing
        if before is not None and (unchanged or self._down):
            fetched.known.append(before)
            return
        fault = self._fetch(name, on_study)
        if fault is None:
            fetched.listings[name] = listing
        else:
            fetched.failed[name] = fault
            fetched.known += [before] if before is not None else []

    @property
    def _down(self) -> bool:
        return self._strikes >= STRIKES

    def _struck(self, error: ArchiveError) -> None:
        self._strikes = self._strikes + 1 if error.down else 0

    def _listing(self, series: Sequence[ListedSeries]) -> str:
        """Stands for all on which it depends what is made of a study."""
        rows = sorted((entry.uid, entry.pictures) for entry in series)
        return hashlib.sha256(repr((judgement(self._burned_in), rows)).encode()).hexdigest()

    def _fetch(self, name: str, on_study: OnStudy) -> Fault | None:
        """Fetch one study whole, or say why not. What a run that was killed has fetched whole is kept."""
        study, series = self._found[name]
        place, listing = self._spool.incoming / name, self._listing(series)
        if self._down:
            return Fault(NOT_FETCHED, "not tried, since the archive did not answer for the studies before it")
        try:
            if (place / _LISTING).is_file() and (place / _LISTING).read_text(encoding="utf-8") == listing:
                return None
            with atomic_folder(place) as partial:
                for number, entry in enumerate(series):
                    self._archive.fetch_series(study.uid, entry, partial / f"{number:04d}")
                atomic_write(partial / _LISTING, listing)
        except ArchiveError as error:
            self._struck(error)
            on_study(name, error)
            return Fault(NOT_FETCHED, error.reason)
        except OSError as error:
            if not is_full(error):
                raise
            return Fault(DISK, FAULTS[DISK])
        self._strikes = 0
        on_study(name, None)
        return None


def record_listings(cohort: Path, listings: Mapping[str, str], taken: Iterable[Intake]) -> None:
    """Remember what was listed of studies that were looked at now, by which they are known again without fetching."""
    for intake in taken:
        if intake.name in listings and (intake.fault is None or intake.fault.code != DISK):
            write_record(cohort, intake.name, listing=listings[intake.name])
