"""Stands for a kernel that `cirrnb.run.warm` forks, in the eyes of whoever started it: each lives as long as the other.

Run as a file and without site packages, so that it takes milliseconds:

python -I -S relay.py SOCKET ARGUMENTS...

Where nobody answers at the socket it becomes an ordinary kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from typing import Any

_PAUSE = 1.0
"""Seconds between two looks at whether the caller still lives."""


def main(path: str, arguments: list[str]) -> int:
    """Exit code of the kernel, 1 where whoever forked it is gone."""
    try:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.connect(path)
        line.sendall(json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode() + b"\n")  # noqa: PTH109
    except OSError:
        os.execv(sys.executable, [sys.executable, "-P", "-m", "ipykernel_launcher", *arguments])

    def pass_on(number: int, frame: Any) -> None:
        line.sendall(b"%d\n" % number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    caller = os.getppid()
    line.settimeout(_PAUSE)
    while os.getppid() == caller:
        with contextlib.suppress(TimeoutError):
            said = line.recv(64)
            return int(said) if said.strip().isdigit() else 1
    return 1  # and the kernel ends, since the line does


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
