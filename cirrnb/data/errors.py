"""Errors a user can act on (where, what was found, what was expected, what to do next), and checks of settings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from cirrnb.data.failure_kinds import printable


class InputError(ValueError):
    """One thing wrong with what was handed in.

    Parameters are plain text: `where` names the file, row or argument, `found` what stands there,
    `expected` what should, `remedy` what the user can do next. `subjects` are the patients concerned, where
    they are known.
    """

    subjects: tuple[str, ...] = ()

    def __init__(self, where: object, found: str, expected: str, remedy: str):
        # All four go to Exception.args, so that the error survives the way back from a worker process.
        super().__init__(str(where), found, expected, remedy)
        self.where, self.found, self.expected, self.remedy = str(where), found, expected, remedy

    def about(self, *subjects: str) -> InputError:
        """The same error, with the patients it is about."""
        self.subjects = subjects
        return self

    def __str__(self) -> str:
        # File names and cells are a stranger's text: a terminal would obey their control characters.
        text = f"{printable(self.where)}: found {self.found}; expected {self.expected}. {self.remedy}"
        return "\n".join(map(printable, text.split("\n")))


class InputErrors(ValueError):
    """All problems of a cohort, reported together."""

    def __init__(self, errors: Iterable[InputError]):
        self.errors = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        if len(self.errors) == 1:
            return str(self.errors[0])
        return f"{len(self.errors)} problems:\n" + "\n".join(f"  - {text}" for text in self._grouped())

    def _grouped(self) -> list[str]:
        """One text for each kind of problem, with the number of places where it occurs."""
        groups: dict[tuple[str, str, str], list[InputError]] = {}
        for error in self.errors:
            groups.setdefault((error.found, error.expected, error.remedy), []).append(error)
        return [
            str(InputError(f"{same[0].where} and {len(same) - 1} more" if len(same) > 1 else same[0].where, *content))
            for content, same in groups.items()
        ]


def raise_if_any(errors: Iterable[InputError]) -> None:
    """Raise `InputErrors` if the list is not empty."""
    errors = tuple(errors)
    if errors:
        raise InputErrors(errors)


@dataclass
class Remarks:
    """Messages collected while a cohort is read: problems exclude a scan, notes do not."""

    problems: list[InputError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names in printable characters, separated by commas: at most `most`, then the number of the others."""
    words = [printable(str(name)) for name in names]
    rest = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + rest


class OutOfBounds(ValueError):
    """A setting that is no number within its bounds, or of the wrong type."""


def check_number(name: str, value: Any, least: float, most: float, whole: bool = False) -> None:
    """Raise OutOfBounds unless `value` is a number from `least` to `most`; True and False are none."""
    kind = Integral if whole else Real
    wanted = f"{'a whole number' if whole else 'a number'} from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(float(value)):
        raise OutOfBounds(f"{name} is {wanted}, not {value!r:.80}")
    if not least <= float(value) <= most:
        raise OutOfBounds(f"{name} is {wanted}, not {value!r:.80}")


def check_flag(name: str, value: Any) -> None:
    """Raise OutOfBounds unless `value` is True or False; 0, null and "no" are neither."""
    if not isinstance(value, bool):
        raise OutOfBounds(f"{name} is true or false, not {value!r:.80}")
