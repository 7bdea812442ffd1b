"""Worker processes that take one scan at a time, so that a crash is attributed to its scan.

They are started as `python -c ...` and exchange lines of JSON. Unlike a process pool, they never import the caller's
main module (a notebook has none, a plain script has no guard), they end with their caller even if it is killed, and a
crash is attributed to one scan.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread, Timer
from typing import TYPE_CHECKING, Any

from cirrnb.data.errors import InputError

if TYPE_CHECKING:
    from distributed import Client


Job = dict[str, Any]
Outcome = dict[str, Any]
_ROOT = str(Path(__file__).resolve().parents[2])
_SERVE = "import sys; sys.path.append(sys.argv[1]); from cirrnb.data.workers import serve; serve(sys.argv[2])"

_PATIENCE = 3.0
"""Seconds in which a worker that is ended may tidy."""

_WATCH = 0.5
"""Seconds between two looks at whether the caller still lives."""

_SCHEDULER_PATIENCE = 10
"""Seconds a Dask scheduler has to answer."""

_READY = "ready\n"


def python_command(*arguments: str) -> list[str]:
    """The command that starts the interpreter of this process with `arguments`.

    Python puts the present folder (for `-c` and `-m`) or a script's folder first on its search path. There, a file
    named like a module, such as `random.py`, would be imported instead of it; `-P` keeps the folder off the path.
    """
    return [sys.executable, "-P", *arguments]


COMMAND = tuple(python_command("-c", _SERVE, _ROOT))
"""Starts a worker; the module whose `run_job` does the work comes last."""


class WorkerDied(RuntimeError):
    """A worker ended during a job; the message gives the cause."""


class TookTooLong(WorkerDied):
    """A worker was ended because its job took longer than its limit."""


class Worker:
    """One process and the two pipes to it; `work` names the module whose `run_job` it calls, with `threads` in each
    numerical library."""

    def __init__(self, work: str, threads: int = 1) -> None:
        self._process = subprocess.Popen(
            (*COMMAND, work),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Threads that wait by spinning slow small networks down many times where others use the processors too.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **bounds(threads)},
            text=True,
        )
        self._ready = False

    def run(self, job: Job, limit: float | None = None) -> Outcome:
        """Hand over a job and wait for its outcome, `limit` seconds at most. Raises WorkerDied, TookTooLong among them,
        and RuntimeError if it cannot work at all."""
        if limit is None:
            return self._run(job)
        expired = Event()

        def end() -> None:
            expired.set()
            self._process.kill()

        timer = Timer(limit, end)
        timer.daemon = True
        timer.start()
        try:
            return self._run(job)
        except WorkerDied:
            if expired.is_set():
                raise TookTooLong(f"it took longer than the {limit:g} s allowed") from None
            raise
        finally:
            timer.cancel()

    def _run(self, job: Job) -> Outcome:
        assert self._process.stdin is not None and self._process.stdout is not None
        if not self._ready and self._process.stdout.readline() != _READY:
            code = self._process.wait()
            if code < 0:  # it was killed: the next one may live
                raise WorkerDied(_exit_text(code))
            raise RuntimeError(
                f"{_exit_text(code)} before it began; see its output above. workers=1 uses this process."
            )
        self._ready = True
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):  # a broken or closed pipe
            line = ""
        if not line.endswith("\n"):
            raise WorkerDied(_exit_text(self._process.wait()))
        outcome: Outcome = json.loads(line)
        return outcome

    def stop(self) -> None:
        """End the process, after a moment to tidy; what it was writing is left behind for `Store.clean`."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()


def in_parallel(
    jobs: Sequence[Job],
    workers: int,
    work: str,
    threads: int = 1,
    limit: float | None = None,
) -> Generator[tuple[int, Outcome | WorkerDied]]:
    """Outcomes as they come, each with the job's place in `jobs`. Ending the iteration early ends the workers.

    `work` names the module whose `run_job` does a job, `threads` is how many each worker computes with, `limit` is the
    longest time of a job in seconds.
    """
    idle: SimpleQueue[Worker] = SimpleQueue()
    started: list[Worker] = []
    ended = Event()

    def run(job: Job) -> Outcome | WorkerDied:
        try:
            worker = idle.get_nowait()
        except Empty:
            worker = Worker(work, threads)
            started.append(worker)
            if ended.is_set():  # `started` may have been gone through already
                worker.stop()
        try:
            outcome = worker.run(job, limit)
        except WorkerDied as died:
            worker.stop()
            return died
        idle.put(worker)
        return outcome

    with ThreadPoolExecutor(workers) as pool:
        places = {pool.submit(run, job): place for place, job in enumerate(jobs)}
        try:
            for done in as_completed(places):
                yield places[done], done.result()
        finally:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in started:
                worker.stop()


def spread(
    jobs: Sequence[Job],
    work: str,
    workers: int | None = None,
    cluster: str | None = None,
    limit: float | None = None,
) -> Generator[tuple[int, Outcome | WorkerDied]]:
    """Outcomes as they come, as `in_parallel`, from processes of this machine or of a Dask cluster.

    Parameters
    ----------
    workers : processes on this machine; None starts one per processor. They share the processors.
    cluster : address of a Dask scheduler ("tcp://..."), whose workers run the jobs instead, as many at a time as they
        have threads. They need this package and must see the same folders under the same paths.

    Raises InputError if `workers` is below 1, or Dask is missing or does not answer.
    """
    if workers is not None and workers < 1:
        raise InputError("workers", str(workers), "at least 1", "Leave it out to use every processor.")
    if cluster is None:
        count = max(1, min(workers or processors(), len(jobs)))
        yield from in_parallel(jobs, count, work, max(1, processors() // count), limit)
        return
    with connect(cluster) as client:
        from distributed import as_completed

        # `pure=False`: Dask's own cache is not used, since finished jobs were found by their keys.
        places = {client.submit(_run_on_cluster, job, work, limit, pure=False): place for place, job in enumerate(jobs)}
        try:
            for future in as_completed(places):
                error = future.exception()
                yield places[future], future.result() if error is None else WorkerDied(f"on the cluster: {error}")
        finally:
            client.cancel(list(places))


def _run_on_cluster(job: Job, work: str, limit: float | None) -> Outcome | WorkerDied:
    """What a Dask worker does: one job in a process of its own, with its share of the machine's processors."""
    from distributed import get_worker

    process = Worker(work, max(1, processors() // get_worker().state.nthreads))
    try:
        return process.run(job, limit)
    except WorkerDied as died:
        return died
    finally:
        process.stop()


def connect(address: str) -> Client:
    """A client of the scheduler at `address` ("tcp://..."). Raises InputError without Dask or without an answer.

    Anybody who can reach a scheduler can run code on it: bind it to 127.0.0.1 or to a trusted network.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            f"cluster {address}", "no Dask", "the extra [cluster]", "Install it: pip install distributed."
        ) from None
    try:
        client: Any = Client(address, timeout=_SCHEDULER_PATIENCE)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cluster {address}",
            f"no answer ({type(error).__name__})",
            "a Dask scheduler",
            "Start one with `dask scheduler` and name the address it prints.",
        ) from None
    return client


def bounds(threads: int) -> dict[str, str]:
    """Environment variables by which each library that computes keeps to so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve(work: str) -> None:
    """What a worker does: the job in each line of standard input, answer with a line, until the end.

    Interrupting is left to the caller, and where memory runs out the system is asked to take a worker and not the
    notebook.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints of libraries must not mix with the answers
    run_job = import_module(work).run_job
    print(_READY, end="", file=answers, flush=True)
    for line in sys.stdin:
        outcome = json.dumps(run_job(json.loads(line)))
        try:
            print(outcome, file=answers, flush=True)
        except BrokenPipeError:
            os._exit(1)  # the caller is gone


def _end_with(caller: int) -> None:
    """End this process, even in the middle of a job, as soon as its caller is gone: a command that is started again
    would meet it in the same folder."""
    while os.getppid() == caller:
        time.sleep(_WATCH)
    os._exit(1)


def _end(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _exit_text(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        why = " (the system does so where memory runs out)" if name == "SIGKILL" else ""
        return f"a worker process ended by {name}{why}"
    return f"a worker process ended with code {code}" + (": its traceback stands above" if code == 1 else "")
