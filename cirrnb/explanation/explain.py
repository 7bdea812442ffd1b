"""`explain`: one call from a patient to an `Explanation`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError, raise_if_any
from cirrnb.data.scan import Cohort
from cirrnb.explanation.baselines import baseline as baseline_slices
from cirrnb.explanation.explanation import Explanation, ExplanationStore
from cirrnb.explanation.methods import Method, Request, method_named
from cirrnb.explanation.score import SEVERITY, Cancelled, PatientScore, stage_targets, targets, targets_of
from cirrnb.explanation.shapley import PERMUTATIONS, shapley_values
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.patients import bag_of
from cirrnb.model.prediction import patient_batch
from cirrnb.model.signs import SHORT, shown_on
from cirrnb.model.stager import Stager
from cirrnb.model.torch_context import isolated_torch
from cirrnb.model.trained_model import TrainedModel, as_model, on_device
from cirrnb.model.usable_scans import prepared_otherwise, unusual, usable

SHAPLEY_PASSES = 4
"""Passes of the method that the Shapley values of slices take about as long as."""

TOLERATED = 0.1
"""Part of the score's difference that may be unaccounted for before a warning is given."""


@isolated_torch()
def explain(
    model: TrainedModel | TrainedStager | Path | str,
    patients: Bag | PreparedCohort | Cohort | Path | str,
    method: str = "integrated_gradients",
    target: str = SEVERITY,
    *,
    subject: str | None = None,
    prepared: Path | str | None = None,
    baseline: str = "blurred",
    settings: Mapping[str, Any] | None = None,
    references: Sequence[Bag] = (),
    counterfactual: Mapping[str, NDArray] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    store: Path | str | None = None,
    device: torch.device | str | None = None,
    progress: bool | Callable[[int, int], None] = False,
    cancel: Callable[[], bool] = lambda: False,
) -> Explanation:
    """Explain a model's answer for one patient: all slices of all sequences at once.

    The explained quantity is always a raw score (log-odds), because a probability near 0 or 1 hardly changes. For a
    model of several stagers it is the mean of their scores.

    Parameters
    ----------
    model : as for `cirrnb.predict`.
    patients : a cohort or its path, which is prepared as the model needs it; a prepared cohort; or the bag of one
        patient.
    method : name of an attribution method: integrated_gradients, gradient_shap, deep_lift, smooth_saliency, grad_cam,
        occlusion, attention or sign_map; see `cirrnb.explanation.methods.methods`.
    target : score to explain, by default "severity"; others are listed by `cirrnb.explanation.score.targets`.
    subject : patient of a cohort, "cirrhotic/12", or "12" if no other has this id; by default the first.
    prepared : folder for the scans that are prepared here, by default prepared/ and the cohort's name.
    baseline : image that the patient is compared with: "blurred", "air", "training" or "counterfactual"; see
        `cirrnb.explanation.baselines.baseline`.
    settings : settings of the method that differ from its defaults, by name.
    references : bags of training patients, for the baseline "training".
    counterfactual : sequence -> (slices, rows, columns) on the prepared grid, for the baseline "counterfactual".
    permutations : random orders of the slices for their Shapley values.
    seed : seed of all random choices.
    store : folder in which explanations are kept and found again; None keeps none.
    device : as for `cirrnb.predict`.
    progress : True shows a bar. A function is called before each pass through the network with the number of passes
        done and of all passes.
    cancel : called before each pass through the network; if it returns True, `Cancelled` is raised.

    Returns
    -------
    An `Explanation`: maps (one float32 array per sequence, on the prepared grid) and Shapley values of slices and
    sequences, in log-odds.

    Raises
    ------
    InputError
        If the target, method, setting, baseline or patient does not exist, the target is a sign that only a missing
        sequence can show, the method does not work with the network, or no sequence of the patient can be used.
    InputErrors
        If the scans were prepared with other settings than the model's.
    Cancelled
        If `cancel` returned True.

    Examples
    --------
    >>> explanation = cirrnb.explain("shipped", "cohorts/mine", "grad_cam", permutations=2)
    >>> explanation.method, explanation.target
    ('grad_cam', 'severity')
    >>> written = explanation.to_nifti("overlays")  # on the grid of each scan's own file
    """
    trained, how = as_model(model), _method(method, patients)
    bag = bag_of(trained, patients, subject, prepared)
    raise_if_any(prepared_otherwise(bag, trained))
    used, notes = usable(trained, bag)
    _require_shown(trained, target, used)
    if trained.measured_signs and target in trained.measured_signs.signs:
        was = "was" if target in trained.measured_signs.strengths(used) else "could not be"
        notes += [f"the strength of {SHORT.get(target, target)} {was} measured; the map shows what the network reads"]
    notes += (unlike := [reason.text for reason in unusual(trained, used)])
    chosen = _settings(how, settings)
    if unlike:
        warnings.warn(
            f"{bag.subject} is unlike the training patients ({'; '.join(unlike)}): what explains the answer is no "
            "better than the answer",
            stacklevel=2,
        )
    members = _asked(on_device(trained, device), target)
    shape = (sum(scan.grid.shape[0] for scan in used.values()), *next(iter(used.values())).grid.shape[1:])
    passes = how.passes(chosen, shape)
    with tqdm(total=passes + SHAPLEY_PASSES, desc=how.label, unit="pass", disable=progress is not True) as bar:
        way = _Way(passes, bar, progress if callable(progress) else None, cancel)
        score = PatientScore(members, patient_batch(trained, used), target, way.pass_begins)
        compared = baseline_slices(baseline, used, references, counterfactual, seed)
        compared = compared if how.several else compared[:1]
        request = {"method": method, "target": target, "baseline": baseline, "settings": chosen, "seed": seed}
        kept = ExplanationStore(store).entry(trained, used, compared, {**request, "permutations": permutations})
        files = {name: scan.scan.image for name, scan in used.items()}
        if (stored := kept.read()) is not None:
            return replace(stored, files=files, model=trained.name)
        attributed = how.run(Request(score, compared if how.compares else None, chosen, seed))
        with torch.no_grad():
            patient_score = float(score(score.slices)[0])
            nothing = float(np.mean([float(score(volume[None])[0]) for volume in compared]))
        shapley = shapley_values(score, nothing, permutations, seed, way.shared)
    places = {name: score.batch.sequence == score.batch.sequences.index(name) for name in used}
    explanation = Explanation(
        subject=bag.subject,
        model=trained.name,
        fingerprint=trained.fingerprint,
        method=method,
        label=how.label,
        signed=how.signed,
        target=target,
        score=patient_score,
        baseline_score=nothing,
        baseline=baseline if how.compares else None,
        maps={name: attributed.maps[place].detach().numpy() for name, place in places.items()},
        grids={name: scan.grid for name, scan in used.items()},
        source_grids={name: scan.source_grid for name, scan in used.items()},
        shapley=shapley,
        delta=attributed.delta,
        simulated=trained.simulated,
        settings=chosen,
        notes=tuple(notes),
        files=files,
    )
    return kept.write(_remarked(explanation))


def _asked(trained: TrainedModel, target: str) -> list[Stager]:
    """The networks whose score `target` is: of a sign, those that read the signs."""
    stagers = [member.stager.eval() for member in trained.members]
    if target in trained.signs and target not in (*stage_targets(stagers[0]), *trained.own_signs):
        return [member.stager.eval() for member in trained.for_signs.members]
    return stagers


def _require_shown(trained: TrainedModel, target: str, sequences: Collection[str]) -> None:
    """Raise InputError for a sign that none of these sequences can show; unknown targets are refused elsewhere."""
    stager = trained.members[0].stager
    if target in targets(stager) and target not in (known := targets_of(stager, sequences)):
        problem = f"{target!r}, which {' or '.join(shown_on(target))} alone shows"
        raise InputError(
            "target", problem, f"a score that {' and '.join(sequences)} can tell", f"Choose one of {known}."
        )


@isolated_torch()
def score_of_patient(
    model: TrainedModel | TrainedStager | Path | str, bag: Bag, target: str = SEVERITY
) -> PatientScore:
    """The raw score of one patient as a function of all the slices that the model can use."""
    trained = as_model(model)
    used, _ = usable(trained, bag)
    return PatientScore(_asked(trained, target), patient_batch(trained, used), target)


def _method(name: str, patients: object) -> Method:
    """The method of a name. Raises InputError for another name, with a hint where it is a patient's."""
    whole = patients.cohort if isinstance(patients, PreparedCohort) else patients
    if isinstance(whole, Cohort) and any(name in (scan.subject, scan.patient) for scan in whole.scans):
        remedy = f'Name the patient as subject: cirrnb.explain(model, cohort, subject="{name}").'
        raise InputError("method", f"{name!r}, a patient", "the name of a method", remedy)
    return method_named(name)


def _settings(how: Method, changes: Mapping[str, Any] | None) -> dict[str, Any]:
    unknown = sorted(set(changes or {}) - set(how.settings))
    if unknown:
        raise InputError(
            f"settings of {how.name!r}", f"unknown {unknown}", f"some of {sorted(how.settings)}", "Correct the name."
        )
    chosen = {**how.settings, **(changes or {})}
    for name, value in chosen.items():
        usual = how.settings[name]
        if isinstance(usual, int) and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise InputError(f"setting {name!r} of {how.name!r}", repr(value), "a whole number from 1", "Correct it.")
        if isinstance(usual, float) and not (isinstance(value, int | float) and 0 <= value < 10):
            raise InputError(f"setting {name!r} of {how.name!r}", repr(value), "a number from 0 to 10", "Correct it.")
    return chosen


class _Way:
    """Progress of an explanation: the passes of its method, then `SHAPLEY_PASSES` for the Shapley values."""

    def __init__(self, passes: int, bar: tqdm, tell: Callable[[int, int], None] | None, cancel: Callable[[], bool]):
        self._passes, self._bar, self._cancel = passes, bar, cancel
        self._tell = tell or (lambda done, total: None)
        self._done = 0

    def pass_begins(self) -> None:
        """Before each pass through the network, those of the Shapley values included; raises `Cancelled` on request."""
        if self._cancel():
            raise Cancelled("the explanation was cancelled; ask again to begin anew")
        self._reach(min(self._done + 1, max(self._passes, self._done)))

    def shared(self, done: int, total: int) -> None:
        """After each part of the Shapley values."""
        self._reach(self._passes + SHAPLEY_PASSES * done // total)

    def _reach(self, done: int) -> None:
        self._bar.update(done - self._done)
        self._done = done
        self._tell(done, self._passes + SHAPLEY_PASSES)


def _remarked(explanation: Explanation) -> Explanation:
    """With a note, and a warning, where the maps do not add up."""
    apart = explanation.relative_delta
    if apart is not None and apart > TOLERATED:
        note = f"the map misses {apart:.0%} of the score's difference: more steps would come closer"
        warnings.warn(f"{explanation.subject}, {explanation.method}: {note}", stacklevel=3)
        return replace(explanation, notes=(*explanation.notes, note))
    return explanation
