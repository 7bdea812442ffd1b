"""Starting this Python again: the one place that does it, so that no file of the present folder runs in its place."""

from __future__ import annotations

import sys


def python_command(*arguments: str) -> list[str]:
    """The command that starts the interpreter of this process with `arguments`.

    Python puts the present folder (for `-c` and `-m`) or a script's folder first on its search path. There, a file
    named like a module, such as `random.py`, would be imported instead of it; `-P` keeps the folder off the path.
    """
    return [sys.executable, "-P", *arguments]
