"""The rows of a CSV file as people save them: byte-order mark, padded names, semicolons, short rows."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cirrnb.data.errors import InputError
from cirrnb.data.spreadsheet import unguarded

MAX_BYTES, MAX_COLUMNS, MAX_ROWS = 2**26, 1000, 200_000
"""What a table may have; a cohort of ten thousand scans has some megabytes."""

_SAVE_AS = "Save the table as CSV in UTF-8 (in a spreadsheet: Save as, CSV UTF-8)."


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

    Cells are separated by commas, semicolons or tabs, whichever the first line has. Empty rows are passed over; rows
    with more cells than columns are added to `problems` and left out. An apostrophe that `write_csv` set before what a
    spreadsheet program would compute is taken away.

    Raises
    ------
    InputError
        If the file cannot be read, is not UTF-8 text or not CSV, is empty, or names a column twice.
    """
    text = _text(path)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [unguarded(name).strip().lower() for name in next(reader, [])]
        _judge_columns(path, columns)
        rows: list[Row] = []
        for cells in reader:
            if any(cell.strip() for cell in cells[len(columns) :]):
                problems.append(_too_long(path, reader.line_num, columns, cells))
            elif any(cell.strip() for cell in cells):
                if len(rows) >= MAX_ROWS:
                    raise InputError(path, f"more than {MAX_ROWS} rows", "one row a scan", "Split the cohort.")
                padded = cells + [""] * (len(columns) - len(cells))
                named = {name: unguarded(cell).strip() for name, cell in zip(columns, padded, strict=False) if name}
                rows.append(Row(path, reader.line_num, named))
        return columns, rows
    except csv.Error as error:
        raise InputError(path, f"line {reader.line_num} that is not CSV ({error})", "a CSV table", _SAVE_AS) from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(path, "a table of more than 64 MB", "a table of scans", "Keep one row a scan.")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            path, f"a table that cannot be opened ({error.strerror or error})", "a CSV file", "Correct the path."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(path, "a file that is not UTF-8 text", "a CSV table in UTF-8", _SAVE_AS) from error
    if "\0" in text:
        raise InputError(path, "a file with null bytes, not text", "a CSV table in UTF-8", _SAVE_AS)
    return text


def _judge_columns(path: Path, columns: list[str]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise InputError(path, f"{len(columns)} columns", f"at most {MAX_COLUMNS}", "Keep the columns that you need.")
    twice = sorted(name for name, count in Counter(columns).items() if name and count > 1)
    if not any(columns):
        raise InputError(path, "an empty table", "a first line with column names", _SAVE_AS)
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
