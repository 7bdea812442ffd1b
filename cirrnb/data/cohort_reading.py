"""Reading a cohort from a folder or a table; all problems are reported together."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.csv_file import read_rows
from cirrnb.data.errors import InputError, InputErrors, Remarks, listed
from cirrnb.data.failure_kinds import printable
from cirrnb.data.json_file import has_surrogates
from cirrnb.data.layouts.bids import looks_bids, read_bids
from cirrnb.data.layouts.fields import natural_order
from cirrnb.data.layouts.folder import DEPTH, NIFTI, OTHERS, TABLE, nifti_files, read_folder, table_in
from cirrnb.data.layouts.nnunet import FOLDERS as NNUNET_FOLDERS
from cirrnb.data.layouts.nnunet import looks_nnunet, read_nnunet
from cirrnb.data.layouts.published import (
    CIRRHOTIC_FOLDERS,
    HEALTHY_FOLDER,
    SLICE_FOLDERS,
    looks_published,
    read_published,
)
from cirrnb.data.layouts.table import read_table, without_repeated
from cirrnb.data.locks import claim_of, is_held
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.sequences import sequence_names
from cirrnb.data.stage_scale import StageScale, stage_scale
from cirrnb.data.typed_paths import typed_path

UNFINISHED = ".unfinished"
"""Suffix of the folder next to a cohort in which it is written until it is complete."""

SIMULATED = "SIMULATED.txt"
"""A file of this name at the root marks a cohort of computed images."""


def read_cohort(
    root: Path | str,
    *,
    on_problem: str = "raise",
    stages: StageScale | Sequence[str] | str | None = None,
    sequences: Sequence[str] | str | None = None,
) -> Cohort:
    """Read a cohort: which scans there are, with masks, stages and splits. Images are not opened.

    Parameters
    ----------
    root : one of

        - a folder in the published layout: Cirrhosis_T1_3D, Cirrhosis_T2_3D and Healthy_subjects, any of them;
        - a CSV table with one row per scan, see `cirrnb.data.layouts.table.read_table`;
        - a folder with such a table named scans.csv, as `cirrnb import-dicom` writes it;
        - a dataset of nnU-Net or BIDS, see `cirrnb.data.layouts.nnunet` and `cirrnb.data.layouts.bids`;
        - NIfTI files named after patient and sequence, a folder of them or one, see `cirrnb.data.layouts.folder`.
    on_problem : "raise" raises all problems together as `InputErrors`. "skip" excludes the scans concerned, warns once,
        and keeps the problems in `Cohort.problems`.
    stages : the stage scale of the column stage, for example "F0, F1, F2, F3, F4"; see
        `cirrnb.data.stage_scale.stage_scale`. None takes mild, moderate, severe. Another scale needs a table.
    sequences : sequences to read, in the order in which they are shown, for example "T1W, T2W, DWI"; other scans are
        skipped. None takes T1W and T2W, and a scan of another sequence is a problem. Others need a table.

    Returns
    -------
    A `Cohort`, sorted by source, patient and sequence. `notes` lists oddities that are harmless. `simulated` is True if
    a file SIMULATED.txt lies in the folder, in the table's folder, or above any of the scans.

    Raises
    ------
    InputErrors
        If there is a problem and `on_problem` is "raise", or no scan could be read.
    InputError
        If `stages` or `sequences` are invalid.

    Examples
    --------
    >>> cohort = cirrnb.read_cohort("cohorts/mine")
    >>> len(cohort.patients), cohort.stages.names
    (12, ('mild', 'moderate', 'severe'))
    """
    if on_problem not in ("raise", "skip"):
        raise ValueError(f'on_problem is "raise" or "skip", not {on_problem!r}')
    root = typed_path(root)
    if has_surrogates(str(root)):
        where = ascii(str(root))
        raise InputErrors([InputError(where, "a name that is not UTF-8", "a name in UTF-8", "Rename the folder.")])
    scale, names = stage_scale(stages), sequence_names(sequences)
    remarks = Remarks()
    try:
        scans = without_repeated(_read(root, remarks, scale, names, sequences is not None), remarks)
        if not scans and not remarks.problems:
            raise InputError(root, "no scan", "at least one NIfTI file", "Was the archive unpacked to the end?")
    except InputError as error:
        raise InputErrors([*remarks.problems, error]) from error
    if remarks.problems:
        problems = InputErrors(remarks.problems)
        if on_problem == "raise" or not scans:
            raise problems
        warnings.warn(f"{root.name}: {problems}", stacklevel=2)
    folder = root if root.is_dir() else root.parent
    computed = simulated_scans(scans)
    if 0 < len(computed) < len(scans):
        remarks.notes.append(f"simulated scans among others: {len(computed)} of {len(scans)} ({listed(computed)})")
    return Cohort(
        scans=tuple(sorted(scans, key=_order)),
        name=printable(root.resolve().stem if root.is_file() else root.resolve().name) or "cohort",
        simulated=(folder / SIMULATED).is_file() or bool(computed),
        problems=tuple(remarks.problems),
        notes=tuple(remarks.notes),
        stages=scale,
        sequences=names,
    )


def as_cohort(
    patients: Any, *, stages: StageScale | None = None, sequences: Sequence[str] | str | None = None
) -> Cohort | PreparedCohort:
    """A cohort as it is, or the one that a path names, read with `stages` and `sequences` as `read_cohort` does.

    Raises InputError for anything else.
    """
    if isinstance(patients, Cohort | PreparedCohort):
        return patients
    if isinstance(patients, str | os.PathLike):
        return read_cohort(Path(patients), stages=stages, sequences=sequences)
    expected = "a cohort, a prepared cohort, or the path of a cohort"
    remedy = "Hand in what cirrnb.read_cohort or cirrnb.prepare returns, or a path."
    raise InputError("patients", f"a {type(patients).__name__}", expected, remedy)


def _read(
    root: Path, remarks: Remarks, stages: StageScale, sequences: tuple[str, ...], skip_others: bool
) -> list[Scan]:
    if root.is_dir() and looks_published(root):
        return _of(read_published(root, remarks), root, remarks, stages, sequences)
    if root.is_file() and root.suffix.lower() in (".csv", ".tsv", ".txt"):
        return read_table(root, remarks, stages, sequences, skip_others)
    if (table := table_in(root)) is not None:
        return read_table(table, remarks, stages, sequences, skip_others)
    if root.is_dir() and looks_nnunet(root):
        return _of(read_nnunet(root, remarks), root, remarks, stages, sequences)
    if root.is_dir() and looks_bids(root):
        return _of(read_bids(root, remarks, stages), root, remarks, stages, sequences)
    if root.is_file() and NIFTI.fullmatch(root.name):
        return _of(read_folder(root.parent, [root], remarks), root, remarks, stages, sequences)
    if _holds_only_nifti(root) and (paths := nifti_files(root, remarks)):
        return _of(read_folder(root, paths, remarks), root, remarks, stages, sequences)
    published = (*CIRRHOTIC_FOLDERS.values(), HEALTHY_FOLDER)
    expected = f"a folder that holds {', '.join(published)}, a dataset of nnU-Net or in BIDS, or NIfTI files, "
    expected += "or a CSV table with one row a scan"
    remedy = "Correct the path."
    if not root.exists() and unfinished_name(root).is_dir():
        written = is_held(claim_of(root))
        problem = "a cohort that is being written" if written else "a cohort whose writing was interrupted"
        remedy = "Wait for it." if written else "Run the command that writes it again; what is done is kept."
    elif not root.exists():
        problem = "no such file or folder"
    elif not root.is_dir() and not root.is_file():
        problem = "no ordinary file"
    elif root.is_file():
        problem, remedy = f"a {root.suffix or 'nameless'} file", "Save the table as CSV."
    elif any((root / name).is_dir() for name in SLICE_FOLDERS):
        problem = "the 2D slices of the published data, which have neither spacing nor affine"
        remedy = "Download the 3D archives instead: Cirrhosis_T1_3D, Cirrhosis_T2_3D."
    elif (root / "fingerprints.json").is_file():
        problem = "a folder of prepared scans"
        remedy = "Give the cohort that they were prepared from; what is prepared is found again."
    elif (root / OTHERS).is_file():
        problem, remedy = _nothing_staged(root / OTHERS), "Import the patient's T1W or T2W series as well."
    elif (dicom := _dicom_below(root)) is not None:
        problem, remedy = f"DICOM files ({dicom})", f"Import them first: cirrnb import-dicom {root} cohorts/own"
    elif root.name in (*published, *NNUNET_FOLDERS):
        problem, remedy = "one of the dataset's folders alone", f"Give the folder above it: {root.parent}"
    else:
        tables = _tables_in(root)
        problem = f"a folder that holds {', '.join(sorted(path.name for path in root.iterdir())[:8]) or 'nothing'}"
        remedy = f"If {tables[0]} lists your scans, give that file." if tables else remedy
    raise InputError(root, problem, expected, remedy)


def _of(scans: list[Scan], root: Path, remarks: Remarks, stages: StageScale, sequences: tuple[str, ...]) -> list[Scan]:
    """Scans of the published layout or of file names, which know mild, moderate, severe, T1W and T2W alone."""
    if foreign := sorted({scan.stage for scan in scans if scan.stage} - set(stages)):
        remedy = f"Leave stages out, or list the scans in {TABLE}."
        remarks.problems.append(InputError(root, f"the stages {', '.join(foreign)}", stages.listed, remedy))
    return [scan for scan in scans if scan.sequence in sequences and (not scan.stage or scan.stage in stages)]


def simulated_scans(scans: Iterable[Scan]) -> list[str]:
    """Names of the scans above which a folder is marked as simulated, as they are named and as they lie on disk."""
    marked: dict[Path, bool] = {}

    def below(folder: Path) -> bool:
        if folder not in marked:
            above = (folder, *folder.parents)[: DEPTH + 1]
            marked[folder] = any((above_it / SIMULATED).is_file() for above_it in above)
        return marked[folder]

    return [
        scan.name
        for scan in scans
        if any(below(path.parent) for path in dict.fromkeys((scan.image.absolute(), scan.image.resolve())))
    ]


def unfinished_name(root: Path) -> Path:
    """The folder in which a cohort is written until it is complete."""
    return root.with_name(root.name + UNFINISHED) if root.name else root


def _holds_only_nifti(root: Path) -> bool:
    """True for a folder whose file names are to be read: one without published folders and without a table."""
    known = (*CIRRHOTIC_FOLDERS.values(), HEALTHY_FOLDER, *NNUNET_FOLDERS)
    if not root.is_dir() or root.name in known or any((root / name).is_dir() for name in SLICE_FOLDERS):
        return False
    return not _tables_in(root)


def _tables_in(root: Path) -> list[str]:
    """Names of the tables in a folder, by which scans may be listed; hidden ones are what systems leave behind."""
    return sorted(
        path.name
        for path in root.iterdir()
        if path.suffix.lower() in (".csv", ".tsv") and path.is_file() and not path.name.startswith(".")
    )


def _dicom_below(root: Path) -> Path | None:
    """A DICOM file among the first hundred under a folder, as seen from there; DICOM names need no ending."""
    paths = (Path(place) / name for place, _, names in os.walk(root) for name in sorted(names))
    for path in islice((path for path in paths if path.is_file()), 100):
        try:
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    return path.relative_to(root)
        except OSError:
            continue
    return None


def _nothing_staged(others: Path) -> str:
    """What an import left that cannot be staged, and why."""
    rows = read_rows(others, [])[1]
    series = listed((f"{row.cells.get('image')}: {row.cells.get('reason')}" for row in rows), 4)
    return f"imported series of which none can be staged ({series})"


def _order(scan: Scan) -> tuple[str, list[int | str], str]:
    return scan.source, natural_order(scan.patient), scan.sequence
