"""Where notebooks are: the package carries its own, and anybody's can be run by path."""

from __future__ import annotations

import difflib
from pathlib import Path

import cirrnb
from cirrnb.data.errors import InputError


def packaged_notebooks() -> dict[str, Path]:
    """Name ("02_train") -> file, of the notebooks that come with the package.

    A wheel holds them in `cirrnb/notebooks`; an editable install finds them in the clone.
    """
    package = Path(cirrnb.__file__).resolve().parent
    for folder in (package / "notebooks", package.parent / "notebooks"):
        found = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
        if found:
            return found
    return {}


def find_notebook(name: str | Path) -> Path:
    """The file of a notebook given by path or, for one that comes with the package, by name ("02_train").

    Raises InputError where there is no such notebook.
    """
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path
    known = packaged_notebooks()
    stem = path.name.removesuffix(".ipynb")
    if str(path) == path.name and stem in known:
        return known[stem]
    close = difflib.get_close_matches(stem, known, n=1)
    remedy = f"Did you mean {close[0]!r}?" if close else "Give the path of an .ipynb file."
    raise InputError(
        f"notebook {str(name)!r}", "no such notebook", f"a path or one of {', '.join(known) or 'none'}", remedy
    )
