"""A cohort of one scan: every notebook that takes one works, or refuses it in one clear line with exit code 2."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from notebook_shell import shown
from prediction_tables import drawn
from prediction_tables import table as prediction_table

import cirrnb
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.scan import Scan
from cirrnb.data.workers import python_command
from cirrnb.run.execution import packaged_notebooks

NOTEBOOKS: dict[str, tuple[dict[str, Any], int]] = {
    "00_learn_staging": ({}, 2),
    "01_cohort": ({}, 0),
    "02_train": ({"epochs": 1}, 2),
    "04_ablation": ({"entries": ["T1W"], "epochs": 1, "radiomics": False}, 2),
    "05_faithfulness": ({"methods": ["grad_cam"], "steps": 3}, 0),
    "06_explore": ({}, 0),
    "07_patient_report": ({"steps": 3}, 0),
    "08_cohort_report": ({}, 0),
    "09_reproduce": ({"rehearse": True, "networks": ["ResNet-18"]}, 2),
    "10_validate": ({}, 2),
}
"""What each is given beside the cohort, and its exit code: one patient can be shown and staged, but not divided. The
course takes simulated patients alone."""

QUICK = ("00_learn_staging", "01_cohort", "04_ablation")
"""Their cells are tried in every run of the tests; by the command, all are, which takes minutes and is marked slow."""


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = python_command("-c", "from cirrnb.cli import main; main()")
    return subprocess.run([*program, *arguments], cwd=folder, capture_output=True, text=True, timeout=1800)


def as_text(value: Any) -> str:
    """How a parameter is typed."""
    return ",".join(value) if isinstance(value, list) else str(value).lower()


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    folder = tmp_path_factory.mktemp("cohort")
    made = cirrnb.simulate_cohort(folder / "made", patients=1, scale="tiny", healthy=0, workers=1, progress=False)
    return made.scans[0]


def table_of(scan: Scan, path: Path, stage: str, mask: bool = True) -> Path:
    row = {"patient": "7", "sequence": scan.sequence, "image": str(scan.image), "mask": str(scan.mask) if mask else ""}
    pd.DataFrame([row | {"stage": stage}]).to_csv(path, index=False)
    return path


def test_every_notebook_that_takes_a_cohort_is_tried() -> None:
    from cirrnb.run.parameters import read_schema

    taking = {name for name, path in packaged_notebooks().items() if "cohort" in read_schema(path)}
    assert taking == set(NOTEBOOKS)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["severe", ""], ids=["staged", "without a stage"])
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_on_one_scan(name: str, stage: str, scan: Scan, tmp_path: Path) -> None:
    given, code = NOTEBOOKS[name]
    cohort = table_of(scan, tmp_path / "one.csv", stage, mask=bool(stage))
    settings = [word for key, value in given.items() for word in ("-p", key, as_text(value))]
    done = command("run", name, "-p", "cohort", str(cohort), *settings, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code:
        lines = [line for line in done.stderr.splitlines() if line.startswith("cirrnb: ")]
        assert len(lines) == 1 and "found" in lines[0] and "one" in lines[0] and "expected" in lines[0]
    else:
        assert (tmp_path / "reports" / name / f"{name}.html").is_file()


@pytest.mark.parametrize("stage", ["severe", ""], ids=["staged", "without a stage"])
@pytest.mark.parametrize("name", QUICK)
def test_the_cells_of_a_notebook_on_one_scan(name: str, stage: str, scan: Scan, tmp_path: Path) -> None:
    given, code = NOTEBOOKS[name]
    given = {**given, "cohort": str(table_of(scan, tmp_path / "one.csv", stage, mask=bool(stage)))}
    if code:
        with pytest.raises((InputError, InputErrors)) as refused:
            shown(name, given, tmp_path)
        assert "one" in str(refused.value) and "expected" in str(refused.value)
    else:
        assert "one" in shown(name, given, tmp_path)


def test_the_evaluation_of_one_patient(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    prediction_table(*drawn(1)).assign(simulated=True).to_csv(tmp_path / "run" / "predictions.csv", index=False)
    with pytest.raises(InputError, match="expected at least two"):
        shown("03_evaluate", {"model": "run", "resamples": 100}, tmp_path)


@pytest.mark.slow
def test_the_report_of_one_patient(scan: Scan, tmp_path: Path) -> None:
    cohort = table_of(scan, tmp_path / "one.csv", "severe")
    done = command("report", str(cohort), "--out", "out", "--jobs", "1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "out" / "summary.csv")) == 1 and (tmp_path / "out" / "index.html").is_file()


STRANGE = ("cohort 12:30:05", "a*b?", "a|b<c>", '"quoted"', "back\\slash", "no\u00a0break", "...", "-", "x" * 250)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("kind", ["table", "folder"])
def test_a_cohort_may_be_named_as_files_may(name: str, kind: str, scan: Scan, tmp_path: Path) -> None:
    if kind == "table":
        people = cirrnb.read_cohort(table_of(scan, tmp_path / f"{name}.csv", "mild"))
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / f"7_{scan.sequence}.nii.gz").symlink_to(scan.image)
        people = cirrnb.read_cohort(tmp_path / name)
    assert [one.patient for one in people.scans] == ["7"] and people.scans[0].source.isprintable()
    assert not set(people.scans[0].source) & set('/\\:*?"<>|')
    assert len(cirrnb.prepare(people, tmp_path / "prepared", workers=1, progress=False)) == 1
