"""The four checks for the scans of a cohort, from what the segmenter observed in them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.scan import Scan
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.status import ANSWERED, REASONS_COLUMN, STATUS_COLUMN, Reason, reasons_text
from cirrnb.segmentation.checks import PASSED, Check, Checker, load_checker, worst
from cirrnb.segmentation.pairs import Labelled, compare

CHECKS_FILE = "checks.json"
MASK_BY = "mask_by"
"""Column of a table that marks a mask as a program's."""


def checker_of(network: Path, fingerprint: str) -> Checker | None:
    """The checks that were fitted for the segmenter of a folder; None if it has none.

    Raises InputError for a damaged file, and for checks of other weights: without a word, nothing would be checked.
    """
    path = network / CHECKS_FILE
    if not path.is_file():
        return None
    checker = load_checker(path)
    if checker.fingerprint != fingerprint:
        found, expected = "checks that were fitted for another segmenter", "those of the weights in the same folder"
        raise InputError(path, found, expected, "Fit them: cirrnb fit-checks; or remove the file to go without.")
    return checker


def judge(
    scans: Sequence[Scan], outcomes: Mapping[str, Mapping[str, Any]], checker: Checker, folder: Path
) -> dict[str, list[Check]]:
    """Checks by scan name, for the scans that were observed; the pair stands with both of its scans.

    Parameters
    ----------
    outcomes : scan name -> "observed" (numbers by name, None where missing) and, where there is a liver, "organs", the
        path of the map of the organs.
    folder : where comparisons of pairs are kept, so that none is made twice.
    """
    found: dict[str, list[Check]] = {}
    patients: dict[str, dict[str, Scan]] = {}
    for scan in scans:
        outcome = outcomes.get(scan.name, {})
        if "observed" not in outcome:
            continue
        by_person = scan.mask is not None and not scan.extra.get(MASK_BY)
        found[scan.name] = checker.check_scan(known(outcome["observed"]), scan.sequence, by_person)
        patients.setdefault(scan.subject, {})[scan.sequence] = scan
    for found_scans in patients.values():
        both = [found_scans[name] for name in T1W_T2W if name in found_scans]  # the sequences that pairs were fitted on
        if len(both) == 2 and all("organs" in outcomes[scan.name] for scan in both):
            compared = _compared(both, [Path(outcomes[scan.name]["organs"]) for scan in both], folder)
            check = checker.check_pair(compared)
            for scan in both:
                found[scan.name].append(check)
    return found


def known(stored: Mapping[str, float | None]) -> dict[str, float]:
    """Observations as they were, from how JSON keeps them: None is NaN again."""
    return {name: math.nan if value is None else float(value) for name, value in stored.items()}


def storable(observed: Mapping[str, float]) -> dict[str, float | None]:
    """Observations for JSON, which has no NaN."""
    return {name: float(value) if math.isfinite(value) else None for name, value in observed.items()}


def columns(checks: Sequence[Check]) -> dict[str, str]:
    """What a table says of a scan's checks."""
    reasons = [Reason(check.name, check.reason, check.remedy) for check in checks if check.outcome != PASSED]
    gravest = worst(checks)
    return {STATUS_COLUMN: ANSWERED if gravest == PASSED else gravest, REASONS_COLUMN: reasons_text(reasons)}


def _compared(both: Sequence[Scan], organs: Sequence[Path], folder: Path) -> dict[str, float]:
    """What two scans share; kept by the names of their maps, which hold the scans' content and the segmenter."""
    name = hashlib.sha256("/".join(path.name for path in organs).encode()).hexdigest()[:24]
    path = folder / "pairs" / f"{name}.json"
    if path.is_file():
        return known(read_object(path, "what was found of a pair", "Remove it; it is made again."))
    found = compare(*(_labelled(scan, labels) for scan, labels in zip(both, organs, strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(storable(found)))
    return found


def _labelled(scan: Scan, organs: Path) -> Labelled:
    volume, grid = read_volume(scan.image)
    labels, _ = read_volume(organs)
    return Labelled(volume, labels.astype("uint8"), grid)
