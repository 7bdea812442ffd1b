"""Text that a spreadsheet program would compute: guarded where it is written, the same where it is read again."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirrnb.data.csv_file import guarded, guarded_table, read_csv, read_rows, unguarded, unguarded_table, write_csv
from cirrnb.model.run_folder import read_predictions, write_answers
from cirrnb.reports.tables import FAILURES, SUMMARY, read_failures, read_summary, write_table

WILD = st.text(st.sampled_from("=+-@＝−\t\r\n; '\"|,x7\u200b\ufeff\x1c\x85"), max_size=8)
TEXT = st.one_of(WILD, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12))


@given(TEXT)
@settings(max_examples=1000)
def test_what_is_guarded_begins_no_formula_and_comes_back(text: str) -> None:
    told = guarded(text)
    assert unguarded(told) == text
    assert told.replace("'", "") == text.replace("'", ""), "apostrophes are added and nothing else"
    assert not told.startswith(tuple("=+-@\t\r\n"))
    assert not any(cell.lstrip(" ").startswith(tuple("=+-@")) for cell in told.replace("\t", ";").split(";"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("=1+2", "'=1+2"),
        ("-rf", "'-rf"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("  +1", "'  +1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("'=1", "''=1"),
        ("a;=1", "a;'=1"),
        ("cirrhotic/12", "cirrhotic/12"),
        ("'s-Gravenhage", "'s-Gravenhage"),
        ("T1W+T2W", "T1W+T2W"),
        ("", ""),
    ],
)
def test_by_hand(text: str, told: str) -> None:
    assert guarded(text) == told and unguarded(told) == text


def test_the_guard_is_quick_on_what_was_made_to_be_slow() -> None:
    for text in ("'" * 100_000, " \x1c" * 100_000, ";'" * 50_000, "\t" * 100_000):
        assert unguarded(guarded(text)) == text


def test_numbers_and_gaps_are_as_they_were() -> None:
    table = pd.DataFrame({"id": ["-5", None], "number": [-5.0, np.nan], "whole": [-1, 2], "yes": [True, False]})
    told = guarded_table(table)
    assert told["id"][0] == "'-5" and pd.isna(told["id"][1])
    pd.testing.assert_frame_equal(told.drop(columns="id"), table.drop(columns="id"))
    pd.testing.assert_frame_equal(unguarded_table(told), table)


@given(st.lists(st.tuples(TEXT, TEXT, st.floats(-9, 9)), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_tables_of_a_report_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, float]]
) -> None:
    report = tmp_path_factory.getbasetemp()
    made = [{"subject": f"a{one}", "patient": one, "flags": two, "score": three} for one, two, three in rows]
    write_table(report / "summary.csv", made, list(SUMMARY))
    found = read_summary(report)
    assert found["patient"].fillna("").tolist() == [one for one, _, _ in rows]
    assert found["flags"].fillna("").tolist() == [two for _, two, _ in rows]
    assert found["score"].tolist() == pytest.approx([three for _, _, three in rows], abs=1e-12)
    write_table(report / "failures.csv", [{"subject": one, "reason": two} for one, two, _ in rows], list(FAILURES))
    assert read_failures(report)["reason"].fillna("").tolist() == [two for _, two, _ in rows]
    # As they lie there, for a program that knows nothing of this.
    with (report / "failures.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert len(cells) == len(FAILURES) * (len(rows) + 1)
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\n"))]


def test_answers_of_a_run_keep_their_ids(tmp_path: Path) -> None:
    table = pd.DataFrame({"subject": ["=a/-1", "a/@2"], "patient": ["-1", "@2"], "mild": [0.25, -0.5]})
    write_answers(tmp_path / "predictions.csv", table)
    assert (tmp_path / "predictions.csv").read_text().splitlines()[1] == "'=a/-1,'-1,0.25"
    assert read_predictions(tmp_path)["patient"].tolist() == ["-1", "@2"]
    assert read_predictions(tmp_path)["mild"].tolist() == [0.25, -0.5]


def test_rows_are_written_guarded_and_read_as_they_were(tmp_path: Path) -> None:
    rows = [
        {"patient": "=cmd", "age": None, "count": 3, "@site": "+x"},
        {"patient": "NA", "age": float("nan"), "count": None, "note": "a\rb"},
    ]
    path = write_csv(tmp_path / "scans.csv", rows, ["patient", "stage"])
    with path.open(newline="", encoding="utf-8") as file:
        cells = list(csv.reader(file))
    assert cells[0] == ["patient", "stage", "age", "count", "'@site", "note"]
    assert cells[1] == ["'=cmd", "", "", "3", "'+x", ""]
    found = read_csv(path, ["patient", "stage", "@site", "note"], remedy="").to_dict("records")
    assert [row["patient"] for row in found] == ["=cmd", "NA"]
    assert [row["stage"] for row in found] == [None, None] and found[1]["@site"] is None
    assert [row["note"] for row in found] == [None, "a\rb"]
    assert dict(read_rows(path, [])[1][0].cells)["@site"] == "+x"


def test_csv_is_written_in_one_place() -> None:
    package = Path(__file__).parents[1]
    files = [*(package / "cirrnb").rglob("*.py"), *(package / "notebooks").glob("*.ipynb")]
    # The tables of a simulated cohort are words of ours, and their bytes stay as they are.
    own = {"cirrnb/data/csv_file.py", "cirrnb/simulation/cohort.py"}
    words = ("to_csv(", "csv.writer(", "DictWriter(")
    found = {str(path.relative_to(package)) for path in files if any(word in path.read_text("utf-8") for word in words)}
    assert found == own
