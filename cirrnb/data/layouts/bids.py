"""A dataset in BIDS: sub-01/anat/sub-01_T1w.nii.gz, participants.tsv, and liver masks in derivatives.

Source: Gorgolewski et al., Scientific Data 3, 160044 (2016), doi 10.1038/sdata.2016.44; specification 1.10.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cirrnb.data.csv_file import Row, read_rows
from cirrnb.data.errors import InputError, Remarks, listed
from cirrnb.data.json_file import read_object
from cirrnb.data.layouts import fields
from cirrnb.data.scan import Scan
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale

PARTICIPANTS = "participants.tsv"
LEVELS = "participants.json"

_ANAT = ("sub-*/anat", "sub-*/ses-*/anat")
_SUFFIXES = {"t1w": "T1W", "t2w": "T2W"}
_NIFTI = re.compile(r"(?P<entities>.*?)_(?P<suffix>[A-Za-z0-9]+)\.nii(\.gz)?")
_LIVER = re.compile(r"liver", re.IGNORECASE)
_PHASE = ("phase", "real", "imag")
_SEX_OTHER = ("o", "other")
_LIST = "Keep one, or list the scans in scans.csv with the columns patient, sequence, image."


@dataclass(frozen=True)
class _File:
    """One file of an anat folder: its entities (sub, ses, acq, ...) and its suffix."""

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @property
    def patient(self) -> str:
        return self.entities["sub"]


def looks_bids(root: Path) -> bool:
    """True if root holds an anat folder of a subject."""
    return any(next(root.glob(pattern), None) is not None for pattern in _ANAT)


def read_bids(root: Path, remarks: Remarks, stages: StageScale = CIRRHOSIS) -> list[Scan]:
    """The T1w and T2w images of a BIDS dataset; what is wrong or odd is added to `remarks`.

    Age, sex, stage and split come from the columns of these names in participants.tsv, further columns go to
    `Scan.extra`. Codes that participants.json explains (Levels) are understood. A file with the suffix mask is a liver
    mask if its label or desc says liver, or it has neither; it lies beside the image or in derivatives, and names the
    image by T1w or T2w where the subject has both. Several sessions, runs or acquisitions of one sequence are problems:
    nothing says which is to be staged.
    """
    files = [file for pattern in _ANAT for folder in sorted(root.glob(pattern)) for file in _files(folder, remarks)]
    images: dict[tuple[str, str], list[_File]] = defaultdict(list)
    others: dict[str, int] = defaultdict(int)
    for file in files:
        sequence = _SUFFIXES.get(file.suffix.lower())
        if sequence is None:
            if file.suffix not in ("mask", "dseg"):
                others[file.suffix] += 1
        elif file.entities.get("part") not in _PHASE:
            images[file.patient, sequence].append(file)
    if others:
        remarks.notes.append(f"images that are not read: {listed(f'{n} {suffix}' for suffix, n in others.items())}")
    single = _singles(root, images, remarks)
    masks = _masks(root, files, single, remarks)
    people, refused = _participants(root, remarks, stages)
    _note_gaps(root, single, people, refused, masks, remarks)
    source = fields.source_of(root.resolve().name, "bids")
    return [
        Scan(patient, sequence, file.path, masks.get((patient, sequence)), source=source, **people.get(patient, {}))
        for (patient, sequence), file in single.items()
        if patient not in refused
    ]


def _files(folder: Path, remarks: Remarks) -> list[_File]:
    files = []
    for path in sorted(folder.iterdir()):
        match = _NIFTI.fullmatch(path.name)
        if match is None or path.name.startswith("."):
            continue
        entities = dict(part.partition("-")[::2] for part in match["entities"].split("_") if "-" in part)
        words = [part for part in match["entities"].split("_") if "-" not in part]
        if not path.exists():
            remedy = "Fetch the file (datalad get, git annex get)."
            remarks.problems.append(InputError(path, "a link to a file that is not there", "an image", remedy))
            continue
        try:
            entities["sub"] = fields.patient_id(entities.get("sub"))
        except ValueError as error:
            problem = repr(path.name)[:80]
            remarks.problems.append(InputError(folder, problem, f"sub-<label>_..., {error}", "Rename the file."))
            continue
        files.append(_File(path, {**entities, "of": " ".join(words)}, match["suffix"]))
    return files


def _singles(
    root: Path, images: Mapping[tuple[str, str], list[_File]], remarks: Remarks
) -> dict[tuple[str, str], _File]:
    """The image of each patient and sequence; several images of one, and several sessions, are problems."""
    sessions: dict[str, set[str]] = defaultdict(set)
    for (patient, _), files in images.items():
        sessions[patient] |= {file.entities.get("ses", "") for file in files}
    single = {}
    for (patient, sequence), files in images.items():
        subject = f"{fields.source_of(root.resolve().name, 'bids')}/{patient}"
        shown = listed(file.path.relative_to(root) for file in files)
        if len(sessions[patient]) > 1:
            description = f"{len(sessions[patient])} sessions: {shown}"
            problem = InputError(f"sub-{patient} {sequence}", description, "one session for each subject", _LIST)
        elif len(files) > 1:
            description = f"{len(files)} images: {shown}"
            problem = InputError(
                f"sub-{patient} {sequence}", description, "one image for each subject and sequence", _LIST
            )
        else:
            single[patient, sequence] = files[0]
            continue
        remarks.problems.append(problem.about(subject))
    return single


def _masks(
    root: Path, files: list[_File], single: Mapping[tuple[str, str], _File], remarks: Remarks
) -> dict[tuple[str, str], Path]:
    """Liver masks of the images, from their own folders and from derivatives."""
    derived = [
        file
        for pattern in _ANAT
        for folder in sorted(root.glob(f"derivatives/*/{pattern}"))
        for file in _files(folder, remarks)
    ]
    masks: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in (*files, *derived):
        says = f"{file.entities.get('label', '')}{file.entities.get('desc', '')}"
        if file.suffix != "mask" or (says and not _LIVER.search(says)):
            continue
        has = [sequence for patient, sequence in single if patient == file.patient]
        words = f"{file.entities['of']} {file.entities.get('space', '')} {file.entities.get('orig', '')}".lower()
        named = [sequence for suffix, sequence in _SUFFIXES.items() if suffix in words]
        belongs = [sequence for sequence in (named or has) if sequence in has]
        if len(belongs) == 1:
            masks[file.patient, belongs[0]].append(file.path)
        elif has:
            problem = "a liver mask that names no image" if not named else f"a liver mask of {' and '.join(named)}"
            remedy = "Name the image in it, as in sub-01_space-T1w_label-liver_mask.nii.gz."
            remarks.problems.append(InputError(file.path, problem, "a mask of one image", remedy))
    for (patient, sequence), paths in masks.items():
        if len(paths) > 1:
            problem = f"{len(paths)} liver masks: {listed(path.relative_to(root) for path in paths)}"
            remarks.problems.append(InputError(f"sub-{patient} {sequence}", problem, "one mask for each image", _LIST))
    return {key: paths[0] for key, paths in masks.items() if len(paths) == 1}


def _participants(root: Path, remarks: Remarks, stages: StageScale) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Fields of `Scan` by patient, and the patients whose rows are wrong."""
    path = root / PARTICIPANTS
    people: dict[str, dict[str, Any]] = {}
    refused: set[str] = set()
    if not path.is_file():
        return people, refused
    columns, rows = fields.named_columns(*read_rows(path, remarks.problems), ("patient", "sex", "age"))
    if "patient" not in columns:
        problem = f"the columns {', '.join(filter(None, columns))}"
        raise InputError(path, problem, "a column participant_id", "Add it, or rename one.")
    levels = _levels(root / LEVELS)
    for row in rows:
        patient = fields.cell(row.cells.get("patient", "").removeprefix("sub-"))
        if patient is None:
            continue
        record = _record(row, levels, stages, remarks)
        if record is None or people.get(patient, record) != record:
            if record is not None:
                problem = f"sub-{patient} again, otherwise than before"
                remarks.problems.append(
                    InputError(row.where, problem, "one row for each subject", "Keep the right one.")
                )
            refused.add(patient)
        else:
            people[patient] = record
    return people, refused


def _record(
    row: Row, levels: Mapping[str, Mapping[str, str]], stages: StageScale, remarks: Remarks
) -> dict[str, Any] | None:
    """The fields of a row; None if a cell cannot be read, which is added to the problems."""
    parsers = {
        "age": fields.age,
        "sex": _sex,
        "stage": lambda text: fields.stage(text, stages),
        "split": fields.split,
    }
    values: dict[str, Any] = {}
    for name, parse in parsers.items():
        text = row.cells.get(name)
        try:
            values[name] = parse(levels.get(name, {}).get(str(text), text))
        except ValueError as error:
            remedy = "Correct the cell, write n/a, or explain the codes in participants.json (Levels)."
            problem = f"{text!r:.80} in the column {name}"
            remarks.problems.append(InputError(row.where, problem, str(error), remedy))
    extra = {name: fields.cell(text) for name, text in row.cells.items() if name not in (*parsers, "patient")}
    return {**values, "extra": extra} if len(values) == len(parsers) else None


def _sex(text: str | None) -> str | None:
    """As `fields.sex`; "other", which BIDS knows, is a missing value."""
    return None if (text or "").strip().lower() in _SEX_OTHER else fields.sex(text)


def _levels(path: Path) -> dict[str, dict[str, str]]:
    """Column -> code -> what it means, from participants.json; a meaning counts where it is text."""
    if not path.is_file():
        return {}
    described = read_object(path, "a description of the columns", "Correct it, or take it away.")
    levels = {}
    for name, column in described.items():
        known = column.get("Levels") if isinstance(column, dict) else None
        if isinstance(known, dict):
            levels[str(name).lower()] = {str(code): word for code, word in known.items() if isinstance(word, str)}
    if "gender" in levels:
        levels.setdefault("sex", levels["gender"])
    return levels


def _note_gaps(
    root: Path,
    single: Mapping[tuple[str, str], _File],
    people: Mapping[str, Mapping[str, Any]],
    refused: set[str],
    masks: Mapping[tuple[str, str], Path],
    remarks: Remarks,
) -> None:
    patients = sorted({patient for patient, _ in single}, key=fields.natural_order)
    unlisted = [patient for patient in patients if patient not in people and patient not in refused]
    unstaged = [patient for patient in patients if patient in people and people[patient]["stage"] is None]
    absent = sorted(set(people) - set(patients), key=fields.natural_order)
    unmasked = [f"{patient} {sequence}" for patient, sequence in single if (patient, sequence) not in masks]
    table = (root / PARTICIPANTS).is_file()
    for names, words in (
        (unmasked, "scans without a liver mask"),
        (unlisted, "subjects that participants.tsv does not list" if table else "subjects, no participants.tsv"),
        (unstaged, "subjects without a stage in participants.tsv"),
        (absent, "subjects of participants.tsv without a T1w or T2w image"),
    ):
        if names:
            remarks.notes.append(f"{words}: {len(names)} ({listed(names)})")
