"""The kinds of failure of a notebook or a report, and their messages without paths and names."""

from __future__ import annotations

import errno
import os
import re

WRONG_INPUT = "wrong input"
REFUSED = "refused"
BROKEN = "error"
TIME = "time limit"
KERNEL = "dead kernel"
WORKER = "dead worker"
DISK = "disk full"
CHANGED = "changed while it was read"
ARCHIVE = "archive"
KINDS = (WRONG_INPUT, REFUSED, BROKEN, TIME, KERNEL, WORKER, DISK, CHANGED, ARCHIVE)

_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))
_ABSOLUTE = re.compile(r"""(?<![\w.:/\\])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'"<>|:;,()]+[/\\])+([^\s/\\'"<>|:;,()]*)""")
_QUOTED = re.compile(
    # An apostrophe within a name does not end a quotation; one that was cut short ends with its line.
    r"""(?<!\w)(?:"[^"\n]*(?:"|$)|'[^\n]*?(?:'(?!\w)|$)|“[^”\n]*(?:”|$)|‘[^\n]*?(?:’(?!\w)|$))""",
    re.MULTILINE,
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def is_full(error: object) -> bool:
    """True if an error, or the words of one, say that there is no space left where something was to be written."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(words in str(error) for words in _FULL)


def without_folders(text: str) -> str:
    """The text with every absolute path cut down to its last name, and without colours for a terminal."""
    return _ABSOLUTE.sub(lambda match: match[1], _COLOURS.sub("", text))


def without_names(text: str) -> str:
    """The text without folders and without anything in quotes, which may be a person's name or that of a file."""
    return without_folders(_QUOTED.sub("(not shown)", text))


def printable(text: str) -> str:
    """The text with what a terminal would obey (control and direction marks) written out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
