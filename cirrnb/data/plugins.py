"""Loading a user's Python file that registers heads, losses, backbones or attribution methods."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cirrnb.data.errors import InputError

_loaded: dict[str, str] = {}

_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError),
)
"""What another person's file may raise while it runs."""


def load_plugins(files: str | Path | Sequence[str | Path] | None) -> dict[str, str]:
    """Run plug-in files, each once for the same content, so that what they register is found by name.

    A plug-in is code of the person who names it: it is never taken from a model's folder or a cohort.

    Parameters
    ----------
    files : a path, several of them (in text, with commas between), or None for none.

    Returns
    -------
    File name -> SHA-256 of every plug-in loaded so far in this process.

    Raises
    ------
    InputError
        If a file is missing, is no Python file, or fails.
    """
    names = [part.strip() for part in files.split(",")] if isinstance(files, str) else files
    for file in [names] if isinstance(names, Path) else names or ():
        if str(file):
            _load(Path(file))
    return dict(_loaded)


def loaded_plugins() -> dict[str, str]:
    """File name -> SHA-256 of every plug-in loaded so far in this process."""
    return dict(_loaded)


def _load(path: Path) -> None:
    remedy = "Name a Python file that registers parts; docs/extending.md shows one of each kind."
    if path.suffix != ".py" or not path.is_file():
        raise InputError(path, "no Python file", "a plug-in, FILE.py", remedy)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if _loaded.get(path.name) == digest:
        return
    name = "cirrnb_plugin_" + re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(path, "a file that Python cannot load", "a plug-in, FILE.py", remedy)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a data loader's worker finds classes of the plug-in by it
    try:
        spec.loader.exec_module(module)
    except _FAULTS as error:
        del sys.modules[name]
        found = f"a plug-in that fails ({type(error).__name__}: {str(error)[:200]})"
        raise InputError(path, found, "a file that runs", remedy) from error
    _loaded[path.name] = digest
