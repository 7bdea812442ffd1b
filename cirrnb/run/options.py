"""Options of the command line: those that several commands share, and those read from a notebook's parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.models import OptionInfo

from cirrnb.run.parameters import Parameter, Schema, check, convert

SOME_SKIPPED = 3
"""Exit code of a command that did its work, but not for every scan."""

COHORT_HELP = "Folder of scans (published layout, BIDS, nnU-Net or NIfTI files), or a CSV table of scans."
COHORT = Annotated[Path, typer.Argument(help=COHORT_HELP)]
SCANS = Annotated[Path, typer.Argument(help=COHORT_HELP)]
STAGES = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="Stages in order (F0,F1,F2,F3,F4), or a JSON file. [default: mild,moderate,severe]"
    ),
]
SEQUENCES = Annotated[
    str | None, typer.Option(metavar="NAMES", help="Sequences to read (T1W,T2W,DWI). [default: T1W,T2W]")
]
MODEL_SEQUENCES = Annotated[
    str | None, typer.Option(metavar="NAMES", help="Sequences to read (T1W,T2W,DWI). [default: those of the model]")
]
WORKERS = Annotated[int | None, typer.Option(min=1, help="Worker processes. [default: one per processor]")]
SEED = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
MODEL = Annotated[str, typer.Option(help="Folder of a trained stager; shipped: the model of the package.")]
NETWORK = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="A segmenter you trained, instead of the shipped one.")
]
PREPARED = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder for prepared scans. [default: prepared/ and the name of the cohort]"),
]
PLUGIN = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE.py", help="Python file that registers heads, backbones or attribution methods; repeatable."
    ),
]
FORCE = Annotated[
    bool, typer.Option("--force", help="Also stage patients whose scans a check refuses; their answers are doubtful.")
]
MASK = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[SEQUENCE=]FILE",
        help="Liver mask of one patient, used instead of the cohort's or the program's; repeatable.",
    ),
]
DEVICE = Annotated[str | None, typer.Option(metavar="cpu|cuda", help="Device of the networks. [default: cpu]")]
TRAINING_DEVICE = Annotated[str, typer.Option(metavar="cpu|cuda", help="Device of the training.")]
START = Annotated[
    str | None,
    typer.Option(
        "--start", metavar="FOLDER", help="Begin with the weights of this folder; shipped: those of the package."
    ),
]
BODIES_IN = "--bodies-in"
"""Folder of simulated bodies; older names stay as second names of the option."""
KEEP_EVERY = Annotated[
    int, typer.Option(min=0, help="Also keep the state after every so many steps, in OUT/step-NUMBER; 0: none.")
]
METHOD = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Attribution method: integrated_gradients, gradient_shap, deep_lift, smooth_saliency, grad_cam, "
        "occlusion, attention, or a plug-in's.",
    ),
]
EXPLANATIONS = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for attribution maps; safe to delete.")]
PORT = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port on this machine; 0: any free port. [default: 8866, or a free one]"),
]
BROWSER = Annotated[bool, typer.Option(help="Open a browser.")]


def _out(notebook: str) -> Any:
    words = f"Folder for the page and the executed notebook. [default: reports/{notebook}]"
    return Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help=words)]


OUT = _out("NAME")
TIMEOUT = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Time limit for one cell.")]

_METAVARS = {Path: "PATH", str: "TEXT", int: "INTEGER", float: "NUMBER"}


def with_metavars(command: Callable[..., None]) -> Callable[..., None]:
    """The command; its help names the kind of a value as that of a notebook's command does, in any version of typer."""
    command.__annotations__ = get_type_hints(command, include_extras=True)
    for annotation in command.__annotations__.values():
        kind, *more = get_args(annotation) or (annotation,)
        if more and isinstance(more[0], OptionInfo) and more[0].metavar is None:
            kinds = get_args(kind) or (kind,)
            more[0].metavar = next((_METAVARS[option_kind] for option_kind in kinds if option_kind in _METAVARS), None)
    return command


Run = Callable[[dict[str, Any], Path | None, float | None], None]
"""Runs the notebook with parameters, the folder of its page (None for the usual one) and the time a cell may take."""


def notebook_command(schema: Schema, name: str, run: Run) -> Callable[..., None]:
    """A function that typer turns into a command with an option for each parameter.

    Texts are converted by the schema, so that an option and `-p` of `cirrnb run` take and refuse the same.
    """

    def command(out: Path | None = None, timeout: float | None = None, **given: Any) -> None:
        chosen = {key: value for key, value in given.items() if value is not None}
        texts = {key: value for key, value in chosen.items() if isinstance(value, str)}
        flags = {key: value for key, value in chosen.items() if not isinstance(value, str)}
        run(convert(schema, texts, name) | check(schema, flags, name), out, timeout)

    options = {key: _option(parameter) for key, parameter in schema.items()} | {"out": _out(name), "timeout": TIMEOUT}
    _give_signature(command, options)
    return command


def _option(parameter: Parameter) -> Any:
    kind, flag = parameter.kind, "--" + parameter.name.replace("_", "-")
    meaning = f"{parameter.help[:1].upper()}{parameter.help[1:]}".rstrip(".")
    shown = "" if parameter.default is None else f" [default: {_shown(parameter.default)}]"
    help_text = f"{meaning}.{shown}".lstrip(". ")
    if kind.name == "bool" and not kind.many and not kind.optional:
        return Annotated[bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=help_text, show_default=False)]
    metavar = "|".join(map(str, kind.choices)) or {"str": "TEXT", "int": "INTEGER", "float": "NUMBER"}.get(
        kind.name, "true|false"
    )
    metavar = f"{metavar},..." if kind.many else metavar
    return Annotated[str | None, typer.Option(flag, metavar=metavar, help=help_text, show_default=False)]


def _shown(default: Any) -> str:
    if isinstance(default, list):
        return ",".join(map(str, default)) or "none"
    if isinstance(default, bool):
        return "yes" if default else "no"
    return str(default)


def _give_signature(function: Callable[..., None], options: Mapping[str, Any]) -> None:
    # Typer reads both; a signature alone would leave the strings of this module's annotations in force.
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = dict(options)
