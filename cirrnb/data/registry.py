"""Parts that are found by name, to which a plug-in file adds its own by a decorator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Part = TypeVar("Part")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


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
            own = module or str(getattr(part, "__module__", ""))
            if self._modules.get(name, own) != own:
                raise ValueError(f"there is a {self.kind} {name!r} already, from {self._modules[name]}")
            self._parts[name], self._modules[name] = part, own
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
