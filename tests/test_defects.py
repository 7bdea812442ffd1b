"""What is told of one scan or notebook and does not stop the others is a file or a value; a defect is raised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_phantoms import T1, write_series

from cirrnb.data.auditing import examination
from cirrnb.data.dicom import files
from cirrnb.measure import radiomics
from cirrnb.preparation import cohort as preparation
from cirrnb.run import jobs


def prepare_one(folder: Path) -> str:
    job = {"image": "a.nii.gz", "mask": None, "settings": {}, "store": str(folder), "run": "1" * 16}
    return " ".join(map(str, preparation.run_job(job)["failure"]))


def audit_one(folder: Path) -> str:
    return str(examination.run_job({"image": "a.nii.gz", "mask": None})["problem"])


def measure_one(folder: Path) -> str:
    scan = folder / "scan"
    scan.mkdir(exist_ok=True)
    for name in ("image", "mask"):
        np.save(scan / f"{name}.npy", np.ones((7, 8, 9)))
    job = {"scan": str(scan), "spacing": [5, 2, 2], "settings": {}, "change": "none", "file": str(folder / "1.json")}
    radiomics.run_job(job)
    return (folder / "1.json").read_text()


def run_one(folder: Path) -> str:
    job = {"keeps": True, "executed": str(folder / "a.ipynb")}
    return str(jobs.run_job(job)["failure"])


BORDERS = [
    (preparation, "_prepare_scan", prepare_one, (OSError("gone"), ZeroDivisionError("gone"), ValueError("gone"))),
    (examination, "examine", audit_one, (OSError("gone"), ZeroDivisionError("gone"), ValueError("gone"))),
    (radiomics, "radiomics", measure_one, (OSError("gone"), IndexError("gone"), ValueError("gone"))),
    (jobs, "_run", run_one, (OSError("gone"), RuntimeError("gone"), ValueError("gone"))),
]
DEFECTS = (AttributeError("a defect"), NameError("a defect"), TypeError("a defect"), AssertionError("a defect"))


@pytest.mark.parametrize(("module", "name", "do", "expected"), BORDERS, ids=lambda one: getattr(one, "__name__", ""))
def test_what_files_and_values_cause_is_told_and_a_defect_is_raised(
    module: Any, name: str, do: Callable, expected: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (*expected, *DEFECTS):

        def fail(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(module, name, fail)
        if error in DEFECTS:
            with pytest.raises(type(error), match="a defect"):
                do(tmp_path)
        else:
            assert "gone" in do(tmp_path), error


@pytest.mark.parametrize("error", [AttributeError("a defect"), NameError("a defect")])
def test_a_defect_is_not_taken_for_a_damaged_dicom_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    path = write_series(tmp_path, T1)[0]
    monkeypatch.setattr(files, "_reduced", fail)
    with pytest.raises(type(error), match="a defect"):
        files.read_instance(path)
