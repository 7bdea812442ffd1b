"""One question at a time: choices or a number, an answer that is judged, and what comes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import traitlets

from cirrnb.view.page import asset


class AnswerForm(anywidget.AnyWidget):
    """A form that asks, and shows what is said to the answer.

    `on_answer` is called with the answer as text, `on_next` when the reader goes on, `on_go` with the number of the
    place that the reader chose to go back to. HTML that is handed in is shown as it is: escape what is not one's own.
    """

    _esm = asset("cirrnb.course", "form.js")
    _css = asset("cirrnb.course", "course.css")
    task = traitlets.Dict({}).tag(sync=True)
    reply = traitlets.Dict({}).tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self.on_answer: Callable[[str], None] = lambda answer: None
        self.on_next: Callable[[], None] = lambda: None
        self.on_go: Callable[[int], None] = lambda number: None
        self.on_msg(self._hear)

    def ask(
        self, title: str, prompt: str, choices: Sequence[tuple[str, str]] = (), *, unit: str = "", button: str = "Check"
    ) -> None:
        """Ask for one of `choices` (value, words) or, without any, for a number in `unit`."""
        told = [{"value": value, "words": words} for value, words in choices]
        self.reply = {}
        self.task = {"title": title, "prompt": prompt, "choices": told, "unit": unit, "button": button}

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
        self.send({"kind": "heard"})
