"""Sequences by name: the default ones, the names that others may have, and how tables spell them.

A further sequence (DWI) needs no code: the caller of `cirrnb.read_cohort` names it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from cirrnb.data.errors import InputError
from cirrnb.data.sequence_words import read_words, words_of

T1W_T2W = ("T1W", "T2W")
"""The sequences of a cohort or model that names no others."""

_WEIGHTED = re.compile(r"t([12])(?:[ _-]?(?:w|wi|weighted))?", re.IGNORECASE)
_SEQUENCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 _.-]{0,30}[A-Za-z0-9])?")
MOST_SEQUENCES = 8


def check_sequence(name: Any) -> None:
    """Raise ValueError unless a name can be that of a sequence, which becomes a column of tables and part of paths."""
    taken = ("patient", "source", "stage", "age", "sex", "split", "image", "mask", "subject", "both", "all", "none")
    if not isinstance(name, str) or not _SEQUENCE.fullmatch(name) or name.lower() in taken:
        raise ValueError(f"{name!r:.80} cannot be the name of a sequence: up to 32 letters, digits, spaces or _ - .")


def sequence_names(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Different names of sequences, in order, from a sequence of them or from text ("T1W, T2W, DWI"); None gives
    `T1W_T2W`. T1, t1w and T1-weighted are T1W. Raises InputError for names that cannot be used."""
    if given is None:
        return T1W_T2W
    names = tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else tuple(given)
    try:
        for name in names:
            check_sequence(name)
        names = tuple(f"T{match[1]}W" if (match := _WEIGHTED.fullmatch(name)) else name for name in names)
        if not 1 <= len(names) <= MOST_SEQUENCES or len({name.lower().replace(" ", "-") for name in names}) < len(
            names
        ):
            raise ValueError(f"{len(names)} names, or one twice")
    except ValueError as error:
        expected = f"1 to {MOST_SEQUENCES} different names"
        raise InputError("sequences", str(error), expected, "Give them as T1W, T2W, DWI.") from error
    return names


def parse_sequence(text: str | None, sequences: Sequence[str] = T1W_T2W) -> str:
    """The sequence that a cell of a table names: one of `sequences`, in any case; T1W and T2W also as people call them
    (see `cirrnb.data.sequence_words`). Where `sequences` has others, a phase say, T1W is T1, T1-W, T1WI, T1 weighted
    and no more. Raises ValueError for any other text."""
    word = " ".join(unicodedata.normalize("NFC", text or "").split())
    for name in sequences:
        if word.lower() == name.lower():
            return name
    named = words_of(word)
    read = read_words(named)
    plain = len(named) == 1 or set(sequences) <= set(T1W_T2W)
    if read.doubt is None and read.weighting in sequences and plain:
        return str(read.weighting)
    doubt = f"; it says {read.doubt}" if read.doubt and named and read.doubt != "neither T1W nor T2W" else ""
    raise ValueError(" or ".join(sequences) + doubt)


def other_sequence(text: str | None, sequences: Sequence[str]) -> str | None:
    """The name of a sequence that is not among `sequences`; None for one that is, and for text that is no name."""
    word = (text or "").strip()
    try:
        parse_sequence(word, sequences)
        return None
    except ValueError:
        pass
    try:
        check_sequence(word)
    except ValueError:
        return None
    return word
