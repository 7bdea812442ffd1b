"""The command line: options from the notebooks, plain words for mistakes, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import cirrnb
from cirrnb import cli
from cirrnb.run.execution import find_notebook
from cirrnb.run.options import SOME_SKIPPED
from cirrnb.run.parameters import read_schema

PROGRAM = [sys.executable, "-c", "from cirrnb.cli import main; main()"]


def cirrnb_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    cells = [
        nbformat.v4.new_code_cell(
            'text: str = ""\nnumber: float = 1.0\nfail: bool = False', metadata={"tags": ["parameters"]}
        ),
        nbformat.v4.new_code_cell("import json; print(json.dumps([text, number]))\nassert not fail, 'as asked'"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "story.ipynb")
    return tmp_path / "story.ipynb"


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the commands would have run."""
    calls: list[Any] = []
    monkeypatch.setattr(cli, "_run", lambda *arguments: calls.append(arguments))
    return calls


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments))


def test_a_notebook_runs_with_its_parameters_and_leaves_a_page(story: Path) -> None:
    text = "a=b {c} 'd' \"e\"\n-f"
    done = cirrnb_command("run", "story.ipynb", "-p", "text", text, "-p", "number", "-2", cwd=story.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "The page: reports/story/story.html"
    executed = nbformat.read(story.parent / "reports/story/story.ipynb", as_version=4)
    assert json.loads(executed.cells[-1].outputs[0].text) == [text, -2.0]


def test_a_failing_notebook_is_told_in_plain_words(story: Path) -> None:
    done = cirrnb_command("run", "story.ipynb", "-p", "fail", "true", "--out", "here", cwd=story.parent)
    assert done.returncode == 1
    assert "cirrnb: story, cell 2: AssertionError: as asked" in done.stderr
    assert "Traceback" not in done.stderr
    assert "here/story.failed.ipynb" in done.stderr and (story.parent / "here/story.failed.ipynb").exists()


def test_wrong_input_ends_with_code_2_and_debug_shows_where(story: Path) -> None:
    done = cirrnb_command("run", "story.ipynb", "-p", "numbr", "3", cwd=story.parent)
    assert done.returncode == 2
    assert "Did you mean 'number'?" in done.stderr and "Traceback" not in done.stderr
    debugged = cirrnb_command("--debug", "run", "story.ipynb", "-p", "numbr", "3", cwd=story.parent)
    assert debugged.returncode != 0 and "Traceback" in debugged.stderr


def test_a_cohort_that_is_not_there_is_wrong_input(tmp_path: Path) -> None:
    done = cirrnb_command("prepare", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["-p", "epochs", "5"], {"epochs": 5}),
        (["-p", "epochs=5", "-p", "spacing", "3"], {"epochs": 5, "spacing": 3.0}),
        (["--parameter", "cohort", "-p"], {"cohort": "-p"}),
        (["-p", "cohort", "a=b"], {"cohort": "a=b"}),
        ([], {}),
    ],
)
def test_pairs_are_parameters(called: list[Any], arguments: list[str], given: dict[str, Any]) -> None:
    done = invoke("run", "02_train", *arguments)
    assert done.exit_code == 0, done.output
    assert called == [(find_notebook("02_train"), given, None, None)]


@pytest.mark.parametrize("arguments", [["-p", "epochs"], ["-p"]])
def test_a_pair_without_a_value_is_refused(called: list[Any], arguments: list[str]) -> None:
    assert invoke("run", "02_train", *arguments).exit_code == 2
    assert not called


def test_aliases_take_the_notebook_s_parameters(called: list[Any]) -> None:
    done = invoke(
        "train", "--cohort", "X", "--epochs", "5", "--learning-rate", "1e-3", "--split", "official", "--out", "page"
    )
    assert done.exit_code == 0, done.output
    [(source, given, out, timeout)] = called
    assert (source, out, timeout) == (find_notebook("02_train"), Path("page"), None)
    assert given == {"cohort": "X", "epochs": 5, "learning_rate": 0.001, "split": "official"}


@pytest.mark.parametrize(("alias", "notebook"), [("train", "02_train"), ("evaluate", "03_evaluate")])
def test_the_help_of_an_alias_lists_every_parameter(alias: str, notebook: str) -> None:
    said = " ".join(invoke(alias, "--help").output.split())
    for parameter in read_schema(find_notebook(notebook)).values():
        assert f"--{parameter.name.replace('_', '-')} " in said
        assert parameter.help and parameter.help[1:30] in said
    assert "[default: 72]" in said or alias != "train"


@pytest.mark.parametrize(
    ("arguments", "word"), [(["--epochs", "many"], "whole number"), (["--split", "kfold"], "one of official, random")]
)
def test_an_alias_refuses_what_the_schema_refuses(called: list[Any], arguments: list[str], word: str) -> None:
    done = invoke("train", *arguments)
    assert isinstance(done.exception, ValueError) and word in str(done.exception)
    assert not called


def test_prepare_refuses_settings_that_make_no_sense(tmp_path: Path) -> None:
    done = invoke("prepare", str(tmp_path), "--spacing", "100")
    assert done.exit_code == 2 and "spacing" in done.output


def test_prepare_goes_on_past_a_broken_row_and_a_broken_scan_and_says_so(tmp_path: Path) -> None:
    values = np.zeros((37, 38, 39), np.int16)
    values[8:30, 9:31, 10:32] = 100 + np.arange(22)
    nib.save(nib.Nifti1Image(values, np.diag((-8.0, -8.0, 8.0, 1.0))), tmp_path / "good.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"not a scan")
    (tmp_path / "mine.csv").write_text(
        "patient,sequence,image,stage\n1,T1W,good.nii.gz,mild\n2,T1W,broken.nii.gz,mild\n3,T2W,good.nii.gz,4\n"
    )
    done = invoke(
        "prepare", str(tmp_path / "mine.csv"), "--view", "abdomen", "--out", str(tmp_path / "out"), "--workers", "1"
    )
    assert done.exit_code == SOME_SKIPPED
    assert "1 scans prepared" in done.output
    assert "line 4" in done.output and "mine/2 T1W: broken.nii.gz: found a file that is not NIfTI" in done.output


def test_the_version_is_told() -> None:
    done = invoke("--version")
    assert (done.exit_code, done.output) == (0, f"cirrnb {cirrnb.__version__}\n")


def test_files_that_cannot_be_written_are_a_failure_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: Any) -> None:
        raise PermissionError(13, "Permission denied", "reports")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["cirrnb", "demo"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    assert "Permission denied" in capsys.readouterr().err


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(KeyError):
        cli.main()


def test_a_stray_setting_of_progress_bars_ends_no_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "simulate", "made", "--patients", "1", "--scale", "tiny", "--healthy", "0"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TQDM_MININTERVAL": "abc", "TQDM_NCOLS": "x"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_a_trained_stager_has_one_name_in_every_command_and_notebook():
    """`run` names the folder that a training writes, and nothing else."""
    taking = {}
    for command in typer.main.get_command(cli.app).commands.values():
        for option in command.params:
            if {"--run", "--model"} & set(option.opts):
                taking[command.name] = option.opts
    assert {name for name, flags in taking.items() if "--run" in flags} <= {"train"}
    assert {"explore", "report", "evaluate", "validate", "export", "adapt"} <= set(taking)
    for path in find_notebook("02_train").parent.glob("*.ipynb"):
        names = set(read_schema(path))
        assert "run" not in names or path.stem == "02_train", path.name


def commands() -> dict[str, Any]:
    return dict(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def test_every_command_and_option_has_a_help_text_and_a_kind_of_value() -> None:
    for name, command in commands().items():
        assert command.help, name
        for option in command.params:
            assert option.help or option.name == "help", (name, option.name)
            if option.param_type_name == "option" and not option.is_flag:
                assert option.metavar and option.metavar.strip("<") == option.metavar, (name, option.name)


def test_options_of_one_meaning_have_one_name() -> None:
    named = {
        (command, option)
        for command, found in commands().items()
        for parameter in found.params
        for option in parameter.opts
    }
    assert {(name, "--bodies-in") for name in ("train-segmenter", "train-simulated", "fit-checks")} <= named
    assert {(name, "--patient") for name in ("report", "explore", "export")} <= named


def test_prepare_makes_what_the_model_of_the_package_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cirrnb.model.settings import TrainingSettings
    from cirrnb.model.trained_model import load_model

    asked: list[Any] = []

    def prepared(people: Any, out: Path, settings: Any, workers: int | None) -> Any:
        asked.extend((out, settings))
        failures = pd.DataFrame({"subject": [], "sequence": [], "reason": []})
        return type("Nothing", (), {"failures": failures, "__len__": lambda self: 0})()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cirrnb, "prepare", prepared, raising=False)
    monkeypatch.setattr(cirrnb, "read_cohort", lambda path, **_: type("People", (), {"name": "mine", "problems": ()})())
    assert invoke("prepare", "cohorts/mine").exit_code == 0
    assert asked[0] == Path("prepared/mine")
    assert asked[1] == load_model("shipped").preparation == TrainingSettings.preparation("demo")
