"""The registry of attribution methods. A function below `@attribution_method(...)` is a method, in `gradient_methods`,
`activation_methods` or a plug-in: nothing else is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch

from cirrnb.data.errors import InputError
from cirrnb.data.plugins import Registry
from cirrnb.explanation.score import PatientScore


@dataclass(frozen=True)
class Request:
    """What a method is asked.

    Attributes
    ----------
    score : what is explained; `score.slices` are the patient's own (1, slices, rows, columns).
    baseline : (baselines, slices, rows, columns) to compare with; None for a method that compares with nothing.
    settings : the method's own, its defaults filled in.
    seed : of everything that is drawn.
    """

    score: PatientScore
    baseline: torch.Tensor | None
    settings: Mapping[str, Any]
    seed: int = 0


@dataclass(frozen=True)
class Attributed:
    """What a method answers.

    Attributes
    ----------
    maps : (slices, rows, columns) float32, what each pixel adds to the score, or how much it matters.
    delta : sum of the maps less what they should sum to, in units of the score; None for a method without such a sum.
    """

    maps: torch.Tensor
    delta: float | None = None


Run = Callable[[Request], Attributed]


@dataclass(frozen=True)
class Method:
    """One way to attribute.

    Attributes
    ----------
    name, label : as code and as people call it.
    run : does it.
    signed : negative values speak against the score; else the maps tell only how much a place matters.
    compares : needs a baseline.
    several : can compare with several baselines at once.
    settings : its own settings with their defaults.
    quick : settings that give a rougher map for less, for tests that make many.
    signs_only : explains a sign, and not the stage.
    passes : how many passes through the network it makes with some settings and a (slices, rows, columns) shape, for
        a progress bar.
    source : where it was published.
    """

    name: str
    label: str
    run: Run
    signed: bool
    compares: bool
    source: str
    several: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    signs_only: bool = False
    passes: Callable[[Mapping[str, Any], tuple[int, ...]], int] = lambda settings, shape: 1


OWN_MODULES = ("cirrnb.explanation.gradient_methods", "cirrnb.explanation.activation_methods")

METHODS: Registry[Method] = Registry("method")
"""name -> method; those of `OWN_MODULES` are there once `methods` was called."""


def attribution_method(*, name: str, **fields: Any) -> Callable[[Run], Run]:
    """A decorator that makes a function a method; `name` and `fields` are those of `Method` but `run`.

    Raises ValueError for a name that is taken, TypeError for an unknown field.
    """

    def add(run: Run) -> Run:
        METHODS.register(name, run.__module__)(Method(name=name, run=run, **fields))
        return run

    return add


def methods() -> dict[str, Method]:
    """All methods by name, those of plug-ins behind the package's own."""
    for module in OWN_MODULES:
        import_module(module)
    return {
        name: METHODS[name]
        for name in sorted(METHODS, key=lambda name: (METHODS[name].run.__module__ not in OWN_MODULES, name))
    }


def stage_method_named(name: str) -> Method:
    """A method that explains the stage. Raises InputError for any other."""
    known = [method_name for method_name, method in methods().items() if not method.signs_only]
    if name not in known:
        problem = f"{name!r}, which explains signs alone" if name in methods() else repr(name)
        raise InputError("method", problem, f"one of {sorted(known)}", "Choose one of these.")
    return methods()[name]


def method_named(name: str) -> Method:
    """Raises InputError for a method that does not exist."""
    if name not in methods():
        raise InputError("method", repr(name), f"one of {sorted(methods())}", "Choose one of these.")
    return methods()[name]
