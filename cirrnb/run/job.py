"""One notebook to be run unattended: what it is known by, whether it is done, and the process that does it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cirrnb
from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import write_whole
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.json_file import read_object
from cirrnb.data.workers import Job, Outcome
from cirrnb.run.execution import NotebookError, run_notebook
from cirrnb.run.notebooks import find_notebook
from cirrnb.run.parameters import check, read_schema
from cirrnb.run.publish import publish


@dataclass(frozen=True)
class NotebookJob:
    """A notebook, what it is given, and where its page goes.

    Attributes
    ----------
    notebook : path, or name of one that comes with the package.
    parameters : for its `parameters` cell.
    out : folder of page and executed notebook.
    leaves : what else it has to leave to count as done, such as its run folder.
    after : stands for what it reads (key of another job, hash of data), so that it is done again where that changes.
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
    def page(self) -> Path:
        return self.executed.with_suffix(".html")

    @property
    def mark(self) -> Path:
        """File that says with which key it was done."""
        return self.executed.with_name(f".{self.executed.stem}.key")

    @property
    def key(self) -> str:
        """SHA-256 over the notebook's source, the parameters, the version of the package and `after`.

        Raises InputError or InputErrors where there is no such notebook or it takes no such parameters.
        """
        source = find_notebook(self.notebook)
        schema = read_schema(source)
        values = check(schema, self.parameters, source.stem)
        parts = [cirrnb.__version__, hashlib.sha256(source.read_bytes()).hexdigest(), values, self.after]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def is_done(self) -> bool:
        """True if it was done with the same key, and all it left is still there. Raises as `key`."""
        left, key = (self.page, self.executed, *self.leaves), self.key
        try:
            stored = read_object(self.mark, "a whole file", "Delete it.", 2**20)
            return bool(stored["key"] == key and all(path.exists() for path in left))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def told(self, cwd: Path) -> Job:
        """The job as a worker process is told it, with paths that hold in any folder."""
        path = Path(self.notebook)
        return {
            "notebook": str(path.absolute()) if path.is_file() else str(self.notebook),
            "executed": str(self.executed.absolute()),
            "cwd": str(cwd.absolute()),
            "parameters": dict(self.parameters),
            "key": self.key,
            "mark": str(self.mark.absolute()),
        }


def run_job(job: Job) -> Outcome:
    """Run one notebook and write its page: what a worker does.

    Returns `seconds`, and in `failure` why it did not come to its end, or "", with `kind` as NotebookError has it.
    """
    began, ended = time.monotonic(), {"failure": "", "kind": ""}
    try:
        _run(job)
    except NotebookError as error:
        ended = {"failure": str(error), "kind": error.kind}
    except (InputError, InputErrors) as error:
        ended |= {"failure": str(error), "kind": failure_kinds.WRONG_INPUT}
    except (OSError, RuntimeError, ValueError) as error:  # files, a kernel that does not start, a damaged notebook
        kind = failure_kinds.DISK if failure_kinds.is_full(error) else failure_kinds.BROKEN
        ended |= {"failure": f"{type(error).__name__}: {error}", "kind": kind}
    return {"seconds": time.monotonic() - began, **ended}


def _run(job: Job) -> None:
    executed, mark = Path(job["executed"]), Path(job["mark"])
    # Gone before anything is replaced: a mark never stands beside results of another key.
    mark.unlink(missing_ok=True)
    run_notebook(job["notebook"], executed, job["parameters"], cwd=Path(job["cwd"]))
    publish(executed)
    write_whole(mark, json.dumps({"key": job["key"]}))
