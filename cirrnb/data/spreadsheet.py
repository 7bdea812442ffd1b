"""Text in CSV files that no spreadsheet program takes for a formula, and the same text read back.

A cell that begins with = + - @, a tab or a line break is computed when somebody opens the file (CWE-1236, OWASP "CSV
Injection"), and patients' ids are a stranger's text. Such a cell gets an apostrophe in front. So does a cell that
begins with apostrophes and then such a sign, so that taking one away always gives back what was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pandas as pd

_SIGN = r"=+\-@\uff1d\uff0b\uff0d\uff20\u2212"  # also in full width, and the minus of typography
_BREAK = r"\t\r\n\v\f"
# After apostrophes of its own, and after blanks and what cannot be seen, which some programs skip before they look.
_SKIPPED = rf"'*(?:(?![{_BREAK}])[\s\x00-\x1f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff])*"
_FIRST = rf"(?={_SKIPPED}[{_SIGN}{_BREAK}])"
# Where a cell would begin if the file were taken apart at semicolons, as Excel does in half of Europe.
_FURTHER = rf"(?<=[;{_BREAK}]){{}}(?={_SKIPPED}[{_SIGN}])"
_BARE = re.compile(rf"\A{_FIRST}|{_FURTHER.format('')}")
_GUARD = re.compile(rf"\A'{_FIRST}|{_FURTHER.format(chr(39))}")


def guarded(text: str) -> str:
    """The text with an apostrophe wherever a spreadsheet program would begin to compute."""
    return _BARE.sub("'", text)


def unguarded(text: str) -> str:
    """The text that `guarded` was given."""
    return _GUARD.sub("", text)


def guarded_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose text is guarded; numbers, and what is missing, are as they were."""
    return _of_text(table, guarded)


def unguarded_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table that `guarded_table` was given."""
    return _of_text(table, unguarded)


def _of_text(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    changed = table.copy()
    for name, column in table.select_dtypes(["object", "string"]).items():
        values = [change(value) if isinstance(value, str) else value for value in column]
        changed[name] = pd.Series(values, index=table.index, dtype=column.dtype)
    return changed
