"""Reports for tests: a small cohort, a notebook that stands in for a patient's and is quick, and runs in processes of
their own that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import nibabel as nib
import pandas as pd

import cirrnb
from cirrnb.run.notebooks import find_notebook
from cirrnb.run.parameters import read_cells
from cirrnb.run.reports import nightly

# Reads the scans and writes overlays as the true one does, and leaves out what takes time: the network.
_BODY = """
import json, os, time
from pathlib import Path
import nibabel as nib
import numpy as np
import cirrnb
from cirrnb.data.names import file_stem
from cirrnb.view.notice import Notice, Summary

nap = float(os.environ.get("STAND_IN_NAP", "0"))
Notice(True)
---
own = cirrnb.read_cohort(cohort, on_problem="skip").select(keep=[patient])
images = {scan.sequence: nib.load(scan.image) for scan in own.scans}
if os.environ.get("STAND_IN_ASKS"):
    from cirrnb.run.reports.case import open_case

    case = open_case(run, cohort, prepared, patient)
    images = {n: nib.Nifti1Image(np.array(one.image, np.float32), np.eye(4)) for n, one in case.bag.scans.items()}
values = {name: image.get_fdata() for name, image in images.items()}
time.sleep(nap)
---
written = []
Path(overlays).mkdir(parents=True, exist_ok=True)
for name, image in images.items():
    path = Path(overlays) / f"{file_stem(patient, name, method)}.nii.gz"
    beside = path.with_name(f".writing-{os.getpid()}-{path.name}")
    nib.save(nib.Nifti1Image((values[name] / 2).astype(np.float32), image.affine), beside)
    written.append(beside.replace(path).name)
    time.sleep(nap / 2)
---
share = float(np.mean([np.mean(one) for one in values.values()])) % 1 / 2
row = {"subject": patient, "patient": patient.partition("/")[2], "source": patient.partition("/")[0], "stage": None}
row |= {"predicted": "mild", "mild": 1 - share, "moderate": share, "severe": 0.0, "set": "mild", "map": "both"}
row |= {"certainty": "one stage", "sequences": "+".join(values), "flags": "", "model": "stand-in"}
row |= {"simulated": True, "model_simulated": True}
row |= {"overlays": "|".join(f"overlays/{file_stem(patient)}/{name}" for name in written), "score": share}
Summary(row | ({"after": case.after} if os.environ.get("STAND_IN_ASKS") else {}))
"""


def stand_in(folder: Path) -> Path:
    """A notebook with the parameters of 07_patient_report that needs seconds."""
    cells = read_cells(find_notebook(nightly.PATIENT))
    source = next("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    new = nbformat.v4.new_notebook()
    new.cells = [
        nbformat.v4.new_markdown_cell("# Patient report"),
        nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}),
        *(nbformat.v4.new_code_cell(part.strip()) for part in _BODY.split("---\n")),
    ]
    path = folder / "stand_in.ipynb"
    nbformat.write(new, path)
    return path


def tiny_cohort(folder: Path, patients: int = 3) -> Path:
    """Simulated patients of a few slices each."""
    people = cirrnb.simulate_cohort(
        folder / "tiny", patients, seed=2, scale="tiny", healthy=0, workers=1, progress=False
    )
    assert len(people.patients) == patients
    return folder / "tiny"


_SCRIPT = """
import sys
from pathlib import Path
from cirrnb.data.workers import processors
from cirrnb.run.warm import warm_kernels
from cirrnb.run.reports.order import IMPORTED, Order
told = __import__("json").loads(sys.argv[1])
kernels = warm_kernels(IMPORTED, max(1, processors() // told["jobs"]))
order = Order(cohort=Path(told["cohort"]), model=told["model"], out=Path(told["out"]), jobs=told["jobs"],
    prepared=Path(told["prepared"]), explanations=Path(told["explanations"]), limit=told["limit"])
with kernels as environment:
    from cirrnb.run.reports import nightly
    nightly.PATIENT = told["notebook"] or nightly.PATIENT
    sys.exit(nightly.make_report(order, kernels=environment))
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
    """A report begun in a process of its own; what is shared by all runs lies beside `out`."""
    told = {"cohort": str(cohort), "out": str(out), "notebook": str(notebook or ""), "model": str(model)}
    told |= {"jobs": jobs, "limit": limit, "prepared": str(out.parent / "prepared")}
    told |= {"explanations": str(out.parent / "explanations")}
    command = [sys.executable, "-c", _SCRIPT, json.dumps(told)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=out.parent,
        env={**os.environ, **(environment or {})},
    )


def finish(run: subprocess.Popen[str], seconds: float = 900) -> tuple[int, str]:
    """Exit code and what was said."""
    said, _ = run.communicate(timeout=seconds)
    return run.returncode, said


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
