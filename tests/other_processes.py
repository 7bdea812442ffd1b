"""Other processes that hold a folder, for tests of what is refused meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from cirrnb.data.locks import at_work, claimed, locked
with {how}(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(600)
"""


@contextmanager
def held_by_another(how: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-P", "-c", HOLD.format(how=how), str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        try:
            yield process
        finally:
            process.kill()
