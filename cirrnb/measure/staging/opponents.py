"""All opponents on the same patients, in the form in which a stager's predictions come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.measure.staging.classifiers import CLASSIFIERS, FLOOR, MAJORITY, Classifier, fit, probabilities
from cirrnb.measure.staging.features import demographics, patient_features

Sets = dict[str, tuple[Classifier, pd.DataFrame, Mapping[str, pd.DataFrame]]]
"""Opponent -> classifier, features by subject, and the features again with changed masks."""


@dataclass(frozen=True)
class Opponent:
    """One opponent after training.

    Attributes
    ----------
    fitted : the estimator, or None where it could not be trained. features : of all patients, indexed by subject.
    predictions : as `cirrnb.predict` returns, of every staged patient; those who lack all its features have no stage.
    reason : why it could not be trained, or nothing. stages : the scale.
    """

    fitted: Any
    features: pd.DataFrame
    predictions: pd.DataFrame
    reason: str = ""
    stages: StageScale = CIRRHOSIS


def floors(prepared: PreparedCohort, biomarkers: pd.DataFrame) -> Sets:
    """What any opponent has to beat: the majority, age and sex, the liver's volume."""
    people = demographics(prepared)
    measured = patient_features(biomarkers)
    volume = measured[[name for name in measured if str(name).endswith(" liver volume")]]
    return {
        "majority": (MAJORITY, people[[]], {}),
        "age and sex": (FLOOR, people, {}),
        "liver volume": (FLOOR, volume, {}),
    }


def on_biomarkers(biomarkers: pd.DataFrame, classifier: str = "logistic regression") -> Sets:
    """The biomarkers of all sequences."""
    return {f"biomarkers, {classifier}": (CLASSIFIERS[classifier], patient_features(biomarkers), {})}


def on_radiomics(values: pd.DataFrame, changed: Mapping[str, pd.DataFrame]) -> Sets:
    """Radiomics of each sequence and of all; `values` and each of `changed` as `cohort_radiomics` returns them."""
    sets: Sets = {}
    names = tuple(sorted(set(values["sequence"])))
    for sequences in (*((name,) for name in names), *([names] if len(names) > 1 else [])):
        features = patient_features(values, sequences)
        again = {name: patient_features(table, sequences) for name, table in changed.items()}
        for name, classifier in CLASSIFIERS.items():
            which = " and ".join(sequences)
            sets[f"radiomics {which}, {name}"] = (classifier, features, again)
    return sets


def stage_all(prepared: PreparedCohort, sets: Sets, *, seed: int = 0, progress: bool = True) -> dict[str, Opponent]:
    """Train every opponent on the patients of split "train" and ask it about all. One that cannot be trained stages
    nobody and says why."""
    from tqdm.auto import tqdm

    people = _people(prepared)
    return {
        name: _staged(people, *parts, seed=seed, simulated=prepared.simulated, stages=prepared.stages)
        for name, parts in tqdm(sets.items(), desc="Opponents", disable=not progress)
    }


def _people(prepared: PreparedCohort) -> pd.DataFrame:
    rows = [(bag.subject, bag.patient, bag.split, bag.stage) for bag in prepared.bags(staged=True)]
    return pd.DataFrame(rows, columns=["subject", "patient", "split", "stage"]).set_index("subject")


def _staged(
    people: pd.DataFrame,
    classifier: Classifier,
    features: pd.DataFrame,
    changed: Mapping[str, pd.DataFrame],
    *,
    seed: int,
    simulated: bool,
    stages: StageScale,
) -> Opponent:
    told = features.reindex(people.index)
    has = told.notna().any(axis=1) if told.shape[1] else pd.Series(True, index=people.index)
    training = has & (people["split"] == "train")
    found, reason, fitted = np.full((len(people), len(stages)), np.nan), "", None
    try:
        fitted = fit(
            classifier, told[training], people.loc[training, "stage"], seed=seed, changed=changed, scale=stages
        )
        found[has] = probabilities(fitted, told[has], stages)
    except InputError as error:
        reason, has = str(error), has & False
    table = people.reset_index().assign(simulated=simulated, **dict(zip(stages, found.T, strict=True)))
    said = [stages[int(row.argmax())] if known else None for row, known in zip(np.nan_to_num(found), has, strict=True)]
    return Opponent(fitted, told, table.assign(predicted=pd.Series(said, dtype=object)), reason, stages)


def together(stager: pd.DataFrame, opponent: pd.DataFrame, stages: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """The mean of two tables' probabilities for the patients of the first; where the second says nothing, the first.

    Nothing is fitted, so that what the second adds is seen on every patient.
    """
    mine = stager.set_index("subject")
    other = opponent.set_index("subject").reindex(mine.index)[list(stages)]
    mean = ((mine[list(stages)] + other) / 2).where(other.notna(), mine[list(stages)])
    known = mean.notna().all(axis=1)
    said = mean.fillna(0).idxmax(axis=1).where(known, None)
    drop = [name for name in ("set", "notes") if name in mine]
    return mine.drop(columns=drop).assign(**{stage: mean[stage] for stage in stages}, predicted=said).reset_index()
