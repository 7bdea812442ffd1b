"""Stages told from numbers: what is fitted stays inside the training patients, gaps are said, floors are floors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from toy_patients import toy_cohort

from cirrnb.data.errors import InputError
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.measure.baselines import (
    Baseline,
    demographics,
    floors,
    group_of,
    importance,
    on_biomarkers,
    on_radiomics,
    patient_features,
    stage_all,
    together,
)
from cirrnb.measure.classifiers import (
    CLASSIFIERS,
    FLOOR,
    MAJORITY,
    StableFeatures,
    agreement,
    fit,
    probabilities,
    repeated,
)


def scans(patients: int = 60, seed: int = 0) -> pd.DataFrame:
    """One row a scan: `stat_mean` tells the stage on T2W, `cm_noise` nothing, `morph_gap` is missing here and there."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(1, patients + 1):
        for sequence in ("T1W", "T2W"):
            told = (number - 1) % 3 if sequence == "T2W" else 0
            row = {"stat_mean": told + random.normal(0, 0.3), "cm_noise": random.normal(), "cm_other": random.normal()}
            gap = np.nan if number % 5 == 0 else random.normal()
            rows.append({"subject": f"cirrhotic/{number}", "sequence": sequence, **row, "morph_gap": gap})
    return pd.DataFrame(rows)


def stages_of(table: pd.DataFrame) -> pd.Series:
    return pd.Series([CIRRHOSIS[(int(one.split("/")[1]) - 1) % 3] for one in table.index], index=table.index)


def test_one_row_a_patient_and_a_missing_sequence_is_nan():
    values = scans(6)
    values = values[~((values["subject"] == "cirrhotic/2") & (values["sequence"] == "T2W"))].assign(nothing=np.nan)
    table = patient_features(values)
    assert list(table.index) == [f"cirrhotic/{number}" for number in range(1, 7)]
    assert "T1W nothing" not in table and table.shape[1] == 8
    assert table.loc["cirrhotic/2"].notna().sum() == 4 and np.isnan(table.loc["cirrhotic/2", "T2W stat_mean"])
    assert list(patient_features(values, ["T2W"])) == [
        f"T2W {name}" for name in ("stat_mean", "cm_noise", "cm_other", "morph_gap")
    ]


def test_columns_have_names_in_the_fields_words():
    assert group_of("T2W rlm_sre") == "T2W run lengths (GLRLM)"
    assert group_of("T1W surface nodularity") == "T1W surface nodularity" and group_of("age") == "age"


def test_agreement_is_shrout_and_fleiss():
    """Their table 2: six targets, four judges; ICC(2,1) = 0.29."""
    judged = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert agreement(np.array(judged, dtype=float)) == pytest.approx(0.29, abs=0.005)
    assert agreement(np.repeat([[1.0], [2.0], [5.0]], 2, axis=1)) == 1.0
    assert np.isnan(agreement(np.ones((4, 3))))


def test_features_that_the_mask_upsets_are_left_out_by_training_patients_alone():
    table = patient_features(scans(30))
    random = np.random.default_rng(1)
    changed = table + random.normal(0, 0.01, table.shape)
    changed["T1W cm_noise"] = random.normal(size=len(table))
    kept = StableFeatures({"moved": changed}).fit(table).kept_
    assert set(table) - set(kept) == {"T1W cm_noise"}
    # Those whose masks were changed are all in the other fold: nothing is known, and nothing is left out.
    assert StableFeatures({"moved": changed.iloc[15:]}).fit(table.iloc[:15]).kept_ == list(table)
    assert StableFeatures().fit(table).kept_ == list(table)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_finds_what_is_there(name: str):
    table = patient_features(scans())
    fitted = fit(CLASSIFIERS[name], table.iloc[:45], stages_of(table)[:45])
    found = probabilities(fitted, table.iloc[45:])
    assert found.shape == (15, 3) and found.sum(axis=1) == pytest.approx(np.ones(15))
    assert (np.array(CIRRHOSIS)[found.argmax(axis=1)] == stages_of(table)[45:]).mean() >= 0.7


def test_shuffled_stages_are_chance_even_after_selection():
    """With selection outside the folds noise would look like 0.6 here; inside it is chance."""
    random = np.random.default_rng(5)
    noise = pd.DataFrame(random.normal(size=(90, 200)), index=[f"a/{n}" for n in range(1, 91)]).add_prefix("T1W cm_")
    stages = pd.Series(random.permutation(stages_of(noise)), index=noise.index)
    found = np.concatenate(
        [
            probabilities(
                fit(CLASSIFIERS["logistic regression"], noise.drop(held), stages.drop(held)), noise.loc[held]
            ).argmax(axis=1)
            for held in np.array_split(noise.index, 3)
        ]
    )
    right = (np.array(CIRRHOSIS)[found] == stages).mean()
    assert abs(right - 1 / 3) < 3 * np.sqrt(2 / 9 / 90)


def test_too_few_of_a_stage_or_no_feature_is_said():
    table = patient_features(scans(12))
    only = stages_of(table).replace("severe", "mild")
    with pytest.raises(InputError, match="fewer than 2 of stage severe"):
        fit(FLOOR, table, only)
    with pytest.raises(InputError, match="at least one"):
        fit(FLOOR, table[[]], stages_of(table))
    assert probabilities(fit(MAJORITY, table[[]], stages_of(table)), table[[]]) == pytest.approx(
        np.full((12, 3), 1 / 3)
    )


@pytest.fixture(scope="module")
def rivals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Baseline]:
    prepared = toy_cohort(tmp_path_factory.mktemp("toys"), {"train": 36, "test": 24})
    values = scans()
    values = values[~((values["subject"] == "cirrhotic/50") & (values["sequence"] == "T2W"))]
    measured = values.rename(columns={"stat_mean": "liver volume"})[["subject", "sequence", "liver volume"]]
    sets = {**floors(prepared, measured), **on_biomarkers(measured), **on_radiomics(values, {})}
    wanted = [name for name in sets if "," not in name or name.endswith("logistic regression")]
    return stage_all(prepared, {name: sets[name] for name in wanted}, progress=False)


def test_all_baselines_answer_for_the_same_patients(rivals: dict[str, Baseline]):
    assert list(rivals) == [
        "majority",
        "age and sex",
        "liver volume",
        "biomarkers, logistic regression",
        "radiomics T1W, logistic regression",
        "radiomics T2W, logistic regression",
        "radiomics T1W and T2W, logistic regression",
    ]
    for name, baseline in rivals.items():
        told = baseline.predictions.set_index("subject")
        assert len(told) == 60 and set(told["split"]) == {"train", "test"} and not told["simulated"].isna().any()
        silent = list(told.index[told["predicted"].isna()])
        # Who has none of an baseline's numbers is not staged by it; nobody knows these patients' age and sex.
        assert silent == {"radiomics T2W, logistic regression": ["cirrhotic/50"], "age and sex": list(told.index)}.get(
            name, []
        )
        assert bool(baseline.reason) == (name == "age and sex")
        known = told[told["predicted"].notna()]
        assert known[list(CIRRHOSIS)].sum(axis=1).to_numpy() == pytest.approx(np.ones(len(known)))
    scores = {
        name: (one.predictions["stage"] == one.predictions["predicted"])[36:].mean() for name, one in rivals.items()
    }
    assert scores["radiomics T2W, logistic regression"] > 0.75 > 0.6 > scores["radiomics T1W, logistic regression"]


def test_together_is_the_mean_and_silence_changes_nothing(rivals: dict[str, Baseline]):
    stager = rivals["majority"].predictions.assign(set="mild", notes="")
    other = rivals["radiomics T2W, logistic regression"].predictions
    both = together(stager, other).set_index("subject")
    first = (stager.set_index("subject")["mild"] + other.set_index("subject")["mild"]) / 2
    assert both["mild"].drop("cirrhotic/50").to_numpy() == pytest.approx(first.drop("cirrhotic/50").to_numpy())
    assert both.loc["cirrhotic/50", "mild"] == stager.set_index("subject").loc["cirrhotic/50", "mild"]
    assert "set" not in both and both["predicted"].notna().all()


def test_importance_names_the_group_that_tells(rivals: dict[str, Baseline]):
    table = importance(rivals["radiomics T1W and T2W, logistic regression"], repeats=5)
    assert table["group"].iloc[0] == "T2W first order" and table["loss"].iloc[0] > 0.2
    assert table["features"].sum() == 8 and (table["loss"].iloc[1:].abs() < 0.3).all()


def test_demographics_are_numbers_or_nan(tmp_path: Path):
    table = demographics(toy_cohort(tmp_path, {"train": 3}))
    assert table.isna().all().all() and list(table) == ["age", "male"]


@pytest.mark.real
def test_the_floor_on_real_labels(external_data: Path):
    """Age, sex, liver volume and slice count of 318 real T2W patients tell the stage no better than chance."""
    folder = external_data / "cirrmri600"
    people = pd.read_csv(folder / "T2_age_gender_evaluation.csv").set_index("Patient ID")
    measured = pd.read_csv(folder / "liver_volume_per_scan_738.csv")
    measured = measured[(measured["modality"] == "T2w") & measured["is_cirrhotic"]]
    measured = measured.set_index(measured["patient_id"].astype(int))
    table = people.join(measured[["liver_volume_ml", "slices_with_liver"]], how="inner")
    features = table[["Age", "Gender", "liver_volume_ml", "slices_with_liver"]].astype(float)
    stages = table["Radiological Evaluation"].map(dict(enumerate(CIRRHOSIS, start=1)))
    assert len(features) == 318
    told = repeated(features, stages, folds=5, repeats=20)
    truth = stages.map(CIRRHOSIS.index).to_numpy()
    said = told.argmax(axis=2)
    assert np.mean([accuracy_score(truth, one) for one in said]) == pytest.approx(0.40, abs=0.02)
    assert np.mean([balanced_accuracy_score(truth, one) for one in said]) == pytest.approx(0.34, abs=0.02)
    aucs = [roc_auc_score(truth, one, multi_class="ovr") for one in told]
    assert np.mean(aucs) == pytest.approx(0.51, abs=0.02)
