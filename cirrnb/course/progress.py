"""What a student has answered, kept on disk after every answer, so that the course goes on where it was left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.display import display

from cirrnb.data.atomic_files import atomic_write, move_into_place
from cirrnb.data.errors import InputError
from cirrnb.data.json_file import parse_json, read_text
from cirrnb.data.locks import claimed
from cirrnb.data.stage_scale import CIRRHOSIS

if TYPE_CHECKING:
    from ipywidgets import HTML

VERSION = 1

Answers = dict[str, str]
"""Subject -> stage that was answered, in the order of answering."""


def progress_file() -> Path:
    """Where the course keeps answers, from whatever folder it is opened: the user's own data folder (XDG_DATA_HOME,
    else ~/.local/share)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "cirrnb" / "course.json"


def start_over(file: Path) -> Path | None:
    """Move answers aside, so that the course begins anew; the backup copy, or None where there are no answers yet.

    Raises InputError if the file cannot be moved.
    """
    if not file.exists():
        return None
    try:
        with claimed(file, PATIENCE):
            aside = _free_name(file, "before")
            move_into_place(file, aside)
    except OSError as error:
        problem = f"a file that cannot be moved ({error.strerror})"
        raise InputError(str(file), problem, "a folder that can be written", "Change its permissions.") from error
    return aside


def _free_name(file: Path, kind: str) -> Path:
    """The first unused name for a copy of a file, in its folder."""
    number = 1
    while (aside := file.with_name(f"{file.name}.{kind}-{number}")).exists():
        number += 1
    return aside


def _place(file: Path) -> str:
    """A file as its owner finds it, without the name of a home: a page may be handed on."""
    for folder, name in ((os.environ.get("XDG_DATA_HOME"), "$XDG_DATA_HOME"), (Path.home(), "~")):
        if folder and file.is_relative_to(folder):
            return f"{name}/{file.relative_to(folder).as_posix()}"
    return file.name if file.is_absolute() else file.as_posix()


PATIENCE = 5.0  # s to wait for another window that writes


class Progress:
    """Answers to exercises and quizzes, in one JSON file.

    The file is written atomically. A file that cannot be read is renamed and reported; where nothing can be written,
    the answers are lost when the kernel ends, which is reported too. Answers that another window wrote are merged: the
    first answer to a case stays. The file is locked from reading to writing: two windows lose no answer.

    Attributes
    ----------
    file : where it is kept, or None for nowhere.
    problem : what went wrong with keeping it, for the reader; "" if nothing did.
    line : the progress in one line of HTML, a widget that follows every answer.
    """

    def __init__(self, file: Path | str | None):
        self.file = None if file is None else Path(file)
        self.problem = ""
        self._attempts: dict[str, list[Answers]] = {}
        self._exercises: dict[str, dict[str, Any]] = {}
        self.line: HTML | None = None
        self._take_over()

    # ------------------------------------------------------------------ quizzes

    def answers(self, quiz: str) -> Answers:
        """What was answered in the present attempt at a quiz."""
        return dict(self._attempts.get(quiz, [{}])[-1])

    def attempts(self, quiz: str) -> list[Answers]:
        """All attempts at a quiz, the present one last."""
        return [dict(attempt) for attempt in self._attempts.get(quiz, [{}])]

    def answer(self, quiz: str, subject: str, stage: str) -> None:
        """Keep the first answer to a case; later ones change nothing."""
        with self._alone():
            self._take_over()
            self._attempts.setdefault(quiz, [{}])[-1].setdefault(subject, stage)
            self._keep()

    def start_again(self, quiz: str) -> None:
        """Begin another attempt; the ones before are kept."""
        with self._alone():
            self._take_over()
            if self._attempts.setdefault(quiz, [{}])[-1]:
                self._attempts[quiz].append({})
            self._keep()

    # ------------------------------------------------------------------ exercises

    def solved(self, exercise: str) -> bool:
        """Whether an exercise was answered right at some time."""
        return bool(self._exercises.get(exercise, {}).get("solved"))

    def tries(self, exercise: str) -> list[str]:
        """What was answered to an exercise, the last answer last."""
        return list(self._exercises.get(exercise, {}).get("answers", []))

    def tried(self, exercise: str, answer: str, right: bool) -> None:
        """Keep an answer to an exercise."""
        with self._alone():
            self._take_over()
            entry = self._exercises.setdefault(exercise, {"answers": [], "solved": False})
            entry["answers"].append(answer)
            entry["solved"] = bool(entry["solved"] or right)
            self._keep()

    def _ipython_display_(self) -> None:
        """The line that follows every answer, and for a page without a kernel the same as text."""
        from ipywidgets import HTML

        if self.line is None:
            self.line = HTML(self._repr_html_())
            self.line.add_class("cn-progress")
        display({**self.line._repr_mimebundle_(), "text/html": self._repr_html_()}, raw=True)

    def _repr_html_(self) -> str:
        solved = sum(bool(exercise["solved"]) for exercise in self._exercises.values())
        cases = sum(len(attempts[-1]) for attempts in self._attempts.values())
        where = f"in {escape(_place(self.file))}" if self.file else "until the kernel ends"
        counted = f"{solved} exercise{'s' * (solved != 1)} solved, {cases} case{'s' * (cases != 1)} staged"
        done = counted if solved or cases else "nothing answered yet"
        problem = f"<br><b>{escape(self.problem)}</b>" if self.problem else ""
        return f'<p role="status">Your progress: {done}. It is kept {where}.{problem}</p>'

    # ------------------------------------------------------------------ the file

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other window reads or writes the file within the block; where it cannot be locked, on without a lock."""
        with ExitStack() as held:
            if self.file is not None:
                with suppress(InputError, OSError):  # a folder that cannot be written: `_keep` reports it
                    held.enter_context(claimed(self.file, PATIENCE))
            yield
        if self.line is not None:
            self.line.value = self._repr_html_()

    def _take_over(self) -> None:
        """What the file holds, and what is known here beyond it."""
        if self.file is None:
            return
        try:
            text = read_text(self.file)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            self._set_aside(type(error).__name__)
            return
        try:
            quizzes, exercises = _read(text)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._set_aside(str(error))
            return
        for quiz, attempts in quizzes.items():
            self._attempts[quiz] = _merged(attempts, self._attempts.get(quiz, []))
        for name, entry in exercises.items():
            if len(entry["answers"]) >= len(self.tries(name)):
                self._exercises[name] = {**entry, "solved": entry["solved"] or self.solved(name)}

    def _set_aside(self, why: str) -> None:
        assert self.file is not None
        aside = _free_name(self.file, "broken")
        try:
            move_into_place(self.file, aside)
            self.problem = (
                f"{self.file.name} could not be read ({why}). It was kept as {aside.name}, and a new one begun."
            )
        except OSError as error:
            self.problem = f"{self.file.name} can be neither read nor moved ({error.strerror}): nothing is kept."
            self.file = None

    def _keep(self) -> None:
        if self.file is None:
            return
        content = {"version": VERSION, "quizzes": self._attempts, "exercises": self._exercises}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.file, json.dumps(content, indent=1) + "\n")
        except OSError as error:
            self.problem = f"Your progress cannot be written ({error.strerror}): it holds until the kernel ends."


def _read(text: str) -> tuple[dict[str, list[Answers]], dict[str, dict[str, Any]]]:
    """Quizzes and exercises of a file's text; ValueError or KeyError where it is none of ours."""
    stored = parse_json(text)
    if not isinstance(stored, dict) or stored.get("version") != VERSION:
        raise ValueError(f"not of version {VERSION}")
    quizzes: dict[str, list[Answers]] = {}
    for quiz, attempts in stored["quizzes"].items():
        if not attempts or any(stage not in CIRRHOSIS for attempt in attempts for stage in attempt.values()):
            raise ValueError(f"quiz {quiz}: answers that are no stages")
        quizzes[str(quiz)] = [{str(subject): stage for subject, stage in attempt.items()} for attempt in attempts]
    exercises = {}
    for name, entry in stored["exercises"].items():
        exercises[str(name)] = {
            "answers": [str(answer) for answer in entry["answers"]],
            "solved": entry["solved"] is True,
        }
    return quizzes, exercises


def _merged(stored: list[Answers], here: list[Answers]) -> list[Answers]:
    """Attempts of the file and of this window; where both answered a case, the file was first."""
    merged = []
    for number in range(max(len(stored), len(here))):
        first = stored[number] if number < len(stored) else {}
        merged.append(
            {**first, **{k: v for k, v in (here[number] if number < len(here) else {}).items() if k not in first}}
        )
    return merged
