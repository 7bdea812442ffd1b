"""`cirrnb learn`: the course on a page of its own, served by Voila to this machine alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cirrnb
from cirrnb.run.explore import PORT, serve
from cirrnb.run.notebooks import find_notebook
from cirrnb.run.parameters import check, read_schema

NOTEBOOK = "00_learn_staging"


def learn(
    parameters: dict[str, Any], *, port: int = PORT, browser: bool = True, tell: Callable[[str], None] = print
) -> int:
    """Serve the course until it is interrupted; Voila's exit code.

    The patients of the quiz are simulated before anything is served, once.

    Parameters
    ----------
    parameters : of the notebook `00_learn_staging`. port : on this machine; 0 takes a free one.

    Raises InputError or InputErrors where a parameter is wrong, the folder of the patients holds something else, or
    the port is taken.
    """
    source = find_notebook(NOTEBOOK)
    schema = read_schema(source)
    given = check(schema, parameters, source.stem)
    values = {name: given.get(name, parameter.default) for name, parameter in schema.items()}
    tell("Simulating the patients of the quiz, about a minute; what is there already is kept.")
    cirrnb.simulate_cohort(
        values["cohort"], patients=values["cases"], seed=values["seed"], scale=values["scale"], healthy=0
    )
    return serve(source, values, "The course", port=port, browser=browser, tell=tell)
