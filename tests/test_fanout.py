"""Many notebooks side by side: all are run, what is done is kept, what fails costs nobody else anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_run_execution import notebook, printed, wait_until

from cirrnb.data import failure_kinds
from cirrnb.data import workers as crew
from cirrnb.data.errors import InputError
from cirrnb.data.workers import Job, Outcome, processors
from cirrnb.run import jobs as sweeping
from cirrnb.run.jobs import NotebookJob, fan_out

CELLS = (
    "import json, os",
    "open(text + '.ran', 'a').write('x')\nassert count < 9, 'too many'",
    "print(json.dumps([count, os.environ['OMP_NUM_THREADS'], os.getpid()]))",
)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return notebook(tmp_path, *CELLS)


def jobs_for(source: Path, *counts: int) -> list[NotebookJob]:
    return [NotebookJob(source, {"text": f"n{one}", "count": one}, Path("out") / str(one)) for one in counts]


def test_all_are_run_and_a_failing_one_costs_the_others_nothing(source: Path) -> None:
    lines: list[str] = []
    jobs = [*jobs_for(source, 1, 9, 2), NotebookJob(source, {"cuont": 1}, Path("out/typo"))]
    outcomes = fan_out(jobs, workers=2, tell=lines.append)
    assert [one.state for one in outcomes] == ["done", "failed", "done", "failed"]
    assert [one.job for one in outcomes] == jobs
    assert "AssertionError: too many" in outcomes[1].message and "Did you mean 'count'" in outcomes[3].message
    assert len(lines) == 4 and any(line.startswith("story of 1: done in") for line in lines)
    told = [json.loads(printed(jobs[place].executed)[0]) for place in (0, 2)]
    assert [count for count, *_ in told] == [1, 2]
    assert {threads for _, threads, _ in told} == {str(max(1, processors() // 2))}
    assert told[0][2] != told[1][2], "a kernel for each"
    assert Path("out/1/story.html").exists() and Path("out/9/story.failed.ipynb").exists()


def test_what_is_done_is_kept_and_what_has_changed_is_done_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven times over, and therefore without a process beside the tests' own."""

    def spread(todo: Sequence[Job], *_: object) -> Iterator[tuple[int, Outcome]]:
        yield from ((number, sweeping.run_job(job)) for number, job in enumerate(todo))

    monkeypatch.setattr(sweeping, "spread", spread)

    def states(*jobs: NotebookJob) -> list[str]:
        return [one.state for one in fan_out(jobs, workers=1, tell=lambda _: None)]

    [job] = jobs_for(source, 1)
    assert states(job) == ["done"] and states(job) == ["kept"]
    assert Path("n1.ran").read_text() == "x"
    job.executed.with_suffix(".html").unlink()
    assert states(job) == ["done"], "its page was gone"
    assert states(replace(job, leaves=(Path("run"),))) == ["done"], "it has not left its run"
    later = replace(job, after="key of another training")
    assert states(later) == ["done"] and states(later) == ["kept"] and states(job) == ["done"]
    source.write_text(source.read_text().replace("too many", "far too many"))
    assert states(job) == ["done"], "the notebook was changed"


def test_a_worker_that_is_killed_before_it_begins_costs_one_job(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truly = crew.Worker
    killed: list[int] = []

    def first_dies(*arguments: Any) -> crew.Worker:
        worker = truly(*arguments)
        if not killed:
            killed.append(worker._process.pid)
            worker._process.kill()
        return worker

    monkeypatch.setattr(crew, "Worker", first_dies)
    outcomes = fan_out(jobs_for(source, 1, 2), workers=1, tell=lambda _: None)
    assert [one.state for one in outcomes] == ["failed", "done"] and outcomes[0].kind == failure_kinds.WORKER
    assert "SIGKILL" in outcomes[0].message


def test_a_key_tells_parameters_and_not_where_the_page_goes(source: Path) -> None:
    [one, two] = jobs_for(source, 1, 2)
    assert one.key != two.key
    assert replace(one, out=Path("elsewhere")).key == one.key
    assert replace(one, parameters={"count": 1, "text": "n1"}).key == one.key


def test_two_jobs_never_write_the_same_file(source: Path) -> None:
    [job] = jobs_for(source, 1)
    with pytest.raises(InputError, match="story of 1"):
        fan_out([job, replace(job, parameters={"count": 2})])
    with pytest.raises(InputError, match="at least 1"):
        fan_out([job], workers=0)
    assert not job.out.exists()


def test_a_cluster_without_dask_or_scheduler_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [job] = jobs_for(source, 1)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"extra \[cluster\].*pip install distributed"):
        fan_out([job], cluster="tcp://127.0.0.1:1", tell=lambda _: None)


def test_a_cluster_runs_notebooks_and_tells_of_failures(source: Path) -> None:
    distributed = pytest.importorskip("distributed")
    jobs = jobs_for(source, 1, 9)
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, host="127.0.0.1", dashboard_address=None, protocol="tcp"
    )
    with cluster:
        assert "//127.0.0.1:" in cluster.scheduler_address
        outcomes = fan_out(jobs, cluster=cluster.scheduler_address, tell=lambda _: None)
        again = fan_out(jobs[:1], cluster=cluster.scheduler_address, tell=lambda _: None)
    assert [one.state for one in (*outcomes, *again)] == ["done", "failed", "kept"]
    assert "too many" in outcomes[1].message
    assert json.loads(printed(jobs[0].executed)[0])[0] == 1


@pytest.mark.slow
def test_notebooks_end_with_a_sweep_that_was_killed(tmp_path: Path) -> None:
    source = notebook(tmp_path, "import os, time\nopen(text, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    script = "import sys; from pathlib import Path; from cirrnb.run.jobs import fan_out; "
    script += "from cirrnb.run.jobs import NotebookJob; "
    script += "fan_out([NotebookJob(sys.argv[1], {'text': sys.argv[2]}, Path('out'))], workers=1)"
    told = tmp_path / "pid"
    sweep = subprocess.Popen([sys.executable, "-c", script, str(source), str(told)], cwd=tmp_path)
    wait_until(lambda: told.exists() and bool(told.read_text()))
    kernel = psutil.Process(int(told.read_text()))
    sweep.kill()
    sweep.wait()
    wait_until(lambda: not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE)
    assert not (tmp_path / "out" / "story.ipynb").exists()
