"""The four checks for the scans of a cohort, from what the segmenter observed in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cirrnb.data.nifti.volume import read_volume
from cirrnb.data.scan import T1W_T2W, Scan
from cirrnb.segmentation.checks import PASSED, Check, Checker, load_checker, worst
from cirrnb.segmentation.pairs import Labelled, compare

CHECKS_FILE = "checks.json"
CHECKED, REASONS_COLUMN = "checked", "check_reasons"
"""Columns of a table: "passed", "doubtful" or "refused"; and why, with what to do."""


def checker_of(network: Path, fingerprint: str) -> Checker | None:
    """The checks that were fitted for the segmenter of a folder; None if there are none, or for another one's weights.

    Raises InputError for a damaged file.
    """
    path = network / CHECKS_FILE
    if not path.is_file():
        return None
    checker = load_checker(path)
    return checker if checker.fingerprint == fingerprint else None


def judge(scans: Sequence[Scan], outcomes: Mapping[str, Mapping[str, Any]], checker: Checker) -> dict[str, list[Check]]:
    """Checks by scan name, for the scans that were observed; the pair stands with both of its scans.

    Parameters
    ----------
    outcomes : scan name -> "observed" (numbers by name, None where missing) and, where there is a liver, "organs", the
        path of the map of the organs.
    """
    found: dict[str, list[Check]] = {}
    patients: dict[str, dict[str, Scan]] = {}
    for scan in scans:
        outcome = outcomes.get(scan.name, {})
        if "observed" not in outcome:
            continue
        found[scan.name] = checker.check_scan(known(outcome["observed"]), scan.sequence, scan.mask is not None)
        patients.setdefault(scan.subject, {})[scan.sequence] = scan
    for found_scans in patients.values():
        both = [found_scans[name] for name in T1W_T2W if name in found_scans]  # the sequences that pairs were fitted on
        if len(both) == 2 and all("organs" in outcomes[scan.name] for scan in both):
            check = checker.check_pair(
                compare(*(_labelled(scan, Path(outcomes[scan.name]["organs"])) for scan in both))
            )
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
    reasons = [f"{check.name}: {check.reason}. {check.remedy}" for check in checks if check.outcome != PASSED]
    return {CHECKED: worst(checks), REASONS_COLUMN: " ".join(reasons)}


def _labelled(scan: Scan, organs: Path) -> Labelled:
    volume, grid = read_volume(scan.image)
    labels, _ = read_volume(organs)
    return Labelled(volume, labels.astype("uint8"), grid)
