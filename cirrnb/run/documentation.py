"""The documentation site: built from docs/ by Sphinx, opened from a folder without a server or a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import cirrnb
from cirrnb.data.atomic_files import atomic_folder
from cirrnb.data.errors import InputError, listed
from cirrnb.data.workers import python_command

SITE = Path(cirrnb.__file__).parent / "site"
"""Where the site is built; a wheel holds what lies there."""
SOURCE = Path(cirrnb.__file__).parents[1] / "docs"
EVERY = "all"
_CLONE = "Clone the repository and run the command there."


def first_page(rebuild: bool = False, execute: Sequence[str] = (), site: Path = SITE) -> Path:
    """The site's first page; the site is built if it is not there, or if `rebuild` asks for it.

    Parameters
    ----------
    rebuild : build it anew, although it is there.
    execute : tutorials to execute ("student"), or "all"; the others are shown without their outputs. What was executed
        and has not changed is not executed again.

    Raises
    ------
    InputError
        If the site must be built and the source or Sphinx is missing, a tutorial is unknown, or Sphinx fails.
    """
    page = site / "index.html"
    if rebuild or execute or not page.is_file():
        build(site, execute)
    return page


def tutorials() -> list[str]:
    """Names of the tutorials that can be executed."""
    return sorted(path.stem for path in (SOURCE / "tutorials").glob("*.ipynb"))


def build(site: Path, execute: Sequence[str] = ()) -> None:
    """Build the site with warnings as errors. Parameters and errors as for `first_page`."""
    if not (SOURCE / "conf.py").is_file():
        raise InputError(SOURCE, "no such folder", "the documentation's source", _CLONE)
    if find_spec("sphinx") is None or find_spec("myst_nb") is None:
        raise InputError("Sphinx", "not installed", "the extra [docs]", 'Install it: pip install "cirrnb[docs]"')
    known = tutorials()
    unknown = [name for name in execute if name not in (*known, EVERY)]
    if unknown:
        raise InputError("--execute", listed(unknown), f"among {', '.join(known)}, {EVERY}", "Correct the name.")
    wanted = known if EVERY in execute else list(execute)
    # Sphinx leaves executed notebooks beside its output: it works in build/, and pages alone go to their place.
    work = SOURCE.parent / "build" / "documentation"
    command = python_command("-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html")
    command += ["-d", str(work / "doctrees"), str(SOURCE), str(work / "html")]
    beside = str(Path(command[0]).parent)  # where the command `cirrnb` lies that tutorials call
    path = os.pathsep.join([beside, os.environ.get("PATH", "")])
    environment = os.environ | {"CIRRNB_EXECUTED_TUTORIALS": ",".join(wanted), "PATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        # Sphinx keeps what it has read and would not warn of it again: a second build would pass.
        shutil.rmtree(work / "doctrees", ignore_errors=True)
        lines = [line for line in done.stderr.splitlines() if "WARNING: " in line or "rror" in line]
        raise InputError(
            SOURCE, "\n".join(lines) or done.stderr[-2000:], "a site without warnings", "Correct what is named."
        )
    with atomic_folder(site) as partial:
        shutil.copytree(work / "html", partial, dirs_exist_ok=True)
