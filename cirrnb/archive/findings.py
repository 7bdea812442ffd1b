"""The content of a structured report of one patient as plain values: from the JSON of a report, or from a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cirrnb.data.status import FAR, REFUSED
from cirrnb.model.signs import WORDS, SignReading
from cirrnb.view.documentation import in_words
from cirrnb.view.page import RESEARCH_ONLY, banner
from cirrnb.view.sign_sentences import HARDLY_READ, MEASURED, UNSEEN

IMPRESSION = (
    "The stage estimates a radiologist's overall impression of the liver's shape and signal. It is no histology and no "
    "Child-Pugh class, and says nothing of tumours or thrombosis."
)
HIDDEN = "The stage is not given here: a scan is far from those that the model learnt from. It stands in the report."


@dataclass(frozen=True)
class ModelFacts:
    """Which model answered.

    Attributes
    ----------
    name : of the run. version : of cirrnb. fingerprint : SHA-256 of weights and settings.
    """

    name: str
    version: str
    fingerprint: str


@dataclass(frozen=True)
class Findings:
    """The content of a structured report.

    Attributes
    ----------
    status : answered, doubtful or refused.
    reasons : (code, text) why.
    model : which answered, or refused.
    caveats : sentences without which the stage must not be read.
    stage : the most probable one; None where the patient is refused, or the stage is hidden.
    probabilities : stage -> 0 to 1; empty likewise.
    possible : stages of the prediction set, likewise.
    signs : (name, words, strength 0 to 1, low, high) of each; low and high are None where there is no interval.
    sign_notes : caveats of the signs: which are measured or hardly read, and that unseen ones may be present.
    no_sign : whether every sign shows less than 0.1; None for a model without signs.
    measurements : sequence -> measurements as the JSON of a report has them.
    notes : what was missing or unusual.
    """

    status: str
    reasons: tuple[tuple[str, str], ...]
    model: ModelFacts
    caveats: tuple[str, ...]
    stage: str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    possible: tuple[str, ...] = ()
    signs: tuple[tuple[str, str, float, float | None, float | None], ...] = ()
    sign_notes: tuple[str, ...] = ()
    no_sign: bool | None = None
    measurements: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def findings_of(stored: Mapping[str, Any], model: ModelFacts) -> Findings:
    """Findings from the JSON of a patient's report, as `PatientReport.as_dict` gives it."""
    prediction = stored["prediction"]
    reasons = tuple((str(reason["code"]), str(reason["text"])) for reason in prediction["reasons"])
    hidden = any(code == FAR for code, _ in reasons)
    signs = tuple(
        (sign["name"], sign["words"], float(sign["strength"]), sign["low"], sign["high"])
        for sign in prediction["signs"]
    )
    return Findings(
        status=prediction["status"],
        reasons=reasons,
        model=model,
        caveats=_caveats(bool(stored["simulated"]), bool(stored["model_simulated"]), (HIDDEN,) if hidden else ()),
        stage=None if hidden else prediction["predicted"],
        probabilities={} if hidden else dict(prediction["probabilities"]),
        possible=() if hidden else tuple(prediction["prediction_set"] or ()),
        signs=() if hidden else signs,
        sign_notes=() if hidden else _sign_notes(stored),
        no_sign=None if hidden else prediction["no_sign"],
        measurements={name: tuple(rows) for name, rows in stored["measurements"].items()},
        notes=tuple(prediction["notes"]),
    )


def refusal(reason: str, model: ModelFacts, *, simulated: bool, model_simulated: bool) -> Findings:
    """Findings of a patient whom a check of the scans refused."""
    return Findings(REFUSED, (("check", reason),), model, _caveats(simulated, model_simulated))


def _sign_notes(stored: Mapping[str, Any]) -> tuple[str, ...]:
    prediction = stored["prediction"]
    notes, signs = [], [_reading(sign) for sign in prediction["signs"]]
    for sign in signs:
        notes += [f"{sign.words}: hardly read: {HARDLY_READ}"] if sign.hardly_read else []
        notes += [f"{sign.words}: measured: {MEASURED}"] if sign.measured else []
    notes += [f"{WORDS.get(name, name)}: not known" for name in prediction.get("signs_unknown", ())]
    real = stored["model_simulated"] and not stored["simulated"]
    notes += [in_words(UNSEEN)] if real and not all(sign.seen for sign in signs) else []
    return tuple(notes)


def _reading(sign: Mapping[str, Any]) -> SignReading:
    return SignReading(
        sign["name"], sign["strength"], sign["low"], sign["high"], sign.get("read"), bool(sign.get("measured"))
    )


def _caveats(simulated: bool, model_simulated: bool, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    warning = banner(simulated, model_simulated)
    return (RESEARCH_ONLY, IMPRESSION, *((in_words(warning),) if warning else ()), *more)
