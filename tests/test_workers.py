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
from cirrnb.data.workers import python_command

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


def test_python_is_started_in_one_place_only() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = path.relative_to(PACKAGE).as_posix()
        uses = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "executable"]
        found += [f"{name}:{node.lineno}" for node in uses if name != "data/workers.py"]
    assert found == []
    assert python_command("-c", "pass")[:2] == [sys.executable, "-P"]


@pytest.mark.parametrize("code", [RUN_NOTEBOOK, RUN_WORKER], ids=["a kernel", "a worker"])
def test_no_file_of_the_present_folder_is_executed(tmp_path: Path, code: str) -> None:
    folder = tmp_path / "present"
    executed = stub_folder(folder)
    tagged = v4.new_code_cell("", metadata={"tags": ["parameters"]})
    write(v4.new_notebook(cells=[tagged, v4.new_code_cell("import random, pandas")]), tmp_path / "case.ipynb")
    command = python_command("-c", code, str(tmp_path / "case.ipynb"), str(tmp_path / "out.ipynb"))
    startup = {"PYTHONSTARTUP": "ipython_config.py"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **startup})
    assert done.returncode == 0, done.stderr
    assert not executed.exists(), executed.read_text()
