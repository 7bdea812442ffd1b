"""A report on a Dask cluster as somebody would start one: a scheduler, two workers, each a process of its own, and
the true worker. pytest -m slow tests/test_report_cluster.py -s
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest
from report_runs import contents, tiny_cohort

from cirrnb.reports.report import SOME_FAILED
from cirrnb.reports.tables import TIMES, read_failures, read_summary
from cirrnb.run.product_commands import run_report

pytestmark = pytest.mark.slow
REPORT = "from cirrnb.cli import main; main()"


@pytest.fixture
def cluster(tmp_path: Path) -> Generator[str]:
    """Its address. What it says goes to files, which tell the address too."""
    pytest.importorskip("distributed")
    folder = tmp_path / "dask"
    folder.mkdir()
    started: list[subprocess.Popen[bytes]] = []

    def begin(name: str, *arguments: str) -> Path:
        said = folder / f"{name}.log"
        command = [sys.executable, "-c", "import sys; from dask.cli import run_cli; run_cli()", *arguments]
        with said.open("wb") as file:
            started.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=folder))
        return said

    try:
        said = begin("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        address = _told(said, r"tcp://127\.0\.0\.1:\d+")
        for name in ("one", "two"):
            told = begin(name, "worker", address, "--nthreads", "1", "--no-dashboard", "--name", name, "--no-nanny")
            _told(told, "Registered to")
        yield address
    finally:
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                for below in psutil.Process(process.pid).children(recursive=True):
                    below.kill()
            process.kill()
            process.wait()


def _told(said: Path, pattern: str) -> str:
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        if found := re.search(pattern, said.read_text()):
            return found[0]
        time.sleep(0.2)
    raise AssertionError(said.read_text())


def test_a_cluster_makes_the_report_that_one_machine_makes(tmp_path: Path, cluster: str) -> None:
    people = tiny_cohort(tmp_path, 4)
    [victim, *_] = sorted((people / "Cirrhosis_T2_3D").rglob("*_images/*.nii.gz"))
    victim.write_bytes(b"")
    command = [sys.executable, "-c", REPORT, "report", str(people), "--cluster", cluster, "--out", "far/report"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ}, check=False)
    print(ended.stdout)
    assert ended.returncode == SOME_FAILED, ended.stdout + ended.stderr
    out = tmp_path / "far" / "report"
    assert len(read_summary(out)) == 3 and len(read_failures(out)) == 1
    here = tmp_path / "near" / "report"
    given = {"cohort": str(people), "report": str(here), "jobs": 2, "prepared": str(tmp_path / "prepared" / "tiny")}
    assert run_report({**given, "explanations": str(tmp_path / "near" / "explanations")}, here) == SOME_FAILED
    assert contents(out)["files"] == contents(here)["files"]
    assert contents(out)["failures"] == contents(here)["failures"]
    # With other threads the last digits are others.
    times = list(TIMES)
    pd.testing.assert_frame_equal(
        read_summary(out).drop(columns=times), read_summary(here).drop(columns=times), rtol=1e-4, atol=1e-4
    )
    for path in out.glob("overlays/*/*.nii.gz"):
        one, two = (nib.load(root / path.relative_to(out)).get_fdata() for root in (out, here))
        assert np.allclose(one, two, atol=1e-3 * np.nanmax(np.abs(two)), equal_nan=True)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ}, check=False)
    assert again.returncode == SOME_FAILED and again.stdout.count("unchanged") == 3
