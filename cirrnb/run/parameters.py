"""A notebook's `parameters` cell is its schema: names, types, defaults and help all come from there.

The cell is read as text and never run. Papermill itself only warns of an unknown name and takes any value; here both
stop the run before a kernel is started.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import tokenize
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cirrnb.data.errors import InputError, raise_if_any
from cirrnb.data.json_file import has_surrogates, read_text
from cirrnb.run.values import Kind, fits, from_text

TAG = "parameters"
MAX_NOTEBOOK = 2**28
"""Bytes of the largest notebook that is opened."""


@dataclass(frozen=True)
class Parameter:
    """One assignment of the `parameters` cell.

    Attributes
    ----------
    name : the variable's name.
    kind : what values it takes.
    default : what the notebook itself sets.
    help : the comment behind the assignment, or "".
    """

    name: str
    kind: Kind
    default: Any
    help: str = ""


Schema = Mapping[str, Parameter]


def read_schema(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, in the order they are written.

    Raises InputError where the file is no notebook, has no cell tagged `parameters` or several, or where that cell
    holds anything but assignments of plain values (comments, a docstring and blank lines apart).
    """
    tagged = [cell for cell in read_cells(notebook) if TAG in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise InputError(
            notebook.name,
            f"{len(tagged) or 'no'} cell{'s' if len(tagged) > 1 else ''} tagged {TAG!r}",
            "exactly one",
            "Put everything that a run may set into one code cell and tag that cell.",
        )
    source = tagged[0].get("source", "")
    return parse_schema("".join(source), notebook.name)


def read_cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells of a notebook file as plain dictionaries. Raises InputError where it is none."""
    try:
        # Not `read_json`: outputs of a notebook may hold NaN.
        stored = json.loads(read_text(notebook, MAX_NOTEBOOK))
        cells = stored["cells"]
        if int(stored["nbformat"]) < 4 or not all(isinstance(cell, dict) for cell in cells):
            raise ValueError("not of format 4")
    except FileNotFoundError:
        raise InputError(notebook, "no such file", "a notebook", "Check the path.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            notebook, f"no notebook ({error})", "a Jupyter notebook of format 4", "Save it from Jupyter again."
        ) from None
    return cells


def parse_schema(source: str, where: str) -> dict[str, Parameter]:
    """Parameters of the text of a `parameters` cell; `where` names the notebook in messages."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise InputError(
            f"{where}, parameters cell, line {error.lineno}", f"{error.msg}", "Python", "Mend the cell."
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; nesting that the parser cannot follow
        raise InputError(f"{where}, parameters cell", f"{error}", "plain assignments", "Mend the cell.") from None
    comments = _comments(source)
    schema: dict[str, Parameter] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # A docstring, which explains the cell to its reader.
        parameter = _parse_statement(statement, comments, f"{where}, parameters cell, line {statement.lineno}")
        if parameter.name in schema:
            raise InputError(
                where, f"parameter {parameter.name!r} set twice", "each parameter once", "Delete one of the two."
            )
        schema[parameter.name] = parameter
    return schema


def _parse_statement(statement: ast.stmt, comments: Mapping[int, str], where: str) -> Parameter:
    annotation: ast.expr | None = None
    target: ast.expr | None = None
    value: ast.expr | None = None
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    elif isinstance(statement, ast.AnnAssign):
        target, value, annotation = statement.target, statement.value, statement.annotation
    if not isinstance(target, ast.Name) or value is None:
        raise InputError(where, ast.unparse(statement), "name: type = value", "Move everything else into another cell.")
    try:
        default = ast.literal_eval(value)  # Reads literals only; nothing of the cell is executed.
    except (ValueError, TypeError):
        raise InputError(
            where, ast.unparse(value), "a plain value", "Compute it in a later cell from plain parameters."
        ) from None
    kind = Kind.from_annotation(annotation, where) if annotation else Kind.from_default(default, where)
    if not fits(default, kind):
        raise InputError(where, f"{target.id} = {default!r}", kind.words, "Mend the default or its annotation.")
    last_line = statement.end_lineno or statement.lineno
    return Parameter(target.id, kind, default, comments.get(last_line, ""))


def _comments(source: str) -> dict[int, str]:
    """Line number -> text of the comment that stands on it."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ").rstrip() for token in tokens if token.type == tokenize.COMMENT}


def check(schema: Schema, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values as a notebook may take them; whole numbers are accepted where a float is asked for.

    Raises InputErrors naming every unknown parameter and every value of the wrong type.
    """
    return _each(schema, values, where, _checked)


def convert(schema: Schema, texts: Mapping[str, str], where: str) -> dict[str, Any]:
    """Values of texts from a command line, read by the schema's types and never run as code.

    Raises InputErrors naming every unknown parameter and every text that is no such value.
    """
    return _each(schema, texts, where, lambda text, kind: from_text(text, kind))


def require_text(arguments: Sequence[str]) -> None:
    """Raise InputError for an argument that is no text: no page, table or JSON file can be written with it."""
    for argument in arguments:
        if has_surrogates(argument):
            raise InputError(
                "command line", ascii(argument)[:120], "text in UTF-8", "Rename the file, or set a UTF-8 locale."
            )


def _checked(value: Any, kind: Kind) -> Any:
    if not fits(value, kind):
        raise ValueError(f"{value!r} ({type(value).__name__})")
    return float(value) if kind.name == "float" and isinstance(value, int) else value


def _each(schema: Schema, given: Mapping[str, Any], where: str, take: Callable[[Any, Kind], Any]) -> dict[str, Any]:
    values, errors = {}, []
    for name, raw in given.items():
        if name not in schema:
            errors.append(_unknown(schema, name, where))
            continue
        try:
            values[name] = take(raw, schema[name].kind)
        except ValueError as error:
            remedy = f"{schema[name].help[:1].upper()}{schema[name].help[1:]}." if schema[name].help else "Change it."
            errors.append(InputError(f"{where}, parameter {name!r}", str(error), schema[name].kind.words, remedy))
    raise_if_any(errors)
    return values


def _unknown(schema: Schema, name: str, where: str) -> InputError:
    close = difflib.get_close_matches(name, schema, n=1)
    remedy = f"Did you mean {close[0]!r}?" if close else f"The notebook has: {', '.join(schema) or 'none'}."
    return InputError(where, f"unknown parameter {name!r}", "a name from its parameters cell", remedy)
