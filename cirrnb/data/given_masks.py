"""Liver masks that a reader supplies, or rejects, for one patient; the cohort's own files stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cirrnb.data.errors import InputError, listed
from cirrnb.data.nifti.reading import read_header, read_mask
from cirrnb.data.scan import Cohort, Scan
from cirrnb.data.sequences import parse_sequence
from cirrnb.data.status import REASONS_COLUMN, STATUS_COLUMN, Reason, doubted, reasons_of
from cirrnb.data.typed_paths import typed_path

OF_ANOTHER_MASK = ("mask_by", "mask_doubts", STATUS_COLUMN, REASONS_COLUMN)
"""Columns that speak of a mask that is replaced, or of checks that were made with it."""

VIEW_BOX = "view_box"
"""Column with the box that a reader drew where the view shall be: six numbers, mm in RAS+ (x, x, y, y, z, z)."""
REJECTED = "mask rejected"
"""Code of the reason that a reader rejected an outline."""

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""From and to in mm (RAS+) along x, y and z."""


def reject_mask(scan: Scan, box: Box | None = None) -> Scan:
    """The scan without its outline of the liver and the organs drawn with it, and doubtful for it.

    `box` is where the view shall be instead; None leaves it to the middle of the body.
    """
    gone = ("mask_by", "mask_doubts", "organs", VIEW_BOX)
    extra = {name: value for name, value in scan.extra.items() if name not in gone}
    if box is not None:
        extra[VIEW_BOX] = " ".join(f"{value:.2f}" for pair in box for value in pair)
    text = "a reader rejected the outline of the liver" + ("" if box is None else " and drew a box for the view")
    reason = Reason(REJECTED, text, "Draw the liver and hand the mask in.")
    return doubted(replace(scan, mask=None, extra=extra), reason)


def without_masks(cohort: Cohort) -> Cohort:
    """The cohort without its masks: the program segments liver and organs."""
    gone = (*OF_ANOTHER_MASK, "organs", VIEW_BOX)
    scans = (
        replace(scan, mask=None, extra={name: value for name, value in scan.extra.items() if name not in gone})
        for scan in cohort.scans
    )
    return replace(cohort, scans=tuple(scans))


def is_rejected(scan: Scan) -> bool:
    """Whether a reader rejected the outline of a scan."""
    return any(reason.code == REJECTED for reason in reasons_of(scan.extra.get(REASONS_COLUMN)))


def box_of(scan: Scan) -> Box | None:
    """The box that `reject_mask` put on a scan, or None."""
    text = scan.extra.get(VIEW_BOX)
    if not text:
        return None
    values = [float(word) for word in str(text).split()]
    return (values[0], values[1]), (values[2], values[3]), (values[4], values[5])


def give_masks(cohort: Cohort, masks: Sequence[str | Path] | str | Path, subject: str | None = None) -> Cohort:
    """The cohort with masks that a reader supplies for one patient; they count as drawn by a person.

    Parameters
    ----------
    masks : files, each as it is ("liver.nii.gz", for the scan on whose grid it lies) or with the sequence before it
        ("T1W=liver.nii.gz"); none leaves the cohort as it is.
    subject : the patient ("cirrhotic/12"); None where the cohort has one.

    Raises
    ------
    InputError
        If the patient is not named or not in the cohort, a mask lies on the grid of no scan or of several, is empty or
        not binary, or a scan gets two.
    """
    files = [masks] if isinstance(masks, str | Path) else list(masks)
    if not files:
        return cohort
    scans = _of_patient(cohort, subject)
    given: dict[str, Path] = {}
    for file in files:
        name, path = _named(str(file), scans)
        if name in given:
            raise InputError(path, f"a second mask for {name}", "one mask for a scan", "Leave one of them out.")
        read_mask(path, read_header(scans[name].image).grid)
        given[name] = path
    chosen = {scans[name].name: path for name, path in given.items()}
    return replace(cohort, scans=tuple(_with_mask(scan, chosen.get(scan.name)) for scan in cohort.scans))


def absolute(masks: Sequence[str | Path]) -> tuple[str, ...]:
    """Masks as a reader wrote them, with paths that hold in any folder."""
    paths = []
    for text in map(str, masks):
        before, sign, after = text.partition("=")
        named = bool(sign) and not typed_path(text).exists()
        paths.append(f"{before}={typed_path(after).absolute()}" if named else str(typed_path(text).absolute()))
    return tuple(paths)


def _of_patient(cohort: Cohort, subject: str | None) -> dict[str, Scan]:
    """Sequence -> scan of the patient that masks are for."""
    subjects = list(dict.fromkeys(scan.subject for scan in cohort.scans))
    if subject is None and len(subjects) > 1:
        problem = f"a mask for one of {len(subjects)} patients ({listed(subjects)})"
        raise InputError("mask", problem, "one patient", "Name the patient as well.")
    wanted = cohort.subject_named(subject) if subject else subjects[0]
    return {scan.sequence: scan for scan in cohort.scans if scan.subject == wanted}


def _named(text: str, scans: dict[str, Scan]) -> tuple[str, Path]:
    """Sequence and file of a mask as the reader wrote it."""
    before, sign, after = text.partition("=")
    if sign and not typed_path(text).exists():
        with suppress(ValueError):
            return parse_sequence(before, tuple(scans)), typed_path(after)
    path = typed_path(text)
    grid = read_header(path).grid
    names = [name for name, scan in scans.items() if read_header(scan.image).grid.matches(grid)]
    if len(names) == 1:
        return names[0], path
    if names:
        problem, remedy = f"a mask that fits {' and '.join(names)}", f"Write {names[0]}={path.name}."
        raise InputError(path, problem, "a mask of one scan", remedy)
    if len(scans) == 1:
        # Raises an error that names the differences of the grids.
        read_mask(path, read_header(next(iter(scans.values())).image).grid)
    shapes = {name: " x ".join(map(str, read_header(scan.image).grid.shape)) for name, scan in scans.items()}
    raise InputError(
        path,
        f"a mask of {' x '.join(map(str, grid.shape))} voxels that lies on no scan's grid",
        f"the grid of {' or '.join(f'{name} ({shape} voxels)' for name, shape in shapes.items())}",
        "Resample the mask to its scan (nearest neighbour), or find the mask that belongs to the scan.",
    )


def _with_mask(scan: Scan, mask: Path | None) -> Scan:
    if mask is None:
        return scan
    kept = {name: value for name, value in scan.extra.items() if name not in OF_ANOTHER_MASK}
    return replace(scan, mask=mask.absolute(), extra=kept)
