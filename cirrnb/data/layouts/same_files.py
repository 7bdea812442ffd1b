"""One file under several names: by links of either kind, or because it is listed twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cirrnb.data.errors import InputError, Remarks, listed
from cirrnb.data.scan import Scan


def file_identity(path: Path) -> str:
    """The same text for the same file under whatever name, also for hard links."""
    try:
        status = path.stat()
    except OSError:  # told where the file is opened
        return str(path.resolve())
    return f"{status.st_dev} {status.st_ino}" if status.st_ino else str(path.resolve())


def one_file(where: object, scans: Sequence[Scan]) -> InputError:
    """What is wrong with scans that are one file."""
    return InputError(
        where,
        f"one file for {listed(scan.name for scan in scans)}: {scans[0].image}",
        "a file of its own for each patient and sequence",
        "Correct the paths; one scan under two names leaks from training to test.",
    )


def without_repeated(scans: Sequence[Scan], remarks: Remarks) -> list[Scan]:
    """The scans that are files of their own; those that share one are problems and left out."""
    groups: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        groups[file_identity(scan.image)].append(scan)
    for group in groups.values():
        if len(group) > 1:
            subjects = dict.fromkeys(scan.subject for scan in group)
            remarks.problems.append(one_file(group[0].image, group).about(*subjects))
    return [scan for scan in scans if len(groups[file_identity(scan.image)]) == 1]
