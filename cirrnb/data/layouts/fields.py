"""Cells of a table parsed into a scan's fields: all accepted spellings.

Each function takes the text of a cell and returns the field's value, None for an empty cell. Any other text raises
ValueError with what was expected; the caller adds the file and the row.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import replace

from cirrnb.data.csv_file import Row
from cirrnb.data.csv_text import number, plain_number
from cirrnb.data.scan import SPLITS
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale

EMPTY = (
    *("", "-", "\u2013", "\u2014", "?", "unknown", "missing"),
    *("na", "n/a", "n.a.", "#n/a", "<na>", "nan", "none", "null"),
)
"""Texts that stand for an unknown value, in lower case."""

MAX_ID = 64
"""Longest patient id, in characters: ids become file names."""

_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("valid", "val", "validation"), "valid"
)
_SEX = {"female": "female", "f": "female", "male": "male", "m": "male", "woman": "female", "man": "male", "w": "female"}
_YEARS = re.compile(r"(.*?\d)\s*(?:y|yo|y\.?o\.|yrs?|years?(?: old)?)\.?", re.IGNORECASE)

COLUMNS = {
    "patient": ("patient id", "patientid", "participant id", "subject id"),
    "image": ("image path", "image file", "image filename"),
    "mask": ("mask path", "mask file", "mask filename", "liver mask"),
    "sex": ("gender",),
    "age": ("age (years)", "age [years]", "age (y)", "age in years"),
}
"""Other names that columns of people's tables have; "_" and "-" are blanks in them."""

PUBLISHED_SEX = {"1": "female", "2": "male"}
"""The published tables' codes; elsewhere 1 often means male, so that they are understood in those tables only."""


def cell(text: str | None) -> str | None:
    """The text without padding, None if it stands for an unknown value."""
    text = (text or "").strip()
    return None if text.lower() in EMPTY else text


def named_columns(columns: list[str], rows: list[Row], wanted: Collection[str]) -> tuple[list[str], list[Row]]:
    """Columns and rows under the names of `wanted`, where a column bears another of its names and no column has it."""
    names = {}
    for name, others in COLUMNS.items():
        aliases = [column for column in columns if re.sub(r"[_ -]+", " ", column) in others]
        if name in wanted and name not in columns and len(aliases) == 1:
            names[aliases[0]] = name
    if not names:
        return columns, rows
    return [names.get(column, column) for column in columns], [
        replace(row, cells={names.get(column, column): text for column, text in row.cells.items()}) for row in rows
    ]


def patient_id(text: str | None) -> str:
    """A patient id that can be printed and be part of a file name. Ids are untrusted text.

    Composed and decomposed accents are brought to one form, so that one patient does not become two.
    """
    name = unicodedata.normalize("NFC", (text or "").strip(" "))
    reason = None
    if not name:
        reason = "an id"
    elif len(name) > MAX_ID:
        reason = f"an id of at most {MAX_ID} characters"
    elif not all(map(_may_be_in_an_id, name)):
        reason = 'an id without control characters and without / \\ : * ? " < > |'
    elif name.startswith(".") or name.endswith("."):
        reason = "an id that neither begins nor ends with a dot"
    if reason:
        raise ValueError(reason)
    return name


def source_of(name: str, otherwise: str) -> str:
    """A source named as a file or folder is. What no id may hold, such as the colons of a time of day, becomes "-"."""
    name = unicodedata.normalize("NFC", name)[:MAX_ID]
    return patient_id("".join(letter if _may_be_in_an_id(letter) else "-" for letter in name).strip(". ") or otherwise)


def _may_be_in_an_id(character: str) -> bool:
    return character.isprintable() and character not in '/\\:*?"<>|'


def whole_number_id(text: str | None) -> str:
    """A patient id of the published data: 12, also where a spreadsheet made it 12.0 or a file name 012."""
    name = patient_id(text)
    return _whole(name) or name


def natural_order(text: str) -> list[int | str]:
    """Sorts 9 before 10: ids and file names are text, but mostly numbers."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", text))]


_AROUND = re.compile(r"^(?:stage|cirrhosis)\W+|\W+cirrhosis$", re.IGNORECASE)
_BOTH = re.compile(r"(\d+)\s*[-=:,.()\u2013]+\s*([^\W\d].*?)\)?|([^\W\d].*?)\s*\((\d+)\)")


def stage(text: str | None, stages: StageScale = CIRRHOSIS) -> str | None:
    """A stage of the scale, from its name in any case, and from 1, 2, 3 (also 2.0 and 2,0) where the scale is numbered.

    Additional words stage and cirrhosis are ignored (stage 2, mild cirrhosis), as is a number that agrees with the name
    (2 = moderate). Raises ValueError for any other text.
    """
    word = cell(text)
    if word is None:
        return None
    word = plain_number(unicodedata.normalize("NFC", " ".join(word.split())))
    try:
        return stages.understand(word)
    except ValueError:
        if len(word) > MAX_ID:  # no name of a stage is so long
            raise
        bare = _AROUND.sub("", word)
        both = _BOTH.fullmatch(bare)
        names = {stages.understand(part) for part in filter(None, both.groups())} if both else {stages.understand(bare)}
        if len(names) > 1:
            raise
        return names.pop()


def age(text: str | None) -> float | None:
    """Years, 0 to 120, with a decimal point or comma, also as 61y, 061Y and 61 years."""
    word = cell(text)
    if word is None:
        return None
    with_unit = _YEARS.fullmatch(word)
    try:
        years = number(with_unit[1] if with_unit else word)
    except ValueError:
        years = -1.0
    if not 0 <= years <= 120:  # also False for NaN
        raise ValueError("an age of 0 to 120 years")
    return years


def sex(text: str | None, codes: Mapping[str, str] | None = None) -> str | None:
    """ "female" or "male", from the word, its first letter, or the numbers in `codes`."""
    word = cell(text)
    if word is None:
        return None
    known = {**_SEX, **(codes or {})}
    value = known.get(_whole(word) or word.lower())
    if value is None:
        raise ValueError(f"one of {', '.join(known)}")
    return value


def split(text: str | None) -> str | None:
    """ "train", "valid" or "test", from these and training, val, validation, testing."""
    word = cell(text)
    if word is None:
        return None
    if word.lower() not in _SPLITS:
        raise ValueError(f"{', '.join(SPLITS)}, or nothing")
    return _SPLITS[word.lower()]


def _whole(word: str) -> str | None:
    """ "2" from "2", "2.0" and " 02"; None from anything else."""
    match = re.fullmatch(r"0*(\d+)([.,]0*)?", word)
    return match[1] if match else None
