"""The text of a CSV file as programs save it: its encoding, its separator, and its decimal commas.

UTF-8 and UTF-16 are read, separated by commas, semicolons, tabs or bars, with or without the line `sep=;` that Excel
understands. Older encodings do not say which letters they mean: they are named and refused.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from cirrnb.data.errors import InputError

MAX_BYTES = 2**26
"""What a table may have; a cohort of ten thousand scans has some megabytes."""

SAVE_AS = "Save the table as CSV in UTF-8 (in a spreadsheet: Save as, CSV UTF-8)."

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte-order marks, the longer ones first."""
_WORKBOOKS = {b"PK\x03\x04": "a workbook (.xlsx or .ods)", b"\xd0\xcf\x11\xe0": "a workbook (.xls)"}
_SEPARATORS = ",;\t|"
_SEP = re.compile(r'"?sep=([,;\t|])"?\r?\n?', re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+(?P<mark>[.,])?\d*|(?P<bare>[.,])\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def read_text(path: Path) -> tuple[str, str, int]:
    """Text of a table, its separator, and the number of lines cut off before the column names (a line `sep=;`).

    Raises InputError if the file cannot be read, is too large, or is not text in UTF-8 or UTF-16.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            path, f"a table that cannot be opened ({error.strerror or error})", "a CSV file", "Correct the path."
        ) from error
    if len(content) > MAX_BYTES:
        raise InputError(path, "a table of more than 64 MB", "a table of scans", "Keep one row a scan.")
    text = _decoded(path, content)
    if "\0" in text:
        raise InputError(path, "a file with null bytes, not text", "a CSV table in UTF-8", SAVE_AS)
    if named := _SEP.match(text):
        return text[named.end() :], named[1], 1
    first = text.split("\n", 1)[0]
    return text, max(_SEPARATORS, key=first.count), 0


def _decoded(path: Path, content: bytes) -> str:
    for begin, what in _WORKBOOKS.items():
        if content.startswith(begin):
            raise InputError(path, what, "a CSV table in UTF-8", SAVE_AS)
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None) or _unmarked(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        problem = "broken text" if encoding != "utf-8" else _older(content, error.start)
        raise InputError(path, f"{problem}, not UTF-8", "a CSV table in UTF-8", SAVE_AS) from error


def _unmarked(content: bytes) -> str:
    """The encoding of a file without a byte-order mark: UTF-16 where each other byte of the first line is zero."""
    first = content[: max(content.find(b"\n"), 0) // 2 * 2]
    for name, zeros, letters in (("utf-16-le", first[1::2], first[::2]), ("utf-16-be", first[::2], first[1::2])):
        if zeros and not any(zeros) and all(letters):
            return name
    return "utf-8"


def _older(content: bytes, place: int) -> str:
    """What a file is in which the byte at `place` is no UTF-8, with the line and the word as they would read."""
    line = content.count(b"\n", 0, place) + 1
    around = re.search(rb"[^\s,;\t|]*\Z", content[max(0, place - 24) : place])
    after = re.match(rb"[^\s,;\t|]*", content[place : place + 24])
    word = (around[0] if around else b"") + (after[0] if after else b"")
    name = "Windows-1252" if any(0x80 <= byte < 0xA0 for byte in content) else "Latin-1"
    return f"text in {name} (line {line}, {word.decode('cp1252', 'replace')!r:.60}) or another older encoding"


def plain_number(text: str) -> str:
    """A number as Python reads it, from one with a decimal comma (61,5) or point; other text as it is.

    With one comma or point and no separator of thousands, there is one way to read it.
    """
    word = unicodedata.normalize("NFKC", text).strip()
    return word.replace(",", ".") if _NUMBER.fullmatch(word) else text


def number(text: str) -> float:
    """A number, with a decimal point or comma. Raises ValueError for other text, 6_1 and inf too."""
    plain = plain_number(text)
    if not _NUMBER.fullmatch(plain):
        raise ValueError("a number")
    return float(plain)
