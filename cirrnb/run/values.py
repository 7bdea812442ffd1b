"""The plain values a notebook's parameters may take, and how each is read from the text of a command line."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass, replace
from typing import Any

from cirrnb.data.errors import InputError
from cirrnb.data.json_file import has_surrogates, parse_json

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
        one = f"one of {', '.join(map(str, self.choices))}" if self.choices else _NOUNS[self.name]
        listed = f"a list, each {one}" if self.many else one
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
        return isinstance(value, list) and all(fits(one, replace(kind, many=False, optional=False)) for one in value)
    if isinstance(value, bool) != (kind.name == "bool"):
        return False
    wanted = (int, float) if kind.name == "float" else _TYPES[kind.name]
    if not isinstance(value, wanted) or (isinstance(value, float) and not math.isfinite(value)):
        return False
    if isinstance(value, str) and has_surrogates(value):
        return False
    return not kind.choices or value in kind.choices


def from_text(text: str, kind: Kind) -> Any:
    """The value that a text from the command line stands for. Raises ValueError quoting the text where it is none.

    A list is written `a,b,c`, or as JSON where an element holds a comma; None is written `none`. Text stays what it is,
    with its quotes, braces and line ends.
    """
    if kind.optional and text.strip().lower() == "none":
        return None
    if kind.many:
        return _list_from_text(text, kind)
    value = _one_from_text(text, kind.name)
    if not fits(value, kind):
        raise ValueError(repr(text))
    return value


def _list_from_text(text: str, kind: Kind) -> list[Any]:
    one = replace(kind, many=False, optional=False)
    if not text.lstrip().startswith("["):
        return [from_text(part.strip(), one) for part in text.split(",")] if text.strip() else []
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
