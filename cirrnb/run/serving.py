"""`cirrnb explore` and `cirrnb learn`: explorer and course in the browser, served by Voila to this machine alone."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import cirrnb
from cirrnb.data.errors import InputError, InputErrors
from cirrnb.data.layouts.folder import NIFTI
from cirrnb.data.locks import scratch_folder
from cirrnb.data.scan import Cohort
from cirrnb.data.workers import python_command
from cirrnb.run.execution import find_notebook
from cirrnb.run.kernel import PLAIN_SHELL
from cirrnb.run.parameters import check, read_schema

EXPLORER = "06_explore"
HOST = "127.0.0.1"
PORT = 8866
KERNEL = "cirrnb-explore"
PROSE = "notebook-only"
"""Tag of cells that the page, which keeps its height for the pictures, leaves out."""


def explore(
    parameters: dict[str, Any], *, port: int | None = None, browser: bool = True, tell: Callable[[str], None] = print
) -> int:
    """Serve the explorer until it is interrupted; Voila's exit code.

    Cohort and model are read, and scans prepared, before anything is served: errors appear here and
    not in the browser.

    Parameters
    ----------
    parameters : of the notebook `06_explore`.
    port : on this machine; 0 takes a free one, and None `PORT` or, where it is taken, a free one.

    Raises InputError or InputErrors where the cohort, the model or the patient cannot be shown, or the port is taken,
    which is asked before anything else.
    """
    port = choose_port(port, tell)
    source = find_notebook(EXPLORER)
    values = check(read_schema(source), parameters, source.stem)
    _make_ready(values, tell)
    return serve(source, values, "The explorer", port=port, browser=browser, tell=tell)


def serve(
    source: Path, values: dict[str, Any], name: str, *, port: int | None, browser: bool, tell: Callable[[str], None]
) -> int:
    """Serve a notebook with its parameters to this machine alone until it is interrupted; Voila's exit code.

    `name` is shown on the terminal and as the page's title.
    """
    port = choose_port(port, tell)
    with _served(source, values, f"cirrnb: {name[0].lower()}{name[1:]}") as (notebook, private):
        command = python_command(
            *("-c", _SERVE, _ROOT, str(notebook)),
            *(f"--Voila.ip={HOST}", f"--port={port}", "--Voila.port_retries=0", "--Voila.log_level=ERROR"),
            *("--VoilaConfiguration.show_tracebacks=False", f"--template={KERNEL}"),
            # What a kernel publishes, anybody may read who reaches its ports: sockets in a private folder have none.
            *([] if sys.platform == "win32" else ["--KernelManager.transport=ipc"]),
            *([] if browser else ["--no-browser"]),
        )
        token = secrets.token_urlsafe(24)
        for number in (signal.SIGINT, signal.SIGTERM):  # whoever ends this ends the server with it
            signal.signal(number, signal.default_int_handler)
        process = subprocess.Popen(command, cwd=private, env=_environment(private, token))
        try:
            _wait_until_it_listens(port, process)
            tell(f"{name}: http://{HOST}:{port}/?token={token} (Ctrl-C ends it)")
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the port takes a connection or the process ends: an address that is shown before is refused."""
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.1)


_ROOT = str(Path(cirrnb.__file__).resolve().parents[1])
_SERVE = "import sys; sys.path.append(sys.argv.pop(1)); from cirrnb.run.guarded_server import main; main()"


def _environment(private: Path, token: str) -> dict[str, str]:
    """Of the server: its token, and a configuration of Jupyter and IPython of its own."""
    others = {name: value for name, value in os.environ.items() if name != "JUPYTER_CONFIG_PATH"}
    data = [str(private), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    return {
        **others,
        "CIRRNB_SERVER_TOKEN": token,
        "CIRRNB_SERVER_FOLDER": str(private),
        "JUPYTER_PATH": os.pathsep.join(data),
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "IPYTHONDIR": str(private / "ipython"),
        "TMPDIR": str(private),  # scans that are dropped into the page go with the server
        "TQDM_DISABLE": "1",
    }


def _read(cohort: Path | str, **words: Any) -> Cohort:
    """As `cirrnb.read_cohort`; the error for a single file with an ambiguous name also points to the page."""
    try:
        return cirrnb.read_cohort(cohort, **words)
    except InputErrors as error:
        if not NIFTI.fullmatch(Path(cohort).name) or not Path(cohort).is_file():
            raise
        open_it = "Or start cirrnb explore without it, drop it into “Open my own scan” and choose its sequence there."
        raise InputErrors(
            InputError(problem.where, problem.found, problem.expected, f"{problem.remedy} {open_it}")
            for problem in error.errors
        ) from error


def _make_ready(values: dict[str, Any], tell: Callable[[str], None]) -> None:
    if (
        values.get("cohort")
        and NIFTI.fullmatch(Path(values["cohort"]).name)
        and values.get("model", "shipped") == "shipped"
    ):
        _read(values["cohort"], sequences=values.get("sequences"))  # before the model: its name may not say enough
    tell("Reading the model.")
    from cirrnb.data.given_masks import give_masks
    from cirrnb.data.plugins import load_plugins
    from cirrnb.model.trained_model import load_model  # which takes some seconds

    load_plugins(values.get("plugin"))
    model = load_model(values.get("model", "shipped"))
    if values.get("cohort"):
        people = _read(values["cohort"], **model.vocabulary(values.get("sequences")))
    else:
        tell("No cohort given: a few simulated patients take their place.")
        people = cirrnb.simulate_cohort("cohorts/explained", patients=6, seed=11)
    if values.get("patient"):
        values["patient"] = people.subject_named(values["patient"])
    people = give_masks(people, values.get("mask") or (), values.get("patient"))
    tell("Preparing scans; what is prepared already is kept.")
    folder = values.get("prepared") or Path("prepared") / people.name
    ready = cirrnb.prepare(people, folder, model.preparation, force=bool(values.get("force")))
    for left_out in ready.failures.itertuples():
        tell(f"Left out: {left_out.subject} {left_out.sequence}: {left_out.reason}")
    known = [bag.subject for bag in ready.bags()]
    if (wanted := values.get("patient")) and wanted not in known:
        raise InputError("patient", repr(wanted), f"one of {len(known)}, for example {known[:3]}", "Correct the name.")


def choose_port(port: int | None, tell: Callable[[str], None]) -> int:
    """A port that is free now: the one that was asked for, or without a wish `PORT`, or another if that is taken.

    Raises InputError where a port that was asked for is taken.
    """
    if port is not None:
        return _free(port)
    try:
        return _free(PORT)
    except InputError:
        other = _free(0)
        tell(f"Port {PORT} is in use, maybe by another explorer or course. This one takes port {other}.")
        return other


def _free(port: int) -> int:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError as error:
            raise InputError(
                f"port {port}", "in use by another program", "a free port", "Close the other explorer, or give --port."
            ) from error
        return int(trial.getsockname()[1])


# Voila starts kernels in the notebook's folder, which is a private one.
_LAUNCH = "import os; os.chdir({folder!r}); from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"


@contextmanager
def _served(source: Path, values: dict[str, Any], title: str) -> Iterator[tuple[Path, Path]]:
    """The notebook with its parameters, and the folder that names its kernel: the interpreter that runs cirrnb,
    whatever others are installed, in the present folder."""
    import nbformat
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    notebook = parameterize_notebook(load_notebook_node(str(source)), values)
    notebook.cells = [cell for cell in notebook.cells if PROSE not in cell.metadata.get("tags", [])]
    notebook.metadata["title"] = title
    notebook.metadata["kernelspec"] = {"name": KERNEL, "display_name": KERNEL, "language": "python"}
    launch = python_command("-c", _LAUNCH.format(folder=str(Path.cwd())), "-f", "{connection_file}", *PLAIN_SHELL)
    launch.append("--IPKernelApp.log_level=CRITICAL")  # it speaks of pages that were left, which is no news
    with scratch_folder() as private:
        spec = private / "kernels" / KERNEL / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps({"argv": launch, "display_name": KERNEL, "language": "python"}), encoding="utf-8")
        template = private / "voila" / "templates" / KERNEL
        template.mkdir(parents=True)
        (template / "conf.json").write_text('{"base_template": "lab"}', encoding="utf-8")
        page = files("cirrnb.run").joinpath("served_page.html.j2").read_text(encoding="utf-8")
        (template / "index.html.j2").write_text(page, encoding="utf-8")
        copy = private / "page" / source.name
        copy.parent.mkdir()
        nbformat.write(notebook, copy)
        yield copy, private


COURSE = "00_learn_staging"


def learn(
    parameters: dict[str, Any], *, port: int | None = None, browser: bool = True, tell: Callable[[str], None] = print
) -> int:
    """Serve the course until it is interrupted; Voila's exit code.

    The page comes at once; the patients of the quiz are simulated in the background, the first time.

    Parameters
    ----------
    parameters : of the notebook `00_learn_staging`. port : as for `explore`.

    Raises InputError or InputErrors where a parameter is wrong or the port is taken. What is wrong with the
    folder of the patients is named on the page.
    """
    source = find_notebook(COURSE)
    schema = read_schema(source)
    given = check(schema, parameters, source.stem)
    values = {name: given.get(name, parameter.default) for name, parameter in schema.items()}
    if not Path(values["cohort"]).is_dir():
        tell(
            f"The {values['cases']} patients of the quiz are simulated while you read; the page shows how far they are."
        )
    return serve(source, {**values, "wait": False}, "The course", port=port, browser=browser, tell=tell)
