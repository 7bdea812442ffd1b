"""JSON from files that may come from anywhere: within limits, each key once, every number finite, every text printable.

Python's own reader takes NaN and infinities, the last of repeated keys, and nesting up to the depth of its stack.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cirrnb.data.errors import InputError, check_number

Part = TypeVar("Part")

COPY_AGAIN = "Copy the whole run folder again."
"""Remedy for a damaged file of a model."""

MAX_BYTES = 2**24
"""Largest file read: sixteen megabytes, eighty times the largest that the package writes for a model."""

MAX_DEPTH = 40
"""Deepest nesting of lists and objects."""

MAX_DIGITS = 19
"""Longest whole number; longer ones fit no 64-bit integer and may overflow a float."""


def parse_json(text: str, finite: bool = True) -> Any:
    """The value of a JSON text. `finite=False` takes NaN and infinities, which stand for unknown figures in what the
    package keeps for itself. Raises ValueError that says what is wrong with the text."""
    real = _real if finite else float
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_int=_whole, parse_float=real, parse_constant=real)
        _judge(value)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    return value


def read_json(path: Path, expected: str, remedy: str, most: int = MAX_BYTES, finite: bool = True) -> Any:
    """The value of a JSON file of at most `most` bytes.

    Raises
    ------
    InputError
        If the content is not JSON as described above; `expected` and `remedy` are passed on.
    OSError
        If the file cannot be read.
    """
    try:
        return parse_json(read_text(path, most), finite)
    except ValueError as error:
        raise InputError(path, f"no readable JSON ({str(error)[:200]})", expected, remedy) from error


def read_object(path: Path, expected: str, remedy: str, most: int = MAX_BYTES, finite: bool = True) -> dict[str, Any]:
    """As `read_json`, of a file that holds an object."""
    value = read_json(path, expected, remedy, most, finite)
    if not isinstance(value, dict):
        raise InputError(path, f"JSON that is no object ({str(value)[:80]!r})", expected, remedy)
    return value


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file of at most `most` bytes. Raises ValueError for any other, OSError as `open` does."""
    if not path.is_file() and path.exists():
        raise ValueError("no ordinary file")  # reading a pipe or a device may never end
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most / 1e6:.3g} MB")
    return content.decode("utf-8")


def read_part(
    path: Path, number: int, what: str, made: Callable[[dict[str, Any]], Part], remedy: str = COPY_AGAIN
) -> Part | None:
    """What `made` makes of a part of a model, an object in a JSON file; None where there is no file.

    Parameters
    ----------
    number : of the format, which the object holds under "format"; `made` gets the rest.
    what : the part, for the error. made : raises ValueError, KeyError, TypeError or AttributeError for what is damaged.

    Raises
    ------
    InputError
        If the file cannot be read, has another format, or holds no such part.
    """
    if not path.is_file():
        return None
    expected = f"format {number}"
    try:
        stored = read_object(path, expected, remedy)
        if not is_format(stored_format := stored.pop("format"), number):
            raise ValueError(f"format {stored_format!r:.40}")
        return made(stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"no readable {what} ({type(error).__name__}: {error})", expected, remedy) from error


def is_format(stored: Any, known: int) -> bool:
    """Whether a field holds this number of a format. True and 1.0, which Python takes for 1, are no such number."""
    return type(stored) is int and stored == known


def number_array(name: str, value: Any, shape: tuple[int, ...], largest: float = 1e15) -> NDArray[np.float64]:
    """Nested lists of numbers from -largest to `largest`, as an array of this shape. Raises ValueError for any other
    shape, and for what NumPy would take for a number: "1.5", "nan", true, null."""
    for item in _items(value):
        check_number(name, item, -largest, largest)
    array = np.array(value, np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has the shape {array.shape}, not {shape}")
    return array


def has_surrogates(text: str) -> bool:
    """Whether a text holds half of a character, which no file, page or table can be written with."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _items(item)
    else:
        yield value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r:.80} more than once")
    return value


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _real(text: str) -> float:
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text:.40}, which is not finite")
    return value


def _judge(value: Any) -> None:
    """Raise ValueError for deep nesting and for texts that cannot be written."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        texts = [item for item in level if isinstance(item, str)]
        texts += [name for item in level if isinstance(item, dict) for name in item]
        if any(map(has_surrogates, texts)):
            raise ValueError("half of a character (a lone surrogate)")
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inner for item in items]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
