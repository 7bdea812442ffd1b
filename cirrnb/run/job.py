"""One notebook to be run unattended: what it is known by, whether it is done, and the process that does it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat

import cirrnb
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.json_file import read_object
from cirrnb.data.workers import Job, Outcome
from cirrnb.data.writing import write_whole
from cirrnb.run import faults
from cirrnb.run.cells import summary_of
from cirrnb.run.execution import NotebookError, run_notebook
from cirrnb.run.notebooks import find_notebook
from cirrnb.run.page import Place
from cirrnb.run.parameters import check, read_schema
from cirrnb.run.provenance import now
from cirrnb.run.publish import publish

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
    after : stands for what it reads (key of another job, hash of data), so that it is done again where that changes. A
        notebook that tells in its summary what it has read, as `after`, is held to it.
    places : further parameters, that say where things lie and not what comes of them: no part of the key.
    stem : file name of page and executed notebook without suffix; "" takes the notebook's.
    place : where the page stands among others.
    limit : seconds that the whole notebook may take, None for any.
    keeps : whether the executed notebook is kept, which holds its parameters with all their paths.
    claim : file and word: results are thrown away where the file no longer holds the word, since then another run has
        taken the folder over.
    """

    notebook: str | Path
    parameters: Mapping[str, Any]
    out: Path
    leaves: tuple[Path, ...] = field(default=())
    after: str = ""
    places: Mapping[str, Any] = field(default_factory=dict)
    stem: str = ""
    place: Place = field(default_factory=Place)
    limit: float | None = None
    keeps: bool = True
    claim: tuple[Path, str] | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.stem or f"{Path(self.notebook).stem} of {self.out.name}"

    @property
    def executed(self) -> Path:
        """The executed notebook; its page is beside it."""
        return self.out / f"{self.stem or Path(self.notebook).stem}.ipynb"

    @property
    def page(self) -> Path:
        return self.executed.with_suffix(".html")

    @property
    def mark(self) -> Path:
        """File that says with which key it was done, and what its notebook told."""
        return self.executed.with_name(f".{self.executed.stem}.key")

    @property
    def key(self) -> str:
        """SHA-256 over the notebook's source, the parameters, the page's place, the version of the package and `after`.

        Raises InputError or InputErrors where there is no such notebook or it takes no such parameters.
        """
        source = find_notebook(self.notebook)
        schema = read_schema(source)
        values = check(schema, self.parameters, source.stem)
        check(schema, self.places, source.stem)
        parts = [cirrnb.__version__, hashlib.sha256(source.read_bytes()).hexdigest(), values, self.after]
        parts += [asdict(self.place)] if self.place != Place() else []
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def record(self) -> dict[str, Any] | None:
        """What was written down when it was done with the same key (`key`, `summary`, `seconds`, `finished`), if all it
        left is still there; otherwise None. Raises as `key`."""
        left = (self.page, *self.leaves, *([self.executed] if self.keeps else []))
        key = self.key
        try:
            told = read_object(self.mark, "a whole file", "Delete it.", 2**28, finite=False)
            done = told["key"] == key and all(path.exists() for path in left)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return told if done else None

    def is_done(self) -> bool:
        """True if it was done with the same key, and all it left is still there. Raises as `key`."""
        return self.record() is not None

    def told(self, cwd: Path) -> Job:
        """The job as a worker process is told it, with paths that hold in any folder."""
        path = Path(self.notebook)
        return {
            "notebook": str(path.absolute()) if path.is_file() else str(self.notebook),
            "executed": str(self.executed.absolute()),
            "cwd": str(cwd.absolute()),
            "parameters": {**self.parameters, **self.places},
            "key": self.key,
            "after": self.after,
            "place": asdict(self.place),
            "limit": self.limit,
            "keeps": self.keeps,
            "mark": str(self.mark.absolute()),
            "claim": [str(self.claim[0].absolute()), self.claim[1]] if self.claim else None,
        }


class Overtaken(RuntimeError):
    """Another run has taken the folder over: what was made is of no use."""


def run_job(job: Job) -> Outcome:
    """Run one notebook and write its page: what a worker does.

    Returns `seconds`, in `failure` why it did not come to its end, or "", with `kind` and `trace` as NotebookError has
    them, and in `summary` what the notebook told.
    """
    _end_with_caller()
    began, summary, ended = time.monotonic(), None, {"failure": "", "kind": "", "trace": ""}
    try:
        summary = _run(job, began)
    except NotebookError as error:
        ended = {"failure": str(error), "kind": error.kind, "trace": error.trace}
    except (InputError, InputErrors) as error:
        ended |= {"failure": str(error), "kind": faults.WRONG_INPUT}
    except (OSError, RuntimeError, ValueError) as error:  # files, a kernel that does not start, a damaged notebook
        kind = faults.DISK if faults.is_full(error) else faults.BROKEN
        ended |= {"failure": f"{type(error).__name__}: {error}", "kind": kind}
    finally:
        if not job["keeps"]:
            executed = Path(job["executed"])
            for path in (executed, executed.with_name(f"{executed.stem}.failed.ipynb")):
                path.unlink(missing_ok=True)
    return {"seconds": time.monotonic() - began, "summary": summary, **ended}


def _run(job: Job, began: float) -> Any:
    """What the notebook told. Raises whatever kept it from its end."""
    executed, mark = Path(job["executed"]), Path(job["mark"])
    # Gone before anything is replaced: a mark never stands beside results of another key.
    mark.unlink(missing_ok=True)
    run_notebook(job["notebook"], executed, job["parameters"], limit=job["limit"], cwd=Path(job["cwd"]))
    summary = summary_of(nbformat.read(executed, as_version=4))
    if summary is not None and summary.get("after", job["after"]) != job["after"]:
        message = "the scan or the model changed while the notebook was reading them"
        raise NotebookError(Path(job["notebook"]).stem, "", message, None, faults.CHANGED)
    _require(job["claim"])
    publish(executed, place=Place(**job["place"]))
    _require(job["claim"])
    told = {"key": job["key"], "summary": summary, "seconds": time.monotonic() - began, "finished": now()}
    write_whole(mark, json.dumps(told))
    return summary


def _require(claim: list[str] | None) -> None:
    try:
        held = claim is None or Path(claim[0]).read_text(encoding="utf-8") == claim[1]
    except OSError:
        held = False
    if not held:
        raise Overtaken("another run has taken over this folder")


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
