"""A notebook's parameters cell as a strict schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirrnb.data.errors import InputError, InputErrors
from cirrnb.run.execution import find_notebook
from cirrnb.run.parameters import Kind, check, convert, fits, from_text, parse_schema, read_schema

CELL = '''
"""What a run may set."""
cohort: str | None = None  # folder of the cohort; none makes a simulated one
epochs: int = 12  # passes over the training patients

learning_rate = 2e-3
margin: float = -1.5
balanced: bool = False  # weigh stages equally
sequences: list[str] = ["T1W", "T2W"]  # which to read
split: Literal["official", "random"] = "random"
folds: list[int] = [
    0,
    1,  # not the help
]  # which folds
name = "a # b"
'''


@pytest.fixture
def schema():
    return parse_schema(CELL, "nb.ipynb")


def test_the_cell_gives_names_types_defaults_and_help(schema) -> None:
    assert list(schema) == [
        "cohort",
        "epochs",
        "learning_rate",
        "margin",
        "balanced",
        "sequences",
        "split",
        "folds",
        "name",
    ]
    assert schema["cohort"].kind == Kind("str", optional=True)
    assert schema["cohort"].help == "folder of the cohort; none makes a simulated one"
    assert schema["epochs"].kind == Kind("int") and schema["epochs"].default == 12
    assert schema["learning_rate"].kind == Kind("float") and schema["learning_rate"].help == ""
    assert schema["margin"].default == -1.5
    assert schema["sequences"].kind == Kind("str", many=True)
    assert schema["split"].kind == Kind("str", choices=("official", "random"))
    assert schema["folds"].kind == Kind("int", many=True) and schema["folds"].help == "which folds"
    assert schema["name"].default == "a # b" and schema["name"].help == ""


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("epochs: int = 2 * 3", "2 * 3"),
        ("epochs: int = many", "many"),
        ("epochs: int", "epochs: int"),
        ("import os", "import os"),
        ("a = b = 1", "a = b = 1"),
        ("print(1)", "print(1)"),
        ("epochs: int = 'x'", "epochs = 'x'"),
        ("epochs: int = True", "epochs = True"),
        ("epochs: int = None", "epochs = None"),
        ("x: dict = {}", "annotation dict"),
        ("x = {}", "{}"),
        ("x: list[int | None] = []", "annotation list[int | None]"),
        ("x = [1, 'a']", "[1, 'a']"),
        ("x: float = 1e999", "x = inf"),
        ("x: int = 1\nx: int = 2", "parameter 'x' set twice"),
        ("x: = 3", "invalid syntax"),
        ("x = {[]: 1}", "{[]: 1}"),
    ],
)
def test_anything_but_plain_assignments_is_refused(cell: str, found: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_schema(cell, "nb.ipynb")
    assert found in str(caught.value)
    assert "nb.ipynb" in caught.value.where


def test_an_unknown_name_is_an_error_with_a_suggestion(schema) -> None:
    with pytest.raises(InputErrors) as caught:
        check(schema, {"epoch": 3, "epochs": "three", "quux": 1}, "nb")
    message = str(caught.value)
    assert "3 problems" in message
    assert "unknown parameter 'epoch'" in message and "Did you mean 'epochs'?" in message
    assert "'three' (str); expected a whole number" in message and "Passes over the training patients." in message
    assert "'quux'" in message and "cohort, epochs" in message


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("epochs", 3, 3),
        ("learning_rate", 1, 1.0),
        ("cohort", None, None),
        ("cohort", "x", "x"),
        ("sequences", [], []),
        ("split", "official", "official"),
        ("balanced", True, True),
    ],
)
def test_values_of_the_right_type_pass(schema, name: str, value: object, taken: object) -> None:
    [(_, got)] = check(schema, {name: value}, "nb").items()
    assert got == taken and type(got) is type(taken)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 3.0),
        ("epochs", True),
        ("epochs", None),
        ("learning_rate", float("nan")),
        ("learning_rate", "0.1"),
        ("balanced", 1),
        ("balanced", "true"),
        ("sequences", "T1W"),
        ("sequences", [1]),
        ("sequences", ("T1W",)),
        ("split", "kfold"),
        ("name", Path("x")),
        ("folds", [True]),
    ],
)
def test_values_of_another_type_are_refused(schema, name: str, value: object) -> None:
    with pytest.raises(InputErrors):
        check(schema, {name: value}, "nb")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "5", 5),
        ("epochs", " -5 ", -5),
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", "3", 3.0),
        ("balanced", "Yes", True),
        ("balanced", "0", False),
        ("cohort", "none", None),
        ("cohort", "None", None),
        ("name", "none", "none"),
        ("name", "", ""),
        ("sequences", "T1W, T2W", ["T1W", "T2W"]),
        ("sequences", "", []),
        ("sequences", '["a,b", "c"]', ["a,b", "c"]),
        ("folds", "[1, 2]", [1, 2]),
        ("split", "official", "official"),
    ],
)
def test_texts_become_values(schema, name: str, text: str, value: object) -> None:
    [(_, got)] = convert(schema, {name: text}, "nb").items()
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("epochs", "5.0"),
        ("epochs", "1_000"),
        ("epochs", "none"),
        ("epochs", "__import__('os').getpid()"),
        ("epochs", "9" * 5000),
        ("epochs", "٣"),
        ("learning_rate", "nan"),
        ("learning_rate", "1e999"),
        ("balanced", "2"),
        ("folds", "1,x"),
        ("folds", "[1, 'x'"),
        ("folds", "[1.5]"),
        ("split", "Official"),
    ],
)
def test_texts_that_are_no_such_value_are_refused(schema, name: str, text: str) -> None:
    with pytest.raises(InputErrors):
        convert(schema, {name: text}, "nb")


@given(st.text())
def test_text_stays_what_it_is(text: str) -> None:
    assert from_text(text, Kind("str")) == text


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_a_json_list_comes_back(values: list[float]) -> None:
    assert from_text(json.dumps(values), Kind("float", many=True)) == values


@given(st.text(), st.sampled_from(["int", "float", "bool"]))
def test_no_text_breaks_the_conversion(text: str, name: str) -> None:
    kind = Kind(name, optional=True)
    try:
        assert fits(from_text(text, kind), kind)
    except ValueError as error:
        assert repr(text) in str(error)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no such file"),
        ("hello", "no notebook"),
        ("[]", "no notebook"),
        ("{}", "no notebook"),
        ('{"nbformat": 3, "cells": []}', "no notebook"),
        ('{"nbformat": 4, "cells": []}', "no cell tagged 'parameters'"),
        (
            json.dumps({"nbformat": 4, "cells": [{"source": "", "metadata": {"tags": ["parameters"]}}] * 2}),
            "2 cells tagged 'parameters'",
        ),
    ],
)
def test_a_file_without_one_parameters_cell_is_refused(tmp_path: Path, content: str | None, found: str) -> None:
    notebook = tmp_path / "nb.ipynb"
    if content is not None:
        notebook.write_text(content)
    with pytest.raises(InputError, match=r"nb\.ipynb") as caught:
        read_schema(notebook)
    assert found in caught.value.found


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("https://me:secret@pacs/dicom-web", True),
        ("https://me@pacs", True),
        ("postgresql+psycopg://me:secret@host/db", True),
        ("https://pacs/dicom-web", False),
        ("someone@host", False),
        ("cohorts/a@b", False),
    ],
)
def test_an_address_with_a_password_is_refused_before_it_is_written(address, refused):
    schema = read_schema(find_notebook("08_cohort_report"))
    for take in (check, convert):
        if refused:
            with pytest.raises(InputErrors) as told:
                take(schema, {"cohort": address}, "08_cohort_report")
            assert "secret" not in str(told.value)
        else:
            assert take(schema, {"cohort": address}, "08_cohort_report") == {"cohort": address}
