"""What a report of a cohort costs: one worker and two, 25, 50 and 100 patients, memory, bytes, and the processor time
of a page beside that of the function that computes it.

CIRRNB_REPORT_PATIENTS=25,50,100 pytest -m benchmark tests/benchmarks/test_report_speed.py -s
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from report_runs import finish, start

import cirrnb
from cirrnb.data.workers import processors
from cirrnb.reports.tables import read_summary

pytestmark = pytest.mark.benchmark
COUNTS = [int(one) for one in os.environ.get("CIRRNB_REPORT_PATIENTS", "25,50,100").split(",")]
PAGES = 4
SMALL = int(os.environ.get("CIRRNB_REPORT_SMALL", "8"))
BEFORE = os.environ.get("CIRRNB_REPORT_BEFORE")
"""A checkout of an earlier commit, to be measured in the same run."""


def cohort(folder: Path, patients: int) -> Path:
    cirrnb.simulate_cohort(folder / f"cohort{patients}", patients, seed=5, healthy=0, progress=False)
    return folder / f"cohort{patients}"


def measured(people: Path, out: Path, jobs: int) -> tuple[float, float]:
    """Seconds of a run, its scans' preparation among them, and the most memory (proportional share, MB) it took."""
    out.parent.mkdir(exist_ok=True)
    began, peak, done = time.monotonic(), 0.0, threading.Event()
    run = start(people, out, None, jobs=jobs, limit=3600, environment={"OMP_NUM_THREADS": "1"})

    def watch() -> None:
        nonlocal peak
        while not done.wait(1.0):
            total = 0.0
            try:
                for one in [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]:
                    total += one.memory_full_info().pss / 1e6
            except psutil.Error:
                continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code, output = finish(run, 24 * 3600)
    done.set()
    watcher.join()
    assert code == 0, output
    return time.monotonic() - began, peak


def test_one_worker_two_workers_and_more_patients(tmp_path: Path) -> None:
    seconds = {}
    for count in COUNTS:
        people = cohort(tmp_path, count)
        for jobs in (1, 2) if count == COUNTS[0] else (2,):
            out = tmp_path / f"{count}-{jobs}" / "report"
            seconds[count, jobs], peak = measured(people, out, jobs)
            sizes = [page.stat().st_size for page in (out / "patients").glob("*.html")]
            print(
                f"\n{count} patients, {jobs} at a time: {seconds[count, jobs] / count:.1f} s a patient, peak memory "
                f"{peak:.0f} MB, pages {statistics.median(sizes) / 1e6:.2f} MB (largest {max(sizes) / 1e6:.2f})"
            )
            assert len(read_summary(out)) == count and max(sizes) <= 2e6
    first, last = COUNTS[0], COUNTS[-1]
    print(f"\ntwo at a time are {seconds[first, 1] / seconds[first, 2]:.2f} times as fast, {processors()} processors")
    rise = seconds[last, 2] / last / (seconds[first, 2] / first)
    print(f"\na patient among {last} costs {rise:.2f} of one among {first}")
    assert rise < 1.2, "the cost grows with the number of patients alone"


def test_two_workers_against_one_on_a_small_cohort(tmp_path: Path) -> None:
    """The same report with one worker and with two. The number of busy workers and the processor time hold on a machine
    that does other work meanwhile; the ratio of seconds holds on an idle one only."""
    people = tmp_path / "small"
    cirrnb.simulate_cohort(people, SMALL, seed=5, scale="tiny", healthy=0, progress=False)
    seconds, busy, spent_by = {}, {}, {}
    for jobs in (1, 2):
        before, out = processor_seconds(), tmp_path / str(jobs) / "report"
        seconds[jobs], _ = measured(people, out, jobs)
        spent_by[jobs] = processor_seconds() - before
        busy[jobs] = busy_workers(read_summary(out))
    print(
        f"\n{SMALL} small patients: two workers {seconds[1] / seconds[2]:.2f} times as fast as one ({seconds[1]:.0f} s"
    )
    print(f"and {seconds[2]:.0f} s), {busy[2]:.2f} workers busy during the pages ({busy[1]:.2f} where there is one), ")
    print(f"processor time {spent_by[2] / spent_by[1]:.2f} of that with one; load {os.getloadavg()[0]:.1f}")
    assert busy[2] >= 1.5 and busy[1] <= 1.1, "two workers work at the same time"
    assert spent_by[2] <= 1.3 * spent_by[1], "a second worker costs its start alone"


def busy_workers(summary: pd.DataFrame) -> float:
    """Seconds of all pages over the seconds from the first page's start to the last one's end."""
    ends = pd.to_datetime(summary["finished"])
    starts = ends - pd.to_timedelta(summary["seconds"], unit="s")
    return float(summary["seconds"].sum() / max((ends.max() - starts.min()).total_seconds(), 1.0))


def test_processor_time_of_a_page(tmp_path: Path) -> None:
    """A page of a report beside the plain function alone, and beside one of an earlier commit: CIRRNB_REPORT_BEFORE
    names a checkout of it, so that before and after are measured in one run."""
    few, more = cohort(tmp_path, 1), cohort(tmp_path, PAGES)
    one = spent(few, tmp_path / "one", None)
    now = spent(more, tmp_path / "now", None)
    page = (now - one) / (PAGES - 1)
    alone = function_alone(more, tmp_path)
    print(f"\n{PAGES} pages: {now / PAGES:.1f} s of a processor each; one more page {page:.1f} s, ", end="")
    print(f"the function alone {alone:.1f} s")
    assert page <= 1.3 * alone, "a page costs what its computation costs"
    if BEFORE:
        before = spent(more, tmp_path / "before", BEFORE)
        print(f"\nbefore {before / PAGES:.1f} s a page: now {now / before:.2f} of it")
        assert now < before


def spent(people: Path, out: Path, root: str | None) -> float:
    """Seconds of a processor, of all processes of a report together."""
    began = processor_seconds()
    command(people, out, root)
    return processor_seconds() - began


def command(people: Path, out: Path, root: str | None) -> None:
    """`cirrnb report` of this checkout, or of another one, to its end."""
    out.mkdir()
    program = [sys.executable, "-c", "from cirrnb.cli import main; main()", "report", str(people), "--jobs", "2"]
    folders = [word for name in ("prepared", "explanations") for word in (f"--{name}", str(out / name))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"PYTHONPATH": root} if root else {})}
    subprocess.run([*program, "--out", str(out / "report"), *folders], cwd=out, env=environment, check=True)


def function_alone(people: Path, folder: Path) -> float:
    """Seconds of a processor that `patient_report` takes, the mean of the cohort's patients, their scans prepared."""
    script = """
import sys, time
from cirrnb.reports.compute import ReportModel, open_cohort, patient_report, prepare_patient
people, model = open_cohort(sys.argv[1]), ReportModel.load("shipped")
subjects = list(dict.fromkeys(scan.subject for scan in people.scans))
bags = [prepare_patient(people, subject, sys.argv[2], model.model) for subject in subjects]
began = time.process_time()
for bag in bags:
    patient_report(model, bag, simulated=True)
print((time.process_time() - began) / len(bags))
"""
    program = [sys.executable, "-c", script, str(people), str(folder / "alone")]
    done = subprocess.run(
        program, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True
    )
    return float(done.stdout.split()[-1])


def processor_seconds() -> float:
    """Of all processes that this one started and that have ended: what others do on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
