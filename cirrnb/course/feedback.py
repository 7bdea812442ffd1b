"""Feedback of the quiz: after each answer the stage, its signs and the model's answer; at the end the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.evaluation.comparison import compare
from cirrnb.evaluation.evaluation import Evaluation, evaluate
from cirrnb.explanation.simulated_truth import stages_told_by_signs, strengths
from cirrnb.model.prediction import Prediction
from cirrnb.model.signs import CLEAR, STRONG, SignReading
from cirrnb.simulation.ceiling import PRESENT
from cirrnb.simulation.signal import Protocol
from cirrnb.simulation.signs import CHANNELS, Latent
from cirrnb.view.glossary import glossary_details
from cirrnb.view.palette import LABELS, SIGN_COLOURS

WHERE = {
    "nodularity": "the liver's edge is wavy",
    "nodules": "a pattern within the liver",
    "lobes": "right lobe small, left lobe and caudate large",
    "spleen": "reaches far forward and down",
    "ascites": "fluid around liver and spleen",
    "portal": "wide portal and splenic vein, extra vessels",
    "fossa": "room around the gallbladder, a notch behind",
}

CLOSE = 0.6
"""Probability of the likeliest stage, given all signs, below which a case is called one that nobody can be sure of."""


SIGN_OF = {channel.name: channel.sign for channel in CHANNELS}
"""A model's sign -> the sign of the lesson: nodules are one there, and two (on T1W, on T2W) for a model."""

BRIGHT = 0.2
"""Share of the signal that flowing blood keeps in veins on T2W from which they look bright."""


def feedback_html(
    truth: str,
    answer: str,
    latent: Latent,
    model: Prediction | None,
    *,
    waiting: bool = False,
    heights: Mapping[str, float] | None = None,
    model_heights: Mapping[str, float] | None = None,
    note: str = "",
) -> str:
    """The stage, the planted signs next to those that the model saw, their interpretation, and the model's stage.

    Parameters
    ----------
    model : None where it cannot stage the patient or, if `waiting`, has not done so yet.
    heights, model_heights : sign -> height in mm of the slice where it is planted most, and where the model saw most.
    note : about the patient's images.
    """
    seen: dict[str, SignReading] = {}
    for sign in sorted(model.signs, key=lambda reading: reading.strength) if model else ():
        seen[SIGN_OF.get(sign.name, sign.name)] = sign  # the strongest, where sequences have outputs of their own
    table = _signs(latent, seen, heights or {}, model_heights or {})
    return (
        f"{_verdict(truth, answer)}<h4>What this patient shows</h4>{table}"
        "<p class='cn-small cn-legend'>Planted: how strongly the simulator drew the sign. The model saw: the strength "
        "that it gives the sign, with the word that the whole 90 % interval of this strength bears out. Bars run from "
        f"0 (absent) to 1 (as strong as it gets): below {CLEAR} slight, from {STRONG} strong. A planted sign below "
        f"{PRESENT} is too faint to see. A button with a height goes to the slice that shows the sign best. Planted "
        "signs are outlined in the pictures in these colours; the box "
        "<i>planted signs</i> below them hides and shows the outlines.</p>"
        f"{f'<p>{note}</p>' if note else ''}"
        f"{_could_be_known(truth, latent)}{_waiting() if waiting else _model(truth, model)}{glossary_details()}"
    )


def t2w_words(protocol: Protocol) -> str:
    """How vessels and fat look on a patient's T2W scan, since they do not look alike on all."""
    veins = "bright, since blood flows slowly" if protocol.inflow[1] >= BRIGHT else "black, since blood flows on"
    fat = "dark, since it was suppressed" if protocol.fat_kept < BRIGHT else "bright"
    return f"<b>On T2W</b> here: arteries are black; portal vein and other veins are {veins}; fat is {fat}."


def _waiting() -> str:
    return "<p><b>The model</b> is still looking at this patient; its answer appears here.</p>"


def _verdict(truth: str, answer: str) -> str:
    away = CIRRHOSIS.index(answer) - CIRRHOSIS.index(truth)
    if not away:
        return f"<h3>Right: {truth}.</h3>"
    far = "two stages" if abs(away) == 2 else "one stage"
    return f"<h3>You said {answer}; the stage is {truth}.</h3><p>That is {far} too {'high' if away > 0 else 'low'}.</p>"


def _signs(
    latent: Latent, seen: Mapping[str, SignReading], heights: Mapping[str, float], model_heights: Mapping[str, float]
) -> str:
    """A row for each sign that was planted or that the model saw."""
    planted = strengths(latent)
    listed = [sign for sign in LABELS if planted[sign] > 0 or (sign in seen and seen[sign].seen)]
    none = "" if any(planted.values()) else "<p>None of the seven signs. That is common in mild patients.</p>"
    if not listed:
        return none
    rows = ""
    for sign in sorted(listed, key=lambda name: (-planted[name], -_of_model(seen, name).strength)):
        colour = SIGN_COLOURS[list(LABELS).index(sign)]
        words = _strength(planted[sign], _called(planted[sign]))
        cells = f"<td data-of='planted'>{words}{_jump(sign, heights.get(sign))}</td>"
        if seen:
            reading = _of_model(seen, sign)
            where = model_heights.get(sign) if reading.seen else None
            words = _strength(reading.strength, reading.degree_words)
            cells += f"<td data-of='the model saw'>{words}{_jump(sign, where)}</td>"
        rows += (
            f'<tr><th scope="row"><span class="cn-swatch" style="--colour:{colour}"></span>{escape(LABELS[sign])}'
            f'<span class="cn-see">{WHERE[sign]}</span></th>{cells}</tr>'
        )
    absent = [escape(LABELS[sign]) for sign in LABELS if sign not in listed]
    missing = f"<p>Absent: {', '.join(absent)}.</p>" if absent else ""
    named = ("sign and what to see", "planted", *(["the model saw"] if seen else []))
    head = "".join(f'<th scope="col">{heading}</th>' for heading in named)
    return f"{none}<table class='cn-seen'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{missing}"


def _of_model(seen: Mapping[str, SignReading], sign: str) -> SignReading:
    return seen.get(sign) or SignReading(sign, 0.0)


def _strength(value: float, called: str) -> str:
    """A bar with its value, and the word for it."""
    bar = f'<span class="cn-strength"><span style="width:{100 * value:.0f}%"></span></span>'
    return f'{bar}<span class="cn-called">{called} ({value:.2f})</span>'


def _jump(sign: str, height: float | None) -> str:
    """A button that goes to the slice in which a sign is seen best; nothing where it is in no slice."""
    if height is None:
        return ""
    words = f"{round(height):+d} mm".replace("-", "−") if round(height) else "0 mm"
    label = f"Go to the slice that shows {escape(LABELS[sign])} best"
    return f' <button type="button" class="cn-jump" data-height="{height:.2f}" title="{label}">{words}</button>'


def _called(strength: float) -> str:
    """The word for the strength of a planted sign."""
    words = ((PRESENT, "too faint to see"), (CLEAR, "slight"), (STRONG, "clear"))
    return next((word for limit, word in words if strength < limit), "strong") if strength else "absent"


def _could_be_known(truth: str, latent: Latent) -> str:
    chances = stages_told_by_signs(latent)
    listed = ", ".join(f"{stage} {chance:.0%}" for stage, chance in chances.items())
    best = max(chances, key=lambda stage: chances[stage])
    if best != truth:
        comment = f"Here even they point to {best}: the stage is one reader's impression, and it went another way."
    elif chances[best] < CLOSE:
        comment = "Nobody can be sure of this one."
    else:
        comment = "The signs say it."
    return f"<p><b>From all signs together</b>, as if measured without an image: {listed}. {comment}</p>"


def _model(truth: str, model: Prediction | None) -> str:
    if model is None:
        return "<p><b>The model</b> could not stage this patient.</p>"
    sure = f"{model.probabilities[model.predicted]:.0%}"
    right = "right" if model.predicted == truth else "wrong"
    possible = f" It considers possible: {' or '.join(model.prediction_set)}." if model.prediction_set else ""
    return f"<p><b>The model</b> says {model.predicted} ({sure}), which is {right}.{possible}</p>"


SHOWN = ("accuracy", "quadratic weighted kappa")
LEAST = 2
"""Cases from which there is anything to count."""

Stages = Mapping[str, str]
"""Subject -> stage."""


def answers_table(truth: Stages, answers: Stages) -> pd.DataFrame:
    """Answers as `cirrnb.evaluate` takes them, one row a case that was answered."""
    rows = [
        {"subject": subject, "stage": truth[subject], "predicted": stage}
        for subject, stage in answers.items()
        if subject in truth
    ]
    return pd.DataFrame(rows, columns=["subject", "stage", "predicted"]).assign(split="test", simulated=True)


def result_html(truth: Stages, student: Stages, model: Stages, resamples: int = 2000) -> str:
    """Both on the cases that the student answered and the model could stage, and the list of cases to go back to."""
    both = [subject for subject in student if subject in truth and subject in model]
    student_table = answers_table(truth, {subject: student[subject] for subject in both})
    model_table = answers_table(truth, {subject: model[subject] for subject in both})
    right = int((student_table["stage"] == student_table["predicted"]).sum())
    head = f"<h3>You staged {right} of {len(student_table)} cases right.</h3>"
    if len(student_table) < LEAST:
        return f"{head}<p>Too few cases to say more.</p>{_cases(truth, student)}"
    evaluations = [evaluate(table, split=None, resamples=resamples) for table in (student_table, model_table)]
    matrices = "".join(
        _matrix(who, evaluation) for who, evaluation in zip(("You", "The model"), evaluations, strict=True)
    )
    return (
        f"{head}{_measures(*evaluations)}{_difference(student_table, model_table, resamples)}"
        f'<div class="cn-side">{matrices}</div>{_cases(truth, student)}'
    )


def _measures(student: Evaluation, model: Evaluation) -> str:
    rows = ""
    for name in SHOWN:
        cells = [
            _value(evaluation.table[evaluation.table["metric"] == name].iloc[0]) for evaluation in (student, model)
        ]
        chance = student.table.loc[student.table["metric"] == name, "chance"].iloc[0]
        rows += (
            f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}<td>{chance:.2f}</td></tr>'
        )
    head = "".join(f'<th scope="col">{heading}</th>' for heading in ("", "you", "the model", "guessing"))
    return (
        f"<table><caption>Value (95 % interval) on these {student.n} cases</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _value(row: pd.Series) -> str:
    if np.isnan(row["value"]):
        return "not defined"
    if np.isnan(row["low"]):
        return f"{row['value']:.2f} (no interval: {escape(str(row['method']).removeprefix('none: '))})"
    return f"{_two(row['value'])} ({_two(row['low'])} to {_two(row['high'])})"


def _two(value: float, sign: str = "") -> str:
    """Two decimals with a true minus, and no minus before 0.00."""
    return f"{round(value, 2) + 0.0:{sign}.2f}".replace("-", "−")


def _difference(student: pd.DataFrame, model: pd.DataFrame, resamples: int) -> str:
    try:
        table = compare(student, model, split=None, resamples=resamples, names=("you", "the model"))
    except InputError:
        return ""
    row = table.set_index("metric").loc["accuracy"].to_dict()
    if np.isnan(row["low"]):
        return "<p>You and the model were right about the very same cases.</p>" if row["difference"] == 0 else ""
    difference = f"{_two(row['difference'], '+')} ({_two(row['low'], '+')} to {_two(row['high'], '+')})"
    known = bool(row["p"] < 0.05)  # McNemar's, exact: with a handful of cases an interval promises too much
    verdict = "more than these cases would show by chance" if known else "these cases cannot tell you two apart"
    return f"<p>Your accuracy minus the model's, on the same cases: {difference}: {verdict}.</p>"


def _matrix(who: str, evaluation: Evaluation) -> str:
    counts: NDArray[np.int64] = evaluation.confusion.to_numpy(dtype=int)
    rows = ""
    for stage, line in zip(CIRRHOSIS, counts, strict=True):
        total = max(int(line.sum()), 1)
        cells = "".join(f'<td style="background:{_shade(count / total)}">{count}</td>' for count in line)
        rows += f'<tr><th scope="row">{stage} ({line.sum()})</th>{cells}</tr>'
    head = "".join(f'<th scope="col">{stage}</th>' for stage in CIRRHOSIS)
    return (
        f'<table class="cn-matrix"><caption>{who}: true stage (rows) and the stage that was given</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _shade(share: float) -> str:
    red, green, blue = (round(255 + (level - 255) * 0.6 * share) for level in (51, 101, 138))
    return f"rgb({red},{green},{blue})"


def _cases(truth: Stages, student: Stages) -> str:
    order: Sequence[str] = list(truth)
    items = ""
    for subject, stage in student.items():
        if subject in truth:
            number = order.index(subject)
            words = f"{stage}, right" if stage == truth[subject] else f"you said {stage}, it is {truth[subject]}"
            items += f'<li><button type="button" data-go="{number}">Case {number + 1}: {words}</button></li>'
    return f'<h4>Look at a case again</h4><ol class="cn-cases">{items}</ol>'
