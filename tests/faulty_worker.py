"""A worker that does what its job says: dies, hangs, or answers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    Path(job["pid"]).write_text(str(os.getpid()))
    if job["subject"] == "dies":
        os.kill(os.getpid(), 9)
    if job["subject"] == "hangs":
        time.sleep(600)
    return {
        "failure": "",
        "kind": "",
        "trace": "",
        "seconds": 0.1,
        "summary": {"threads": os.environ["OMP_NUM_THREADS"]},
    }
