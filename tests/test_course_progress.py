"""Answers of the course are kept: over restarts, in several windows, after a kill."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from cirrnb.cli import app
from cirrnb.course.form import Exercise
from cirrnb.course.progress import Progress, progress_file
from cirrnb.course.questions import QUESTIONS
from cirrnb.run import serving
from cirrnb.run.execution import find_notebook
from cirrnb.run.parameters import read_schema


def test_progress_goes_on_where_it_stopped(tmp_path):
    file = tmp_path / "course" / "progress.json"
    first = Progress(file)
    first.answer("q", "a/1", "mild")
    first.tried("kappa", "0", False)
    first.tried("kappa", "1", True)
    again = Progress(file)
    assert again.answers("q") == {"a/1": "mild"} and again.tries("kappa") == ["0", "1"] and again.solved("kappa")
    again.answer("q", "a/1", "severe")
    assert Progress(file).answers("q") == {"a/1": "mild"}, "the first answer counts"
    again.start_again("q")
    assert Progress(file).attempts("q") == [{"a/1": "mild"}, {}]
    assert [path.name for path in file.parent.iterdir()] == ["progress.json"]


def test_the_line_of_the_progress_follows_every_answer(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("cirrnb.course.progress.display", lambda bundle, raw: shown.append(bundle))
    kept = Progress(tmp_path / "progress.json")
    kept._ipython_display_()
    assert "nothing answered yet" in kept.line.value and kept.line.value == shown[0]["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in shown[0]
    exercise = Exercise(QUESTIONS["sequence"], kept)
    right = next(str(n) for n in range(9) if exercise.question.judge(str(n)).right)
    exercise.on_answer(right)
    assert "1 exercise solved" in kept.line.value
    kept.answer("q", "a/1", "mild")
    assert "1 case" in kept.line.value
    kept.start_again("q")
    assert "0 cases" in kept.line.value


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 9}', '{"version": 1, "quizzes": {"q": [{"a": "fine"}]}}'])
def test_a_broken_file_is_told_and_set_aside(tmp_path, text):
    file = tmp_path / "progress.json"
    for number in (1, 2):
        file.write_text(text)
        progress = Progress(file)
        assert f"progress.json.broken-{number}" in progress.problem and progress.answers("q") == {}
        assert (tmp_path / f"progress.json.broken-{number}").read_text() == text
        progress.answer("q", "a/1", "mild")
        assert Progress(file).answers("q") == {"a/1": "mild"}


def test_two_windows_lose_nothing(tmp_path):
    one, other = Progress(tmp_path / "p.json"), Progress(tmp_path / "p.json")
    one.answer("q", "a/1", "mild")
    other.answer("q", "a/2", "severe")
    one.tried("side", "1", True)
    assert Progress(tmp_path / "p.json").answers("q") == {"a/1": "mild", "a/2": "severe"}
    assert Progress(tmp_path / "p.json").solved("side")


def test_windows_that_answer_at_the_same_time_lose_no_answer(tmp_path):
    """Each window read the file before any other wrote; a window must read again, and alone, before it writes."""
    file, windows, answers = tmp_path / "p.json", 4, 12
    start = threading.Barrier(windows)
    opened = [Progress(file) for _ in range(windows)]

    def answer(number: int) -> None:
        start.wait()
        for case in range(answers):
            opened[number].answer("q", f"{number}/{case}", "mild")

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(windows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"{number}/{case}" for number in range(windows) for case in range(answers)}
    assert set(Progress(file).answers("q")) == wanted


def test_a_window_that_opened_earlier_keeps_what_another_wrote(tmp_path):
    early = Progress(tmp_path / "p.json")
    Progress(tmp_path / "p.json").answer("q", "a/1", "mild")
    early.answer("q", "a/2", "severe")  # the only write of this window: without reading again a/1 were gone
    assert json.loads((tmp_path / "p.json").read_text())["quizzes"]["q"] == [{"a/1": "mild", "a/2": "severe"}]


def test_progress_is_one_whichever_way_the_course_is_opened(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    cells = nbformat.read(find_notebook("00_learn_staging"), as_version=4).cells
    assert read_schema(find_notebook("00_learn_staging"))["progress"].default is None
    assert any("Progress(progress or progress_file())" in cell.source for cell in cells)
    for folder in ("one", "other"):  # a notebook's own folder, and wherever `cirrnb learn` was typed
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Progress(progress_file()).tried("side", folder, True)
    assert Progress(progress_file()).tries("side") == ["one", "other"]


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "course").write_text("a file where the folder should be")
    progress = Progress(tmp_path / "course" / "p.json")
    progress.answer("q", "a/1", "mild")
    assert progress.answers("q") == {"a/1": "mild"} and progress.problem and "course/" not in progress.problem


def test_starting_over_keeps_the_answers_so_far(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(serving, "learn", lambda parameters, **how: 0)
    shown = CliRunner().invoke(app, ["learn", "--help"]).output
    assert "course.json" in shown and "XDG_DATA_HOME" in shown
    assert "no answers yet" in CliRunner().invoke(app, ["learn", "--start-over"]).output
    for number in (1, 2):
        Progress(progress_file()).tried("side", "0", True)
        before = progress_file().read_bytes()
        told = CliRunner().invoke(app, ["learn", "--start-over"])
        kept = progress_file().with_name(f"course.json.before-{number}")
        assert told.exit_code == 0 and kept.name in told.output.replace("\n", "") and kept.read_bytes() == before
        assert not Progress(progress_file()).solved("side")


def test_the_course_says_where_answers_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert "$XDG_DATA_HOME/cirrnb/course.json" in Progress(progress_file())._repr_html_()
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert "~/.local/share/cirrnb/course.json" in Progress(progress_file())._repr_html_()
    assert str(tmp_path) not in Progress(tmp_path.parent / "mine.json")._repr_html_(), "no path of the machine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    progress = Progress(tmp_path / "p.json")
    progress.tried("side", "1", True)
    assert "cannot be written" in progress.problem and progress.solved("side")
