"""Which of a patient's scans a model can stage, and what speaks against an answer from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from cirrnb.data.bag import Bag
from cirrnb.data.errors import InputError
from cirrnb.data.grid import PLANES, Orientation
from cirrnb.data.mask_checks import CUT_OFF
from cirrnb.data.numbers import figure
from cirrnb.data.prepared import PreparedScan
from cirrnb.data.status import (
    REFUSED,
    UNUSUAL,
    Reason,
    Refused,
    grade_of,
    likeness_reasons,
    reasons_text,
    status_of_scans,
)
from cirrnb.model.trained_model import TrainedModel


def usable(trained: TrainedModel, bag: Bag) -> tuple[dict[str, PreparedScan], list[str]]:
    """The scans that can be staged, and what is missing, or what preparation found odd, in words.

    Raises InputError where none can be, and Refused, which is one, where a check refused a scan.
    """
    wanted = trained.sequences
    known_scans = {name: scan for name, scan in bag.scans.items() if name in wanted}
    unusable = {name: reason for name, scan in known_scans.items() if (reason := _unusable(scan))}
    notes = [f"{name} left out: {reason}" for name, reason in unusable.items()]
    used = {name: scan for name, scan in known_scans.items() if name not in unusable}
    notes += [f"{name} missing" for name in wanted if name not in known_scans]
    if not used:
        raise InputError(
            bag.subject,
            "; ".join(notes),
            "at least one usable sequence",
            "Look at the patient's files, or leave it out.",
        )
    status, reasons = status_of_scans([scan.scan for scan in used.values()])
    if status == REFUSED:
        raise Refused(
            bag.subject,
            reasons_text(reasons) or "scans that a check refused",
            "scans of a liver that are what they are declared as",
            "Look at the scans; prepare(..., force=True) or --force answers all the same.",
        )
    notes += [f"{name} has one slice" for name, scan in used.items() if scan.grid.shape[0] == 1]
    return used, notes + [f"{name}: {note}" for name, scan in used.items() for note in _odd(scan)]


def refusal(trained: TrainedModel, bag: Bag) -> tuple[Reason, ...]:
    """Reasons for which a check refuses the scans that the model would read; empty if none does."""
    looked_at = [scan.scan for name, scan in bag.scans.items() if name in trained.sequences and not _unusable(scan)]
    status, reasons = status_of_scans(looked_at)
    if status != REFUSED:
        return ()
    return reasons or (Reason("check", "a check refused the scans", "Look at them."),)


def unusual(trained: TrainedModel, used: Mapping[str, PreparedScan]) -> tuple[Reason, ...]:
    """Reasons for scans that look unlike those the model was trained on, and unlike its site's.

    Two checks: how unusual the liver and its surroundings are (the grade that `cirrnb.data.status.grade_of` reads), and
    whether the prepared image looks like the stager's training scans.
    """
    known = trained.site.distances(used) if trained.site else {}
    doubtful = {name: scan for name, scan in used.items() if not known.get(name, np.inf) <= 1}
    graded = likeness_reasons(scan.scan for scan in doubtful.values() if grade_of(scan.scan) is not None)
    if trained.out_of_distribution is None:
        return graded
    return (*graded, *(Reason(UNUSUAL, remark) for remark in trained.out_of_distribution.remarks(doubtful)))


def incomplete(scans: Mapping[str, PreparedScan]) -> Iterator[Reason]:
    """A reason for each scan that shows only a part of the liver, or was not acquired axially."""
    for sequence, scan in scans.items():
        if plane := Orientation.of(scan.source_grid).plane(scan.source_grid):
            yield Reason("plane", f"{sequence}: acquired {PLANES[plane]}; the stager was trained on axial scans")
        if borders := scan.measured.get("liver_cut_off"):
            text = f"{sequence}: part of the liver is missing: it is cut off at the {' and the '.join(borders)}"
            yield Reason("part", text, "Use a scan that covers the whole liver.")


def prepared_otherwise(bag: Bag, trained: TrainedModel) -> list[InputError]:
    """What is wrong with scans that were prepared otherwise than those the model was trained on."""
    return [
        InputError(
            scan.scan.name,
            f"a scan prepared with {scan.settings}",
            f"{trained.preparation}, as the model of {trained.name} was trained",
            "Hand in the cohort as cirrnb.read_cohort returned it: it is then prepared as the model needs it.",
        )
        for scan in bag.scans.values()
        if scan.settings != trained.preparation
    ]


def _odd(scan: PreparedScan) -> list[str]:
    """Notes of the preparation, and doubts about a mask that a program drew."""
    doubts = str(scan.scan.extra.get("mask_doubts") or "").split("; ")
    if scan.measured.get("liver_cut_off"):  # which a note and a reason already say
        doubts = [doubt for doubt in doubts if not doubt.endswith(CUT_OFF)]
    further = "; ".join(doubt for doubt in doubts if doubt and not any(doubt in note for note in scan.notes))
    return [*scan.notes, *([f"doubtful liver mask ({further})"] if further else [])]


def _unusable(scan: PreparedScan) -> str | None:
    """Why nothing can be read from a scan, or None."""
    low, high = float(scan.image.min()), float(scan.image.max())
    if not np.isfinite([low, high]).all():
        return "values that are not finite"
    if low == high:
        return f"a constant image (every voxel {figure(low)})"
    return None
