"""Standard input, output and error of a command, which may be closed, or unable to show every letter."""

from __future__ import annotations

import io
import os
import re
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


class ProgressEcho(Echo):
    """Passes on what trainings and predictions tell of their progress, nothing else; in a terminal as a bar."""

    WIDTH = 24

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self._terminal, self._rest, self._drawn = stream.isatty(), "", False

    def write(self, text: str) -> int:
        """Write whole lines among a text; its length."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(_PROGRESS.match, lines):
            place = _PLACE.match(line) if self._terminal else None
            if place is None:
                super().write(f"{self._ended()}{line}\n")
            else:
                epoch, epochs, step, steps = (
                    int(number or 1) for number in place.group("epoch", "epochs", "step", "steps")
                )
                done = round(self.WIDTH * (epoch - 1 + step / steps) / epochs)
                super().write(f"\r\x1b[K[{'#' * done}{'.' * (self.WIDTH - done)}] {line}")
                self._drawn = True
        return len(text)

    def close(self) -> None:
        """End the line of the bar."""
        if not self.closed and self._drawn:
            super().write(self._ended())
        super().close()

    def _ended(self) -> str:
        drawn, self._drawn = self._drawn, False
        return "\n" if drawn else ""


_PROGRESS = re.compile(
    r"(Preparing|Segmenting|Comparing pairs|Staging): \d|Epoch \d|An epoch takes|Asking the "
    r"|.*: (trained|rehearsed|already|failed)"
)
_PLACE = re.compile(r"(?:Epoch (?P<epoch>\d+) of (?P<epochs>\d+), step|[\w ]+:) (?P<step>\d+) of (?P<steps>\d+)")
