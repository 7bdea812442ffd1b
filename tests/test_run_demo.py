"""The demo keeps what is done, redoes what has changed, and touches nothing that is not its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cirrnb
from cirrnb.data.errors import InputError
from cirrnb.run import demo as module
from cirrnb.run import product_commands
from cirrnb.run.demo import demo

ALL = ["simulate", "01_cohort", "02_train", "03_evaluate"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The steps that were really done, each leaving what the real one does."""
    done: list[str] = []

    def simulate(out: Path, *, patients: int, seed: int) -> None:
        if out.exists():
            raise InputError(out, "a folder that is not empty", "a new folder", "Choose another.")
        done.append("simulate")
        out.mkdir(parents=True)
        (out / "SIMULATED.txt").write_text(f"{patients} {seed}")

    def run(source: Path, report: Path, parameters: dict[str, Any], *, cwd: Path, links: Any, echo: Any) -> None:
        assert cwd == tmp_path and not any(Path(str(value)).is_absolute() for value in parameters.values())
        done.append(source.stem)
        report.mkdir(parents=True, exist_ok=True)
        if source.stem == "02_train":
            run_folder = cwd / parameters["run"]
            assert not run_folder.exists(), "a stager trained otherwise is in the way"
            run_folder.mkdir(parents=True)
        for suffix in (".ipynb", ".html"):
            (report / f"{source.stem}{suffix}").write_text("")

    monkeypatch.setattr(cirrnb, "simulate_cohort", simulate, raising=False)
    monkeypatch.setattr(module, "run_and_publish", run)
    monkeypatch.setattr(module, "publish_index", lambda out, *_: out)
    return done


def steps(made: list[str], folder: Path, **settings: Any) -> list[str]:
    made.clear()
    index = demo(folder, tell=lambda _: None, **settings)
    assert index == folder / "reports/demo/index.html"
    return list(made)


def test_what_is_done_is_kept(made: list[str], tmp_path: Path) -> None:
    assert steps(made, tmp_path) == ALL
    assert steps(made, tmp_path) == []


def test_what_has_changed_is_done_again_with_what_follows(made: list[str], tmp_path: Path) -> None:
    steps(made, tmp_path)
    assert steps(made, tmp_path, epochs=3) == ["02_train", "03_evaluate"]
    assert steps(made, tmp_path, epochs=3, patients=20) == ALL
    assert (tmp_path / "cohorts/demo/SIMULATED.txt").read_text() == "20 0"
    assert steps(made, tmp_path, epochs=3, patients=20, seed=1) == ALL


@pytest.mark.parametrize(
    ("lost", "redone"),
    [
        ("reports/demo/01_cohort.html", ["01_cohort"]),
        ("reports/demo/03_evaluate.ipynb", ["03_evaluate"]),
        ("runs/demo", ["02_train"]),
    ],
)
def test_what_was_deleted_is_done_again(made: list[str], tmp_path: Path, lost: str, redone: list[str]) -> None:
    steps(made, tmp_path)
    path = tmp_path / lost
    path.rmdir() if path.is_dir() else path.unlink()
    assert steps(made, tmp_path) == redone


def test_a_demo_that_was_stopped_goes_on(made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = module.run_and_publish

    def stop(source: Path, *arguments: Any, **named: Any) -> None:
        if source.stem == "02_train":
            raise KeyboardInterrupt
        run(source, *arguments, **named)

    monkeypatch.setattr(module, "run_and_publish", stop)
    with pytest.raises(KeyboardInterrupt):
        steps(made, tmp_path)
    unfinished = tmp_path / "runs" / ".demo.unfinished"
    unfinished.mkdir(parents=True)
    monkeypatch.setattr(module, "run_and_publish", run)
    assert steps(made, tmp_path) == ["02_train", "03_evaluate"]
    assert unfinished.exists()  # training itself goes on from there


def test_an_unfinished_training_with_other_settings_makes_room(made: list[str], tmp_path: Path) -> None:
    steps(made, tmp_path)
    unfinished = tmp_path / "runs" / ".demo.unfinished"
    unfinished.mkdir()
    steps(made, tmp_path, epochs=2)
    assert not unfinished.exists()


def test_what_is_not_the_demo_s_own_is_never_removed(made: list[str], tmp_path: Path) -> None:
    mine = tmp_path / "cohorts" / "demo" / "precious.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        steps(made, tmp_path)
    with pytest.raises(InputError, match="not empty"):
        steps(made, tmp_path, patients=20)
    assert mine.read_text() == "mine"


def test_every_step_is_told_in_a_line(made: list[str], tmp_path: Path) -> None:
    lines: list[str] = []
    demo(tmp_path, tell=lines.append)
    assert [line[:6] for line in lines[:4]] == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    assert len(lines) == 5 and str(tmp_path / "reports/demo/index.html") in lines[-1]


def test_progress_of_a_long_step_is_passed_on(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = module.run_and_publish

    def speak(source: Path, *arguments: Any, echo: Any, **named: Any) -> None:
        echo.write("Epoch 3 of 20, step 1 of 2: loss 0.900\n")
        run(source, *arguments, echo=echo, **named)

    monkeypatch.setattr(module, "run_and_publish", speak)
    product_commands.demo(tmp_path)
    assert "Epoch 3 of 20" in capsys.readouterr().err
