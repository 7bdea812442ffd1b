"""File names made from ids, and messages without names of persons or folders."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirrnb.data.atomic_files import file_stem, folder_name
from cirrnb.data.failure_kinds import printable, without_folders, without_names

PAIRS = {
    "punctuation": ("own/a b", "own/a.b"),
    "case": ("own/a", "own/A"),
    "case within": ("own/aB", "own/AB"),
    "accents composed or not": (unicodedata.normalize("NFC", "own/né"), unicodedata.normalize("NFD", "own/né")),
    "300 letters": ("own/" + "a" * 300, "own/" + "a" * 299 + "b"),
    "64 signs of four bytes": ("own/" + "\U0001f600" * 64, "own/" + "\U0001f601" * 64),
    "slash or hyphen": ("a/b", "a-b"),
    "where the source ends": ("a/b-c", "a-b/c"),
    "more hyphens": ("a/b-c", "a/b/c"),
    "underscores": ("a/b_T1W", "a_b/T1W"),
    "nothing": ("", "/"),
    "folders": ("own/..", "own/."),
    "lone surrogates": ("own/\ud800", "own/\ud801"),
}


@pytest.mark.parametrize("make", [file_stem, folder_name])
@pytest.mark.parametrize("kind", PAIRS)
def test_two_ids_have_two_names(kind: str, make) -> None:
    names = [make(text) for text in PAIRS[kind]]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == 2, names
    for name in names:
        assert name.isascii() and name.replace("-", "").isalnum() and len(name) <= 70 and name[0] != "-"


@given(st.text(max_size=80))
def test_nobody_takes_another_ids_name(text: str) -> None:
    name = file_stem(text)
    assert file_stem(text) == name
    source, _, rest = name.partition("-")
    for chosen in (name, f"{source}/{rest}", name.replace("-", "/")):
        assert chosen == text or file_stem(chosen) != name


def test_usual_ids_can_be_read() -> None:
    assert file_stem("cirrhotic/12", "T1W", "liver") == "cirrhotic-12_T1W_liver"
    assert file_stem("imported/case-1") == "imported-case-1"
    assert folder_name("case-1") == "case-1"
    assert file_stem("own/A17").startswith("own-A17-")


@pytest.mark.parametrize("part", ["", "a/b", "a\tb", "é"])
def test_an_id_is_no_part(part: str) -> None:
    with pytest.raises(ValueError, match="part"):
        file_stem("own/1", part)


@pytest.mark.parametrize("name", ["con", "nul", "aux", "prn", "com1", "lpt9"])
def test_no_folder_has_the_name_of_a_device(name: str) -> None:
    assert folder_name(name) != name and folder_name(name).startswith(f"{name}-")


def test_spaces_of_a_sequence_become_hyphens() -> None:
    assert file_stem("own/1", "arterial phase", "liver") == "own-1_arterial-phase_liver"


def test_file_names_are_harmless_and_differ() -> None:
    names = ["a/1", "a/01", "A/1", "a/b-c", "a-b/c", "a/b/c", "../x", "a/" + "9" * 70, "con/<b>", "a/é", "a/e"]
    made = [file_stem(name) for name in names]
    assert made[0] == "a-1" and len({one.lower() for one in made}) == len(names)
    for one in made:
        assert one.isascii() and len(one) < 70 and not one.startswith((".", "-")) and set("/\\<>:'\" ").isdisjoint(one)


@pytest.mark.parametrize(
    "name",
    [
        '"Jane O\'Neil.nii.gz"',
        "'Jane Doe.dcm'",
        "'Jane Doe'",
        "'/data/Jane Doe/x'",
        "\u2018Jane O\u2019Neil.nii\u2019",
        "'Jane Doe, cut sho",
        "'Jane \"J\" O\\'Neil.nii'",
    ],
)
def test_no_quoted_name_stands_in_the_reason_of_a_failure(name: str) -> None:
    told = without_names(f"row 3 of the patient's table: found {name}\nexpected a file")
    assert "Jane" not in told and "Neil" not in told and "Doe" not in told
    assert told.startswith("row 3 of the patient's table: found ") and told.endswith("\nexpected a file")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('File "/usr/lib/x.py", line 3', 'File "x.py", line 3'),
        ("C:\\data\\Smith\\a.nii: found", "a.nii: found"),
        ("see https://a.b/c/d and 1/2 or and/or", "see https://a.b/c/d and 1/2 or and/or"),
        ("\x1b[31mred\x1b[0m", "red"),
    ],
)
def test_folders_are_cut_from_what_is_told(text: str, clean: str) -> None:
    assert without_folders(text) == clean


def test_a_terminal_is_told_nothing_it_would_obey() -> None:
    assert printable("a\x1b[2J\u202eb é") == "a\\x1b[2J\\u202eb é"
