"""Modules of a package as its attributes, imported when first used: `cirrnb.data.splits` needs no import of its own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def module_of(package: str) -> Callable[[str], ModuleType]:
    """What a package's `__getattr__` is: name of a module -> the module. Another name raises AttributeError."""

    def module(name: str) -> ModuleType:
        if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return module
