"""What the numbers mean, in words that a clinician reads; everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Protocol

import pandas as pd

from cirrnb.data.bag import Bag
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.data.status import ANSWERED, Reason
from cirrnb.explanation.control_maps import TESTED, beats_controls, best_control
from cirrnb.explanation.methods import method_named
from cirrnb.explanation.score import SEVERITY
from cirrnb.measure.biomarkers import PROGRAM_NOTES
from cirrnb.measure.organs import organs_by_program
from cirrnb.model.measured_stage import NETWORK
from cirrnb.model.prediction import Prediction
from cirrnb.model.signs import WORDS
from cirrnb.model.trained_model import TrainedModel
from cirrnb.view.documentation import linked
from cirrnb.view.page import REAL_PEOPLE
from cirrnb.view.sign_sentences import signs_html

NO_HEALTHY_ANSWER = "“No cirrhosis” is none of the answers: a healthy liver gets a stage too."
METHODS = {
    "integrated_gradients": "adds up how the score changes while the detail of the slices is faded in. On simulated "
    "patients the places it names matter more to the answer than those of any control map.",
    "gradient_shap": "is the same, but at random steps of the way, and as good on simulated patients.",
    "smooth_saliency": "shows how strongly the score reacts to each pixel, in either direction. On simulated patients "
    "it is no better than the edges of the image.",
    "grad_cam": "weighs the network's own feature maps by their effect on the score. It is fast and coarse. On "
    "simulated patients it is a little better than control maps where places are removed, not surely where they are "
    "given back. It does not find single signs.",
    "occlusion": "covers the slices patch by patch and watches the score. It is slow and simple. On simulated patients "
    "it is better than any control map.",
    "attention": "shows where the network looked, not why. On simulated patients it is worse than the edges of the "
    "image where places are removed, and no better where they are given back.",
    "deep_lift": "passes the difference in score back layer by layer.",
}
"""What each does, and its faithfulness on the benchmark (docs/benchmark_explanations.md)."""


def target_words(target: str, stages: StageScale = CIRRHOSIS) -> str:
    """What a raw score speaks for."""
    if target == SEVERITY:
        return "a later stage rather than an earlier one"
    if target in stages.thresholds:
        cut = stages.thresholds.index(target) + 1
        return f"{_either(stages.names[cut:])} rather than {_either(stages.names[:cut])}"
    if target in WORDS:
        return f"the sign: {WORDS[target]}"
    upper, _, other = target.partition(" - ")
    return f"{upper} rather than {other}" if other else upper


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def method_words(name: str) -> str:
    """One sentence on a method."""
    return METHODS.get(name, method_named(name).source)


def answer_html(prediction: Prediction, bag: Bag, model: TrainedModel, *, simulated: bool) -> str:
    """The stage with its probabilities and what speaks of their worth."""
    coverage = model.calibration.coverage if model.calibration else None
    drawn = any(organs_by_program(prepared.scan) for prepared in bag.scans.values())
    return prediction_html(
        prediction, recorded=bag.stage, coverage=coverage, simulated=simulated, organs_by_program=drawn
    )


def prediction_html(
    prediction: Prediction,
    *,
    recorded: str | None,
    coverage: float | None,
    simulated: bool,
    organs_by_program: bool = False,
) -> str:
    """The same from plain values: the recorded stage, how often prediction sets hold (None: not calibrated), and
    whether the package's segmenter drew the organs."""
    bars = "".join(_bar(stage, prediction.probabilities[stage], prediction) for stage in prediction.stages)
    reasons = [reason.text for reason in prediction.reasons]
    notes = "".join(f"<li>{escape(note)}</li>" for note in prediction.notes if note not in reasons)
    unusual = f"<p>Missing or unusual:</p><ul>{notes}</ul>" if notes else ""
    if not prediction.notes and not reasons:
        unusual = "<p>Nothing is missing or unusual.</p>"
    shares = prediction.sequence_weights
    # Of one sequence there is nothing to share: the rest is what stands in for the missing ones.
    weights = (
        "" if len(shares) < 2 else f"Attention: {', '.join(f'{name} {share:.0%}' for name, share in shares.items())}."
    )
    unrecorded = "" if recorded else "No stage is recorded."
    remarks = " ".join(filter(None, (unrecorded, weights)))
    trained = "simulated patients" if prediction.simulated else "patients"
    doubtful = "" if prediction.status == ANSWERED else f" ({escape(prediction.status)})"
    listed = "".join(f"<li>{escape(text)}</li>" for text in reasons)
    doubts = (
        f"<p>{escape(prediction.status.capitalize())}, because:</p><ul>{listed}</ul>" if doubtful and listed else ""
    )
    about = " The patient is simulated." if simulated else f" {linked(REAL_PEOPLE)}" if prediction.simulated else ""
    likely = f"Most likely: {escape(prediction.predicted)}{doubtful}"
    verdict = verdict_html(prediction, recorded)
    healthy = "" if simulated or prediction.stages != CIRRHOSIS else f"<p class='cn-small'>{NO_HEALTHY_ANSWER}</p>"
    adds = adds_html(prediction, doubted=organs_by_program and not simulated)
    signs = signs_html(prediction, simulated=simulated)
    details = f"{bars}{healthy}<p>{_possible(prediction, coverage)}</p>{adds}{signs}"
    if prediction.hidden:
        shown = asked_html(f"<p><b>{likely}</b></p>{verdict}{details}", prediction)
        likely, verdict, details = f"Stage hidden{doubtful}", "", shown
    return (
        f'<div class="cn-answer"><h3>{likely}</h3>{verdict}{doubts}{details}'
        f"{f'<p>{remarks}</p>' if remarks else ''}{unusual}"
        f"<p class='cn-small'>Model {escape(prediction.model)}, trained on {trained}."
        f"{about}</p></div>"
    )


def asked_html(body: str, prediction: Prediction, what: str = "the stage") -> str:
    """HTML that speaks of the stage, hidden until the reader asks for it where the prediction's stage is hidden."""
    if not prediction.hidden:
        return body
    return f'<details class="cn-asked"><summary>Show {escape(what)} all the same</summary>{body}</details>'


def adds_html(prediction: Prediction, *, doubted: bool = False) -> str:
    """What the network and each measurement add to the stage, the largest first; nothing for a network alone.

    `doubted` where the program drew the organs of real scans: a measurement that is then wrong says so.
    """
    if not prediction.adds:
        return ""
    ordered = sorted(prediction.adds.items(), key=lambda pair: -abs(pair[1]))
    rows = "".join(
        f"<tr><th scope='row'>{escape('what the network sees' if name == NETWORK else name)}"
        f"{_caveat(name) if doubted else ''}</th>"
        f"<td>{_signed(value)}</td><td>{'later' if value > 0 else 'earlier'} stages</td></tr>"
        for name, value in ordered
    )
    head = "<tr><th scope='col'>what</th><th scope='col'>log-odds</th><th scope='col'>speaks for</th></tr>"
    return (
        f"<h4>What the stage rests on</h4><table class='cn-signs'><thead>{head}</thead><tbody>{rows}</tbody></table>"
        "<p class='cn-small'>Against a patient who is average in all of them. Maps explain what the network sees, and "
        "nothing of the measurements.</p>"
    )


def _caveat(term: str) -> str:
    caveat = PROGRAM_NOTES.get(term)
    return f"<br><small>drawn by the program: {linked(escape(caveat))}</small>" if caveat else ""


def brief_html(prediction: Prediction, recorded: str | None = None) -> str:
    """The answer in a line, for where the button is that asked for it, and whether it is the recorded stage."""
    colour = prediction.stages.colour[prediction.predicted]
    others = [stage for stage in prediction.prediction_set or () if stage != prediction.predicted]
    possible = f", {' or '.join(others)} possible" if others else ""
    doubtful = "" if prediction.status == ANSWERED else f" ({escape(prediction.status)})"
    if prediction.hidden:
        return f'<span role="status">Stage hidden{doubtful}: these scans are far from those the model knows</span>'
    verdict = ""
    if recorded and recorded != prediction.predicted:
        verdict = f' <strong class="cn-wrong-answer">wrong: recorded {escape(recorded)}</strong>'
    elif recorded:
        verdict = ' <span class="cn-right-answer">right</span>'
    return (
        f'<span role="status"><b style="border-color:{colour}">{escape(prediction.predicted)}</b> '
        f"{prediction.probabilities[prediction.predicted]:.0%}{possible}{doubtful}{verdict}</span>"
    )


def mask_words(bag: Bag) -> str:
    """Who drew the liver, where a program did, and what speaks against it; nothing where a person may have."""
    texts = []
    for name, prepared in bag.scans.items():
        extra = prepared.scan.extra
        if prepared.scan.mask is not None and extra.get("mask_by"):
            doubts = f": doubtful, {extra['mask_doubts']}" if extra.get("mask_doubts") else ""
            texts.append(f"{name} liver drawn by {extra['mask_by']} and corrected by nobody{doubts}.")
    return " ".join(texts)


def refusal_words(reasons: Sequence[Reason]) -> str:
    """Why a patient gets no answer, and what to do; nothing for no reasons."""
    lines = [" ".join(filter(None, (f"{reason.text.rstrip('.')}.", reason.remedy))) for reason in reasons]
    return f"Refused. {' '.join(lines)}" if lines else ""


def _bar(stage: str, share: float, prediction: Prediction) -> str:
    weight, words = 600 if stage == prediction.predicted else 400, prediction.stages.description[stage]
    title = "" if words == stage else f' title="{escape(words)}"'
    return (
        f'<div class="cn-bar" style="font-weight:{weight}"><span{title}>{escape(stage)}</span>'
        f'<span class="cn-track"><span style="width:{100 * share:.1f}%;'
        f'background:{prediction.stages.colour[stage]}"></span></span>'
        f"<span>{share:.0%}</span></div>"
    )


def _possible(prediction: Prediction, coverage: float | None) -> str:
    if prediction.prediction_set is None or coverage is None:
        return "This model is not calibrated: take the percentages as a ranking only."
    sure = f"{prediction.probabilities[prediction.predicted]:.0%}"
    each = f"{sure} is the probability of <b>{prediction.predicted}</b> for this patient."
    if len(prediction.prediction_set) == len(prediction.stages):
        return f"{each} The model cannot rule out any stage."
    stages = " or ".join(prediction.prediction_set)
    kept = (
        f"The prediction set, the stages that remain possible, is <b>{stages}</b>. About {round(10 * coverage)} in 10 "
        "such sets contain the recorded stage, counted over many patients"
    )
    but = "" if prediction.in_distribution else "; <b>this patient is not like them</b>: the rate is unknown"
    return f"{each} {kept}{but}."


def verdict_html(prediction: Prediction, recorded: str | None) -> str:
    """Whether the answer is the recorded stage; nothing where none is recorded."""
    if not recorded:
        return ""
    if recorded == prediction.predicted:
        return f'<p class="cn-right-answer"><b>Right</b>: the recorded stage is {escape(recorded)}.</p>'
    return f'<p class="cn-wrong-answer"><b>Wrong: the recorded stage is {escape(recorded)}.</b></p>'


class ShapleyValuesLike(Protocol):
    """ShapleyValues by sequence, and the score of nothing."""

    @property
    def sequences(self) -> Mapping[str, float]: ...
    @property
    def nothing(self) -> float: ...


class ExplanationFacts(Protocol):
    """The part of an `Explanation` that sentences are made of; a report keeps no more of it."""

    @property
    def method(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def shapley(self) -> ShapleyValuesLike: ...
    @property
    def relative_delta(self) -> float | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


VERDICTS = {
    "both": "<b>This map passes both tests</b>: the places it names matter more to the answer than those of any "
    "control map.",
    "neither": "<b>This map fails both tests: do not read anything into it.</b> Places of control maps, which do not "
    "use the stager, matter as much to the answer.",
    "undefined": "<b>This map could not be tested</b>: the score hardly differs from that of slices without detail.",
}


def verdict_of_map(verdict: str) -> str:
    """What the tests of a map (`cirrnb.explanation.control_maps.map_verdict`) say of it, as HTML."""
    words = VERDICTS.get(verdict)
    return words or f"<b>This map passes one of two tests</b>, {escape(verdict)}: read it with care."


def map_title(target: str, stages: StageScale = CIRRHOSIS) -> str:
    """Whether a map is of the stage or of a sign, and of which: they look alike."""
    if target in WORDS:
        return f"map of a sign: {WORDS[target]}"
    return "map of the stage" if target == SEVERITY else f"map of the stage: {target_words(target, stages)}"


def reasons_html(explanation: ExplanationFacts, prediction: Prediction | None = None, verdict: str = "") -> str:
    """What drove the answer: sequences, slices, and how far the map can be trusted to add up.

    Notes that the prediction already shows are not repeated. The `verdict` of this map's own tests, where it did not
    pass them, comes first: what holds of its method on simulated patients need not hold of it.
    """
    shares = explanation.shapley
    parts = " and ".join(f"{escape(name)} adds <b>{_signed(value)}</b>" for name, value in shares.sequences.items())
    missed, stages = explanation.relative_delta, prediction.stages if prediction else CIRRHOSIS
    is_sign = explanation.target in WORDS and explanation.target not in (SEVERITY, *stages, *stages.thresholds)
    read = {sign.name for sign in prediction.signs if not sign.measured} if prediction else set()
    of_sign = "no strength of a sign, no measurement"
    if is_sign:
        measured = prediction is not None and explanation.target not in read
        of_sign = "what the network sees of the sign" if measured else "the sign's strength on another scale"
    doubted = verdict not in ("", "both")
    tested = [verdict_of_map(verdict)] if doubted else []
    in_general = "" if not doubted else " That is said of the method in general, not of this map."
    lines = [
        *tested,
        f"The score for {escape(target_words(explanation.target, stages))} is <b>{_signed(explanation.score)}</b> "
        f"(log-odds; 0 is undecided; {of_sign}). Starting at {_signed(shares.nothing)} for these slices without "
        f"detail, {parts}.",
        f"<b>{escape(explanation.label)}</b>: {escape(method_words(explanation.method))}{in_general}",
    ]
    if prediction is not None and prediction.adds and explanation.target == SEVERITY:
        lines.append(
            "This is the network's own score, and 0 is undecided. <b>What the network sees</b>, in the list of what "
            "the stage rests on, is the same network weighed against an average patient: the two can differ in sign."
        )
    if missed is not None:
        amount = f"{missed:.0%}" if missed >= 0.01 else "less than 1 %"
        lines.append(f"Added up, the map misses {amount} of what it explains.")
    shown = prediction.notes if prediction else ()
    further = [note for note in explanation.notes if note not in shown and "map misses" not in note]
    lines += [f"Note: {escape(note)}{'' if note.endswith('?') else '.'}" for note in further]
    return "".join(f"<p>{line}</p>" for line in lines)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def tested_html(verdict: str, table: pd.DataFrame) -> str:
    """The verdict on the map on show, and what `faithfulness` found for it."""
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    return f"<p>{verdict_of_map(verdict)}</p>{measures_html(rows)}"


def measures_html(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of `faithfulness`, one sentence a measure: the tests that decide, and apart from them the others."""
    by_role: dict[bool, list[str]] = {True: [], False: []}
    for row in rows:
        by_role[row["measure"] in TESTED].append(f"<li>{_measure(row)}</li>")
    heads = {True: "For this patient, the two tests that decide:", False: "Further tests, which do not decide:"}
    return "".join(f"<p>{heads[decides]}</p><ul>{''.join(items)}</ul>" for decides, items in by_role.items() if items)


_MEASURES = {
    "deletion": "blurring first the places that the map names",
    "insertion": "showing first the places that the map names",
    "slice deletion": "dropping first the slices with the largest Shapley values",
    "infidelity": "foretelling from the map what blurring some places does",
}


def _measure(row: Mapping[str, Any]) -> str:
    value, name = row["value"], row["measure"]
    if pd.isna(value):
        why = "the score hardly differs from that of slices without detail"
        return f"{escape(name.capitalize())}: not defined here, since {why}."
    verdict = {
        True: "; better than every control map",
        False: "; <b>no better than a control map</b>",
        None: "",
    }[beats_controls(row)]
    best = best_control(row)
    compared = "" if pd.isna(best) else f" (the best control map has {best:.2f})"
    meaning = _MEASURES.get(name, name)
    return f"{escape(name.capitalize())} ({meaning}): {value:.2f}, {row['better']} is better{verdict}{compared}."
