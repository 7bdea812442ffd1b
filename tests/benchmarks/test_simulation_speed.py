"""What simulating costs a core at each scale, and auditing scans of the published size beside reading them."""

from __future__ import annotations

import gzip
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from threadpoolctl import threadpool_limits

from cirrnb.data.auditing.audit import WIDER, audit
from cirrnb.data.auditing.examination import run_job
from cirrnb.data.cohort_reading import read_cohort
from cirrnb.simulation.cohort import simulate_cohort, simulate_patient
from cirrnb.simulation.patients import plan

pytestmark = pytest.mark.benchmark

PATIENTS = 6
MOST_SECONDS = {"tiny": 0.4, "small": 2.4, "full": 15.0}
"""A patient for tiny (392 in 80 s on two cores) and small (48 in a minute), a scan for full."""


@pytest.mark.parametrize("scale", list(MOST_SECONDS))
def test_seconds_a_core(scale: str, tmp_path: Path) -> None:
    request = {"seed": 0, "scale": scale, "twins": False, "shortcut": None}
    plans = plan(scale, PATIENTS, 0, 0)
    jobs = [{"plan": asdict(one), "request": request, "out": str(tmp_path)} for one in plans]
    (tmp_path / "unfinished").mkdir()
    simulate_patient(jobs[0])  # imports and tables that are made once
    begin = time.process_time()
    for job in jobs:
        simulate_patient(job)
    taken = time.process_time() - begin
    scans = sum(len(one.splits) for one in plans)
    memory = psutil.Process().memory_info().rss / 1e6
    print(f"\n{scale}: {taken / len(plans):.2f} s a patient, {taken / scans:.2f} s a scan, {memory:.0f} MB")
    assert taken / (scans if scale == "full" else len(plans)) < MOST_SECONDS[scale]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first patients of the full cohort, about eleven scans."""
    folder = tmp_path_factory.mktemp("full") / "cohort"
    simulate_cohort(folder, patients=PATIENTS, healthy=1, scale="full", progress=False)
    return folder


def test_scans_of_published_size_are_audited_about_as_fast_as_read(full: Path) -> None:
    cohort = read_cohort(full)
    jobs = [{"image": str(scan.image), "mask": str(scan.mask)} for scan in cohort.scans]
    times: dict[str, list[float]] = {"reading": [], "auditing": []}
    with threadpool_limits(1):
        run_job(jobs[0])  # imports
        for _ in range(3):
            for name, work in (("reading", unpack), ("auditing", run_job)):
                begin = time.process_time()
                for job in jobs:
                    work(job)
                times[name].append((time.process_time() - begin) / len(jobs))
    reading, auditing = (min(taken) for taken in times.values())
    print(f"\na scan: reading {reading:.2f} s, auditing {auditing:.2f} s, {auditing / reading:.2f} times")
    assert auditing < 2 * reading
    found = audit(cohort, workers=1, progress=False)
    assert not found.has_errors and (found.scans.liver_wider < WIDER).all()


def unpack(job: dict[str, str | None]) -> None:
    for path in job.values():
        gzip.decompress(Path(path or "").read_bytes())
