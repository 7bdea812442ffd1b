"""Reports for tests: a small cohort, a worker that stands in for the true one and is quick, and runs in processes of
their own that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import nibabel as nib
import pandas as pd
import pytest
import stand_in_worker

import cirrnb
from cirrnb.data.workers import Job, Outcome
from cirrnb.reports import pages
from cirrnb.run.execution import find_notebook

TESTS = str(Path(__file__).parent)
STAND_IN = "stand_in_worker"
_ASKS_THE_NETWORK = pages.compute_report


@contextmanager
def worker_named(name: str) -> Generator[None]:
    """Pages are made by this module of the tests; its processes find it."""
    before, path = pages.WORK, os.environ.get("PYTHONPATH")
    pages.WORK, os.environ["PYTHONPATH"] = name, os.pathsep.join(filter(None, [TESTS, path]))
    try:
        yield
    finally:
        pages.WORK = before
        os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)


@contextmanager
def in_this_process(*, network: bool) -> Generator[None]:
    """Pages are made in the process of the tests, which has imported everything: by the true worker, or by the one that
    asks no network. Jobs and answers become JSON, as between processes; those are for test_workers to prove."""

    def spread(jobs: Sequence[Job], *_: object) -> Generator[tuple[int, Outcome]]:
        for number, job in enumerate(jobs):
            yield number, json.loads(json.dumps(pages.run_job(json.loads(json.dumps(job)))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "spread", spread)
        patch.setattr(pages, "compute_report", _ASKS_THE_NETWORK if network else stand_in_worker.compute_report)
        yield


def stand_in(folder: Path) -> Path:
    """The notebook of a report with the worker that stands in."""
    notebook = nbformat.read(find_notebook("08_cohort_report"), as_version=4)
    place = next(number for number, cell in enumerate(notebook.cells) if cell.id == "report")
    source = f"from cirrnb.reports import pages\n\npages.WORK = {STAND_IN!r}"
    notebook.cells.insert(place, nbformat.v4.new_code_cell(source, id="stand-in"))
    path = folder / "08_stand_in.ipynb"
    nbformat.write(notebook, path)
    return path


def tiny_cohort(folder: Path, patients: int = 3) -> Path:
    """Simulated patients of a few slices each."""
    people = cirrnb.simulate_cohort(
        folder / "tiny", patients, seed=2, scale="tiny", healthy=0, workers=1, progress=False
    )
    assert len(people.patients) == patients
    return folder / "tiny"


_SCRIPT = """
import json, sys
from pathlib import Path
from cirrnb.run import product_commands
told = json.loads(sys.argv.pop())
product_commands.REPORT = Path(told["notebook"]) if told["notebook"] else product_commands.REPORT
sys.argv[:] = ["cirrnb", "report", *told["arguments"]]
from cirrnb.cli import main
main()
"""


def start(
    cohort: Path,
    out: Path,
    notebook: Path | None,
    *,
    model: Path | str = "shipped",
    jobs: int = 2,
    limit: float = 600,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """`cirrnb report` begun in a process of its own; what is shared by all runs lies beside `out`."""
    options = {"--model": model, "--out": out, "--jobs": jobs, "--limit": limit}
    options |= {"--prepared": out.parent / "prepared", "--explanations": out.parent / "explanations"}
    arguments = [str(cohort), *(str(word) for pair in options.items() for word in pair)]
    told = {"notebook": str(notebook or ""), "arguments": arguments}
    path = os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, json.dumps(told)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=out.parent,
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
    )


def finish(run: subprocess.Popen[str], seconds: float = 900) -> tuple[int, str]:
    """Exit code and what was said."""
    output, _ = run.communicate(timeout=seconds)
    return run.returncode, output


def kill(number: int) -> None:
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        time.sleep(0)


def contents(out: Path) -> dict[str, Any]:
    """What must be the same after any number of interruptions: files, arrays of the overlays, the summary but for its
    times, and the failures but for theirs."""
    summary = pd.read_csv(out / "summary.csv").drop(columns=["finished", "seconds"])
    failures = pd.read_csv(out / "failures.csv").drop(columns=["finished", "tries"])
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    arrays = {
        str(path.relative_to(out)): nib.load(path).get_fdata().tobytes() for path in out.glob("overlays/*/*.nii.gz")
    }
    return {
        "summary": summary.to_csv(),
        "failures": failures.to_csv(),
        "files": files,
        "arrays": arrays,
    }
