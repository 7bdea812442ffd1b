"""A notebook's kernel: the interpreter that runs cirrnb, reached without ports, with nothing of the user's mixed in."""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from traitlets import default

from cirrnb.data.locks import scratch_folder
from cirrnb.data.workers import python_command

SETTINGS = {
    # Figures as data, not as scripts: the page brings plotly once for all of them.
    "PLOTLY_RENDERER": "plotly_mimetype",
    # Bars that redraw themselves flood a notebook; a cell prints a line for what matters.
    "TQDM_DISABLE": "1",
    # Threads that wait by spinning slow small networks down many times where others use the cores too.
    "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
}
"""What libraries in a kernel read from the environment when they are imported."""

PLAIN_SHELL = (
    # A file named like a module in the folder of the run must not be imported in its place.
    "--InteractiveShellApp.ignore_cwd=True",
    # Nor is anything run that is meant for somebody's own sessions.
    "--InteractiveShellApp.exec_PYTHONSTARTUP=False",
)
"""Options of every kernel."""


MAX_SOCKET_PATH = 85
"""Longest path of a connection file for which the names of its sockets, a little longer, are allowed everywhere."""

_managers: weakref.WeakSet[OwnKernelManager] = weakref.WeakSet()


def end_kernel(folder: Path) -> None:
    """Kill the kernel whose connection file lies in a folder, if it has begun."""
    for manager in list(_managers):
        process = getattr(manager.provisioner, "process", None)
        if Path(manager.connection_file).parent == folder and process is not None:
            process.kill()


class OwnKernelManager(AsyncKernelManager):
    """Starts `sys.executable` whatever kernels are installed, since "python3" on a Jupyter path may be another Python.

    Set `connection_file` to a path in a short-lived private folder: sockets and IPython's own files go into the
    same folder, so that parallel runs share neither a port nor a history database. If that path is too long for a
    socket, the sockets lie in a private folder in /tmp.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._remove_short: weakref.finalize | None = None
        super().__init__(*arguments, **settings)
        _managers.add(self)

    @default("transport")
    def _transport_default(self) -> str:
        # Any account of the machine can listen at a TCP port. Free ports are also picked before they are bound, so that
        # two kernels starting together may pick the same.
        return "tcp" if sys.platform == "win32" else "ipc"

    @default("ip")
    def _ip_default(self) -> str:
        # With sockets, "ip" is what their paths begin with: <ip>-<number>.
        if self.transport == "tcp":
            return "127.0.0.1"
        socket_path = str(Path(self.connection_file).with_suffix("")) + "-ipc"
        if len(socket_path) < MAX_SOCKET_PATH:
            return socket_path
        folder = ExitStack()
        short = folder.enter_context(scratch_folder("/tmp"))
        self._remove_short = weakref.finalize(self, folder.close)
        return str(short / "k")

    def cleanup_connection_file(self) -> None:
        """Remove the connection file and the folder of the sockets."""
        super().cleanup_connection_file()
        if self._remove_short is not None:
            self._remove_short()

    @property
    def kernel_spec(self) -> KernelSpec:
        private = Path(self.connection_file).parent
        return KernelSpec(
            argv=[
                *python_command("-m", "ipykernel_launcher"),
                "-f",
                "{connection_file}",
                *PLAIN_SHELL,
                # Errors of a cell appear in the cell; the kernel's own log is about its shutdown.
                "--IPKernelApp.log_level=50",
            ],
            display_name="The Python that runs cirrnb",
            language="python",
            resource_dir="",
            env={"IPYTHONDIR": str(private / "ipython"), "TMPDIR": str(private), **SETTINGS},
        )
