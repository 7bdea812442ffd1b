"""An exercise of the course: a question that may be tried until it is solved, with a word on every wrong answer."""

from __future__ import annotations

from html import escape

from IPython.display import display

from cirrnb.course.form import AnswerForm
from cirrnb.course.progress import Progress
from cirrnb.course.question import Choice, Judged, Question


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
        self.progress.tried(self.question.name, answer, judged.right)
        self._say(judged, answer)

    def _say(self, judged: Judged, answer: str) -> None:
        verdict = "Right." if judged.right else "Not yet."
        troubled = f"<p><b>{escape(self.progress.told)}</b></p>" if self.progress.told else ""
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
