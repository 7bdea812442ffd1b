"""`faithfulness`: how much an answer depends on the pixels that a map marks, compared with control maps that do not use
the model."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from captum.metrics import infidelity, sensitivity_max
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cirrnb.data.bag import Bag, PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Cohort
from cirrnb.explanation.baselines import baseline as baseline_slices
from cirrnb.explanation.control_maps import CONTROL_MAPS, control_map
from cirrnb.explanation.explain import explain, score_of_patient
from cirrnb.explanation.explanation import Explanation, FaithfulnessStore
from cirrnb.explanation.localisation import Maps, body, magnitude, smoothed
from cirrnb.explanation.methods import Request, method_named
from cirrnb.explanation.perturbation_curves import STEPS, Curve, Patches, deletion, insertion, slice_deletion
from cirrnb.explanation.score import PatientScore
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.patients import bag_of
from cirrnb.model.stager import Stager
from cirrnb.model.torch_context import isolated_torch
from cirrnb.model.trained_model import TrainedModel, as_model, on_device
from cirrnb.model.usable_scans import usable

PATCH = 16.0
"""mm, side of the patches that are removed."""

SAMPLES = 16
"""Removals of patches at random for the infidelity."""

BETTER = {
    "deletion": "lower",
    "insertion": "higher",
    "slice deletion": "lower",
    "infidelity": "lower",
    "maximum sensitivity": "lower",
}
"""Better direction of each measure. Deletion and insertion after Petsiuk et al., RISE, BMVC 2018, on a raw score and
normalised by its ends; infidelity and maximum sensitivity: Yeh et al., NeurIPS 2019."""


@dataclass(frozen=True, eq=False)
class Case:
    """A patient and a model, with what all measures need of both."""

    score: PatientScore
    bag: Bag
    empty: torch.Tensor
    flesh: NDArray[np.bool_]

    @property
    def image(self) -> NDArray[np.float32]:
        return self.score.slices[0].numpy()

    @property
    def spacing(self) -> float:
        return next(iter(self.bag.scans.values())).settings.spacing

    def stacked(self, maps: Mapping[str, NDArray]) -> NDArray[np.float32]:
        """Maps by sequence, one after the other."""
        return np.concatenate([np.asarray(maps[name], dtype=np.float32) for name in self.bag.scans])


@isolated_torch()
def case(model: TrainedModel | TrainedStager | Path | str, bag: Bag, target: str) -> Case:
    """Bring model and patient together; the patient without detail stands for nothing."""
    trained = as_model(model)
    used, _ = usable(trained, bag)
    bag = Bag(used)
    score = score_of_patient(trained, bag, target)
    flesh = np.concatenate([body(scan) for scan in used.values()])
    return Case(score, bag, baseline_slices("blurred", used)[0], flesh)


@isolated_torch()
def faithfulness(
    model: TrainedModel | TrainedStager | Path | str,
    patients: Bag | PreparedCohort | Cohort | Path | str,
    explanation: Explanation,
    *,
    patch: float = PATCH,
    steps: int = STEPS,
    samples: int = SAMPLES,
    seed: int = 0,
    store: Path | str | None = None,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Measure how faithful an explanation is to the model, compared with control maps that do not use the model.

    Parameters
    ----------
    model : the model that was explained.
    patients : the patient, or the cohort with the patient, that was explained.
    explanation : as `cirrnb.explain` returned it.
    patch : side in mm of the square patches that are removed.
    steps : steps of a perturbation curve; the curve has one point more.
    samples : random removals for the infidelity; 0 skips it.
    seed : seed of all random choices.
    store : folder in which the table is kept and found again; None keeps none.
    device : as for `cirrnb.predict`.
    progress : called before each pass through the network with the number of passes done and about how many there are.
        An exception that it raises stops the measurement.

    Returns
    -------
    A table with one row per measure: measure, better ("lower" or "higher"), value of the map, and the value of each
    control map: random, shifted, edges (for slices: random, and attention, the model's own attention). NaN if the
    patient and the blurred patient hardly differ in score. Measures:

    - "deletion" and "insertion": patches are removed or added in the order of the map; area under the curve of the
      score, which is 1 for the patient and 0 for the blurred patient;
    - "slice deletion": the same for slices, in the order of their Shapley values;
    - "infidelity": squared error of the change of score that the map predicts for removed patches, after the best
      scaling, as a proportion of the squared change.

    Raises
    ------
    InputError
        If the explanation is of another patient or model, is of another type, or its map is constant.

    Examples
    --------
    >>> explanation = cirrnb.explain("shipped", "cohorts/mine", "grad_cam", permutations=2)
    >>> table = cirrnb.faithfulness("shipped", "cohorts/mine", explanation, steps=2, samples=0)
    >>> sorted(table["measure"])
    ['deletion', 'insertion', 'slice deletion']
    """
    trained = on_device(as_model(model), device)
    if not isinstance(explanation, Explanation):
        remedy = "Hand in what cirrnb.explain returns, third."
        raise InputError("explanation", f"a {type(explanation).__name__}", "an explanation", remedy)
    bag = bag_of(trained, patients, explanation.subject)
    if (explanation.subject, explanation.fingerprint) != (bag.subject, trained.fingerprint):
        raise InputError(
            "explanation",
            f"one of {explanation.subject} by {explanation.model} ({explanation.fingerprint[:8] or 'unknown'})",
            f"one of {bag.subject} by {trained.name} ({trained.fingerprint[:8]})",
            "Explain this patient with this model first.",
        )
    known = case(trained, bag, explanation.target)
    options = {"patch": patch, "steps": steps, "samples": samples, "seed": seed}
    kept = FaithfulnessStore(store).entry(trained, known.bag.scans, known.empty, explanation, options)
    if (stored := kept.read()) is not None:
        return stored
    # Two curves and the infidelity for the map and its control maps; the removal of slices is cheap.
    passes = itertools.count(1)
    total = (
        2 * (steps + 1)
        + 2 * (steps - 1) * len(CONTROL_MAPS)
        + (samples + 1 if samples else 0) * (1 + len(CONTROL_MAPS))
    )
    known.score.tick = lambda: progress(min(next(passes), total), total)
    values = known.stacked(explanation.maps)
    if np.ptp(values) < 1e-12:
        raise InputError(f"{bag.subject}, {explanation.method}", "a constant map", "a map that differs", "Try another.")
    known.score.keep(known.empty)  # the end of every curve
    patches = Patches.of(known.flesh, max(1, round(patch / known.spacing)))
    maps = {"value": directed(explanation, known)}
    for name in CONTROL_MAPS:
        maps[name] = control_map(name, np.abs(values), known.image, known.flesh, known.spacing, seed)
    rows = []
    for measure, curve in (("deletion", deletion), ("insertion", insertion)):
        curves: dict[str, Curve] = {}
        for name, attribution in maps.items():
            like = next(iter(curves.values()), None)
            curves[name] = curve(known.score, known.empty, patches, patches.order(attribution), steps, like)
        areas = {name: removal_curve.area for name, removal_curve in curves.items()}
        rows.append({"measure": measure, "better": BETTER[measure], **areas})
    rows.append({"measure": "slice deletion", "better": "lower", **_of_slices(known, explanation, steps, seed)})
    if samples:
        signed = {**maps, "value": values}
        errors = {name: _infidelity(known, patches, attribution, seed, samples) for name, attribution in signed.items()}
        rows.append({"measure": "infidelity", "better": "lower", **errors})
    return kept.write(pd.DataFrame(rows, columns=["measure", "better", "value", *CONTROL_MAPS, "attention"]))


def directed(explanation: Explanation, known: Case) -> NDArray[np.float32]:
    """The map so that what holds the score up where it is comes first: signed maps of a patient whose score lies below
    that of nothing are turned round, unsigned ones stay."""
    values = known.stacked(explanation.maps)
    if not explanation.signed:
        return values
    with torch.no_grad():
        down = float(known.score(known.score.slices)[0]) < float(known.score(known.empty[None])[0])
    return -values if down else values


def _of_slices(known: Case, explanation: Explanation, steps: int, seed: int) -> dict[str, float]:
    shares = explanation.shapley
    values = {
        part: np.concatenate([getattr(shares, part)[n] for n in known.bag.scans]) for part in ("slices", "weights")
    }
    with torch.no_grad():
        whole = float(known.score(known.score.slices)[0])
    way = 1.0 if whole >= shares.nothing else -1.0
    orders = {
        "value": way * values["slices"],
        "random": np.random.default_rng(seed).random(len(values["slices"])),
        "attention": values["weights"],
    }
    return {name: slice_deletion(known.score, order, shares.nothing, steps).area for name, order in orders.items()}


def _infidelity(known: Case, patches: Patches, values: NDArray[np.float32], seed: int, samples: int) -> float:
    """Captum's infidelity with patches removed at random, a tenth of them at a time, relative to the effects'
    square."""
    places = torch.nonzero(patches.used.flatten())[:, 0]
    generator = torch.Generator().manual_seed(seed)
    shape = (known.empty.shape[1], known.empty.shape[2])
    effects = []
    with torch.no_grad():
        whole = float(known.score(known.score.slices)[0])

    def remove(slices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = places[torch.randperm(len(places), generator=generator)[: max(1, len(places) // 10)]]
        taken = patches.spread(drawn, shape)[None]
        without = torch.where(taken, known.empty, slices)
        with torch.no_grad():
            effects.append(whole - float(known.score(without)[0]))
        return taken.float(), without

    with torch.no_grad():
        error = infidelity(
            known.score,
            remove,
            known.score.slices,
            torch.from_numpy(values)[None],
            n_perturb_samples=samples,
            max_examples_per_batch=1,
            normalize=True,
        )
    return float(error[0]) / max(float(np.mean(np.square(effects))), 1e-12)


@isolated_torch()
def maximum_sensitivity(
    model: TrainedModel | TrainedStager | Path | str,
    bag: Bag,
    method: str,
    target: str = "severity",
    *,
    settings: Mapping[str, Any] | None = None,
    baseline: str = "blurred",
    radius: float = 0.02,
    samples: int = 3,
    seed: int = 0,
) -> float:
    """How far a map moves, relative to its own length, when every pixel is moved by at most `radius` (prepared
    intensity): the largest of `samples` draws. Lower is better; a map that moves by its own length has 1."""
    known, how = case(model, bag, target), method_named(method)
    compared = baseline_slices(baseline, known.bag.scans, seed=seed)[:1]
    chosen = {**how.settings, **how.quick, **(settings or {})}

    def attribute(given: tuple[torch.Tensor]) -> torch.Tensor:
        score = PatientScore(known.score.members, known.score.batch, target)
        score.batch = replace(score.batch, slices=given[0][0][:, None].detach())
        return how.run(Request(score, compared if how.compares else None, chosen, seed)).maps[None]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Captum perturbs the whole example; one example at a time.
        sensitivity = sensitivity_max(
            attribute, known.score.slices, perturb_radius=radius, n_perturb_samples=samples, max_examples_per_batch=1
        )
    return float(sensitivity.max())


@isolated_torch()
def after_randomisation(
    model: TrainedModel | TrainedStager | Path | str,
    bag: Bag,
    explanation: Explanation,
    *,
    seed: int = 0,
    again: Callable[[TrainedModel], Explanation] | None = None,
) -> pd.DataFrame:
    """Rank correlation between an explanation and those of the model with more and more of its weights randomised.

    The randomised models are explained with the method's quick settings, or by `again`. Returns one row for each part,
    from the head down: randomised (the part that came last), correlation (Spearman's, of the maps' smoothed size over
    the body), and signed (the same of the values with their sign, smoothed). A map that stays the same (1) shows the
    image and not the model. Sizes stay alike for a while, since any network looks at edges; signs should not.
    """
    trained = as_model(model)
    known = case(trained, bag, explanation.target)
    original, signed = _sizes_and_values(known, explanation.maps)
    rows = []
    for part, changed in randomised(trained, seed):
        other = again(changed) if again else _explained_quickly(changed, bag, explanation, seed)
        sizes, values = _sizes_and_values(known, other.maps)
        rows.append({"randomised": part, "correlation": _rank(original, sizes), "signed": _rank(signed, values)})
    return pd.DataFrame(rows)


def _sizes_and_values(known: Case, maps: Maps) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smoothed sizes and smoothed values of a map, over the body."""
    sizes = known.stacked(magnitude(maps, known.spacing))[known.flesh]
    return sizes, known.stacked(smoothed(maps, known.spacing))[known.flesh]


def _rank(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Rank correlation; 0 with a map that is the same everywhere."""
    return float(spearmanr(first, second).statistic) if np.ptp(first) > 0 and np.ptp(second) > 0 else 0.0


def agreement(explanations: Mapping[str, Explanation], bag: Bag) -> pd.DataFrame:
    """Rank correlation (Spearman's, smoothed size over the body) between explanations of one patient, by name: of one
    method with several baselines, or of several methods."""
    scans = {
        name: scan
        for name, scan in bag.scans.items()
        if all(name in explanation.maps for explanation in explanations.values())
    }
    flesh = np.concatenate([body(scan) for scan in scans.values()])
    spacing = next(iter(scans.values())).settings.spacing
    sizes = {}
    for label, explanation in explanations.items():
        size = magnitude(explanation.maps, spacing)
        sizes[label] = np.concatenate([size[name] for name in scans])[flesh]
    return pd.DataFrame(sizes).corr(method="spearman")


def _explained_quickly(model: TrainedModel, bag: Bag, like: Explanation, seed: int) -> Explanation:
    baseline, quick = like.baseline or "blurred", {**like.settings, **method_named(like.method).quick}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few steps do not add up to the last percent, and need not
        return explain(
            model, bag, like.method, like.target, baseline=baseline, settings=quick, permutations=4, seed=seed
        )


PARTS: dict[str, tuple[str, ...]] = {
    "head": ("head.", "person.", "signs.", "maps."),
    "fusion and pooling": ("fusion.", "pooling.", "crossing.", "stand_in", "sequence_embedding."),
    "slice embedding": (".join.", ".levels.", ".attention."),
    "backbone": (".backbone.",),
}
"""What is randomised together, in this order, each with all before it; names of weights begin or go on with these."""


def randomised(model: TrainedModel, seed: int = 0) -> Iterator[tuple[str, TrainedModel]]:
    """Copies of the model in which more and more parts have random weights: (part randomised last, model)."""
    networks = (*model.members, *([model.sign_reader] if model.sign_reader else []))
    members = [copy.deepcopy(member.stager) for member in networks]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = [Stager(stager.settings, False, stager.stages, stager.sequences).eval() for stager in members]
    for part, names in PARTS.items():
        for stager, new in zip(members, fresh, strict=True):
            known = new.state_dict()
            with torch.no_grad():
                for name, values in stager.named_parameters():
                    if any(name.startswith(module) or (module.startswith(".") and module in name) for module in names):
                        values.copy_(known[name])
        kept = [replace(m, stager=copy.deepcopy(s)) for m, s in zip(networks, members, strict=True)]
        count = len(model.members)
        yield part, replace(model, members=tuple(kept[:count]), sign_reader=kept[count] if kept[count:] else None)
