"""The studies of an inbox: DICOM files at any depth, grouped by study, with the faults that no single series shows."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cirrnb.data.dicom.conversion import missing
from cirrnb.data.dicom.files import DicomFiles, Instance, find_instances
from cirrnb.data.dicom.importing import DicomFolder
from cirrnb.data.dicom.series import gather
from cirrnb.data.dicom.series_choice import judge_all
from cirrnb.data.errors import InputError

DAMAGED = "damaged DICOM"
"""Reason under which `find_instances` lists a file whose header is cut short."""

_DIGITS = 12
"""Hexadecimal digits of a study's hash in its name: of 2,000 studies two agree with a chance of 1 in 10^8."""


@dataclass(frozen=True)
class Fault:
    """Why a study is not imported.

    Attributes
    ----------
    code : one of `FAULTS`.
    text : for a reader; no text of the files, which may name a person.
    """

    code: str
    text: str


NO_UID = "no study UID"
TWO_PATIENTS = "two patients"
COLLIDING = "colliding UIDs"
INCOMPLETE = "incomplete"
NO_LIVER_MR = "no liver MR"
AMBIGUOUS = "ambiguous series"
BURNED_IN = "burned-in text"
UNCONVERTED = "not converted"
DISK = "disk full"
NOT_FETCHED = "not fetched"
FAULTS = {
    NO_UID: "its files have no StudyInstanceUID",
    TWO_PATIENTS: "files of two patients share its StudyInstanceUID",
    COLLIDING: "a UID of its series or pictures belongs to another series or picture too",
    INCOMPLETE: "a file of it is damaged or cut short, as after an interrupted transfer, or slices are missing",
    NO_LIVER_MR: "no series of it can be staged: not MR, a map, a localizer, unusable geometry",
    AMBIGUOUS: "more than one series may be T1W, or T2W, and none is chosen by guessing",
    BURNED_IN: "text is part of the pictures and may be a name",
    UNCONVERTED: "dcm2niix could not convert a chosen series",
    DISK: "no room for the converted scans; tried again in the next run",
    NOT_FETCHED: "the archive did not send it, or not all of it; tried again in the next run",
}
"""Codes of faults and what they mean."""


@dataclass(frozen=True)
class Study:
    """One study of an inbox.

    Attributes
    ----------
    name : study-<hash of its StudyInstanceUID>, with which the owner of the DICOM files, and nobody else, can find it.
    instances : its files.
    damaged : files that belong to it and cannot be read.
    fault : found among UIDs and files; None where none was. Its series are not judged here.
    """

    name: str
    instances: tuple[Instance, ...]
    damaged: int = 0
    fault: Fault | None = None

    @cached_property
    def content(self) -> str:
        """SHA-256 over the pictures' UIDs, places and sizes: another one after more files came."""
        rows = sorted(
            (str(each.tags["SOPInstanceUID"]), str(each.tags["SeriesInstanceUID"]), str(each.person), each.short)
            for each in self.instances
        )
        return hashlib.sha256(repr((rows, self.damaged)).encode()).hexdigest()

    def listing(self, folder: Path) -> DicomFolder:
        """Its volumes, judged."""
        return DicomFolder(folder, DicomFiles(list(self.instances)), tuple(judge_all(gather(self.instances))))


@dataclass(frozen=True)
class Inbox:
    """The studies of a folder.

    Attributes
    ----------
    path : of the folder.
    studies : in the order of their names.
    stray : damaged files of which nobody knows the study.
    skipped : reason -> number of files that are no DICOM pictures.
    """

    path: Path
    studies: tuple[Study, ...] = ()
    stray: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


def read_inbox(folder: Path | str) -> Inbox:
    """Read every header under a folder and group the files by study. A folder without any DICOM picture has no studies.

    Raises InputError where there is no such folder, or the extra for DICOM is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise missing("pydicom") from error
    folder = Path(folder)
    if not folder.is_dir():
        problem = "a file" if folder.exists() else "no such folder"
        raise InputError("--from-dicom", problem, "a folder with DICOM studies", "Create it, or name another.")
    try:
        files = find_instances(folder)
    except InputError:  # an inbox may be empty
        return Inbox(folder)
    by_uid: dict[str, list[Instance]] = defaultdict(list)
    for instance in files.instances:
        by_uid[_uid(instance)].append(instance)
    damaged, stray = _owners(files.skipped.get(DAMAGED, []), by_uid)
    colliding = _colliding(files.instances)
    studies = [
        Study(name_of(uid), tuple(instances), damaged[uid], _fault(uid, instances, damaged[uid], uid in colliding))
        for uid, instances in by_uid.items()
    ]
    skipped = {reason: len(paths) for reason, paths in files.skipped.items()}
    return Inbox(folder, tuple(sorted(studies, key=lambda study: study.name)), stray, skipped)


def name_of(study_uid: str) -> str:
    """Name of the study with this StudyInstanceUID."""
    return f"study-{hashlib.sha256(study_uid.encode()).hexdigest()[:_DIGITS]}"


def is_name(text: str) -> bool:
    """Whether a text is what `name_of` calls a study."""
    return re.fullmatch(rf"study-[0-9a-f]{{{_DIGITS}}}", text) is not None


def _uid(instance: Instance) -> str:
    return str(instance.tags.get("StudyInstanceUID") or "")


def _fault(uid: str, instances: Sequence[Instance], damaged: int, colliding: bool) -> Fault | None:
    if not uid:
        return Fault(NO_UID, f"{len(instances)} files without a StudyInstanceUID")
    if len(persons := {instance.person for instance in instances}) > 1:
        return Fault(TWO_PATIENTS, f"{len(persons)} patients under one StudyInstanceUID")
    if colliding:
        return Fault(COLLIDING, "a SeriesInstanceUID or SOPInstanceUID is used for different series or pictures")
    short = sum(instance.short > 0 for instance in instances)
    if damaged or short:
        return Fault(INCOMPLETE, f"{damaged + short} of its files are damaged or cut short; send the study again")
    return None


def _colliding(instances: Iterable[Instance]) -> set[str]:
    """StudyInstanceUIDs of studies that share a series' UID, or a picture's, with another; or use one for several."""
    studies_of_series: dict[str, set[str]] = defaultdict(set)
    studies_of_picture: dict[str, list[str]] = defaultdict(list)
    for instance in instances:
        studies_of_series[str(instance.tags["SeriesInstanceUID"])].add(_uid(instance))
        studies_of_picture[str(instance.tags["SOPInstanceUID"])].append(_uid(instance))
    shared = [uids for uids in studies_of_series.values() if len(uids) > 1]
    repeated = [uids for uids in studies_of_picture.values() if len(uids) > 1]
    return {uid for uids in (*shared, *repeated) for uid in uids}


def _owners(paths: Iterable[Path], by_uid: Mapping[str, Sequence[Instance]]) -> tuple[dict[str, int], int]:
    """Number of damaged files by study, and of those whose study is unknown.

    A damaged file belongs to the study that its header names, as far as it can be read, or else to the one study whose
    files lie in the same folder.
    """
    neighbours: dict[Path, set[str]] = defaultdict(set)
    for known, instances in by_uid.items():
        for instance in instances:
            neighbours[instance.path.parent].add(known)
    counts, stray = dict.fromkeys(by_uid, 0), 0
    uid: str | None
    for path in paths:
        uid = _readable_uid(path)
        if uid not in counts:
            near = neighbours.get(path.parent, set())
            uid = next(iter(near)) if uid is None and len(near) == 1 else None
        if uid is None:
            stray += 1
        else:
            counts[uid] += 1
    return counts, stray


_HEAD = 1 << 16
"""Bytes at the beginning of a file in which its StudyInstanceUID is looked for."""
_STUDY_UID = b"\x20\x00\x0d\x00"
"""The tag (0020,000D), little endian."""


def _readable_uid(path: Path) -> str | None:
    """The StudyInstanceUID that stands in a damaged file, or None."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    place = head.find(_STUDY_UID)
    if place < 0:
        return None
    explicit = head[place + 4 : place + 6] == b"UI"
    length = int.from_bytes(head[place + 6 : place + 8] if explicit else head[place + 4 : place + 8], "little")
    value = head[place + 8 : place + 8 + length].rstrip(b"\0 ")
    if not 0 < length <= 64 or len(head) < place + 8 + length or not all(byte in b"0123456789." for byte in value):
        return None
    return value.decode("ascii")
