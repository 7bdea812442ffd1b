"""Python is started in one way, and no file of the present folder is executed in place of a module."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat import v4, write
from stub_modules import stub_folder

import cirrnb
from cirrnb.data.interpreter import python_command

PACKAGE = Path(cirrnb.__file__).parent
RUN_NOTEBOOK = """
import sys
from pathlib import Path
from cirrnb.run.execution import run_notebook
run_notebook(Path(sys.argv[1]), Path(sys.argv[2]), {})
"""
RUN_WORKER = """
from cirrnb.data.workers import Worker
worker = Worker("cirrnb.data.workers")
print(worker._process.stdout.readline())
worker._process.kill()
"""
RUN_WARM = """
import os, sys
from pathlib import Path
from cirrnb.run.execution import run_notebook
from cirrnb.run.warm import ADDRESS, warm_kernels
if sys.argv[3] == "gone":
    os.environ[ADDRESS] = "/nowhere"
    run_notebook(Path(sys.argv[1]), Path(sys.argv[2]), {})
else:
    with warm_kernels(["json"], 1) as environment:
        os.environ.update(environment)
        run_notebook(Path(sys.argv[1]), Path(sys.argv[2]), {})
"""


def starts_safely(node: ast.AST) -> bool:
    """`[sys.executable, "-P", ...]`, for a file that runs without the package."""
    values = node.elts[:2] if isinstance(node, ast.List | ast.Tuple) else []
    return len(values) == 2 and ast.unparse(values[0]) == "sys.executable" and ast.unparse(values[1]) == "'-P'"


def test_python_is_started_in_one_place_only() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = path.relative_to(PACKAGE).as_posix()
        uses = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "executable"]
        if name == "run/relay.py":  # a file that runs without site packages; os.execv names the program once more
            uses = [] if len(uses) == 2 and any(map(starts_safely, ast.walk(tree))) else uses
        found += [f"{name}:{node.lineno}" for node in uses if name != "data/interpreter.py"]
    assert found == []
    assert python_command("-c", "pass")[:2] == [sys.executable, "-P"]


@pytest.mark.parametrize(
    ("code", "how"),
    [(RUN_NOTEBOOK, ""), (RUN_WORKER, ""), (RUN_WARM, "there"), (RUN_WARM, "gone")],
    ids=["a cold kernel", "a worker", "a warm kernel", "the kernel in place of a warm one"],
)
def test_no_file_of_the_present_folder_is_executed(tmp_path: Path, code: str, how: str) -> None:
    folder = tmp_path / "present"
    executed = stub_folder(folder)
    tagged = v4.new_code_cell("", metadata={"tags": ["parameters"]})
    write(v4.new_notebook(cells=[tagged, v4.new_code_cell("import random, pandas")]), tmp_path / "case.ipynb")
    command = python_command("-c", code, str(tmp_path / "case.ipynb"), str(tmp_path / "out.ipynb"), how)
    startup = {"PYTHONSTARTUP": "ipython_config.py"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **startup})
    assert done.returncode == 0, done.stderr
    assert not executed.exists(), executed.read_text()
