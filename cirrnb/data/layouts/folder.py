"""A folder of NIfTI files: patient and sequence are read from the file names, or a table is asked for."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from cirrnb.data.errors import InputError, Remarks, listed
from cirrnb.data.layouts import fields
from cirrnb.data.scan import Scan
from cirrnb.data.sequence_words import Word, read_words, words_of

TABLE = "scans.csv"
"""A table of this name lists the scans of its folder."""

OTHERS = "other.csv"
"""A table of this name lists imported scans that cannot be staged, with the reason."""

DEPTH = 4
"""Folders below the one given in which files are looked for."""

NIFTI = re.compile(r"(.*)\.nii(\.gz)?", re.IGNORECASE | re.DOTALL)
_BETWEEN = " _-."
_INITIALS = 2
_MASK = re.compile(r"(?<![a-z])(?:liver[ _-]?)?(?:masks?|segmentations?|seg|labels?|livers?)(?![a-z])", re.IGNORECASE)
_BIDS = re.compile(r"sub-([a-z0-9]+)", re.IGNORECASE)
_NOBODY = re.compile(r"(?:images?|imgs?|scans?|volumes?|anat|nifti|data|mri?|ses-\w+|train|valid|test)?", re.IGNORECASE)

_RENAME = (
    "Name it <patient>_T1W.nii.gz or <patient>_T2W.nii.gz (masks <patient>_T1W_mask.nii.gz), or list your scans in "
)
_RENAME += f"{TABLE} with the columns patient, sequence, image."


@dataclass(frozen=True)
class _File:
    path: Path
    patient: str
    sequence: str | None
    mask: bool


def table_in(root: Path) -> Path | None:
    """The table that lists the scans of a folder: scans.csv, or else the one called so in another case or scans.tsv."""
    if (root / TABLE).is_file() or not root.is_dir():
        return root / TABLE if root.is_dir() else None
    names = (TABLE, f"{TABLE.removesuffix('csv')}tsv")
    tables = [path for path in root.iterdir() if path.name.lower() in names and path.is_file()]
    return tables[0] if len(tables) == 1 else None


def nifti_files(root: Path, remarks: Remarks) -> list[Path]:
    """NIfTI files under a folder, to `DEPTH`, sorted, those of linked folders among them.

    Hidden ones are what systems leave behind. Other skipped paths are noted: links to nothing, links
    back to a folder above, and folders that lie deeper.
    """
    paths: list[Path] = []
    skipped: dict[str, list[str]] = defaultdict(list)
    for name, folders, names in os.walk(root, followlinks=True):
        place, here = Path(name), Path(name).resolve()
        deep = len(place.relative_to(root).parts) >= DEPTH
        below = sorted(entry for entry in folders if not entry.startswith("."))
        folders.clear()
        for path in (place / entry for entry in below):
            back = path.is_symlink() and path.resolve() in (here, *here.parents)
            if _is_output(path):
                skipped["folders that cirrnb wrote"].append(str(path.relative_to(root)))
            elif back or deep:
                skipped["links back to a folder above" if back else f"folders below {DEPTH} others"].append(
                    str(path.relative_to(root))
                )
            else:
                folders.append(path.name)
        for path in (place / entry for entry in sorted(names) if NIFTI.fullmatch(entry) and not entry.startswith(".")):
            if path.is_file():
                paths.append(path)
            else:
                # Opening a pipe waits for a writer, and a device may have no end.
                what = "pipes or devices" if path.exists() else "links to a file that is not there"
                skipped[what].append(str(path.relative_to(root)))
    remarks.notes += [f"{what}, not read: {len(names_of)} ({listed(names_of)})" for what, names_of in skipped.items()]
    return paths


def _is_output(folder: Path) -> bool:
    """True for a folder of prepared scans or of masks that the segmenter drew: their files are no scans."""
    return (folder / "fingerprints.json").is_file() or any((folder / "organs").glob("*_organs.found.json"))


def read_folder(root: Path, paths: list[Path], remarks: Remarks) -> list[Scan]:
    """The scans named by NIfTI files under `root`; ambiguous names are problems and excluded.

    Understood are A17_T1W.nii.gz, t2_haste_A17.nii, A17/T1 post contrast.nii.gz, T2W/A17.nii.gz, and
    masks that add mask, seg or label to the scan's name or lie in a folder named so. Nothing is guessed: a name that
    holds more than patient and sequence, or less, is a problem.
    """
    files = [file for path in paths if (file := _understood(root, path, remarks)) is not None]
    groups: dict[tuple[str, str], list[_File]] = defaultdict(list)
    masks: dict[tuple[str, str], list[_File]] = defaultdict(list)
    for file in files:
        if file.sequence is not None:
            (masks if file.mask else groups)[file.patient, file.sequence].append(file)
    source = fields.source_of(root.resolve().name, "folder")
    scans = []
    for (patient, sequence), images in groups.items():
        outlines = masks.pop((patient, sequence), [])
        if len(images) > 1 or len(outlines) > 1:
            remarks.problems.append(_several(root, patient, sequence, images if len(images) > 1 else outlines))
            continue
        scans.append(
            Scan(
                patient,
                sequence,
                images[0].path,
                outlines[0].path if outlines else None,
                source=source,
            )
        )
    for lone in (file for remaining in masks.values() for file in remaining):
        problem = f"a mask without its {lone.sequence} scan of {lone.patient}"
        remarks.problems.append(InputError(_shown(root, lone.path), problem, "a scan of the same name", _RENAME))
    remarks.notes.append(
        "a folder without a table: patients and sequences were read from file names, all patients are unstaged"
    )
    unmasked = [scan.name for scan in scans if scan.mask is None]
    if unmasked:
        remarks.notes.append(f"scans without a liver mask: {len(unmasked)} ({listed(unmasked)})")
    return scans


def _understood(root: Path, path: Path, remarks: Remarks) -> _File | None:
    """Patient, sequence and kind of a file; None for an ambiguous name, which is added to the problems."""
    name = NIFTI.fullmatch(path.name)
    stem, above = (name[1] if name else path.stem), list(reversed(path.relative_to(root).parent.parts))
    stem, *above = (unicodedata.normalize("NFC", part) for part in (stem, *above))
    mask = bool(_MASK.search(stem)) or any(_MASK.fullmatch(folder) for folder in above)
    stem = _MASK.sub("", stem).strip(_BETWEEN)
    words, before, after = _sequence_words(stem)
    around = [_sequence_words(folder)[0] for folder in above]
    read = read_words([word for part in (words, *around) for word in part])
    problem = None
    if read.doubt is not None:
        problem = f"a name with {read.doubt}"
    elif before and after:
        problem = f"a name with more than patient and sequence ({path.name!r:.80})"
    if problem is not None:
        remarks.problems.append(InputError(_shown(root, path), problem, "patient and sequence in its name", _RENAME))
        return None
    patient = _patient([before or after, *above, root.resolve().name])
    try:
        return _File(path, fields.patient_id(patient), str(read.weighting), mask)
    except ValueError as error:
        remarks.problems.append(InputError(_shown(root, path), repr(patient)[:80], str(error), _RENAME))
        return None


def _sequence_words(name: str) -> tuple[list[Word], str, str]:
    """The words of a name that tell of its sequence, and the text before and after them.

    They are the word that names the weighting and those beside it, as long as all are words of sequences; none where
    the name names no weighting.
    """
    bids = _BIDS.match(name)
    words = words_of(name)
    place = next((place for place, word in enumerate(words) if word.kind in ("first", "second")), None)
    if place is None:
        return [], name.strip(_BETWEEN), ""
    first = last = place
    while first > 0 and words[first - 1].kind != "unknown" and not (bids and words[first - 1].begin < bids.end()):
        first -= 1
    while last + 1 < len(words) and words[last + 1].kind != "unknown":
        last += 1
    before = name[: words[first].begin].rstrip(_BETWEEN + "+([").lstrip(_BETWEEN)
    after = name[words[last].end :].lstrip(_BETWEEN + "+)]").rstrip(_BETWEEN)
    if not before and not after and last - first == 1:
        # Two letters alone are more often somebody's initials (FB, SE, CE) than the name of a phase.
        lone = words[first if place == last else last]
        apart = words[first].end < words[last].begin  # T1ce is one word
        before = lone.text if apart and len(lone.text) == _INITIALS else ""
    others = [word for word in words_of(after) if word.kind in ("first", "second")]
    return words[first : last + 1] + others, before, after


def _patient(names: list[str]) -> str:
    """The first of the names, from the file up, that names a patient and not a kind of folder."""
    for name in names:
        if bids := _BIDS.match(name):
            return bids[1]
        words, before, after = _sequence_words(name)
        bare = f"{before}{after}" if words else name.strip(_BETWEEN)
        if not _NOBODY.fullmatch(bare) and not _MASK.fullmatch(bare):
            return name.strip(_BETWEEN)
    return names[-1]


def _several(root: Path, patient: str, sequence: str, files: list[_File]) -> InputError:
    return InputError(
        f"patient {patient} {sequence}",
        f"{len(files)} files: {listed(_shown(root, file.path) for file in files)}",
        "one scan for each patient and sequence",
        f"Keep the one to be staged, or list your scans in {TABLE} with the columns patient, sequence, image.",
    )


def _shown(root: Path, path: Path) -> Path:
    return path.relative_to(root.parent) if root.parent in path.parents else path
