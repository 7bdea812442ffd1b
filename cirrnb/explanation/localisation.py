"""Does a map mark the disease? Scored against the known signs of simulated patients, and against counterfactuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter
from scipy.stats import rankdata

from cirrnb.data.bag import Bag
from cirrnb.data.prepared import PreparedScan
from cirrnb.explanation.explain import explain, score_of_patient
from cirrnb.explanation.explanation import Explanation
from cirrnb.explanation.score import PatientScore
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.model.checkpoint import TrainedStager
from cirrnb.model.torch_context import isolated_torch
from cirrnb.model.trained_model import TrainedModel
from cirrnb.simulation.scans import SCANNERS
from cirrnb.simulation.signs import SIGNS

SMOOTHING = 4.0
"""mm, standard deviation within the slice by which the size of a map is smoothed before it is scored: a gradient
changes its sign from pixel to pixel, and nobody reads it pixel by pixel."""

USED = 0.05
"""A sign counts as used by the stager if taking it away moves the score by at least this part of the score's difference
to the counterfactual without any sign."""

SCANNER = "scanner {1} instead of {0}".format(*SCANNERS)
"""No sign of disease; it stands in the same table since a model may use it as if it were one."""

FLESH = 0.08
"""Prepared intensity above which a pixel is not air."""

Maps = Mapping[str, NDArray]


def magnitude(maps: Maps, spacing: float, smoothing: float = SMOOTHING) -> dict[str, NDArray[np.float32]]:
    """Sequence -> (slices, rows, columns): the size of a map's values, smoothed within the slice by `smoothing` mm."""
    return smoothed({name: np.abs(array) for name, array in maps.items()}, spacing, smoothing)


def smoothed(maps: Maps, spacing: float, smoothing: float = SMOOTHING) -> dict[str, NDArray[np.float32]]:
    """Sequence -> (slices, rows, columns): a map's values with their sign, smoothed alike."""
    width = smoothing / spacing
    return {name: gaussian_filter(array.astype(np.float32), (0, width, width)) for name, array in maps.items()}


def body(prepared: PreparedScan) -> NDArray[np.bool_]:
    """(slices, rows, columns) what is not air around the patient."""
    return np.stack([binary_fill_holes(slice_ > FLESH) for slice_ in np.asarray(prepared.image, dtype=np.float32)])


def auroc(inside: NDArray, outside: NDArray) -> float:
    """Chance that a value from `inside` is larger than one from `outside`; ties count half. NaN where one is empty."""
    if not len(inside) or not len(outside):
        return float("nan")
    ranks = rankdata(np.concatenate([inside, outside]))
    return float((ranks[: len(inside)].mean() - (len(inside) + 1) / 2) / len(outside))


def localisation(maps: Maps, bag: Bag, truth: SimulatedTruth) -> pd.DataFrame:
    """How well a map's values (as they are, larger meaning more) tell evidence from the rest of the body.

    Returns one row for each sign with evidence in this patient, and one for "any": sign, auroc (0.5 is chance; the
    sign's voxels against body voxels without evidence, both sequences together), voxels, share (of the body's voxels).
    """
    values, labels = [], []
    for name, array in maps.items():
        prepared = bag.scans[name]
        flesh = body(prepared)
        values.append(array[flesh])
        labels.append(truth.evidence(prepared)[flesh])
    value, label = np.concatenate(values), np.concatenate(labels)
    free = value[label == 0]
    rows = []
    for number, sign in [*enumerate(SIGNS, start=1), (0, "any")]:
        inside_values = value[label == number] if number else value[label > 0]
        if len(inside_values):
            rows.append(
                {
                    "sign": sign,
                    "auroc": auroc(inside_values, free),
                    "voxels": len(inside_values),
                    "share": len(inside_values) / len(value),
                }
            )
    return pd.DataFrame(rows, columns=["sign", "auroc", "voxels", "share"])


def liver_share(maps: Maps, bag: Bag) -> tuple[float, float]:
    """Share of a map's total size that lies in the liver, and the liver's share of the body; NaN without a mask."""
    total = inside = flesh_count = liver_count = 0.0
    for name, array in maps.items():
        prepared = bag.scans[name]
        if prepared.mask is None:
            return float("nan"), float("nan")
        flesh, liver = body(prepared), np.asarray(prepared.mask)
        size = np.abs(array)
        total, inside = total + float(size[flesh].sum()), inside + float(size[flesh & liver].sum())
        flesh_count, liver_count = flesh_count + flesh.sum(), liver_count + (flesh & liver).sum()
    return inside / max(total, 1e-12), liver_count / max(flesh_count, 1)


@isolated_torch()
@torch.no_grad()
def sign_effects(score: PatientScore, bag: Bag, truth: SimulatedTruth, signs: Sequence[str] = SIGNS) -> pd.DataFrame:
    """Effect of removing each sign on the score: the causal effect that an attribution estimates.

    Returns one row for each sign that the patient shows: sign, effect (score less that of the counterfactual without
    the sign), total (score less that of the counterfactual without any), used (effect at least `USED` of the total, in
    its direction).
    """
    # A model of one sequence sees nothing of the other, nor of a scan that cannot be used.
    seen = bag.only([score.batch.sequences[index] for index in score.batch.sequence.unique()])
    assert seen is not None
    patient_score = float(score(score.slices)[0])
    total = patient_score - float(score(as_slices(truth.without(seen)))[0])
    rows = []
    for sign in truth.bears(bag):
        if sign in signs:
            effect = patient_score - float(score(as_slices(truth.without(seen, sign)))[0])
            used = bool(effect * np.sign(total) >= USED * abs(total)) and total != 0
            rows.append({"sign": sign, "effect": effect, "total": total, "used": used})
    return pd.DataFrame(rows, columns=["sign", "effect", "total", "used"])


def attributed_to_signs(explanation: Explanation, bag: Bag, truth: SimulatedTruth) -> pd.DataFrame:
    """What a signed map gives to each sign: sign, attributed (sum over the sign's voxels, in units of the score)."""
    sums = dict.fromkeys(SIGNS, 0.0)
    for name, array in explanation.maps.items():
        labels = truth.evidence(bag.scans[name])
        for number, sign in enumerate(SIGNS, start=1):
            sums[sign] += float(array[labels == number].sum())
    return pd.DataFrame({"sign": list(sums), "attributed": list(sums.values())})


@isolated_torch()
def signs_by_stage(
    model: TrainedModel | TrainedStager | Path | str, bags: Sequence[Bag], truth: SimulatedTruth, method: str
) -> pd.DataFrame:
    """Effect and attribution of each sign, by stage: means over the patients of a stage who have the sign.

    The row `SCANNER` gives the effect of the other scanner on the same patient's score. If the scanner predicted the
    stage in training, a model may use it like a sign.

    Returns one row for each stage and sign: stage, sign, patients, effect (of the sign, or of the scanner), attributed
    (by a signed method to the sign's voxels; NaN for the scanner, which is not localised), both in log-odds of
    "severity".
    """
    rows = []
    for bag in bags:
        explanation = explain(model, bag, method, permutations=4)
        score = score_of_patient(model, bag)
        both = sign_effects(score, bag, truth).merge(attributed_to_signs(explanation, bag, truth), on="sign")
        rows.append(both.assign(stage=bag.stage))
        rows.append(pd.DataFrame([{"stage": bag.stage, "sign": SCANNER, "effect": scanner_effect(score, bag, truth)}]))
    groups = pd.concat(rows).groupby(["stage", "sign"], sort=False)
    counted = groups["effect"].size().rename("patients")
    return pd.concat([counted, groups[["effect", "attributed"]].mean()], axis=1).reset_index()


@isolated_torch()
@torch.no_grad()
def scanner_effect(score: PatientScore, bag: Bag, truth: SimulatedTruth) -> float:
    """By how much the same patient's score is higher on the second of `SCANNERS` than on the first, in log-odds."""
    seen = bag.only([score.batch.sequences[index] for index in score.batch.sequence.unique()])
    assert seen is not None
    first, second = (float(score(as_slices(truth.on_scanner(seen, name)))[0]) for name in SCANNERS)
    return second - first


def as_slices(images: Maps) -> torch.Tensor:
    """(1, slices, rows, columns) of images by sequence, in the order of the patient's own."""
    return torch.from_numpy(np.concatenate([np.asarray(image, dtype=np.float32) for image in images.values()]))[None]


SWAP_COLUMNS = ("model", "subject", "stage", *SCANNERS)


@isolated_torch()
@torch.no_grad()
def scanner_swap(
    models: Mapping[str, TrainedModel | TrainedStager | Path | str], bags: Sequence[Bag], truth: SimulatedTruth
) -> pd.DataFrame:
    """Score for severity (log-odds) of each patient on each scanner; nothing else of the scan differs.

    Returns one row for each model and patient: model, subject, stage, A, B.
    """
    rows = []
    for bag in bags:
        images = {name: as_slices(truth.on_scanner(bag, name)) for name in SCANNERS}
        for name, model in models.items():
            score = score_of_patient(model, bag)
            scores = {scanner: float(score(image)[0]) for scanner, image in images.items()}
            rows.append({"model": name, "subject": bag.subject, "stage": bag.stage, **scores})
    return pd.DataFrame(rows, columns=list(SWAP_COLUMNS))
