"""The pictures of the lesson, which come with the package: drawn by `cirrnb.course.drawing`, read in no time."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from cirrnb.data.json_file import parse_json

DESCRIBED = "lesson.json"
"""The simulator's version that drew the pictures, and where the organs lie."""


@dataclass(frozen=True)
class LessonPair:
    """A slice with a sign and without it, as data URIs; `edge` outlines what the sign changed."""

    sign: str
    sequence: str
    shown: str
    without: str
    edge: str


@dataclass(frozen=True)
class LessonAnatomy:
    """A slice without disease as a data URI, and where organs lie: name -> (down, across) in shares of the picture."""

    sequence: str
    picture: str
    places: Mapping[str, tuple[float, float]]


def lesson_pair(sign: str, sequence: str) -> LessonPair:
    """A sign of `cirrnb.simulation.signs.SIGNS` as "T1W" or "T2W" shows it."""
    name = f"{sign}-{sequence}"
    parts = picture(f"{name}-with.webp"), picture(f"{name}-without.webp"), picture(f"{name}-edge.png")
    return LessonPair(sign, sequence, *parts)


def lesson_anatomy(sequence: str) -> LessonAnatomy:
    """The lesson's body as "T1W" or "T2W" shows it."""
    places = {name: (float(down), float(across)) for name, (down, across) in described()["places"][sequence].items()}
    return LessonAnatomy(sequence, picture(f"anatomy-{sequence}.webp"), places)


@cache
def described() -> dict[str, Any]:
    """Content of `lesson.json`."""
    stored: dict[str, Any] = parse_json(_folder().joinpath(DESCRIBED).read_text(encoding="utf-8"))
    return stored


def picture(name: str) -> str:
    """A picture of the lesson as a data URI."""
    content = base64.b64encode(_folder().joinpath(name).read_bytes()).decode("ascii")
    return f"data:image/{name.rsplit('.', 1)[1]};base64,{content}"


def _folder() -> Any:
    return files("cirrnb.course").joinpath("pictures")
