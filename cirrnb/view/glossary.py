"""The words that course, explorer and reports share, and what the stages are not: one list for all of them."""

from __future__ import annotations

from html import escape

GLOSSARY = {
    "Stage": "How far the disease has advanced, in the words of the cohort's scale. In the published cohort it is one "
    "radiologist's impression of the images.",
    "What the stages are not": "The stages of the published cohort are not Child-Pugh A, B, C, which are computed "
    "from blood values, ascites and consciousness. They are not F0 to F4, which grade fibrosis under a microscope or "
    "by elastography: all stages here are cirrhosis, F4. They are not MELD, and they give no prognosis.",
    "Stager": "The network that gives a stage from the slices of all sequences of a patient.",
    "Probability": "How likely each stage is for this patient, after calibration; the three add up to 100 %.",
    "Log-odds": "Another scale for a probability: 0 is undecided, +1 is 73 %, +2 is 88 %, negative values "
    "speak against. On this scale the shares of slices and measurements can be added up.",
    "Calibration": "Correction of probabilities on patients set aside for it: of all answers given with 70 %, "
    "about 70 in 100 are right.",
    "Prediction set": "The stages that the model cannot exclude. The sets of nine in ten patients contain "
    "the recorded stage. Nine in ten is a property of many sets, not the probability of a stage for this patient.",
    "Attribution": "A map of how much each place of the images speaks for or against a score of this stager. It "
    "is about the "
    "stager, not about disease.",
    "Share (Shapley value)": "What a slice or a sequence adds to the score, averaged over all orders in which "
    "the slices can be added.",
    "Attention": "How much weight the stager gives to a slice. It does not say whether for or against a stage.",
    "Faithfulness": "Whether the regions that a map names matter to the stager. The regions are blurred, and the "
    "change of the score is compared with that of control maps, which do not use the stager.",
    "Sign": "A visible feature that is associated with cirrhosis: a nodular surface, a large spleen, ascites.",
    "Planted sign": "A sign that the simulator drew into a simulated patient, known pixel by pixel.",
    "Quadratic weighted kappa": "Agreement beyond chance. A mistake by two stages weighs four times as much as a "
    "mistake by one stage. 1 is perfect, 0 is chance.",
    "T1W, T2W": "The two kinds of MR images: fluid is dark on T1W and bright on T2W.",
}
"""Term -> what it means, in the order in which a reader meets them."""


def glossary_html() -> str:
    """All terms as a list."""
    rows = "".join(f"<dt><b>{escape(term)}</b></dt><dd>{escape(words)}</dd>" for term, words in GLOSSARY.items())
    return f'<dl class="cn-glossary">{rows}</dl>'


def glossary_details() -> str:
    """The same, folded away under a heading."""
    return (
        f'<details class="cn-glossary-fold" id="glossary"><summary>Words used here</summary>{glossary_html()}</details>'
    )


def glossary_markdown() -> str:
    """The same for docs/glossary.md."""
    terms = "\n\n".join(f"**{term}**\n: {words}" for term, words in GLOSSARY.items())
    intro = "Course, explorer and reports show this list. Its source is `cirrnb/view/glossary.py`."
    return f"# Glossary\n\n{intro}\n\n{terms}\n"
