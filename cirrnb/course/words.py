"""What the quiz says to an answer: right or wrong, the signs of the case, and what could have been known."""

from __future__ import annotations

from html import escape

from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.explanation.simulated_truth import stages_told_by_signs, strengths
from cirrnb.model.prediction import Prediction
from cirrnb.simulation.signs import Latent
from cirrnb.view.theme import LABELS, SIGN_COLOURS

CLEAR, STRONG = 0.25, 0.55
"""Strengths of a sign from which it is called clear and strong; below it is slight."""

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


def feedback_html(truth: str, answer: str, latent: Latent, model: Prediction | None) -> str:
    """The stage, the signs that the case bears, what they tell, and what the model said."""
    return (
        f"{_verdict(truth, answer)}<h4>What this patient shows</h4>{_signs(latent)}"
        f"<p class='cn-small'>Outlined in the pictures in these colours; <kbd>E</kbd> hides and shows them.</p>"
        f"{_could_be_known(truth, latent)}{_model(truth, model)}"
    )


def _verdict(truth: str, answer: str) -> str:
    away = CIRRHOSIS.index(answer) - CIRRHOSIS.index(truth)
    if not away:
        return f"<h3>Right: {truth}.</h3>"
    far = "two stages" if abs(away) == 2 else "one stage"
    return f"<h3>You said {answer}; the stage is {truth}.</h3><p>That is {far} too {'high' if away > 0 else 'low'}.</p>"


def _signs(latent: Latent) -> str:
    rows = ""
    there = {sign: value for sign, value in strengths(latent).items() if value > 0}
    for sign, value in sorted(there.items(), key=lambda one: -one[1]):
        colour = SIGN_COLOURS[list(LABELS).index(sign)]
        rows += (
            f'<tr><th scope="row"><span class="cn-swatch" style="--colour:{colour}"></span>{escape(LABELS[sign])}</th>'
            f'<td><span class="cn-strength"><span style="width:{100 * value:.0f}%"></span></span>{_called(value)}</td>'
            f"<td>{WHERE[sign]}</td></tr>"
        )
    if not rows:
        return "<p>None of the seven signs. That is common in mild patients.</p>"
    absent = [escape(LABELS[sign]) for sign in LABELS if sign not in there]
    missing = f"<p>Absent: {', '.join(absent)}.</p>" if absent else "<p>All seven signs are there.</p>"
    head = "".join(f'<th scope="col">{one}</th>' for one in ("sign", "how strong", "what to see"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{missing}"


def _called(strength: float) -> str:
    return "slight" if strength < CLEAR else "clear" if strength < STRONG else "strong"


def _could_be_known(truth: str, latent: Latent) -> str:
    chances = stages_told_by_signs(latent)
    listed = ", ".join(f"{stage} {chance:.0%}" for stage, chance in chances.items())
    best = max(chances, key=lambda stage: chances[stage])
    if best != truth:
        said = f"Here even they point to {best}: the stage is one reader's impression, and it went another way."
    elif chances[best] < CLOSE:
        said = "Nobody can be sure of this one."
    else:
        said = "The signs say it."
    return f"<p><b>From all signs together</b>, as if measured without an image: {listed}. {said}</p>"


def _model(truth: str, model: Prediction | None) -> str:
    if model is None:
        return "<p><b>The model</b> could not stage this patient.</p>"
    sure = f"{model.probabilities[model.predicted]:.0%}"
    right = "right" if model.predicted == truth else "wrong"
    possible = f" It considers possible: {' or '.join(model.prediction_set)}." if model.prediction_set else ""
    return f"<p><b>The model</b> says {model.predicted} ({sure}), which is {right}.{possible}</p>"
