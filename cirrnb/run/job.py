"""One notebook to be run unattended: what it is known by, whether it is done, and the process that does it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cirrnb
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.workers import Job, Outcome
from cirrnb.data.writing import write_whole
from cirrnb.run.execution import NotebookError
from cirrnb.run.notebooks import find_notebook
from cirrnb.run.parameters import check, read_schema
from cirrnb.run.publish import run_and_publish

_WATCH = 1.0
"""Seconds between two looks at whether the caller still lives."""


@dataclass(frozen=True)
class NotebookJob:
    """A notebook, what it is given, and where its page goes.

    Attributes
    ----------
    notebook : path, or name of one that comes with the package.
    parameters : for its `parameters` cell.
    out : folder of page and executed notebook.
    leaves : what else it has to leave to count as done, such as its run folder.
    after : key of the job whose results it reads, so that it is done again where that one is.
    """

    notebook: str | Path
    parameters: Mapping[str, Any]
    out: Path
    leaves: tuple[Path, ...] = field(default=())
    after: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{Path(self.notebook).stem} of {self.out.name}"

    @property
    def executed(self) -> Path:
        """The executed notebook; its page is beside it."""
        return self.out / f"{Path(self.notebook).stem}.ipynb"

    @property
    def key(self) -> str:
        """SHA-256 over the notebook's source, the parameters, the version of the package and `after`.

        Raises InputError or InputErrors where there is no such notebook or it takes no such parameters.
        """
        source = find_notebook(self.notebook)
        values = check(read_schema(source), self.parameters, source.stem)
        parts = [cirrnb.__version__, hashlib.sha256(source.read_bytes()).hexdigest(), values, self.after]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def is_done(self) -> bool:
        """True if it was done with the same key, and all it left is still there. Raises as `key`."""
        left = (self.executed, self.executed.with_suffix(".html"), *self.leaves)
        key, mark = self.key, _mark(self.executed)
        return mark.is_file() and mark.read_text(encoding="utf-8") == key and all(path.exists() for path in left)

    def told(self, cwd: Path) -> Job:
        """The job as a worker process is told it, with paths that hold in any folder."""
        path = Path(self.notebook)
        notebook = str(path.absolute()) if path.is_file() else str(self.notebook)
        places = {"notebook": notebook, "out": str(self.out.absolute()), "cwd": str(cwd.absolute())}
        return {**places, "parameters": dict(self.parameters), "key": self.key}


def run_job(job: Job) -> Outcome:
    """Run one notebook and write its page: what a worker does.

    Returns `seconds`, and in `failure` why it did not come to its end, or "".
    """
    _end_with_caller()
    began, failure = time.monotonic(), ""
    mark = _mark(Path(job["out"]) / f"{Path(job['notebook']).stem}.ipynb")
    try:
        # Gone before anything is replaced: a mark never stands beside results of another key.
        mark.unlink(missing_ok=True)
        run_and_publish(job["notebook"], Path(job["out"]), job["parameters"], cwd=Path(job["cwd"]))
        write_whole(mark, job["key"])
    except (NotebookError, InputError, InputErrors) as error:
        failure = str(error)
    except Exception as error:  # one notebook that fails in a new way must not cost the others
        failure = f"{type(error).__name__}: {error}"
    return {"seconds": time.monotonic() - began, "failure": failure}


def _mark(executed: Path) -> Path:
    return executed.with_name(f".{executed.stem}.key")


_watching = threading.Event()


def _end_with_caller() -> None:
    """End this process, and with it the notebook's kernel, as soon as its caller is gone.

    A notebook may run for hours, and the sweep that is started again would meet it in the same folder.
    """
    if _watching.is_set():
        return
    _watching.set()
    caller = os.getppid()

    def watch() -> None:
        while os.getppid() == caller:
            time.sleep(_WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
