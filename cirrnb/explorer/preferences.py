"""What a reader chose once and should not have to choose again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cirrnb.data.atomic_files import atomic_write
from cirrnb.data.json_file import read_object

ANSWER_FIRST = "answer_first"


def preferences_file() -> Path:
    """Where choices are kept: the user's own configuration folder (XDG_CONFIG_HOME, else ~/.config)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "cirrnb" / "explorer.json"


def answer_first() -> bool:
    """True if this reader wants the answer with the images; False, the default, asks to look first.

    Seeing a machine's answer first makes readers agree with it (automation bias: Dratsch et al., Radiology
    2023;307:e222176).
    """
    try:
        return read_object(preferences_file(), "preferences", "Delete it.")[ANSWER_FIRST] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remember_answer_first(wanted: bool) -> None:
    """Keep the choice; where it cannot be kept it holds until the explorer is closed."""
    path = preferences_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps({ANSWER_FIRST: bool(wanted)}))
    except OSError:
        pass
