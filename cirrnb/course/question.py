"""Questions of an exercise, and how an answer is judged: every wrong one is told why it is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Judged:
    """Whether an answer is right, and why, in words for a reader."""

    right: bool
    why: str


@dataclass(frozen=True)
class Option:
    """One of several answers: its words, why it is right or wrong."""

    words: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class Choice:
    """A question with one right option.

    Attributes
    ----------
    name : under which the answer is kept. title, prompt : what is asked; the prompt is HTML of our own.
    """

    name: str
    title: str
    prompt: str
    options: tuple[Option, ...]

    def judge(self, answer: str) -> Judged:
        """`answer` is the number of an option, from 0. Raises ValueError where there is no such option."""
        option = self.options[_whole(answer, len(self.options))]
        return Judged(option.right, option.why)

    @property
    def solution(self) -> str:
        """The right option in words, and why."""
        right = next(one for one in self.options if one.right)
        return f"{right.words} {right.why}"


@dataclass(frozen=True)
class Number:
    """A question for a number.

    Attributes
    ----------
    value, tolerance : what is right. unit : what stands behind the field.
    why : said to the right answer. slips : a wrong number -> how one comes to it. hint : said to any other.
    """

    name: str
    title: str
    prompt: str
    value: float
    tolerance: float
    unit: str
    why: str
    hint: str
    slips: Mapping[float, str] = field(default_factory=dict, hash=False)

    def judge(self, answer: str) -> Judged:
        """`answer` as it was typed; a comma and a percent sign are understood."""
        number = _number(answer)
        if number is None:
            return Judged(False, "That is not a number. Write it with digits, for example 0.5.")
        if abs(number - self.value) <= self.tolerance:
            return Judged(True, self.why)
        near = min(self.slips, key=lambda one: abs(one - number), default=None)
        if near is not None and abs(near - number) <= self.tolerance:
            return Judged(False, self.slips[near])
        return Judged(False, self.hint)

    @property
    def solution(self) -> str:
        """The number, and why."""
        return f"{self.value:g} {self.unit}. {self.why}"


Question = Choice | Number


def _whole(answer: str, below: int) -> int:
    number = int(answer)
    if not 0 <= number < below:
        raise ValueError(f"an option from 0 to {below - 1}, not {answer}")
    return number


def _number(text: str) -> float | None:
    plain = text.strip().replace(",", ".").replace("−", "-")
    try:
        return float(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        return None
