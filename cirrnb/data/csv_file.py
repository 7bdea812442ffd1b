"""CSV files, written and read in one place: no spreadsheet program takes their text for a formula.

A cell that begins with = + - @, a tab or a line break is computed when the file is opened (CWE-1236, OWASP "CSV
Injection"), and patients' ids are untrusted text. Such a cell gets an apostrophe in front. So does a cell that
begins with apostrophes and then such a sign, so that taking one away always gives back what was written.

What is missing is an empty cell, and None when it is read again as text: never the word "nan", and never NaN where text
is expected.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.csv_text import SAVE_AS, plain_number, read_text
from cirrnb.data.errors import InputError

if TYPE_CHECKING:
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


MAX_COLUMNS, MAX_ROWS = 1000, 200_000
"""What a table may have; a cohort of ten thousand scans has some megabytes."""


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
    import pandas as pd

    changed = table.copy()
    for name, column in table.select_dtypes(["object", "string"]).items():
        values = [change(value) if isinstance(value, str) else value for value in column]
        changed[name] = pd.Series(values, index=table.index, dtype=column.dtype)
    return changed


def write_csv(path: Path, rows: pd.DataFrame | Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> Path:
    """Write a table as CSV (UTF-8), atomically, with guarded text and column names.

    Parameters
    ----------
    rows : a table, whose index is not written, or one mapping of column name to value a row.
    columns : these first; further ones follow in the order in which they come up. Values that are None, NaN or absent
        become empty cells.

    Returns the path.
    """
    import pandas as pd

    if not isinstance(rows, pd.DataFrame):
        rows = list(rows)
        names = list(dict.fromkeys((*columns, *(name for row in rows for name in row))))
        # As objects: pandas would turn whole numbers into others where one is missing.
        rows = pd.DataFrame([[_cell(row.get(name)) for name in names] for row in rows], columns=names, dtype=object)
    elif columns:
        rows = rows[[*columns, *(name for name in rows if name not in columns)]]
    table = guarded_table(rows).rename(columns=lambda name: guarded(str(name)))
    # Readers end a row at a bare carriage return, and csv does not quote it.
    bare = bool(table.select_dtypes(["object", "string"]).map(lambda value: "\r" in str(value)).any(axis=None))
    quoting: Literal[0, 1] = csv.QUOTE_ALL if bare or any("\r" in str(name) for name in table) else csv.QUOTE_MINIMAL
    stream = io.StringIO()
    table.to_csv(stream, index=False, lineterminator="\n", quoting=quoting)
    atomic_write(path, stream.getvalue())
    return path


def read_csv(path: Path, text: Collection[str] = (), *, expected: str = "a table", remedy: str) -> pd.DataFrame:
    """A table that `write_csv` wrote, also after a spreadsheet program saved it again (see `cirrnb.data.csv_text`).

    Parameters
    ----------
    text : columns that stay text, since "007" is another patient than "7" and "NA" may be an id; None where empty. In
        the others an empty cell is NaN.
    expected, remedy : of the error if there is no such table.

    Raises InputError if the file is missing or is not CSV.
    """
    import pandas as pd

    try:
        content, separator, _ = read_text(path)
        kinds = dict.fromkeys((name for written in text for name in (written, guarded(written))), str)
        table = pd.read_csv(io.StringIO(content), sep=separator, dtype=kinds, keep_default_na=False, na_values=[""])
        if separator != ",":
            table = _with_numbers(table, kinds)
    except InputError as error:
        raise InputError(path, f"no readable table: {error.found}", expected, remedy) from None
    except ValueError as error:
        raise InputError(path, f"no readable table ({type(error).__name__})", expected, remedy) from None
    table = unguarded_table(table).rename(columns=lambda name: unguarded(str(name)))
    for name in (column for column in table if column in text):
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    return table


def _with_numbers(table: pd.DataFrame, text: Collection[str]) -> pd.DataFrame:
    """Columns that hold nothing but numbers with decimal commas become numbers."""
    import pandas as pd

    for name in (name for name in table.select_dtypes(["object", "string"]) if name not in text):
        plain = table[name].map(plain_number, na_action="ignore")
        numbers = pd.to_numeric(plain, errors="coerce")
        if (numbers.notna() == table[name].notna()).all():
            table[name] = numbers
    return table


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value  # NaN alone is not itself


@dataclass(frozen=True)
class Row:
    """One row: the file, the line as an editor counts it, and the cells by column name."""

    path: Path
    line: int
    cells: Mapping[str, str]

    @property
    def where(self) -> str:
        return f"{self.path}, line {self.line}"


def read_rows(path: Path, problems: list[InputError]) -> tuple[list[str], list[Row]]:
    """Column names (padding and byte-order mark taken off, in lower case) and rows of a CSV file.

    Encoding and separator are found as `cirrnb.data.csv_text.read_text` does. Empty rows are skipped; rows
    with more cells than columns are added to `problems` and skipped. An apostrophe that `write_csv` set before what a
    spreadsheet program would compute is taken away.

    Raises
    ------
    InputError
        If the file cannot be read, is not text in UTF-8 or UTF-16 or not CSV, is empty, or names a column twice.
    """
    text, delimiter, before = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [_column_name(name) for name in next(reader, [])]
        _judge_columns(path, columns)
        rows: list[Row] = []
        for cells in reader:
            if any(cell.strip() for cell in cells[len(columns) :]):
                problems.append(_too_long(path, reader.line_num + before, columns, cells))
            elif any(cell.strip() for cell in cells):
                if len(rows) >= MAX_ROWS:
                    raise InputError(path, f"more than {MAX_ROWS} rows", "one row a scan", "Split the cohort.")
                padded = cells + [""] * (len(columns) - len(cells))
                named = {name: unguarded(cell).strip() for name, cell in zip(columns, padded, strict=False) if name}
                rows.append(Row(path, reader.line_num + before, named))
        return columns, rows
    except csv.Error as error:
        problem = f"line {reader.line_num + before} that is not CSV ({error})"
        raise InputError(path, problem, "a CSV table", SAVE_AS) from error


def _column_name(cell: str) -> str:
    return unicodedata.normalize("NFC", " ".join(unguarded(cell).split())).lower()


def _judge_columns(path: Path, columns: list[str]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise InputError(path, f"{len(columns)} columns", f"at most {MAX_COLUMNS}", "Keep the columns that you need.")
    twice = sorted(name for name, count in Counter(columns).items() if name and count > 1)
    if not any(columns):
        raise InputError(path, "an empty table", "a first line with column names", SAVE_AS)
    if twice:
        raise InputError(
            path, f"the column {', '.join(twice)} twice", "each column once", "Rename or remove one of them."
        )


def _too_long(path: Path, line: int, columns: list[str], cells: list[str]) -> InputError:
    return InputError(
        f"{path}, line {line}",
        f"{len(cells)} cells",
        f"{len(columns)} cells, as many as columns",
        "Put text that holds the separator in quotes.",
    )
