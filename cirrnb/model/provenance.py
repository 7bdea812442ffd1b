"""Where a trained stager comes from: versions, commit and data, without the name of a machine, a path or a patient."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cirrnb
from cirrnb.data.bag import Bag

PACKAGES = ("torch", "timm", "accelerate", "numpy", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of those that shape the numbers."""
    by_package = {"python": platform.python_version(), "cirrnb": cirrnb.__version__}
    for name in PACKAGES:
        try:
            by_package[name] = version(name)
        except PackageNotFoundError:
            by_package[name] = "unknown"
    return by_package


def commit() -> str | None:
    """The commit this package was run from, "+" behind it where files were changed; None outside a checkout."""
    folder = Path(cirrnb.__file__).parent
    # An installed copy may lie in somebody else's repository: only a file that git tracks tells that this is ours.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", ".")
    return head and head + ("+" if changed else "")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def _versions_and_commit() -> tuple[dict[str, str], str | None]:
    return versions(), commit()


def made_with() -> str:
    """One line about what a page is made with: versions, commit, and the time."""
    known, revision = _versions_and_commit()
    source = f"cirrnb {known['cirrnb']}" + (f", commit {revision[:10]}" if revision else "")
    when = now().replace("T", " ").removesuffix("+00:00")
    return f"Made with {source}, Python {known['python']}, torch {known['torch']}, on {when} UTC."


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            # A repository's settings may name a program that tells git which files changed.
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            # Within a hook of git, variables name the repository that the hook is of.
            env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def fingerprint(bags: Iterable[Bag]) -> str:
    """SHA-256 over who was trained on and how: subject, stage, split, and for each sequence the key of the prepared
    scan, which stands for its content and settings. It tells two data sets apart and nobody's id."""
    lines = sorted(
        "\t".join(
            [
                bag.subject,
                str(bag.stage),
                str(bag.split),
                *(f"{name}={scan.folder.name}" for name, scan in bag.scans.items()),
            ]
        )
        for bag in bags
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
