"""`PatientReport`: all that a page says of one patient, without a line of HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from cirrnb.measure.measurement import Measurement
from cirrnb.model.prediction import Prediction
from cirrnb.viewer.contours import Outline

VERSION = 4
"""Raised by hand when the same patient gets another report; pages of another version are made anew."""


@dataclass(frozen=True)
class ScanFacts:
    """One sequence of the patient: shape of its file (None: it is missing), slices used and their distance in mm, and
    why its DICOM series was chosen, where it was imported from one."""

    sequence: str
    shape: tuple[int, ...] | None = None
    slices: int = 0
    spacing: float = 0.0
    outlined: bool = False
    chosen_because: str = ""


@dataclass(frozen=True)
class SlicePicture:
    """A slice as a picture, patient's right on the left.

    Attributes
    ----------
    image : PNG as a data URI. overlay : map to lie on it, likewise, or "".
    position : mm along the head axis (RAS+ z). width, height : mm. caption : the slice's share, or "".
    outlines : of organs, in pixels of the slice, of which there are `pixels` (rows, columns).
    """

    image: str
    position: float
    width: float
    height: float
    overlay: str = ""
    caption: str = ""
    outlines: tuple[Outline, ...] = ()
    pixels: tuple[int, ...] = ()


SliceRows = Mapping[str, tuple[SlicePicture | None, ...]]
"""Name of the row ("T1W") -> its slices; None keeps a place empty."""


@dataclass(frozen=True)
class SequenceShapleyValues:
    """Shapley values by sequence in log-odds; together they are the score less `nothing`."""

    sequences: Mapping[str, float]
    nothing: float


@dataclass(frozen=True)
class ExplanationSummary:
    """What drove the answer, as `Explanation` has it, without its maps."""

    method: str
    label: str
    target: str
    colours: str
    score: float
    shapley: SequenceShapleyValues
    relative_delta: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MapTest:
    """One measure of the map beside its control maps, as a row of `faithfulness`; None where it is not defined."""

    measure: str
    better: str
    value: float | None
    random: float | None
    shifted: float | None
    edges: float | None
    attention: float | None


@dataclass(frozen=True)
class TrainingComparison:
    """The patient among those the model was trained on.

    Attributes
    ----------
    severity : expected stage, 0 for the first to the number of stages less one.
    others : stage -> expected stages of its training patients; None where the model keeps no answers.
    how : how the training patients were asked.
    distances : sequence -> distance to the training scans, 1 being the largest usual one.
    """

    severity: float
    others: Mapping[str, tuple[float, ...]] | None
    how: str
    distances: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class PatientReport:
    """All that a page says of one patient.

    Attributes
    ----------
    subject, patient, source, age, sex, recorded : who it is; `recorded` is the stage somebody gave, or None.
    simulated, model_simulated : whether the patient, and what the model was trained on, was simulated.
    scans : one entry a sequence that the model knows, missing ones included.
    prediction : stage probabilities (in the order of the stages), prediction set, notes, and status with
        its reasons.
    coverage : of the prediction sets, 0 to 1; None for a model that is not calibrated.
    key_slices, slices_that_mattered, slices_with_signs : rows of pictures.
    reasons, map_tests, measurements, training, model : what the sections of these names show.
    verdict : in which tests the map beats its control maps: both, deletion, insertion, neither, undefined.
    browser : content of the slice browser, as `cirrnb.viewer.slice_browser.slice_content` gives it.
    settings : what was asked for, by name.
    overlays : names of the files of the map on each scan's own grid.
    identity : stands for model and patient; a report with another one is out of date.
    """

    subject: str
    patient: str
    source: str
    age: float | None
    sex: str | None
    recorded: str | None
    simulated: bool
    model_simulated: bool
    scans: tuple[ScanFacts, ...]
    prediction: Prediction
    coverage: float | None
    key_slices: SliceRows
    slices_that_mattered: SliceRows
    slices_with_signs: SliceRows
    reasons: ExplanationSummary
    map_tests: tuple[MapTest, ...]
    verdict: str
    measurements: Mapping[str, tuple[Measurement, ...]]
    training: TrainingComparison
    model: Mapping[str, str]
    browser: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    overlays: tuple[str, ...] = ()
    identity: str = ""

    @property
    def stages(self) -> tuple[str, ...]:
        """The model's stages, in order."""
        return tuple(self.prediction.probabilities)

    def as_dict(self, pictures: bool = True) -> dict[str, Any]:
        """Everything as plain values, ready for JSON; missing and undefined numbers are None.

        Parameters
        ----------
        pictures : False leaves out rows of slices and the slice browser, which are 99 % of it.
        """
        skipped = () if pictures else ("key_slices", "slices_that_mattered", "slices_with_signs", "browser")
        plain = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in skipped}
        prediction = self.prediction
        signs = [{**_plain(sign), "words": sign.words, "degree": sign.degree} for sign in prediction.signs]
        plain["prediction"] |= {"signs": signs, "no_sign": prediction.no_sign, "hidden": prediction.hidden}
        return {"version": VERSION, **plain}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
