"""Notebooks executed in a kernel of our own: parameters arrive, failures are told in plain words."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest

from cirrnb.data.errors import InputErrors
from cirrnb.run.execution import NotebookError, find_notebook, packaged_notebooks, run_notebook

PARAMETERS = 'text: str = "default"\ncount: int = 1\nnumbers: list[float] = []\nflag: bool | None = None'
NASTY = '{text} {} {{x}} \'single\' "double" \\n back\\slash\nline\ttab ü 肝 \U0001f9ea """ # %s'


def notebook(folder: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    new = nbformat.v4.new_notebook()
    new.cells = [
        nbformat.v4.new_markdown_cell("# A notebook"),
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_markdown_cell("## The part that computes"),
        *(nbformat.v4.new_code_cell(cell) for cell in cells),
    ]
    path = folder / "story.ipynb"
    nbformat.write(new, path)
    return path


def printed(executed: Path) -> list[str]:
    cells = nbformat.read(executed, as_version=4).cells
    return [output.text for cell in cells for output in cell.get("outputs", []) if output.output_type == "stream"]


def test_parameters_arrive_unchanged_in_the_interpreter_that_runs_us(tmp_path: Path) -> None:
    source = notebook(
        tmp_path,
        "import json, os, sys",
        "print(json.dumps([text, count, numbers, flag]))",
        "print(sys.executable)",
        "print(os.getcwd())",
        "import plotly.io; print(plotly.io.renderers.default)",
    )
    (tmp_path / "json.py").write_text("raise RuntimeError('a file of the folder shadows a module')")
    out = run_notebook(
        source,
        tmp_path / "with {braces}" / "out.ipynb",
        {"text": NASTY, "count": -3, "numbers": [1, 2.5e-7], "flag": None},
        cwd=tmp_path,
    )
    values, executable, folder, renderer = printed(out)
    assert json.loads(values) == [NASTY, -3, [1.0, 2.5e-7], None]
    assert executable.strip() == sys.executable
    assert folder.strip() == str(tmp_path)
    assert renderer.strip() == "plotly_mimetype"
    assert [path.name for path in out.parent.iterdir()] == ["out.ipynb"]
    assert str(tmp_path) not in json.dumps(nbformat.read(out, as_version=4).metadata)


def test_without_parameters_the_defaults_stand(tmp_path: Path) -> None:
    out = run_notebook(notebook(tmp_path, "print(text, count)"), tmp_path / "out.ipynb")
    assert printed(out) == ["default 1\n"]


def test_wrong_parameters_stop_the_run_before_it_starts(tmp_path: Path) -> None:
    source = notebook(tmp_path, "raise SystemError('never reached')")
    with pytest.raises(InputErrors, match="Did you mean 'count'"):
        run_notebook(source, tmp_path / "reports" / "out.ipynb", {"counts": 3})
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("cell", "message", "wrong_input"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero", False),
        (
            "from cirrnb.data.errors import InputError\nraise InputError('a.csv', 'no rows', 'rows', 'Add some.')",
            "a.csv: found no rows; expected rows. Add some.",
            True,
        ),
        (
            "from cirrnb.data.prepared import PreparationSettings\nPreparationSettings(spacing=0.0001)",
            "spacing is a number from",
            True,
        ),
        (
            "from cirrnb.data.status import Refused\nraise Refused('a/1', 'no liver', 'a liver', 'Look.')",
            "a/1: found no liver",
            True,
        ),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "want of memory", False),
        ("import time\ntime.sleep(60)", "longer than the 3 s allowed", False),
    ],
    ids=["error", "wrong input", "out of bounds", "refused", "killed", "too long"],
)
def test_a_failure_names_notebook_cell_and_reason(tmp_path: Path, cell: str, message: str, wrong_input: bool) -> None:
    out = tmp_path / "out.ipynb"
    out.write_text("an earlier, good run")
    with pytest.raises(NotebookError) as caught:
        run_notebook(notebook(tmp_path, "print('so far')", cell), out, {"count": 2}, timeout=3)
    error = caught.value
    assert (error.notebook, error.wrong_input) == ("story", wrong_input)
    assert error.cell == 'cell 3 under "The part that computes"'
    assert message in error.message and "Traceback" not in str(error)
    assert error.kept == tmp_path / "out.failed.ipynb"
    assert "so far\n" in printed(error.kept)
    assert out.read_text() == "an earlier, good run"
    assert {path.name for path in tmp_path.iterdir()} == {"story.ipynb", "out.ipynb", "out.failed.ipynb"}


def test_a_good_run_clears_the_failed_one_away(tmp_path: Path) -> None:
    (tmp_path / "out.failed.ipynb").write_text("{}")
    run_notebook(notebook(tmp_path, "pass"), tmp_path / "out.ipynb")
    assert not (tmp_path / "out.failed.ipynb").exists()


@pytest.mark.slow
def test_runs_side_by_side_do_not_meet(tmp_path: Path) -> None:
    source = notebook(tmp_path, "import time; time.sleep(1); print(count)")
    script = "import sys; from cirrnb.run.execution import run_notebook as run; from pathlib import Path; "
    script += "run(sys.argv[1], Path(sys.argv[2]), {'count': int(sys.argv[3])})"
    outs = [tmp_path / f"{number}.ipynb" for number in range(6)]
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(source), str(out), str(number)])
        for number, out in enumerate(outs)
    ]
    assert [process.wait(timeout=120) for process in running] == [0] * 6
    assert [printed(out) for out in outs] == [[f"{number}\n"] for number in range(6)]


@pytest.mark.slow
def test_a_kernel_does_not_outlive_a_run_that_was_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    source = notebook(tmp_path, "import os, time\nopen(text, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    script = "import sys; from cirrnb.run.execution import run_notebook as run; from pathlib import Path; "
    script += "run(sys.argv[1], Path(sys.argv[2]), {'text': sys.argv[3]})"
    run = subprocess.Popen([sys.executable, "-c", script, str(source), str(tmp_path / "out.ipynb"), str(told)])
    wait_until(lambda: told.exists() and bool(told.read_text()))
    kernel = psutil.Process(int(told.read_text()))
    run.kill()
    run.wait()
    wait_until(lambda: not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE)
    assert not (tmp_path / "out.ipynb").exists()


def wait_until(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def test_notebooks_are_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = notebook(tmp_path, "pass")
    assert find_notebook(mine) == mine
    monkeypatch.chdir(tmp_path)
    assert find_notebook("story.ipynb") == Path("story.ipynb")
    for name, path in packaged_notebooks().items():
        assert find_notebook(name) == path
    with pytest.raises(ValueError, match="no such notebook"):
        find_notebook("no/such/01_cohort")
