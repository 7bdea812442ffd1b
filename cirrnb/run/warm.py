"""Kernels that begin with their libraries loaded.

Six seconds of a processor go into importing what a patient's notebook needs, the same for each of them. One process
imports it once and does nothing else; a kernel is a fork of it, a process of its own with the memory of a fresh one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from cirrnb.data.scratch import scratch_folder
from cirrnb.data.workers import COMMAND, bounds

ADDRESS = "CIRRNB_WARM_KERNELS"
"""Environment variable with the socket at which kernels are to be had."""

RELAY = Path(__file__).with_name("relay.py")
_PATIENCE = 2.0
"""Seconds to end in."""

_PAUSE = 0.05
"""Seconds between two looks at which kernels have ended."""

MAX_ADDRESS = 100
"""Longest name of a socket in bytes that every system takes."""

SETTINGS = {
    # Figures as data, not as scripts: the page brings plotly once for all of them.
    "PLOTLY_RENDERER": "plotly_mimetype",
    # Bars that redraw themselves flood a notebook; a cell prints a line for what matters.
    "TQDM_DISABLE": "1",
    # Threads that wait by spinning slow small networks down many times where others use the cores too.
    "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
}
"""What libraries in a kernel read from the environment when they are imported."""


@contextmanager
def warm_kernels(modules: Sequence[str], threads: int) -> Generator[dict[str, str]]:
    """Begin to load modules; yields what workers need in their environment to get kernels that have them.

    Nothing is waited for: whoever asks for a kernel before the modules are there waits, and if the process is gone, or
    cannot be on this system, kernels start as they do otherwise. All of it ends with the block, or with this process.

    Parameters
    ----------
    modules : names of what kernels import. threads : that a kernel computes with.
    """
    if sys.platform != "linux":  # elsewhere libraries do not survive a fork
        yield {}
        return
    with scratch_folder() as private:
        address = str(private / "kernels")
        if len(address.encode()) > MAX_ADDRESS:
            yield {}
            return
        with _serving(address, modules, threads):
            yield {ADDRESS: address}


@contextmanager
def _serving(address: str, modules: Sequence[str], threads: int) -> Generator[None]:
    """The process behind `warm_kernels`, for as long as the block lasts."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(address)
    listening.listen(64)
    command = [*COMMAND[:3], _SERVE, COMMAND[4], str(listening.fileno()), *modules]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=2,
        env={**os.environ, **SETTINGS, **bounds(threads)},
        pass_fds=[listening.fileno()],
    )
    listening.close()
    try:
        yield
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_PATIENCE)  # closes its input, upon which it ends its kernels and itself
        process.kill()
        process.wait()


_SERVE = (
    "import sys; sys.path.append(sys.argv[1]); from cirrnb.run.warm import serve; serve(int(sys.argv[2]), sys.argv[3:])"
)


@dataclass
class _Kernel:
    """A kernel and the line to the relay that stands for it."""

    pid: int
    line: socket.socket

    def ended(self) -> bool:
        """Whether it is no more; if so, its relay is told."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return False
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):
            self.line.sendall(b"%d\n" % (code if code >= 0 else 128 - code))
        self.line.close()
        return True

    def obey(self) -> None:
        """Pass on what the relay was told; without a relay there is no kernel."""
        try:
            said = self.line.recv(64)
        except OSError:
            said = b""
        for number in [int(word) for word in said.split()] if said else [signal.SIGKILL]:
            self.signal(number)

    def signal(self, number: int) -> None:
        """To it and what it started; to it alone where it has only just begun."""
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                send(self.pid, number)
                return


def serve(listening: int, modules: Sequence[str]) -> None:
    """What the process does: load, then fork a kernel for everybody who asks, until its standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # read on import: a kernel ends with this process
    for name in ("ipykernel.kernelapp", *modules):
        import_module(name)
    gate = socket.socket(fileno=listening)
    kernels: list[_Kernel] = []
    while True:
        lines = [one.line for one in kernels]
        watched: list[Any] = [0, gate, *lines]
        ready, _, _ = select.select(watched, [], [], _PAUSE if kernels else None)
        if 0 in ready:
            for one in kernels:
                one.signal(signal.SIGKILL)
            os._exit(0)
        for one in kernels:
            if one.line in ready:
                one.obey()
        kernels = [one for one in kernels if not one.ended()]
        if gate in ready:
            kernels += _begin(gate, [one.line for one in kernels])


def _begin(gate: socket.socket, lines: Sequence[socket.socket]) -> list[_Kernel]:
    line, _ = gate.accept()
    try:
        arguments, folder, environment = json.loads(line.makefile().readline())
    except ValueError:  # whoever asked is gone already
        line.close()
        return []
    pid = os.fork()
    if not pid:
        _become_kernel([gate, line, *lines], arguments, folder, environment)
    return [_Kernel(pid, line)]


def _become_kernel(
    held: Sequence[socket.socket], arguments: Sequence[str], folder: str, environment: Mapping[str, str]
) -> None:
    """In the fork: be a kernel as `python -m ipykernel_launcher` is one. Does not return."""
    code = 1
    try:
        os.setsid()
        for one in held:
            one.close()
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("800")  # rather a kernel than the run
        signal.signal(signal.SIGINT, signal.default_int_handler)
        parent = os.environ["JPY_PARENT_PID"]
        os.environ.clear()
        os.environ.update({**environment, "JPY_PARENT_PID": parent})
        os.chdir(folder)
        sys.argv = ["ipykernel_launcher.py", *arguments]
        _be_itself()
        launch: Callable[[], None] = import_module("ipykernel.kernelapp").launch_new_instance
        launch()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:  # noqa: BLE001 -- a fork ends here, whatever happened
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        os._exit(code)


def _be_itself() -> None:
    """Settle for this kernel what was settled on loading: its worker's threads, and draws unlike its siblings'."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if "torch" in sys.modules and threads.isdigit():
        sys.modules["torch"].set_num_threads(int(threads))
