"""What a report of a cohort costs: one worker and two, 25, 50 and 100 patients, memory, bytes, and a cached patient
beside a notebook with the same imports that only shows what was stored.

CIRRNB_REPORT_PATIENTS=25,50,100 pytest -m benchmark tests/benchmarks/test_report_speed.py -s
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from report_runs import finish, start

import cirrnb
from cirrnb.data.workers import processors
from cirrnb.reports.tables import read_summary
from cirrnb.run.execution import run_notebook
from cirrnb.run.notebooks import find_notebook
from cirrnb.run.publish import publish

pytestmark = pytest.mark.benchmark
COUNTS = [int(one) for one in os.environ.get("CIRRNB_REPORT_PATIENTS", "25,50,100").split(",")]
REPEATS = 3


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
    code, said = finish(run, 24 * 3600)
    done.set()
    watcher.join()
    assert code == 0, said
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


def test_a_cached_patient_beside_a_notebook_that_shows_what_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in a report's workers: threads that wait count as work
    people = cohort(tmp_path, 1)
    told = {"cohort": str(people), "prepared": str(tmp_path / "prepared")}
    told |= {"explanations": str(tmp_path / "explanations"), "overlays": str(tmp_path / "overlays")}
    executed = run_notebook("07_patient_report", tmp_path / "first.ipynb", told)
    twin = _twin(executed, tmp_path)
    seconds: dict[str, list[float]] = {"report": [], "twin": []}
    for number in range(REPEATS):
        for name, notebook, given in (("report", "07_patient_report", told), ("twin", twin, {})):
            began = processor_seconds()
            publish(run_notebook(notebook, tmp_path / name / f"{number}.ipynb", given))
            seconds[name].append(processor_seconds() - began)
    report, stored = min(seconds["report"]), min(seconds["twin"])
    print(
        f"\na cached patient takes {report:.1f} s of a processor, the same shown from a file {stored:.1f} s: "
        f"{report / stored:.2f} times"
    )
    assert report / stored <= 1.2


def processor_seconds() -> float:
    """Of this process and of kernels that have ended: what others do on the machine does not count."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _twin(executed: Path, folder: Path) -> Path:
    """A notebook with the imports of 07_patient_report that shows what an executed one has shown."""
    done = nbformat.read(executed, as_version=4)
    shown = [[one.data for one in cell.get("outputs", []) if "data" in one] for cell in done.cells]
    (folder / "shown.json").write_text(json.dumps(shown))
    source = nbformat.read(find_notebook("07_patient_report"), as_version=4)
    imports = next(cell.source for cell in source.cells if cell.id == "imports")
    new = nbformat.v4.new_notebook()
    new.cells = [
        nbformat.v4.new_code_cell(f"shown: str = {str(folder / 'shown.json')!r}", metadata={"tags": ["parameters"]}),
        # The front door imports a room when its verb is first named.
        nbformat.v4.new_code_cell(f"{imports}\ncirrnb.explain, cirrnb.faithfulness, cirrnb.slice_browser"),
        nbformat.v4.new_code_cell("import json; from IPython.display import display; told = json.load(open(shown))"),
    ]
    for number, many in enumerate(shown):
        if many:
            show = f"for one in told[{number}]: display(one, raw=True)"
            new.cells.append(nbformat.v4.new_code_cell(show))
    nbformat.write(new, folder / "twin.ipynb")
    return folder / "twin.ipynb"
