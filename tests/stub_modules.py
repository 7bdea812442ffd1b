"""A folder with files named like modules and like configurations, each of which notes that it was executed."""

from __future__ import annotations

from pathlib import Path

MODULES = (
    *("torch", "pandas", "numpy", "voila", "ipykernel", "ipykernel_launcher", "nbformat", "tornado", "traitlets"),
    *("contextlib", "random", "tempfile", "socket", "json", "signal", "typing", "sitecustomize", "anywidget"),
)
CONFIGURATIONS = (
    *("jupyter_config", "jupyter_server_config", "voila_config", "ipython_config", "ipython_kernel_config"),
)


def stub_folder(folder: Path) -> Path:
    """Fill a folder; returns the file in which each executed stub writes its name."""
    folder.mkdir(parents=True, exist_ok=True)
    executed = folder / "executed.txt"
    for name in (*MODULES, *CONFIGURATIONS):
        code = f'open({str(executed)!r}, "a").write({name!r} + "\\n")\n'
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return executed
