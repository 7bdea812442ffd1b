"""The command line: `cirrnb run` is the door to the notebooks, the chores with files call functions straight.

Nothing heavy is imported before a command needs it, so that `cirrnb --help` answers at once.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import cirrnb
from cirrnb.data.errors import InputError, InputErrors, OutOfBounds
from cirrnb.data.typed_paths import require_local
from cirrnb.run import cohort_commands, model_commands, product_commands
from cirrnb.run.execution import find_notebook
from cirrnb.run.options import OUT, TIMEOUT, notebook_command, with_metavars
from cirrnb.run.parameters import convert, read_schema, require_text
from cirrnb.run.process import Stopped, leave, raise_on_signals, require_home
from cirrnb.run.streams import ProgressEcho, make_usable

app = typer.Typer(
    help="Stages of liver cirrhosis from T1W and T2W MRI. Research and education only; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Begin with cirrnb demo or cirrnb learn. Options of a command: cirrnb COMMAND --help. Guides: cirrnb docs.",
)


def main() -> None:
    """Run the command line; a user's mistakes and failing notebooks give plain messages.

    Exit code 2 for wrong input, 1 for a failure, 130 after Ctrl-C, 143 after SIGTERM. `cirrnb --debug ...` shows the
    traceback as well.
    """
    raise_on_signals()
    make_usable()
    for name in [name for name in os.environ if name.startswith("TQDM_") and name != "TQDM_DISABLE"]:
        del os.environ[name]  # progress bars take their settings from us; a stray one would end the command
    try:
        require_text(sys.argv[1:])
        app(prog_name="cirrnb")
    except Stopped as stopped:
        leave(stopped)
    except Exception as error:
        code = _exit_code(error)
        if code is None or _debugging():
            raise
        typer.echo(f"cirrnb: {error}", err=True)
        sys.exit(code)


def _debugging() -> bool:
    return sys.argv[1:2] == ["--debug"]


def _exit_code(error: Exception) -> int | None:
    """2 where the input is wrong, 1 where something failed in a way that words can tell, None for a defect of ours."""
    from cirrnb.run.execution import NotebookError

    if isinstance(error, NotebookError):
        return 2 if error.wrong_input else 1
    if isinstance(error, InputError | InputErrors | OutOfBounds):
        return 2
    return 1 if isinstance(error, OSError) else None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cirrnb {cirrnb.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


class _PairsCommand(TyperCommand):
    """Takes `-p name value`, since typer itself has no option of two values that can be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined, rest = [], iter(args)
        for word in rest:
            joined.append(word)
            if word in ("-p", "--parameter"):
                name = next(rest, "")
                value = [] if re.match(r"\w+=", name) else [next(rest, None)]
                joined.append("=".join([name, *(part for part in value if part is not None)]))
        return super().parse_args(ctx, joined)


def run(
    notebook: Annotated[str, typer.Argument(help="Name of a notebook of the package, or path of a notebook.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME VALUE", help="Set a parameter, as -p epochs 5; repeatable."),
    ] = None,
    out: OUT = None,
    timeout: TIMEOUT = None,
) -> None:
    """Execute a notebook and write it as a page.

    Notebooks of the package: 00_learn_staging, 01_cohort, 02_train, 03_evaluate, 04_ablation, 05_faithfulness,
    06_explore, 07_patient_report, 08_cohort_report, 09_reproduce, 10_validate. Parameters are those of the notebook's
    first code cell.
    """
    texts = {}
    for pair in parameter or []:
        name, given, value = pair.partition("=")
        if not given:
            raise typer.BadParameter(f"-p {name} lacks a value; write -p NAME VALUE")
        texts[name] = value
    source = find_notebook(notebook)
    _run(source, convert(read_schema(source), texts, source.stem), out, timeout)


def _run(source: Path, parameters: dict[str, Any], out: Path | None, timeout: float | None) -> None:
    require_home()
    from cirrnb.run.publishing import run_and_publish

    for value in (*parameters.values(), *((str(out),) if out else ())):
        if isinstance(value, str):
            require_local(value)
    folder = out or Path("reports") / source.stem
    typer.echo(f"Running {source.stem} ...")
    with closing(ProgressEcho(sys.stderr)) as echo, _folder_of_process(folder) as place:
        page = run_and_publish(source, place, parameters, timeout=timeout, echo=echo)
    if place == folder:
        typer.echo(f"The page: {os.path.relpath(page)}")


@contextmanager
def _folder_of_process(folder: Path) -> Iterator[Path]:
    """The folder itself; for all but the first process that a launcher started, one that is thrown away: all of them
    execute the notebook, and one writes."""
    if os.environ.get("RANK", "0") == "0":
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="cirrnb-") as private:
        yield Path(private)


def _add_alias(command: str, notebook: str, words: str, more: str = "") -> None:
    try:
        source = find_notebook(notebook)
        schema = read_schema(source)
    except (InputError, InputErrors):
        return  # Somebody is at work on this notebook; `cirrnb run` reports its errors.
    app.command(command, help=f"{words}.\n\nExecutes notebook {notebook}. {more}".strip())(
        notebook_command(schema, notebook, lambda given, out, timeout: _run(source, given, out, timeout))
    )


_COMMANDS = (  # in the order of the help: first steps, cohorts, models, simulation, trainings for maintainers, files
    product_commands.demo,
    product_commands.learn,
    product_commands.explore,
    product_commands.report,
    product_commands.docs,
    cohort_commands.audit,
    cohort_commands.import_dicom,
    cohort_commands.download,
    cohort_commands.segment,
    cohort_commands.prepare,
    cohort_commands.export,
    ("train", "02_train", "Train a stager on a cohort", "Options without a default follow --preset."),
    ("evaluate", "03_evaluate", "Score a trained stager on its test patients", ""),
    ("validate", "10_validate", "Score a model on an external cohort", ""),
    ("reproduce", "09_reproduce", "Train and score the networks of the reference paper", ""),
    model_commands.compare,
    model_commands.calibrate,
    model_commands.adapt,
    model_commands.export_model,
    cohort_commands.simulate,
    cohort_commands.gallery,
    model_commands.plant,
    model_commands.train_simulated,
    model_commands.train_sign_maps,
    model_commands.add_sign_reader,
    cohort_commands.train_segmenter,
    cohort_commands.fit_checks,
    product_commands.forget,
    product_commands.clean,
)
for _command in _COMMANDS:
    if isinstance(_command, tuple):
        _add_alias(*_command)
    else:
        app.command(_command.__name__.replace("_", "-"))(with_metavars(_command))
app.command("run", cls=_PairsCommand)(with_metavars(run))
