"""Kernels forked from a process that has their libraries: as fresh as others, and gone with whoever asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import nbformat
import psutil
import pytest
from test_run_execution import notebook

from cirrnb.data import workers as crew
from cirrnb.run import faults
from cirrnb.run.fanout import fan_out
from cirrnb.run.job import NotebookJob
from cirrnb.run.warm import ADDRESS, RELAY, warm_kernels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux")
ASKS = "import json, os, sys, numpy; print(json.dumps(['mailbox' in sys.modules, os.getpid(), os.getppid()]))"


@pytest.fixture(scope="module")
def warm() -> Generator[dict[str, str]]:
    with warm_kernels(["mailbox", "numpy"], 1) as environment:
        yield environment


def said(job: NotebookJob) -> list[str]:
    cells = nbformat.read(job.executed, as_version=4).cells
    return [
        output.text.strip() for cell in cells for output in cell.get("outputs", []) if output.output_type == "stream"
    ]


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    ends = time.monotonic() + seconds
    while not true() and time.monotonic() < ends:
        time.sleep(0.05)
    return true()


def test_kernels_have_what_was_loaded_and_share_nothing_they_did(tmp_path: Path, warm: dict[str, str]) -> None:
    draw = "import numpy, uuid; print(numpy.random.random())"
    where = "import os; print(os.getcwd(), os.environ.get('OMP_NUM_THREADS'), __name__, len(globals().get('left', '')))"
    jobs = [NotebookJob(notebook(tmp_path, ASKS, draw, where, "left = 'x'"), {}, tmp_path / f"{n}") for n in range(3)]
    ended = fan_out(jobs, 2, tell=lambda _: None, environment=warm)
    assert [one.state for one in ended] == ["done"] * 3, [one.message for one in ended]
    told = [said(job) for job in jobs]
    loaded, kernels, parents = zip(*(eval(one[0].replace("true", "True")) for one in told), strict=True)  # noqa: S307
    assert all(loaded) and len(set(kernels)) == 3 and len(set(parents)) == 1
    assert len({one[1] for one in told}) == 3, "no two draw the same"
    assert {one[2].split()[0] for one in told} == {str(Path.cwd())}
    assert all(one[2].endswith("__main__ 0") for one in told)
    assert not [one for one in kernels if psutil.pid_exists(one)]


def test_without_the_process_a_kernel_starts_as_it_always_does(tmp_path: Path) -> None:
    job = NotebookJob(notebook(tmp_path, ASKS), {}, tmp_path / "out")
    [ended] = fan_out([job], 1, tell=lambda _: None, environment={ADDRESS: str(tmp_path / "nobody")})
    assert ended.state == "done" and said(job)[0].startswith("[false")


def test_a_forked_kernel_that_dies_is_told_as_one_that_died(tmp_path: Path, warm: dict[str, str]) -> None:
    job = NotebookJob(notebook(tmp_path, "import os; os.kill(os.getpid(), 9)"), {}, tmp_path / "out", keeps=False)
    [ended] = fan_out([job], 1, tell=lambda _: None, environment=warm)
    assert ended.kind == faults.KERNEL


def test_a_notebook_that_hangs_is_ended_with_its_kernel(tmp_path: Path, warm: dict[str, str]) -> None:
    hangs = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    job = NotebookJob(notebook(tmp_path, f"import os, time; {hangs}"), {}, tmp_path / "out", limit=4, keeps=False)
    [ended] = fan_out([job], 1, tell=lambda _: None, environment=warm)
    assert ended.kind == faults.TIME
    assert until(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())))


@pytest.mark.parametrize("victim", ["whoever asked", "the process"])
def test_a_kernel_ends_with_whoever_asked_for_it(tmp_path: Path, victim: str) -> None:
    hangs = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    file = notebook(tmp_path, f"import os, time; {hangs}")
    job = NotebookJob(file, {}, tmp_path / "out", keeps=False).told(tmp_path)
    with warm_kernels(["numpy"], 1) as environment:
        worker = crew.Worker("cirrnb.run.job", 1, environment)
        asked = subprocess.Popen([sys.executable, "-c", "pass"])  # a pid that is nobody's
        asked.wait()
        worker._process.stdin.write(__import__("json").dumps(job) + "\n")  # type: ignore[union-attr]
        worker._process.stdin.flush()  # type: ignore[union-attr]
        assert until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "", 60)
        kernel = psutil.Process(int((tmp_path / "pid").read_text()))
        relays = [one for one in psutil.Process(worker._process.pid).children() if str(RELAY) in one.cmdline()]
        assert relays
        if victim == "whoever asked":
            os.kill(worker._process.pid, signal.SIGKILL)
        else:
            os.kill(kernel.ppid(), signal.SIGKILL)
        assert until(lambda: not kernel.is_running()) and until(lambda: not relays[0].is_running())
        worker.stop()
