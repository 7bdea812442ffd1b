"""A run from an inbox to results is killed again and again; in the end each result is there exactly once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dicom_patients import simulated, write_study
from dicom_phantoms import T1, write_series
from pydicom import dcmread
from report_runs import STAND_IN, TESTS, kill

from cirrnb.reports.tables import read_summary

KILLS = 10

_SCRIPT = f"""
import json, sys
from pathlib import Path
from cirrnb.reports import pages
pages.WORK = {STAND_IN!r}
from cirrnb.archive.chain import StudiesRequest, report_studies
from cirrnb.reports.request import ReportRequest
told = {{name: Path(path) for name, path in json.loads(sys.argv[1]).items()}}
request = ReportRequest(told["cohort"], "shipped", told["report"], prepared=told["prepared"],
                        explanations=told["explanations"], jobs=2)
ended = report_studies(StudiesRequest(told["inbox"], dicom_out=told["results"]), request)
sys.exit(ended.exit_code)
"""


def start(inbox: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A run in a process of its own; all that it writes lies in `folder`."""
    told = {name: str(folder / name) for name in ("cohort", "report", "prepared", "explanations", "results")}
    path = os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, json.dumps({**told, "inbox": str(inbox)})],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "STAND_IN_NAP": "0.5"},
        cwd=folder,
    )


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same after any number of interruptions."""
    objects = {
        str(path.relative_to(folder)): str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        for path in (folder / "results").rglob("*.dcm")
    }
    scans = pd.read_csv(folder / "cohort/scans.csv").sort_values(["patient", "sequence"])
    studies = pd.read_csv(folder / "report/studies.csv").drop(columns=["state", "results"])
    return {
        "objects": objects,
        "scans": scans.to_csv(index=False),
        "summary": read_summary(folder / "report").drop(columns=["finished", "seconds"]).to_csv(index=False),
        "studies": studies.to_csv(index=False),
        "folders": sorted(path.name for path in (folder / "cohort").iterdir()),
        "left": [str(path) for path in folder.rglob(".writing*")],
    }


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_has_each_result_once(tmp_path: Path) -> None:
    inbox, cohort = tmp_path / "inbox", simulated(tmp_path / "simulated", 4)
    for place in range(2):
        write_study(inbox / f"p{place}", cohort, place)
    write_series(inbox / "ct", T1, study="1.2.99", Modality="CT", PatientID="other")
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    began = time.monotonic()
    assert start(inbox, tmp_path / "whole").wait(900) == 3
    lasts, expected, ended = time.monotonic() - began, outcome(tmp_path / "whole"), 0
    assert len(expected["objects"]) == 6 and not expected["left"]
    dice = random.Random(31)
    for _ in range(KILLS):
        run = start(inbox, tmp_path / "killed")
        try:
            run.wait(dice.uniform(0.1, 1) * lasts)
            ended += 1
        except subprocess.TimeoutExpired:
            kill(run.pid)
            run.wait(60)
    assert start(inbox, tmp_path / "killed").wait(900) == 3
    assert outcome(tmp_path / "killed") == expected
    assert ended < KILLS
