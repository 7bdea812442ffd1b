"""The command line: `cirrnb run` is the door to the notebooks, the chores with files call functions straight.

Nothing heavy is imported before a command needs it, so that `cirrnb --help` answers at once.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import cirrnb
from cirrnb.data.errors import InputError, InputErrors, OutOfBounds
from cirrnb.run import own_cases
from cirrnb.run.alias import OUT, TIMEOUT, notebook_command
from cirrnb.run.execution import find_notebook
from cirrnb.run.own_cases import SOME_LEFT_OUT
from cirrnb.run.parameters import convert, read_schema, require_text
from cirrnb.run.process import Stopped, leave, raise_on_signals, require_home
from cirrnb.run.report import report

app = typer.Typer(
    help="Stages of liver cirrhosis from T1W and T2W MRI. Research and education only; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line; a user's mistakes and failing notebooks are told in plain words.

    Exit code 2 for wrong input, 1 for a failure, 130 after Ctrl-C, 143 after SIGTERM. `cirrnb --debug ...` shows the
    traceback as well.
    """
    raise_on_signals()
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
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder of the new cohort.")],
    patients: Annotated[
        int | None, typer.Option(min=1, help="Number of patients. [default: 48, or the published number by scale]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same cohort.")] = 0,
    scale: Annotated[
        str, typer.Option(metavar="tiny|small|full", help="small: 2 mm; full: published counts and matrices.")
    ] = "small",
    healthy: Annotated[int | None, typer.Option(min=0, help="Healthy subjects. [default: by scale]")] = None,
    twins: Annotated[
        bool, typer.Option("--twins", help="Also write each scan without signs, and without one.")
    ] = False,
    organs: Annotated[
        bool, typer.Option("--organs", help="Also write labels of the liver's lobes and other organs.")
    ] = False,
    shortcut: Annotated[
        str | None, typer.Option(metavar="scanner", help="Tie the scanner to the stage in training patients.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes at work. [default: one a processor]")] = None,
) -> None:
    """Simulate a cohort in the layout of CirrMRI600+, with its latent truth and evidence maps beside it."""
    cohort = cirrnb.simulate_cohort(
        out, patients, seed, scale, twins=twins, shortcut=shortcut, healthy=healthy, workers=workers, organs=organs
    )
    typer.echo(f"{len(cohort.patients)} simulated subjects, {len(cohort)} scans, in {out}")


@app.command()
def gallery(
    cohort: Annotated[Path, typer.Argument(help="Folder of a simulated cohort.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Picture to write.")] = Path("gallery.png"),
    real: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Real slices to set beside, listed in its index.csv.")
    ] = None,
    patients: Annotated[int, typer.Option(min=1, help="Patients of each stage.")] = 2,
    slices: Annotated[int, typer.Option(min=1, help="Slices of each scan.")] = 3,
    outline: Annotated[bool, typer.Option("--outline", help="Draw the edge of the liver mask.")] = False,
) -> None:
    """Set simulated slices of each stage and sequence beside real ones, all windowed alike."""
    from cirrnb.simulation.gallery import real_panels, simulated_panels
    from cirrnb.view.images import draw_gallery

    shares = [0.3 + 0.4 * (place + 0.5) / slices for place in range(slices)]  # of the liver's height
    panels = simulated_panels(cohort, patients, shares)
    rows = [panels[start : start + 6] for start in range(0, len(panels), 6)]
    draw_gallery([*([real_panels(real)] if real else []), *rows], out, outline=outline)
    typer.echo(f"The gallery: {out}")


@app.command()
def audit(
    cohort: Annotated[Path, typer.Argument(help="Folder in the published layout, or a CSV table of scans.")],
    stages: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Stages in order (F0,F1,F2,F3,F4) or a JSON file of them.")
    ] = None,
    sequences: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Sequences in the table (T1W,T2W,DWI). [default: T1W,T2W]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes at work. [default: one a processor]")] = None,
) -> None:
    """Tell what is in a cohort, and what is wrong with it.

    Every scan is read once. Exit code 1 where something makes results wrong or a file unusable.
    """
    from cirrnb.data.auditing.audit import audit as audit_cohort

    found = audit_cohort(cohort, workers=workers, stages=stages, sequences=sequences)
    typer.echo(found.report())
    if found.has_errors:
        raise typer.Exit(1)


@app.command()
def prepare(
    cohort: Annotated[Path, typer.Argument(help="Folder in the published layout, or a CSV table of scans.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where prepared scans are kept.")] = Path("prepared"),
    view: Annotated[
        str, typer.Option(metavar="abdomen|liver", help="What the field of view is centred on.")
    ] = "abdomen",
    spacing: Annotated[float, typer.Option(help="In-plane spacing in mm.")] = 1.5,
    stages: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Stages in order (F0,F1,F2,F3,F4) or a JSON file of them.")
    ] = None,
    sequences: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Sequences in the table (T1W,T2W,DWI). [default: T1W,T2W]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes at work. [default: one a processor]")] = None,
) -> None:
    """Bring scans to one form; what is done is kept.

    What cannot be read or prepared is told and left out; exit code 3 says that this happened.
    """
    from cirrnb.data.prepared import PreparationSettings

    try:
        settings = PreparationSettings(view=view, spacing=spacing)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the problems are told below, one a line
        people = cirrnb.read_cohort(cohort, on_problem="skip", stages=stages, sequences=sequences)
    prepared = cirrnb.prepare(people, out, settings, workers=workers)
    for problem in people.problems:
        typer.echo(f"left out: {problem}", err=True)
    for failure in prepared.failures.itertuples():
        typer.echo(f"left out: {failure.subject} {failure.sequence}: {failure.reason}", err=True)
    typer.echo(f"{len(prepared)} scans prepared in {out}, {len(prepared.failures)} left out")
    if people.problems or len(prepared.failures):
        raise typer.Exit(SOME_LEFT_OUT)


class _PairsCommand(TyperCommand):
    """Takes `-p name value`, since typer itself has no option of two values that can be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined, rest = [], iter(args)
        for word in rest:
            joined.append(word)
            if word in ("-p", "--parameter"):
                name = next(rest, "")
                value = [] if re.match(r"\w+=", name) else [next(rest, None)]
                joined.append("=".join([name, *(one for one in value if one is not None)]))
        return super().parse_args(ctx, joined)


@app.command(cls=_PairsCommand)
def run(
    notebook: Annotated[str, typer.Argument(help="Name of a notebook of the package (02_train) or path of one.")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="NAME VALUE", help="Set a parameter; repeatable.")
    ] = None,
    out: OUT = None,
    timeout: TIMEOUT = None,
) -> None:
    """Execute a notebook and write it as a page."""
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

    folder = out or Path("reports") / source.stem
    typer.echo(f"Running {source.stem} ...")
    page = run_and_publish(source, folder, parameters, timeout=timeout)
    typer.echo(f"The page: {os.path.relpath(page)}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where cohorts, runs and reports go.")] = Path(),
    patients: Annotated[int, typer.Option(min=10, help="Number of patients to simulate.")] = 72,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same report.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training patients.")] = 20,
) -> None:
    """From nothing to a first report, on a simulated cohort."""
    require_home()
    from cirrnb.run.demo import demo as run_demo

    run_demo(folder, patients=patients, seed=seed, epochs=epochs, tell=typer.echo)


@app.command()
def explore(
    cohort: Annotated[
        Path | None,
        typer.Argument(help="Folder in the published layout, or a CSV table of scans. [default: simulated patients]"),
    ] = None,
    run: Annotated[str, typer.Option(help="Folder of a trained stager, or the model of the package.")] = "shipped",
    patient: Annotated[str | None, typer.Option(help="Who is shown first, for example cirrhotic/12.")] = None,
    prepared: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Prepared scans. [default: prepared/ and the cohort's name]")
    ] = None,
    sequences: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Sequences in the table (T1W,T2W,DWI). [default: the model's]")
    ] = None,
    plugin: Annotated[
        list[Path] | None, typer.Option(metavar="FILE.py", help="Registers heads, backbones or maps; repeatable.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8866,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open the explorer in a browser: slices first, then the answer and what drove it. Only this machine sees it."""
    require_home()
    from cirrnb.run.serving import explore as serve

    told = {"cohort": cohort and str(cohort), "prepared": prepared and str(prepared), "patient": patient, "run": run}
    told |= {"sequences": sequences, "plugin": ",".join(str(file.absolute()) for file in plugin or ()) or None}
    given = {name: value for name, value in told.items() if value is not None}
    raise typer.Exit(serve(given, port=port, browser=browser, tell=typer.echo))


@app.command()
def learn(
    cases: Annotated[int, typer.Option(min=2, help="Patients of the quiz.")] = 20,
    scale: Annotated[str, typer.Option(metavar="small|tiny", help="How fine the scans are.")] = "small",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8866,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open the course in a browser: what MRI shows, the signs, a quiz. Answers are kept in course/progress.json."""
    require_home()
    from cirrnb.run.serving import learn as serve

    raise typer.Exit(serve({"cases": cases, "scale": scale}, port=port, browser=browser, tell=typer.echo))


def _add_alias(command: str, notebook: str, words: str) -> None:
    try:
        source = find_notebook(notebook)
        schema = read_schema(source)
    except (InputError, InputErrors):
        return  # Somebody is at work on this notebook; `cirrnb run` tells what is wrong with it.
    app.command(command, help=f"{words} (notebook {notebook}).")(
        notebook_command(schema, notebook, lambda given, out, timeout: _run(source, given, out, timeout))
    )


for _command in (own_cases.segment, own_cases.export, own_cases.download):
    app.command()(_command)
app.command("import-dicom")(own_cases.import_dicom)
app.command("train-segmenter")(own_cases.train_segmenter)
app.command("fit-checks")(own_cases.fit_checks)
app.command()(report)
_add_alias("train", "02_train", "Train a stager on a cohort")
_add_alias("evaluate", "03_evaluate", "Score a trained stager on patients it has never seen")
