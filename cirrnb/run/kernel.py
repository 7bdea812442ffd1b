"""A notebook's kernel: the interpreter that runs cirrnb, reached without ports, with nothing of the user's mixed in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from traitlets import default

from cirrnb.data.interpreter import python_command
from cirrnb.run.warm import ADDRESS, RELAY, SETTINGS

PLAIN_SHELL = (
    # A file named like a module in the folder of the run must not be imported in its place.
    "--InteractiveShellApp.ignore_cwd=True",
    # Nor is anything run that is meant for somebody's own sessions.
    "--InteractiveShellApp.exec_PYTHONSTARTUP=False",
)
"""Options of every kernel."""


class OwnKernelManager(AsyncKernelManager):
    """Starts `sys.executable` whatever kernels are installed, since "python3" on a Jupyter path may be another Python.

    Set `connection_file` to a path in a short-lived private folder: sockets and IPython's own files go beside it, so
    that parallel runs share neither a port nor a history database.
    """

    @default("transport")
    def _transport_default(self) -> str:
        # Free TCP ports are picked before they are bound, so that two kernels starting together may pick the same.
        return "tcp" if sys.platform == "win32" else "ipc"

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(
            argv=[
                *self._start(),
                "-f",
                "{connection_file}",
                *PLAIN_SHELL,
                # What goes wrong in a cell is told by the cell; the kernel's own log is about shutting it down.
                "--IPKernelApp.log_level=50",
            ],
            display_name="The Python that runs cirrnb",
            language="python",
            resource_dir="",
            env={"IPYTHONDIR": str(Path(self.connection_file).parent / "ipython"), **SETTINGS},
        )

    @staticmethod
    def _start() -> list[str]:
        if ADDRESS in os.environ:
            return python_command("-I", "-S", str(RELAY), os.environ[ADDRESS])
        return python_command("-m", "ipykernel_launcher")
