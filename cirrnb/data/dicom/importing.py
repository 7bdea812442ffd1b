"""A DICOM folder converted to a cohort: NIfTI files and a table that `cirrnb.read_cohort` reads."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cirrnb.data.atomic_files import atomic_folder, folder_name, remove_unfinished
from cirrnb.data.csv_file import read_rows, write_csv
from cirrnb.data.dicom.conversion import convert, missing
from cirrnb.data.dicom.files import DicomFiles, find_instances
from cirrnb.data.dicom.series import Series, gather
from cirrnb.data.dicom.series_choice import Ask, Judged, choose, judge_all
from cirrnb.data.dicom.series_faults import find_fault
from cirrnb.data.errors import InputError, listed
from cirrnb.data.layouts.fields import patient_id
from cirrnb.data.layouts.folder import OTHERS, TABLE
from cirrnb.data.locks import locked
from cirrnb.data.numbers import figure
from cirrnb.data.status import IMPORT_DOUBTS
from cirrnb.data.typed_paths import typed_path

SOURCE = "imported"
PATIENCE = 1800.0
"""Seconds to wait for another import into the same cohort; one patient takes half a minute."""
BURNED_IN = "text is part of the pictures (BurnedInAnnotation YES)"
"""Noted for a scan whose files say so."""

OLDEST = 90
"""Highest age in years that is written; older ages identify a person."""
_NOBODY = 130
"""Age in years that nobody reaches; programs write such an age for unknown."""

_COLUMNS = ("patient", "sequence", "image", "mask", "stage", "age", "sex", "source")
_OWN = ("manufacturer", "field_t", "tr_ms", "te_ms", "series", "chosen_because", IMPORT_DOUBTS)


@dataclass(frozen=True)
class DicomFolder:
    """The series of a DICOM folder, judged."""

    path: Path
    files: DicomFiles
    judged: tuple[Judged, ...]

    @property
    def patients(self) -> int:
        return len({volume.series.patient for volume in self.judged})

    def of(self, patient: int | None) -> list[Judged]:
        """The volumes of one patient by their number in the listing; None where there is only one.

        Raises InputError where several patients lie in the folder and none was named.
        """
        numbers = sorted({volume.series.patient for volume in self.judged})
        if patient is None and len(numbers) == 1:
            return list(self.judged)
        if patient in numbers:
            return [volume for volume in self.judged if volume.series.patient == patient]
        listing = "; ".join(f"patient {number} with series {self._series(number)}" for number in numbers)
        if patient is None:
            remedy = "Say whose series are meant with --patient 1 (or 2 ...), once for each; see --list."
            raise InputError(self.path, f"{len(numbers)} patients: {listing}", "one patient", remedy)
        raise InputError(f"patient {patient}", "no patient of that number", listing, "See --list for the listing.")

    def _series(self, patient: int) -> str:
        return listed(volume.number for volume in self.judged if volume.series.patient == patient)


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes
    ----------
    name : what the patient is called from now on.
    table : the cohort's table, or None where nothing can be staged.
    scans : sequence -> the volume and why it was taken.
    others : volumes that were converted and cannot be staged.
    """

    name: str
    table: Path | None
    scans: Mapping[str, tuple[Judged, str]]
    others: tuple[Judged, ...]


def list_series(folder: Path | str) -> DicomFolder:
    """Read the headers of a DICOM folder and judge every volume in it.

    Raises InputError where there is no DICOM picture, or the extra for DICOM is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise missing("pydicom") from error
    folder = typed_path(folder)
    files = find_instances(folder)
    return DicomFolder(folder, files, tuple(judge_all(gather(files.instances))))


def import_dicom(
    folder: Path | str | DicomFolder,
    out: Path | str,
    *,
    t1w: int | None = None,
    t2w: int | None = None,
    patient: int | None = None,
    name: str | None = None,
    others: bool = False,
    ask: Ask | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> Imported:
    """Convert a patient's T1W and T2W scan to NIfTI and add them to the table in `out`.

    Names, dates, free text and identifiers stay behind: a scan is known by `name`, with age (at most 90), sex, vendor,
    field strength, TR and TE, and a hash of the series' UID, with which the owner of the DICOM files can find them.
    Text that is part of the pictures stays (see `Series.burned_in`). Imports into one cohort wait for one another.

    Parameters
    ----------
    folder : with DICOM files at any depth, or what `list_series` made of it.
    out : of the cohort; made if need be, added to if it is there.
    t1w, t2w : number of the series in the listing; 0 for no such scan; None has it suggested.
    patient : number of the patient in the listing, needed where there are several.
    name : of the patient from now on; the next free case-1, case-2, ... without.
    others : convert what cannot be staged as well, for other programs. This is done anyway where nothing can.
    ask : called where it is not clear which series is meant.
    waiting : called once if another import into `out` is under way.

    Raises
    ------
    InputError
        For a folder without DICOM, several patients, a series that is not clear or cannot be used, a scan that is in
        the cohort already, or a name that is taken.
    """
    listing = folder if isinstance(folder, DicomFolder) else list_series(folder)
    out = typed_path(out)
    judged = listing.of(patient)
    chosen = choose(judged, {"T1W": t1w, "T2W": t2w}, ask)
    wanted = {volume.series.number for volume, _ in chosen.values()}
    rest = [volume for volume in judged if volume.number not in wanted and find_fault(volume.series) is None]
    extra = [volume for volume in rest if others or not chosen]
    if not chosen and not extra:
        raise _nothing(listing, judged)
    with locked(out, PATIENCE, waiting):
        return _add_patient(out, name, chosen, extra)


def _add_patient(
    out: Path, name: str | None, chosen: Mapping[str, tuple[Judged, str]], extra: Sequence[Judged]
) -> Imported:
    """Convert the chosen volumes and add their rows. The caller holds the lock of `out`."""
    rows = _rows(out / TABLE)
    hashes = {row.get("series") for row in rows} | {row.get("series") for row in _rows(out / OTHERS)}
    for volume in (*(volume for volume, _ in chosen.values()), *(extra if not chosen else ())):
        if hash_of(volume.series) in hashes:
            where = f"series {volume.number} ({volume.series.description})"
            raise InputError(where, "in this cohort already", "a new series", "Nothing needs to be done.")
    patient = _name(out, name, rows)
    scans = {sequence: volume for sequence, (volume, _) in chosen.items()}
    _convert(out, patient, {**{name: volume.series for name, volume in scans.items()}, **_files(extra)})
    table = None
    if chosen:
        added = [_row(patient, sequence, volume, why) for sequence, (volume, why) in chosen.items()]
        table = _add(out / TABLE, rows, added, (*_COLUMNS, *_OWN))
    if extra:
        other_rows = [_other_row(patient, stem, volume) for stem, volume in zip(_files(extra), extra, strict=True)]
        _add(out / OTHERS, _rows(out / OTHERS), other_rows, ("patient", "image", "reason", "series"))
    return Imported(patient, table, chosen, tuple(extra))


def _nothing(listing: DicomFolder, judged: Sequence[Judged]) -> InputError:
    reasons = "; ".join(f"series {each.number} ({each.series.description}): {each.verdict.why}" for each in judged[:6])
    rest = f"; and {len(judged) - 6} more" if len(judged) > 6 else ""
    remedies = list(dict.fromkeys(each.verdict.remedy for each in judged))
    remedy = (
        remedies[0] if len(remedies) == 1 else "Export the T1-weighted and T2-weighted axial series of the abdomen."
    )
    return InputError(
        listing.path, f"nothing that can be used: {reasons}{rest}", "T1W or T2W MR of the abdomen", remedy
    )


def _name(out: Path, name: str | None, rows: Sequence[Mapping[str, str]]) -> str:
    if name is None:
        number = 1
        while (out / f"case-{number}").exists() or any(row.get("patient") == f"case-{number}" for row in rows):
            number += 1
        return f"case-{number}"
    try:
        patient = patient_id(name)
    except ValueError as error:
        raise InputError("the patient's name", repr(name), str(error), "Choose another; it becomes a folder.") from None
    # As file systems see them on which a and A, or composed and decomposed accents, are the same.
    taken = {_alike(row.get("patient") or "") for row in rows}
    if (out / folder_name(patient)).exists() or _alike(patient) in taken:
        raise InputError(patient, "a patient of this name already", "a new name", "Choose another with --name.")
    return patient


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _files(others: Sequence[Judged]) -> dict[str, Series]:
    return {f"other-{volume.number}": volume.series for volume in others}


def _convert(out: Path, patient: str, wanted: Mapping[str, Series]) -> None:
    """All of a patient's files or none. The caller holds the lock of `out`."""
    remove_unfinished(out)
    # dcm2niix and gzip both work outside of Python.
    with atomic_folder(out / folder_name(patient)) as partial, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda item: convert(item[1], partial / f"{item[0]}.nii.gz"), wanted.items()))


# ---------------------------------------------------------------------- the table


def _row(patient: str, sequence: str, volume: Judged, why: str) -> dict[str, str]:
    tags = volume.series.tags
    return {
        "patient": patient,
        "sequence": sequence,
        "image": f"{folder_name(patient)}/{sequence}.nii.gz",
        "age": _age(tags),
        "sex": {"F": "female", "M": "male"}.get(str(tags.get("PatientSex") or ""), ""),
        "source": SOURCE,
        "manufacturer": _vendor(tags),
        "field_t": _figure(tags, "MagneticFieldStrength"),
        "tr_ms": _figure(tags, "RepetitionTime"),
        "te_ms": _figure(tags, "EchoTime"),
        "series": hash_of(volume.series),
        "chosen_because": f"{why}; {BURNED_IN}" if volume.series.burned_in else why,
        IMPORT_DOUBTS: "; ".join(_import_doubts(volume, sequence)),
    }


def _import_doubts(volume: Judged, sequence: str) -> Iterator[str]:
    """Reasons against staging a volume as this sequence, also where the user chose it by its number."""
    if volume.verdict.sequence != sequence:
        yield volume.verdict.why
    yield from volume.verdict.doubts


def _other_row(patient: str, stem: str, volume: Judged) -> dict[str, str]:
    image = f"{folder_name(patient)}/{stem}.nii.gz"
    return {"patient": patient, "image": image, "reason": _reason(volume), "series": hash_of(volume.series)}


def _reason(volume: Judged) -> str:
    return f"{volume.verdict.why}; {BURNED_IN}" if volume.series.burned_in else volume.verdict.why


def hash_of(series: Series) -> str:
    """An identifier with which the owner of the DICOM files, and no other person, can find the series."""
    return hashlib.sha256(f"{series.uid} {series.part}".encode()).hexdigest()[:16]


def _age(tags: Mapping[str, object]) -> str:
    digits = str(tags.get("PatientAge") or "")
    if len(digits) != 4 or not digits[:3].isdigit() or digits[3] != "Y" or not 0 < int(digits[:3]) < _NOBODY:
        return ""
    return str(min(int(digits[:3]), OLDEST))


_VENDORS = ("Siemens", "Philips", "GE", "Canon", "Toshiba", "Hitachi", "Fujifilm", "United Imaging", "UIH", "Esaote")


def _vendor(tags: Mapping[str, object]) -> str:
    """A vendor that is known: the attribute is free text."""
    manufacturer = str(tags.get("Manufacturer") or "").lower()
    return next((name for name in _VENDORS if manufacturer.startswith(name.lower())), "")


def _figure(tags: Mapping[str, object], name: str) -> str:
    try:
        return figure(float(str(tags[name])))
    except (KeyError, ValueError):
        return ""


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    problems: list[InputError] = []
    rows = [dict(row.cells) for row in read_rows(path, problems)[1]]
    if problems:
        raise problems[0]
    return rows


def _add(
    path: Path, rows: Sequence[Mapping[str, str]], added: Sequence[Mapping[str, str]], columns: Sequence[str]
) -> Path:
    """The table with more rows; columns that somebody added stay."""
    return write_csv(path, [*rows, *added], columns)
