"""The exercises of the course, by name, and how an answer is judged: every wrong one gets a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite


@dataclass(frozen=True)
class Judged:
    """Whether an answer is right, and why, in words for a reader; `asked_again` for one that is no answer at all."""

    right: bool
    why: str
    asked_again: bool = False


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
        right = next(option for option in self.options if option.right)
        return f"{right.words} {right.why}"


@dataclass(frozen=True)
class Number:
    """A question for a number.

    Attributes
    ----------
    value, tolerance : what is right. unit : what stands behind the field.
    why : response to the right answer. slips : a wrong number -> its explanation. hint : response to any other.
    share : whether it lies between 0 and 1.
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
    share: bool = False

    def judge(self, answer: str) -> Judged:
        """`answer` as it was typed; a comma, a percent sign and a fraction (15/20) are understood."""
        number = _number(answer)
        if number is None:
            why = "That is not a number. Write it as 0.5, 50 % or 1/2."
            return Judged(False, why, asked_again=True)
        if abs(number - self.value) <= self.tolerance:
            return Judged(True, self.why)
        near = min(self.slips, key=lambda slip: abs(slip - number), default=None)
        if near is not None and abs(near - number) <= self.tolerance:
            return Judged(False, self.slips[near])
        if self.share and abs(number / 100 - self.value) <= self.tolerance:
            return Judged(
                False, f"That would be {number:g} times all patients. As a share write {number:g} % or {self.value:g}."
            )
        if self.share and not 0 <= number <= 1:
            return Judged(
                False, "A share lies between 0 and 1 (or 0 % and 100 %): count the patients, then divide by all."
            )
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
    whole, slash, parts = plain.removesuffix("%").partition("/")
    try:
        number = float(whole) / (float(parts) if slash else 1)
    except (ValueError, ZeroDivisionError):
        return None
    number /= 100 if plain.endswith("%") else 1
    return number if isfinite(number) else None


_SEQUENCE = Choice(
    "sequence",
    "Exercise 1: which sequence?",
    "The slice just above this question is not labelled. Look for something of which you know that it is fluid.",
    (
        Option(
            "T1W",
            "On T1W fluid is dark. Here the ring in the spinal canal, which is fluid, shines, and the aorta in front "
            "of the spine is black.",
        ),
        Option(
            "T2W",
            "The fluid around the spinal cord shines, and flowing blood, in the aorta and the vena cava, is black.",
            right=True,
        ),
        Option(
            "It cannot be told from one slice",
            "It can: on T2W fluid is bright, on T1W dark. Look at the ring in the spinal canal, at the back in the "
            "middle.",
        ),
    ),
)

_SIDE = Choice(
    "side",
    "Exercise 2: left or right?",
    "The spleen lies on the right side of every picture here. On which side of the patient is it?",
    (
        Option(
            "On the patient's right",
            "Pictures are shown as if you stood at the patient's feet and looked towards the head: the patient's "
            "right is on the left of the picture. R and L are written on it.",
        ),
        Option(
            "On the patient's left",
            "The patient's right is on the left of the picture, so what is on its right side is the patient's left. "
            "The liver is on the patient's right.",
            right=True,
        ),
    ),
)

_SIGN = Choice(
    "sign",
    "Exercise 3: which sign?",
    "The slice above shows one sign and no other. Which one? (It is at a height that you have seen.)",
    (
        Option(
            "A nodular surface",
            "The edge of this liver is smooth: follow it along the patient's right side. What changed is how large its "
            "parts are.",
        ),
        Option(
            "Lobes shifted",
            "The right lobe has drawn back from the wall, and the left lobe reaches further to the patient's left, up "
            "to the stomach.",
            right=True,
        ),
        Option(
            "Ascites",
            "The dark rim beside the liver is narrow and of the darkness of suppressed fat all around; no fluid pushes "
            "the liver off the wall in front, or bowel apart.",
        ),
        Option(
            "A large spleen",
            "The spleen is as it was; compare it with the slice in which it was enlarged. Look at the left part of the "
            "liver, towards the middle of the picture.",
        ),
    ),
)

_ASCITES = Choice(
    "ascites",
    "Exercise 4: a sign that is missing",
    "A patient of the simulated cohort has no ascites. What follows for the stage?",
    (
        Option(
            "It speaks against severe, and the other signs decide",
            "Nearly all mild patients are without, three in four of the moderate ones, and about one in five of the "
            "severe ones.",
            right=True,
        ),
        Option(
            "Severe is ruled out",
            "About one in five severe patients of this cohort has none. A missing sign speaks against a stage; it does "
            "not rule one out.",
        ),
        Option(
            "The patient is mild",
            "Three in four moderate patients have none either. Signs have to be weighed together.",
        ),
    ),
)

_ACCURACY = Number(
    "accuracy",
    "Exercise 5: accuracy",
    "A reader stages twenty patients. Of 8 mild ones 7 are called mild and 1 moderate; of 6 moderate ones 2 are "
    "called mild, 3 moderate, 1 severe; of 6 severe ones 1 is called moderate and 5 severe. What is the accuracy, the "
    "share of patients who were given the right stage?",
    value=0.75,
    tolerance=0.004,
    unit="(0 to 1)",
    share=True,
    why="7 + 3 + 5 = 15 of 20 are right. With twenty patients the 95 % interval still goes from 0.53 to 0.89.",
    hint="Count the patients on the diagonal, those whose stage was named right, and divide by all patients.",
    slips={
        15.0: "15 patients are right: now divide by how many there are.",
        0.25: "That is the share who were got wrong. What is asked is who was right.",
        0.736: "You averaged the shares within the stages. That is balanced accuracy; accuracy counts patients.",
        0.95: "You counted a neighbouring stage as right. For accuracy only the very stage counts.",
    },
)

_KAPPA = Choice(
    "kappa",
    "Exercise 6: weighted kappa",
    "Two readers stage the same twenty patients, and both get sixteen right. The four mistakes of the first are by one "
    "stage each; the four of the second are by two (mild for severe). Whose quadratic weighted kappa is higher?",
    (
        Option("They are equal", "Their accuracy is equal. Kappa weighs how far off a mistake is."),
        Option(
            "The first reader's",
            "A mistake by two stages weighs four times one by one: the square of the distance.",
            right=True,
        ),
        Option("The second reader's", "It is the other way round: a mistake by two stages weighs more and lowers it."),
    ),
)

_SHORTCUT = Choice(
    "shortcut",
    "Exercise 7: a model that is too good",
    "A stager gets 0.816 (0.666 to 0.908) of 38 validation patients right and 0.648 (0.599 to 0.693) of 400 test "
    "patients. All of them are new to it; the validation patients are from the same hospital as those it was trained "
    "on. What is the first thing to look for?",
    (
        Option(
            "The test patients are too few",
            "There are 400 of them, and their interval is narrow. It is the 38 validation patients who tell little.",
        ),
        Option(
            "Something that goes with the stage in that hospital and not elsewhere",
            "Training and validation patients share it, so that validation cannot show it: here it was the scanner. "
            "Only patients from elsewhere do.",
            right=True,
        ),
        Option(
            "It learnt the training patients by heart",
            "Then the validation patients, whom it had not seen either, would show it as well.",
        ),
    ),
)

_MAP = Choice(
    "map",
    "Exercise 8: what a map says",
    "A map from integrated gradients is orange along the right edge of the liver, and the model says severe. What may "
    "you write?",
    (
        Option(
            "The patient's disease is at the right edge of the liver",
            "A map shows what this model's answer depends on. On simulated patients none of the maps found well where "
            "the disease is.",
        ),
        Option(
            "The model saw a nodular surface",
            "A map names places and no signs. At that edge lie nodularity, the shape of the lobes, and the border of "
            "ascites; without taking one away nobody knows which.",
        ),
        Option(
            "This answer depends more on this place than on others, as far as the map passed its test",
            "That is what deletion and insertion test. It says nothing about why, nor whether the answer is right.",
            right=True,
        ),
    ),
)

_BIAS = Choice(
    "bias",
    "Exercise 9: you and the model",
    "You looked at a case and thought mild. The model says severe, 97 %. What now?",
    (
        Option(
            "Look again for what would make it severe, and decide by what you find",
            "Your own answer came first, and stands written down. Now ask what speaks for the other: ascites, the "
            "spleen, the lobes; and whether the scan is unusual.",
            right=True,
        ),
        Option(
            "Take severe: it is nearly sure",
            "Readers of every experience follow a wrong machine when they see its answer; that is automation bias. 97 "
            "% holds for patients like those of its calibration, and you do not know that this is one.",
        ),
        Option(
            "Ignore it: it is only a model",
            "It may have seen what you overlooked. An answer that differs from yours is worth a second look.",
        ),
    ),
)

QUESTIONS: dict[str, Question] = {
    question.name: question
    for question in (_SEQUENCE, _SIDE, _SIGN, _ASCITES, _ACCURACY, _KAPPA, _SHORTCUT, _MAP, _BIAS)
}
