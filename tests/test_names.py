"""File names made from ids: one for each id, on every file system."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirrnb.data.atomic_files import file_stem, folder_name

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
