"""Executing a notebook with papermill: finding it, checking its parameters, a fresh kernel, clear errors."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import cirrnb
from cirrnb.data import failure_kinds
from cirrnb.data.atomic_files import move_into_place
from cirrnb.data.errors import InputError, InputErrors, OutOfBounds
from cirrnb.data.locks import scratch_folder
from cirrnb.data.status import Refused
from cirrnb.model.provenance import commit, now, versions
from cirrnb.run.parameters import check, read_schema
from cirrnb.run.streams import Echo

if TYPE_CHECKING:
    from nbformat import NotebookNode


def packaged_notebooks() -> dict[str, Path]:
    """Name ("02_train") -> file, of the notebooks that come with the package.

    A wheel holds them in `cirrnb/notebooks`; an editable install finds them in the clone.
    """
    package = Path(cirrnb.__file__).resolve().parent
    for folder in (package / "notebooks", package.parent / "notebooks"):
        notebooks = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
        if notebooks:
            return notebooks
    return {}


def find_notebook(name: str | Path) -> Path:
    """The file of a notebook given by path or, for one that comes with the package, by name ("02_train").

    Raises InputError where there is no such notebook.
    """
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path
    known = packaged_notebooks()
    stem = path.name.removesuffix(".ipynb")
    if str(path) == path.name and stem in known:
        return known[stem]
    close = difflib.get_close_matches(stem, known, n=1)
    remedy = f"Did you mean {close[0]!r}?" if close else "Give the path of an .ipynb file."
    raise InputError(
        f"notebook {str(name)!r}", "no such notebook", f"a path or one of {', '.join(known) or 'none'}", remedy
    )


class NotebookError(RuntimeError):
    """A notebook did not come to its end.

    Attributes
    ----------
    notebook : its name.
    cell : which code cell failed, counted from 1 and with the heading it stands under, or "" before the first.
    message : what went wrong, in plain words.
    kept : the executed part of the notebook, or None.
    kind : one of `cirrnb.data.failure_kinds.KINDS`.
    trace : the traceback as text, or "".
    """

    def __init__(
        self,
        notebook: str,
        cell: str,
        message: str,
        kept: Path | None,
        kind: str = failure_kinds.BROKEN,
        trace: str = "",
    ):
        super().__init__(notebook, cell, message, kept, kind, trace)
        self.notebook, self.cell, self.message, self.kept = notebook, cell, message, kept
        self.kind, self.trace = kind, trace

    @property
    def wrong_input(self) -> bool:
        """True where the notebook refused what it was given (and not where it broke)."""
        return self.kind == failure_kinds.WRONG_INPUT

    def __str__(self) -> str:
        where = f"{self.notebook}, {self.cell}" if self.cell else self.notebook
        kept = f"\nWhat ran until then is in {self.kept}" if self.kept else ""
        return f"{where}: {self.message}{kept}"


@dataclass(frozen=True)
class Paths:
    """Files of one run: where the executed notebook ends up, grows, and stays after a failure."""

    out: Path
    growing: Path
    failed: Path

    @classmethod
    def for_output(cls, out: Path) -> Paths:
        return cls(out, out.with_name(f".{out.stem}.{os.getpid()}.ipynb"), out.with_name(f"{out.stem}.failed.ipynb"))


def run_notebook(
    notebook: str | Path,
    out: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
    cwd: Path | None = None,
    echo: TextIO | Echo | None = None,
) -> Path:
    """Execute a notebook from top to bottom in a fresh kernel and keep it with its outputs.

    Parameters
    ----------
    notebook : path, or name of one that comes with the package ("02_train").
    out : file of the executed notebook, written atomically. A run that fails leaves `<name>.failed.ipynb`.
    parameters : values for its `parameters` cell; the others keep the notebook's own defaults.
    timeout : seconds that one cell may take, None for any.
    cwd : folder that relative paths in the notebook start from, default the present one.
    echo : where cells print, they print here too, at once.

    Returns `out`. Raises InputError or InputErrors before anything is started where a parameter is unknown or of the
    wrong type, NotebookError where a cell fails, takes too long or loses its kernel.
    """
    source = find_notebook(notebook)
    values = check(read_schema(source), parameters or {}, source.stem)
    paths = Paths.for_output(Path(out).absolute())
    paths.out.parent.mkdir(parents=True, exist_ok=True)
    started = now()
    try:
        with scratch_folder() as private:
            work = (source, paths, values, private, timeout, Path(cwd or Path.cwd()), echo)
            executed = _interruptible(work, private)
        _write(executed, source, started, paths)
    except BaseException:
        if paths.growing.exists():
            move_into_place(paths.growing, paths.failed)
        raise
    paths.failed.unlink(missing_ok=True)
    return paths.out


def _interruptible(work: tuple[Any, ...], private: Path) -> NotebookNode:
    """What `_execute(*work)` returns; where this thread is interrupted meanwhile, its kernel is ended.

    In the main thread nbclient takes signals for itself, and neither ends nor tells what it was asked to.
    """
    from cirrnb.run.kernel import end_kernel

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(_execute, *work)
        try:
            return future.result()
        except BaseException:
            while not future.done():
                end_kernel(private)
                wait([future], 0.2)
            raise


_WRONG_INPUT = frozenset(error_type.__name__ for error_type in (InputError, InputErrors, OutOfBounds, Refused))
"""Errors that a cell raises for wrong input."""


def _execute(
    source: Path,
    paths: Paths,
    values: dict[str, Any],
    private: Path,
    timeout: float | None,
    cwd: Path,
    echo: TextIO | Echo | None,
) -> NotebookNode:
    import nbformat
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    from cirrnb.run.kernel import OwnKernelManager

    def failure(message: str, kind: str = failure_kinds.BROKEN, trace: str = "") -> NotebookError:
        return NotebookError(source.stem, _last_cell(paths.growing), message, paths.failed, kind, trace)

    # Its guess at the parameters does not know `str | None` and warns; the schema has judged them already.
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    # A kernel that is shut down may still be speaking: a message too late for its socket is no news to anybody.
    logging.getLogger("tornado.general").setLevel(logging.CRITICAL)
    try:
        return papermill.execute_notebook(
            nbformat.read(source, as_version=4),
            # Papermill fills braces in a path from the parameters; doubled, they stay braces.
            str(paths.growing).replace("{", "{{").replace("}", "}}"),
            values,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=cwd,
            timeout_func=lambda cell: timeout,
            stdout_file=(echo if isinstance(echo, Echo) else Echo(echo)) if echo else None,
            kernel_manager_class=OwnKernelManager,
            config=Config({"OwnKernelManager": {"connection_file": str(private / "kernel.json")}}),
        )
    except PapermillExecutionError as error:
        refused = error.ename in _WRONG_INPUT
        kind = failure_kinds.WRONG_INPUT if refused else failure_kinds.BROKEN
        if failure_kinds.is_full(error.evalue):
            kind = failure_kinds.DISK
        message = error.evalue if refused else f"{error.ename}: {error.evalue}"
        raise failure(message, kind, "\n".join(error.traceback)) from error
    except CellTimeoutError as error:
        raise failure(f"it took longer than the {timeout:g} s allowed", failure_kinds.TIME) from error
    except DeadKernelError as error:
        message = "its Python ended without a word; most often the system stopped it for want of memory"
        raise failure(message, failure_kinds.KERNEL) from error


def _last_cell(growing: Path) -> str:
    """Which code cell of a partly executed notebook ran last, in words."""
    import nbformat

    if not growing.exists():
        return ""
    heading, words, count = "", "", 0
    try:
        cells = nbformat.read(growing, as_version=4).cells
    except (OSError, ValueError):  # cut short, as on a full disk
        return ""
    for cell in cells:
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")]
            heading = headings[-1] if headings else heading
        # What papermill adds is no cell that the author of the notebook would count.
        elif cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", []):
            count += 1
            if cell.metadata.get("papermill", {}).get("status") not in (None, "pending"):
                words = f"cell {count}" + (f' under "{heading}"' if heading else "")
    return words


def _write(executed: NotebookNode, source: Path, started: str, paths: Paths) -> None:
    import nbformat

    # The names are kept, the folders of this machine are nobody's business.
    executed.metadata.papermill.update(input_path=source.name, output_path=paths.out.name)
    stamp(executed, source.stem, started)
    nbformat.write(executed, paths.growing)
    move_into_place(paths.growing, paths.out)


def stamp(notebook: NotebookNode, name: str, started: str) -> None:
    """Write into an executed notebook what it was made with; papermill keeps its parameters there."""
    notebook.metadata["cirrnb"] = {
        "notebook": name,
        "versions": versions(),
        "commit": commit(),
        "started": started,
        "finished": now(),
    }
