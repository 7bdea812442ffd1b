"""One question at a time: a form that asks, and an exercise that may be tried until it is solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import anywidget
import traitlets
from IPython.display import display

from cirrnb.course.progress import Progress
from cirrnb.course.questions import Choice, Judged, Question
from cirrnb.view.page import asset


class AnswerForm(anywidget.AnyWidget):
    """A form that asks, and shows the response to the answer.

    `on_answer` is called with the answer as text, `on_next` when the reader goes on, `on_go` with the number of the
    place that the reader chose to go back to, `on_height` with the height in mm of a slice to look at. HTML that is
    handed in is shown as it is: escape what is not one's own.
    """

    _esm = f"{asset('cirrnb.viewer', 'absence.js')}\n{asset('cirrnb.course', 'form.js')}"
    _css = asset("cirrnb.course", "course.css")
    task = traitlets.Dict({}).tag(sync=True)
    reply = traitlets.Dict({}).tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self.on_answer: Callable[[str], None] = lambda answer: None
        self.on_next: Callable[[], None] = lambda: None
        self.on_go: Callable[[int], None] = lambda number: None
        self.on_height: Callable[[float], None] = lambda height: None
        self.on_msg(self._hear)

    def ask(
        self, title: str, prompt: str, choices: Sequence[tuple[str, str]] = (), *, unit: str = "", button: str = "Check"
    ) -> None:
        """Ask for one of `choices` (value, words) or, without any, for a number in `unit`."""
        options = [{"value": value, "words": words} for value, words in choices]
        self.reply = {}
        self.task = {"title": title, "prompt": prompt, "choices": options, "unit": unit, "button": button}

    def say(
        self, html: str, *, right: bool | None = None, onward: str = "", again: bool = False, answer: str = ""
    ) -> None:
        """Show what there is to say, with a button to go on named `onward`.

        `again` leaves the question open for another answer; `answer` is chosen in the form, where it was given before.
        """
        self.reply = {"html": html, "right": right, "onward": onward, "again": again, "answer": answer}

    def _hear(self, _: Any, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        kind = content.get("kind")
        if kind == "answer":
            self.on_answer(str(content.get("value", "")))
        elif kind == "next":
            self.on_next()
        elif kind == "go":
            self.on_go(int(content["number"]))
        elif kind == "height":
            self.on_height(float(content["height"]))
        self.send({"kind": "received"})


class Exercise(AnswerForm):
    """A question in a notebook or on a page; what was answered is kept in `progress`, and shown again."""

    def __init__(self, question: Question, progress: Progress | None = None):
        super().__init__()
        self.question = question
        self.progress = Progress(None) if progress is None else progress
        self.on_answer = self._judge
        self._ask()
        if (tries := self.progress.tries(question.name)) and self.progress.solved(question.name):
            self._say(question.judge(tries[-1]), tries[-1])

    def _ask(self) -> None:
        question = self.question
        if isinstance(question, Choice):
            choices = [(str(number), option.words) for number, option in enumerate(question.options)]
            self.ask(question.title, f"<p>{question.prompt}</p>", choices)
        else:
            self.ask(question.title, f"<p>{question.prompt}</p>", unit=question.unit)

    def _judge(self, answer: str) -> None:
        try:
            judged = self.question.judge(answer)
        except ValueError:
            return  # no answer that the form offers
        if judged.asked_again:  # nothing that could be right or wrong
            self.say(f"<p>{escape(judged.why)}</p>", again=True)
            return
        self.progress.tried(self.question.name, answer, judged.right)
        self._say(judged, answer)

    def _say(self, judged: Judged, answer: str) -> None:
        verdict = "Right." if judged.right else "Not yet."
        troubled = f"<p><b>{escape(self.progress.problem)}</b></p>" if self.progress.problem else ""
        html = f"<p><b>{verdict}</b> {escape(judged.why)}</p>{troubled}"
        self.say(html, right=judged.right, again=True, answer=answer if isinstance(self.question, Choice) else "")

    def _ipython_display_(self) -> None:
        """The form, and for a page without a kernel the question with its answer folded away."""
        bundle = self._repr_mimebundle_()
        live = bundle[0] if isinstance(bundle, tuple) else bundle
        display({**(live or {}), "text/html": self.still}, raw=True)

    @property
    def still(self) -> str:
        """The exercise as HTML that needs no kernel."""
        question = self.question
        listed = ""
        if isinstance(question, Choice):
            listed = f"<ol>{''.join(f'<li>{escape(option.words)}</li>' for option in question.options)}</ol>"
        return (
            f'<section aria-label="{escape(question.title)}"><p><b>{escape(question.title)}</b></p>'
            f"<p>{question.prompt}</p>{listed}"
            f"<details><summary>Answer</summary><p>{escape(question.solution)}</p></details></section>"
        )
