"""The signs of cirrhosis that a stager saw, in a radiologist's words, as HTML; everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

from cirrnb.model.prediction import Prediction
from cirrnb.model.signs import WORDS, SignReading, shown_on
from cirrnb.view.documentation import linked

UNSEEN = (
    "On real scans a sign that is not seen may be there all the same: strong signs that were painted into scans of "
    "healthy people, ascites among them, raised the strength by less than 0.2 in most cases (docs/stager.md)."
)
"""A caveat of stagers that learned from simulated patients."""
HARDLY_READ = (
    "on simulated patients whose signs are independent of each other, the model detects this sign hardly better than "
    "by chance. Its strength says little about the sign."
)
MEASURED = (
    "by the fine texture of the liver within the outline, and not by the network. Noise and vessels change the "
    "texture too."
)


def signs_html(prediction: Prediction, *, simulated: bool = False) -> str:
    """The signs that the stager saw, the strongest first, with their intervals; nothing for a stager without signs.

    `simulated` : whether the patient is, for whom "not seen" can be taken at its word.
    """
    if not prediction.signs:
        return ""
    ordered = sorted(prediction.signs, key=lambda sign: -sign.strength)
    rows = "".join(_sign_row(sign) for sign in ordered if sign.seen)
    none = "<p><b>No sign of cirrhosis seen.</b> The stage above is computed all the same.</p>" if not rows else ""
    head = "<tr><th scope='col'>sign</th><th scope='col'>strength</th><th scope='col'>90 % interval</th></tr>"
    table = f"<table class='cn-signs'><thead>{head}</thead><tbody>{rows}</tbody></table>" if rows else ""
    missing = _not_seen(ordered, bool(rows))
    if prediction.simulated and not simulated and not all(sign.seen for sign in ordered):
        missing += f"<p class='cn-caution'>{linked(UNSEEN)}</p>"
    missing += _not_known(prediction.signs_unknown, prediction.sequence_weights)
    alone = ""
    if prediction.stage_by_signs:
        listed = ", ".join(f"{escape(stage)} {share:.0%}" for stage, share in prediction.stage_by_signs.items())
        alone = f"<p>By these signs alone: {listed}.</p>"
    notes = (
        f"<p class='cn-small'><b>Hardly read</b>: {HARDLY_READ}</p>"
        if any(sign.hardly_read and sign.seen for sign in ordered)
        else ""
    )
    notes += (
        f"<p class='cn-small'><b>Measured</b>: {MEASURED}</p>"
        if any(sign.measured and sign.seen for sign in ordered)
        else ""
    )
    return (
        f"<h4>Signs that the model saw</h4>{none}{table}{notes}{missing}{alone}<p class='cn-small'>A strength is "
        "what the model sees, from 0 (absent) to 1 (as strong as in any simulated patient). It is no length or volume, "
        "and no share of the score. The word is what the whole interval bears out: slight from 0.1, clear from "
        "0.25, strong from 0.55; uncertain where it reaches below 0.1. Intervals hold for patients like the "
        "simulated ones.</p>"
    )


def _not_seen(signs: Sequence[SignReading], some: bool) -> str:
    """Signs that were not seen, and those among them that may be there all the same."""
    absent = ", ".join(escape(sign.words) for sign in signs if sign.degree == "absent")
    open_ = ", ".join(
        f"{escape(sign.words)} (up to {sign.high:.2f})" for sign in signs if not sign.seen and sign.degree != "absent"
    )
    html = f"<p>Not seen: {absent}.</p>" if some and absent else ""
    return html + (f"<p>Not seen, but not excluded: {open_}.</p>" if open_ else "")


def _not_known(names: Sequence[str], used: Collection[str]) -> str:
    """Signs that only a missing sequence shows, and those that could not be measured."""

    def reason(name: str) -> str:
        there = set(shown_on(name)) & set(used)
        return (
            "not measured: texture of the liver unlike the simulated one"
            if there
            else f"no {' or '.join(shown_on(name))}"
        )

    listed = ", ".join(f"{escape(WORDS.get(name, name))} ({reason(name)})" for name in names)
    return f"<p>Not known: {listed}.</p>" if listed else ""


def what_if_html(seen: Prediction, changed: Prediction) -> str:
    """The stage with changed signs beside the stage as the model saw the patient: of the model, and by the signs alone.

    The model's own stage follows what it sees beside the signs as well, and may hardly move.
    """
    pairs = [(seen.probabilities, changed.probabilities)]
    if seen.stage_by_signs and changed.stage_by_signs:
        pairs.insert(0, (seen.stage_by_signs, changed.stage_by_signs))
    rows = "".join(
        f"<tr><th scope='row'>{escape(stage)}</th>"
        + "".join(f"<td>{before[stage]:.0%} → {after[stage]:.0%}</td>" for before, after in pairs)
        + "</tr>"
        for stage in seen.stages
    )
    named = ("by the signs alone", "by all it sees")[-len(pairs) :]
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("stage", *named))
    return (
        f"<table class='cn-signs'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        "<p class='cn-small'>As seen → with these signs. What the model would say, not what would be true. By all it "
        "sees the stage may hardly "
        "move, since the rest of what it sees stays. Nothing of this is stored.</p>"
    )


def _sign_row(sign: SignReading) -> str:
    interval = "" if sign.low is None or sign.high is None else f"{sign.low:.2f} to {sign.high:.2f}"
    track = f'<span class="cn-track"><span style="width:{100 * sign.strength:.0f}%"></span></span>'
    strength = f'<span class="cn-strength-of-sign">{track} {escape(sign.degree_words)} ({sign.strength:.2f})</span>'
    name = escape(sign.words) + ("<br><small>hardly read</small>" if sign.hardly_read else "")
    name += "<br><small>measured</small>" if sign.measured else ""
    return f'<tr><th scope="row">{name}</th><td>{strength}</td><td>{interval}</td></tr>'
