"""Parts that are found by name, and the loading of a user's Python file that registers its own."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from cirrnb.data.errors import InputError

Part = TypeVar("Part")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


_loaded: dict[str, str] = {}

_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError),
)
"""What another person's file may raise while it runs."""


class Registry(Generic[Part]):
    """Name -> part, in the order of registration.

    `@HEADS.register("name")` above a class or function adds it. A plug-in that is loaded again replaces its own parts;
    a name that another module has taken is refused.
    """

    def __init__(self, kind: str):
        """`kind` is what messages call a part ("head")."""
        self.kind = kind
        self._parts: dict[str, Part] = {}
        self._modules: dict[str, str] = {}

    def register(self, name: str, module: str | None = None) -> Callable[[Part], Part]:
        """A decorator that adds a part; `module` is where it was written, by default as the part itself says.

        Raises ValueError for a name that is taken, or that is not lower-case letters, digits and underscores.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"the name of a {self.kind} is up to 50 of a-z, 0-9 and _, not {name!r:.80}")

        def add(part: Part) -> Part:
            origin = module or str(getattr(part, "__module__", ""))
            if self._modules.get(name, origin) != origin:
                raise ValueError(f"there is a {self.kind} {name!r} already, from {self._modules[name]}")
            self._parts[name], self._modules[name] = part, origin
            return part

        return add

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of registration."""
        return tuple(self._parts)


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
        problem = f"a plug-in that fails ({type(error).__name__}: {str(error)[:200]})"
        raise InputError(path, problem, "a file that runs", remedy) from error
    _loaded[path.name] = digest
