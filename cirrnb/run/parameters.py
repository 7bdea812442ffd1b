"""A notebook's `parameters` cell is its schema: names, types, defaults and help all come from there.

The cell is read as text and never run. Papermill itself only warns of an unknown name and takes any value; here both
stop the run before a kernel is started.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import math
import re
import tokenize
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cirrnb.data.errors import InputError, raise_if_any
from cirrnb.data.json_file import has_surrogates, parse_json, read_text

_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_NOUNS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Kind:
    """What values a parameter takes.

    Attributes
    ----------
    name : "int", "float", "str" or "bool".
    many : True for a list of them.
    optional : True if None is a value too.
    choices : the only values allowed, or () for any.
    """

    name: str
    many: bool = False
    optional: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def words(self) -> str:
        """What messages call such a value."""
        noun = f"one of {', '.join(map(str, self.choices))}" if self.choices else _NOUNS[self.name]
        listed = f"a list, each {noun}" if self.many else noun
        return f"{listed}, or none" if self.optional else listed

    @classmethod
    def from_default(cls, default: Any, where: str) -> Kind:
        """The kind of an assignment without annotation. Raises InputError for a dict, a set and the like."""
        if default is None:
            return cls("str", optional=True)
        if isinstance(default, list):
            names = {type(value).__name__ for value in default} or {"str"}
            if len(names) == 1 and names <= _TYPES.keys():
                return cls(names.pop(), many=True)
        elif type(default).__name__ in _TYPES:
            return cls(type(default).__name__)
        raise InputError(
            where, repr(default), "int, float, str, bool, a list of one of these, or None", "Use a plainer value."
        )

    @classmethod
    def from_annotation(cls, annotation: ast.expr, where: str) -> Kind:
        """The kind that `int`, `list[str]`, `float | None`, `Literal["a", "b"]` names; InputError for any other."""
        match annotation:
            case ast.Name(id=name) if name in _TYPES:
                return cls(name)
            case ast.Name(id="list"):
                return cls("str", many=True)
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                return replace(cls.from_annotation(left, where), optional=True)
            case ast.Subscript(value=ast.Name(id="list"), slice=element):
                inner = cls.from_annotation(element, where)
                if not inner.many and not inner.optional:
                    return replace(inner, many=True)
            case ast.Subscript(value=ast.Name(id="Literal"), slice=element):
                choices = element.elts if isinstance(element, ast.Tuple) else [element]
                values = tuple(choice.value for choice in choices if isinstance(choice, ast.Constant))
                names = {type(value).__name__ for value in values}
                if len(values) == len(choices) and len(names) == 1 and names <= _TYPES.keys():
                    return cls(names.pop(), choices=values)
        raise InputError(
            where,
            f"annotation {ast.unparse(annotation)}",
            "int, float, str, bool, list[...], Literal[...] or one of these with `| None`",
            "Use a plainer type.",
        )


def fits(value: Any, kind: Kind) -> bool:
    """True if a Python value is of the kind.

    True is no whole number, 3 is a float, nan is none, and a text with half a character (a lone surrogate) is no text.
    """
    if value is None:
        return kind.optional
    if kind.many:
        return isinstance(value, list) and all(fits(item, replace(kind, many=False, optional=False)) for item in value)
    if isinstance(value, bool) != (kind.name == "bool"):
        return False
    wanted = (int, float) if kind.name == "float" else _TYPES[kind.name]
    if not isinstance(value, wanted) or (isinstance(value, float) and not math.isfinite(value)):
        return False
    if isinstance(value, str) and has_surrogates(value):
        return False
    return not kind.choices or value in kind.choices


def from_text(text: str, kind: Kind) -> Any:
    """The value of a text from the command line. Raises ValueError that quotes a text without one.

    A list is written `a,b,c`, or as JSON where an element holds a comma; None is written `none`. Text stays what it is,
    with its quotes, braces and line ends.
    """
    if kind.optional and text.strip().lower() == "none" and "none" not in kind.choices:
        return None
    if kind.many:
        return _list_from_text(text, kind)
    value = _one_from_text(text, kind.name)
    if not fits(value, kind):
        raise ValueError(repr(text))
    return value


def _list_from_text(text: str, kind: Kind) -> list[Any]:
    item_kind = replace(kind, many=False, optional=False)
    if not text.lstrip().startswith("["):
        return [from_text(part.strip(), item_kind) for part in text.split(",")] if text.strip() else []
    try:
        values = parse_json(text)
    except ValueError:
        raise ValueError(f"{text!r}, which begins like a JSON list and is none") from None
    if not fits(values, replace(kind, optional=False)):
        raise ValueError(repr(text))
    return [float(value) for value in values] if kind.name == "float" else values


def _one_from_text(text: str, name: str) -> Any:
    if name == "str":
        return text
    plain = text.strip().lower()
    if name == "bool" and plain in _TRUTHS:
        return _TRUTHS[plain]
    # Written out, since int() and float() also take underscores, other scripts' digits, nan and infinity.
    if name == "int" and re.fullmatch(r"[+-]?[0-9]+", plain):
        return int(plain)
    if name == "float" and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", plain):
        return float(plain)
    raise ValueError(repr(text))


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
        if _holds_password(raw):
            # Values are written into notebooks and records: an address with a password goes no further.
            remedy = "Put user and password into ~/.netrc or the environment, and leave them out of the address."
            problem = "an address with a user or a password in it"
            errors.append(InputError(f"{where}, parameter {name!r}", problem, "an address without", remedy))
            continue
        try:
            values[name] = take(raw, schema[name].kind)
        except ValueError as error:
            remedy = f"{schema[name].help[:1].upper()}{schema[name].help[1:]}." if schema[name].help else "Change it."
            errors.append(InputError(f"{where}, parameter {name!r}", str(error), schema[name].kind.words, remedy))
    raise_if_any(errors)
    return values


_CREDENTIALS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s@]*@", re.IGNORECASE)


def _holds_password(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(item, str) and _CREDENTIALS.search(item) is not None for item in values)


def _unknown(schema: Schema, name: str, where: str) -> InputError:
    close = difflib.get_close_matches(name, schema, n=1)
    remedy = f"Did you mean {close[0]!r}?" if close else f"The notebook has: {', '.join(schema) or 'none'}."
    return InputError(where, f"unknown parameter {name!r}", "a name from its parameters cell", remedy)
