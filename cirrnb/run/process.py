"""The process of a command: signals that end it, and the home folder it needs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from cirrnb.data.errors import InputError


class Stopped(BaseException):
    """The process was asked to end. No KeyboardInterrupt, which libraries turn into an exit code of their own.

    Attributes
    ----------
    number : of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        name = "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name
        return f"stopped by {name} before it was done. Call it again: what is done already is kept."

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM, as shells have it."""
        return 128 + self.number


def raise_on_signals() -> None:
    """From here on, Ctrl-C and SIGTERM raise `Stopped` in the main thread, once; further ones disturb no tidying.

    A signal that whoever started the process wants ignored (`nohup`) stays ignored.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]

    def stop(number: int, frame: Any) -> None:
        for signum in numbers:
            signal.signal(signum, signal.SIG_IGN)
        raise Stopped(number)

    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def leave(stopped: Stopped) -> None:
    """Say in one line what happened, and end with the signal's exit code."""
    print(f"cirrnb: {stopped}", file=sys.stderr)
    sys.exit(stopped.exit_code)


def require_home() -> None:
    """Raise InputError where neither HOME nor the system's accounts name a home folder for this user."""
    try:
        Path.home()
    except RuntimeError:
        user = f" for the user number {os.getuid()}" if hasattr(os, "getuid") else ""
        raise InputError(
            "environment",
            f"no home folder{user}: HOME is not set",
            "a home folder, for Jupyter's files",
            "Set it to a folder of your own that can be written: HOME=/path/to/folder cirrnb ...",
        ) from None
