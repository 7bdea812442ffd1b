"""The stages of a cohort and of a model: names in order, with colours and words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cirrnb.data.errors import InputError
from cirrnb.data.json_file import read_object

MOST_STAGES = 20
_NAME = re.compile(r"[^\W_](?:[\w .()/≥≤+-]{0,30}[\w)+])?")
"""Names become columns of tables, words of pages and parts of targets ("F2 - F0") and sets ("F1|F2")."""
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
_TAKEN = (
    *("subject", "patient", "source", "split", "stage", "predicted", "sequences", "sequence", "notes", "simulated"),
    *(
        "set",
        "position",
        "severity",
        "age",
        "sex",
        "name",
        "mask",
        "image",
        "all",
        "unstaged",
        "none",
        "n/a",
        "unknown",
    ),
)
"""Names of columns and groups, and words that stand for an empty cell."""
_RAMP = ("#004488", "#6699CC", "#EECC66", "#EE99AA", "#994455")
"""Paul Tol's medium-contrast colours, which also differ in print and for colour-blind readers."""


@dataclass(frozen=True)
class StageScale:
    """Stages in order, mildest first.

    Attributes
    ----------
    names : 2 to 20 different names of at most 32 letters, digits, spaces and . ( ) / + - ≥ ≤.
    colours : "#rrggbb" of each; filled in if empty.
    words : what each means, for a reader; the names if empty.
    numbered : True if tables may also write 1, 2, 3, ... for the names.

    Raises ValueError for names, colours or words that cannot be used.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    numbered: bool = False

    def __post_init__(self) -> None:
        for field in ("names", "colours", "words"):
            values = getattr(self, field)
            if isinstance(values, str) or not all(isinstance(value, str) for value in values):
                raise ValueError(f"{field} of stages are texts, not {values!r:.80}")
            object.__setattr__(self, field, tuple(values))
        if not 2 <= len(self.names) <= MOST_STAGES:
            raise ValueError(f"a scale has 2 to {MOST_STAGES} stages, not {len(self.names)}")
        for name in self.names:
            if not _NAME.fullmatch(name) or " - " in name or name.lower() in _TAKEN or name.startswith("above "):
                raise ValueError(f"{name!r:.80} cannot be the name of a stage")
        if len({name.casefold() for name in self.names}) < len(self.names):
            raise ValueError(f"stages have different names, not {self.names}")
        object.__setattr__(self, "colours", self.colours or _ramp(len(self.names)))
        object.__setattr__(self, "words", self.words or self.names)
        if not len(self.names) == len(self.colours) == len(self.words):
            raise ValueError("a scale has a colour and a description for each stage, or for none")
        if not all(_COLOUR.fullmatch(colour) for colour in self.colours):
            raise ValueError(f"colours are written #rrggbb, not {self.colours}")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def index(self, name: str) -> int:
        """Position of a stage, 0 for the mildest. Raises ValueError for another name."""
        return self.names.index(name)

    @property
    def colour(self) -> dict[str, str]:
        """Stage -> colour, in order."""
        return dict(zip(self.names, self.colours, strict=True))

    @property
    def description(self) -> dict[str, str]:
        """Stage -> what it means, in order."""
        return dict(zip(self.names, self.words, strict=True))

    @property
    def thresholds(self) -> tuple[str, ...]:
        """("above mild", "above moderate"): what the ordered heads score, one fewer than stages."""
        return tuple(f"above {name}" for name in self.names[:-1])

    @property
    def listed(self) -> str:
        """ "mild, moderate, severe"."""
        return ", ".join(self.names)

    def understand(self, word: str) -> str:
        """The stage that a cell of a table names, in any case. Raises ValueError for any other text."""
        number = re.fullmatch(r"0*(\d+)(\.0*)?", word)
        for name in self.names:
            if word.casefold() == name.casefold() or (number and number[1] == name):  # a spreadsheet makes 2.0 of 2
                return name
        if self.numbered and number and 1 <= int(number[1]) <= len(self.names):
            return self.names[int(number[1]) - 1]
        codes = f", or {', '.join(str(place + 1) for place in range(len(self)))}" if self.numbered else ""
        raise ValueError(f"{self.listed}{codes}, or an empty cell for an unstaged patient")

    def stored(self) -> dict[str, Any]:
        """What a JSON file holds of it and `stage_scale` reads."""
        return {"names": self.names, "colours": self.colours, "words": self.words, "numbered": self.numbered}


# Colours: Paul Tol's high-contrast scheme (Colour Schemes, SRON/EPS/TN/09-002, 2021).
CIRRHOSIS = StageScale(
    ("mild", "moderate", "severe"), ("#004488", "#DDAA33", "#BB5566"), ("mild", "moderate", "severe"), numbered=True
)
"""The scale of a cohort or model that names none: a radiologist's overall impression of three stages, neither histology
nor Child-Pugh."""


def stage_scale(given: StageScale | Sequence[str] | dict[str, Any] | str | None) -> StageScale:
    """A scale from names, a JSON file or its content.

    Parameters
    ----------
    given : names in order ("F0, F1, F2, F3, F4" or a sequence of them), the path of a JSON file or its content with
        names and, if wanted, colours, words and numbered; None and the names of `CIRRHOSIS` give `CIRRHOSIS`.

    Raises
    ------
    InputError
        If no scale can be made of it.
    """
    where = "stages"
    if given is None or isinstance(given, StageScale):
        return given or CIRRHOSIS
    try:
        if isinstance(given, str) and given.lower().endswith(".json"):
            where = given
            given = read_object(Path(given), "a stage scale", "Name a JSON file with names, colours and words.")
        if isinstance(given, dict):
            if unknown := sorted(set(given) - {"names", "colours", "words", "numbered"}):
                raise ValueError(f"unknown {unknown}")
            numbered = given.get("numbered", False)
            if not isinstance(numbered, bool):
                raise ValueError("numbered is true or false")
            return StageScale(given["names"], given.get("colours") or (), given.get("words") or (), numbered)
        names = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
        return CIRRHOSIS if tuple(names) == CIRRHOSIS.names else StageScale(tuple(names))
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = str(error) if not isinstance(error, KeyError) else "no names"
        raise InputError(
            where,
            problem,
            "names of stages in order, mildest first",
            "Give them as F0, F1, F2, F3, F4 or as a JSON file.",
        ) from error


def _ramp(count: int) -> tuple[str, ...]:
    """Colours from blue over yellow to red, the middle ones between those of `_RAMP`."""
    ends = [[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in _RAMP]
    colours = []
    for place in range(count):
        at = place * (len(ends) - 1) / (count - 1)
        low = min(int(at), len(ends) - 2)
        mixed = [round(a + (b - a) * (at - low)) for a, b in zip(ends[low], ends[low + 1], strict=True)]
        colours.append("#" + "".join(f"{value:02X}" for value in mixed))
    return tuple(colours)
