"""Baselines that are no networks: features by patient, classifiers trained on them, and what these lean on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss

from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS, StageScale
from cirrnb.measure.classifiers import CLASSIFIERS, FLOOR, MAJORITY, Classifier, fit, probabilities

Sets = dict[str, tuple[Classifier, pd.DataFrame, Mapping[str, pd.DataFrame]]]
"""Baseline -> classifier, features by subject, and the features again with changed masks."""


@dataclass(frozen=True)
class Baseline:
    """One baseline after training.

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
    """What any baseline has to beat: the majority, age and sex, the liver's volume."""
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


def stage_all(prepared: PreparedCohort, sets: Sets, *, seed: int = 0, progress: bool = True) -> dict[str, Baseline]:
    """Train every baseline on the patients of split "train" and ask it about all. One that cannot be trained stages
    nobody and says why."""
    from tqdm.auto import tqdm

    people = _people(prepared)
    return {
        name: _staged(people, *parts, seed=seed, simulated=prepared.simulated, stages=prepared.stages)
        for name, parts in tqdm(sets.items(), desc="Baselines", disable=not progress)
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
) -> Baseline:
    known_features = features.reindex(people.index)
    has = known_features.notna().any(axis=1) if known_features.shape[1] else pd.Series(True, index=people.index)
    training = has & (people["split"] == "train")
    chances, reason, fitted = np.full((len(people), len(stages)), np.nan), "", None
    try:
        fitted = fit(
            classifier,
            known_features[training],
            people.loc[training, "stage"],
            seed=seed,
            changed=changed,
            scale=stages,
        )
        chances[has] = probabilities(fitted, known_features[has], stages)
    except InputError as error:
        reason, has = str(error), has & False
    table = people.reset_index().assign(simulated=simulated, **dict(zip(stages, chances.T, strict=True)))
    predicted = [
        stages[int(row.argmax())] if known else None for row, known in zip(np.nan_to_num(chances), has, strict=True)
    ]
    return Baseline(fitted, known_features, table.assign(predicted=pd.Series(predicted, dtype=object)), reason, stages)


def together(stager: pd.DataFrame, baseline: pd.DataFrame, stages: StageScale = CIRRHOSIS) -> pd.DataFrame:
    """The mean of two tables' probabilities for the patients of the first; without a second one, the first.

    Nothing is fitted, so the contribution of the second table can be evaluated on all patients.
    """
    answers = stager.set_index("subject")
    other = baseline.set_index("subject").reindex(answers.index)[list(stages)]
    mean = ((answers[list(stages)] + other) / 2).where(other.notna(), answers[list(stages)])
    known = mean.notna().all(axis=1)
    predicted = mean.fillna(0).idxmax(axis=1).where(known, None)
    drop = [name for name in ("set", "notes") if name in answers]
    return (
        answers.drop(columns=drop).assign(**{stage: mean[stage] for stage in stages}, predicted=predicted).reset_index()
    )


FAMILIES = {
    "morph": "shape",
    "stat": "first order",
    "ih": "intensity histogram",
    "cm": "co-occurrence (GLCM)",
    "rlm": "run lengths (GLRLM)",
    "szm": "size zones (GLSZM)",
    "ngt": "tone differences (NGTDM)",
    "ngl": "grey level dependence (NGLDM)",
}
"""Beginning of a radiomic feature's name -> its family in words."""

DEMOGRAPHICS = ("age", "male")


def patient_features(values: pd.DataFrame, sequences: Collection[str] | None = None) -> pd.DataFrame:
    """One row a patient from one row a scan.

    Parameters
    ----------
    values : subject, sequence and one column a feature, as `cohort_radiomics` and `cohort_biomarkers` return.
    sequences : those to take; None takes all.

    Returns
    -------
    Indexed by subject, columns "T1W morph_volume" and so on; NaN where a patient lacks the sequence or the feature.
    Features that no patient has are left out. Every subject of `values` has a row, even if it lacks the sequence.
    """
    names = [name for name in values if name not in ("subject", "sequence")]
    subjects = list(dict.fromkeys(values["subject"]))
    parts = []
    for sequence in sorted(set(values["sequence"]) & set(sequences or values["sequence"])):
        part = values[values["sequence"] == sequence].set_index("subject")[names].reindex(subjects)
        parts.append(part.astype(float).add_prefix(f"{sequence} "))
    table = pd.concat(parts, axis=1).rename_axis("subject")
    return table.loc[:, table.notna().any()]


def demographics(prepared: PreparedCohort) -> pd.DataFrame:
    """Age in years and sex (1 male, 0 female) by subject; NaN where unknown."""
    rows = {bag.subject: (bag.age, None if bag.sex is None else float(bag.sex == "male")) for bag in prepared.bags()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(DEMOGRAPHICS), dtype=float).rename_axis("subject")


def group_of(column: str) -> str:
    """What a column belongs to, in words: "T2W run lengths (GLRLM)", "T1W surface nodularity", "age"."""
    sequence, space, name = column.rpartition(" ")
    family = FAMILIES.get(name.partition("_")[0])
    return f"{sequence} {family}" if space and family else column


def importance(baseline: Baseline, *, split: str = "test", repeats: int = 20, seed: int = 0) -> pd.DataFrame:
    """Permutation importance of groups of features.

    Features of a family are correlated, so permuting a single one would show little (Strobl et al., BMC Bioinformatics
    2008;9:307): the features of a family and sequence are permuted together, in the same order.

    Returns
    -------
    One row per group, the largest first: group, features (number), loss (mean increase of the log loss on the patients
    of the split, in nats), sd (over the permutations). At or below 0, the group is not used.
    """
    predictions = baseline.predictions.set_index("subject")
    scored = predictions[(predictions["split"] == split) & predictions["predicted"].notna()]
    features, truth = baseline.features.loc[scored.index], scored["stage"].map(baseline.stages.index)
    random, scale = np.random.default_rng(seed), baseline.stages

    def loss(table: pd.DataFrame) -> float:
        return float(log_loss(truth, probabilities(baseline.fitted, table, scale), labels=range(len(scale))))

    before, rows = loss(features), []
    groups = pd.Series(features.columns, index=features.columns).groupby(group_of)
    for group, columns in groups:
        losses = []
        for _ in range(repeats):
            shuffled = features.copy()
            shuffled[list(columns)] = features[list(columns)].to_numpy()[random.permutation(len(features))]
            losses.append(loss(shuffled) - before)
        rows.append({"group": group, "features": len(columns), "loss": np.mean(losses), "sd": np.std(losses, ddof=1)})
    table = pd.DataFrame(rows, columns=["group", "features", "loss", "sd"])
    return table.sort_values("loss", ascending=False, ignore_index=True)
