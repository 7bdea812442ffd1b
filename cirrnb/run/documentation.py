"""The documentation site: built from docs/ by Sphinx, opened from a folder without a server or a network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import cirrnb
from cirrnb.data.atomic_files import atomic_folder, atomic_write
from cirrnb.data.errors import InputError, listed
from cirrnb.data.workers import python_command
from cirrnb.view.documentation import SOURCE as PAGES
from cirrnb.view.documentation import notebook_with_pages

SITE = Path(cirrnb.__file__).parent / "site"
"""Where the site is built; a wheel holds what lies there."""
SOURCE = Path(cirrnb.__file__).parents[1] / "docs"
EVERY = "all"
BUILD_SECONDS = 55
"""Of the site without tutorials."""
TUTORIAL_SECONDS = {"clinician": 35, "night": 130, "researcher": 50, "student": 35}
"""How long each takes; measured, as is BUILD_SECONDS, on two cores that did other work meanwhile."""
_CLONE = "Clone the repository and run the command there."


def first_page(
    rebuild: bool = False,
    execute: Sequence[str] = (EVERY,),
    site: Path = SITE,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """The site's first page; the site is built if it is not there, or if `rebuild` asks for it.

    Parameters
    ----------
    rebuild : build it anew, although it is there.
    execute : tutorials to execute ("student"), or "all"; the others are shown without their outputs. What was executed
        and has not changed is not executed again.
    tell : called with one line about what is built and its expected duration.

    Raises
    ------
    InputError
        If the site must be built and the source or Sphinx is missing, a tutorial is unknown, or Sphinx fails.
    """
    page = site / "index.html"
    if rebuild or not page.is_file():
        build(site, execute, tell)
    return page


def cache_folder() -> Path:
    """Where outputs of tutorials are kept. Another package has another folder: no output is older than what made it."""
    package = Path(cirrnb.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*")):
        inside = file.relative_to(package)
        if file.is_file() and inside.parts[0] not in ("site", "docs") and "__pycache__" not in inside.parts:
            digest.update(f"{inside.as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return SOURCE.parent / "build" / "executed" / digest.hexdigest()[:16]


def announcement(wanted: Sequence[str]) -> str:
    """What a build that executes these tutorials does, and about how long it takes."""
    missing = _not_in_cache(wanted)
    seconds = BUILD_SECONDS + sum(TUTORIAL_SECONDS.get(name, 60) for name in missing)
    if not missing:
        return f"Building the documentation: about {seconds} seconds."
    number = f"{len(missing)} tutorial{'s' if len(missing) > 1 else ''}"
    return (
        f"Building the documentation and executing {number} ({', '.join(missing)}): about {round(seconds / 60)} "
        "minutes the first time. Outputs are kept. --no-execute builds the site without them."
    )


def _not_in_cache(names: Sequence[str]) -> list[str]:
    from jupyter_cache import get_cache

    folder = cache_folder()
    if not folder.is_dir():
        return list(names)
    cache = get_cache(str(folder))
    missing = []
    for name in names:
        try:
            cache.match_cache_file(str(SOURCE / "tutorials" / f"{name}.ipynb"))
        except KeyError:
            missing.append(name)
    return missing


def copy_tutorials(folder: Path) -> list[Path]:
    """Write the tutorials as notebooks into a folder, with the pages that they link; returns the notebooks.

    A notebook that is there already stays: it may have somebody's changes. Raises InputError if there are none to copy.
    """
    source = PAGES / "tutorials"
    notebooks = sorted(source.glob("*.ipynb"))
    if not notebooks:
        raise InputError(source, "no tutorial", "the tutorials of the package", _CLONE)
    for notebook in notebooks:
        if not (folder / notebook.name).exists():
            text = notebook_with_pages(notebook, folder)
            atomic_write(folder / notebook.name, text)
    return [folder / notebook.name for notebook in notebooks]


def tutorials() -> list[str]:
    """Names of the tutorials that can be executed."""
    return sorted(path.stem for path in (SOURCE / "tutorials").glob("*.ipynb"))


def build(site: Path, execute: Sequence[str] = (EVERY,), tell: Callable[[str], None] = lambda line: None) -> None:
    """Build the site with warnings as errors. Parameters and errors as for `first_page`."""
    if not (SOURCE / "conf.py").is_file():
        remedy = f"{_CLONE} The tutorials are there without one: cirrnb docs --tutorials FOLDER."
        raise InputError("the documentation", "no built site in this installation", "its source", remedy)
    if find_spec("sphinx") is None or find_spec("myst_nb") is None:
        raise InputError("Sphinx", "not installed", "the extra [docs]", 'Install it: pip install "cirrnb[docs]"')
    known = tutorials()
    unknown = [name for name in execute if name not in (*known, EVERY)]
    if unknown:
        raise InputError("--execute", listed(unknown), f"among {', '.join(known)}, {EVERY}", "Correct the name.")
    wanted = known if EVERY in execute else list(execute)
    tell(announcement(wanted))
    _forget_outputs_of_other_versions()
    # Sphinx leaves executed notebooks next to its output: it works in build/, and only pages are copied to the site.
    work = SOURCE.parent / "build" / "documentation"
    command = python_command("-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html")
    command += ["-d", str(work / "doctrees"), str(SOURCE), str(work / "html")]
    scripts = str(Path(command[0]).parent)  # folder of the command `cirrnb`, which tutorials call
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
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


def _forget_outputs_of_other_versions() -> None:
    kept = cache_folder()
    for folder in kept.parent.glob("*"):
        if folder != kept:
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
