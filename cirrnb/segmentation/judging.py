"""The four checks for the scans of a cohort, from what the segmenter observed in them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object
from cirrnb.data.nifti.reading import read_volume
from cirrnb.data.scan import Scan
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.status import ANSWERED, REASONS_COLUMN, STATUS_COLUMN, Reason, reasons_text
from cirrnb.data.workers import Job, Outcome, WorkerDied, in_parallel, processors
from cirrnb.segmentation.checks import PASSED, Check, Checker, load_checker, worst
from cirrnb.segmentation.mask_overlap import check_mask
from cirrnb.segmentation.pairs import Labelled, compare

CHECKS_FILE = "checks.json"
MASK_BY = "mask_by"
"""Column of a table that marks a mask as a program's."""


def checker_of(network: Path, fingerprint: str) -> Checker | None:
    """The checks that were fitted for the segmenter of a folder; None if it has none.

    Raises InputError for a damaged file, and for checks of other weights, which would not be valid.
    """
    path = network / CHECKS_FILE
    if not path.is_file():
        return None
    checker = load_checker(path)
    if checker.fingerprint != fingerprint:
        problem, expected = "checks that were fitted for another segmenter", "those of the weights in the same folder"
        raise InputError(path, problem, expected, "Fit them: cirrnb fit-checks; or remove the file to go without.")
    return checker


Progress = Callable[[Iterator[Any], int, str], Iterator[Any]]
"""Wraps an iterator over finished items, given their number and what is done to them."""


def unwatched(items: Iterator[Any], total: int, what: str) -> Iterator[Any]:
    """A `Progress` that shows nothing."""
    return items


def judge(
    scans: Sequence[Scan],
    outcomes: Mapping[str, Mapping[str, Any]],
    checker: Checker,
    folder: Path,
    *,
    workers: int | None = None,
    progress: Progress = unwatched,
) -> dict[str, list[Check]]:
    """Checks by scan name, for the scans that were observed; the check of a pair is listed for both of its scans.

    Parameters
    ----------
    outcomes : scan name -> "observed" (numbers by name, None where missing) and, where there is a liver, "organs", the
        path of the map of the organs; "shared", where a person drew a mask, how much of it the program finds.
    folder : where comparisons of pairs are kept, so that none is repeated.
    workers : number of processes that compare pairs, by default one per processor.
    """
    checks: dict[str, list[Check]] = {}
    patients: dict[str, dict[str, Scan]] = {}
    for scan in scans:
        outcome = outcomes.get(scan.name, {})
        if "observed" not in outcome:
            continue
        checks[scan.name] = checker.check_scan(known(outcome["observed"]), scan.sequence, drawn_by_person(scan))
        if "shared" in outcome:
            checks[scan.name].append(check_mask(outcome["shared"]))
        patients.setdefault(scan.subject, {})[scan.sequence] = scan
    # The sequences that pairs were fitted on.
    pairs = [[scans[name] for name in T1W_T2W if name in scans] for scans in patients.values()]
    pairs = [both for both in pairs if len(both) == 2 and all("organs" in outcomes[scan.name] for scan in both)]
    maps = [[Path(outcomes[scan.name]["organs"]) for scan in both] for both in pairs]
    for both, compared in zip(pairs, _all_compared(pairs, maps, folder, workers, progress), strict=True):
        check = checker.check_pair(compared)
        for scan in both:
            checks[scan.name].append(check)
    return checks


def drawn_by_person(scan: Scan) -> bool:
    """Whether a scan has a mask that no program drew."""
    return scan.mask is not None and not scan.extra.get(MASK_BY)


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


def _all_compared(
    pairs: Sequence[Sequence[Scan]],
    maps: Sequence[Sequence[Path]],
    folder: Path,
    workers: int | None,
    progress: Progress,
) -> list[dict[str, float]]:
    """What the scans of each pair share. A comparison is kept by the names of its maps, which hold the scans' content
    and the segmenter."""
    files = [
        folder / "pairs" / f"{hashlib.sha256('/'.join(path.name for path in organs).encode()).hexdigest()[:24]}.json"
        for organs in maps
    ]
    jobs = [
        {
            "images": [str(scan.image.absolute()) for scan in both],
            "organs": [str(path) for path in organs],
            "out": str(file),
        }
        for both, organs, file in zip(pairs, maps, files, strict=True)
        if not file.is_file()
    ]
    count = max(1, min(workers or processors(), len(jobs)))
    if count == 1:
        compared: Iterator[Any] = (run_job(job) for job in jobs)
    else:
        compared = (outcome for _, outcome in in_parallel(jobs, count, __name__, max(1, processors() // count)))
    for outcome in progress(compared, len(jobs), "Comparing pairs") if jobs else ():
        if isinstance(outcome, WorkerDied):
            remedy = "Start the command again with fewer workers; what was compared is kept."
            raise InputError("comparing T1W with T2W", str(outcome), "memory for two scans a worker", remedy)
        if "error" in outcome:
            raise InputError(*outcome["error"])
    return [known(read_object(file, "what was found of a pair", "Remove it; it is made again.")) for file in files]


def run_job(job: Job) -> Outcome:
    """Compare two scans and keep what they share, for `cirrnb.data.workers`; an InputError comes back as `error`."""
    try:
        first, second = (_labelled(*paths) for paths in zip(job["images"], job["organs"], strict=True))
    except InputError as error:
        return {"error": error.args}
    out = Path(job["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, json.dumps(storable(compare(first, second))))
    return {}


def _labelled(image: str, organs: str) -> Labelled:
    volume, grid = read_volume(Path(image))
    labels, _ = read_volume(Path(organs))
    return Labelled(volume, labels.astype("uint8"), grid)
