"""Standard input, output and error of a command, which may be closed, or unable to show every letter."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def make_usable() -> None:
    """Give closed streams an empty one, and let no letter of a name end the command: what the encoding of the output
    cannot show is written as an escape."""
    for name, mode in _STREAMS:  # in this order, in which the system hands out the numbers 0, 1, 2 again
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Echo(io.TextIOBase):
    """Writes to a stream until that is closed at its other end, as by `| head -1`; then the work goes on unheard."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text at once; its length."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            # What is still in the buffer would raise again when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return len(text)
