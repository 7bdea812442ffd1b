"""An ablation: entries by name, one run folder each, and answers about the same patients set beside one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
from prediction_tables import drawn
from prediction_tables import table as prediction_table
from toy_patients import toy_cohort

import cirrnb
from cirrnb.benchmark import ablation
from cirrnb.benchmark.ablation import (
    ARCHITECTURES,
    BASELINE,
    ENTRIES,
    Sweep,
    ablation_table,
    architecture_table,
    choose,
    collect,
    compare_entries,
    entry_table,
    predict_without,
)
from cirrnb.data.bag import PreparedCohort
from cirrnb.data.errors import InputError
from cirrnb.data.scan import Cohort
from cirrnb.data.sequences import T1W_T2W
from cirrnb.data.stage_scale import CIRRHOSIS
from cirrnb.model.settings import TrainingSettings
from cirrnb.run.execution import find_notebook
from cirrnb.run.parameters import check, read_schema

NOBODY = Cohort((), "nobody", simulated=True)


def sweep_in(folder: Path) -> Sweep:
    return Sweep(folder / "runs", folder / "reports", {"cohort": "cohorts/demo", "epochs": 3, "slices": 8})


def answers_in(sweep: Sweep, name: str, seed: int, temperature: float, patients: int = 90) -> None:
    """A run folder with the predictions of a stager as good as its scores are clear."""
    logits, truth = drawn(patients, seed=3)
    noise = np.random.default_rng(seed).normal(0, 1 / temperature, logits.shape)
    run = sweep.run(ENTRIES[name], seed)
    run.mkdir(parents=True)
    trained = prediction_table(*drawn(60, seed=1), "train", 500)
    table = pd.concat([prediction_table(logits + noise, truth), trained]).assign(simulated=True)
    table.to_csv(run / "predictions.csv", index=False)


def test_entries_are_what_the_notebooks_and_the_stager_know() -> None:
    schema = read_schema(find_notebook("02_train"))
    assert read_schema(find_notebook("04_ablation"))["entries"].default == list(ENTRIES)
    names = TrainingSettings.__dataclass_fields__.keys() | TrainingSettings().stager.__dataclass_fields__.keys()
    for entry in (*ENTRIES.values(), *ablation.architectures(1)):
        assert check(schema, entry.changes, entry.name) == entry.changes
        settings = {key: value for key, value in entry.changes.items() if key in names}
        one = settings.pop("sequences", None)
        TrainingSettings.preset("demo", **settings, sequences=(one,) if one else T1W_T2W)
    changes = [str(entry.changes) for entry in ENTRIES.values() if entry.is_trained]
    assert len(set(changes)) == len(changes), "every entry changes something else"
    assert set(ARCHITECTURES.values()) <= set(timm.list_models())


def test_the_whole_stager_comes_first_and_unknown_names_are_told() -> None:
    assert [entry.name for entry in choose(["T2W", "T1W"])] == [BASELINE, "T1W", "T2W"]
    assert [entry.name for entry in choose([])] == list(ENTRIES)
    with pytest.raises(InputError, match="found T3W; expected among whole"):
        choose(["T1W", "T3W"])


def test_one_run_folder_for_each_entry_and_seed(tmp_path: Path) -> None:
    sweep = sweep_in(tmp_path)
    chosen = choose(["slices_4", "without_T2W"])
    jobs = sweep.training(chosen, [0, 1])
    assert [job.out.name for job in jobs] == ["whole-0", "slices_4-0", "whole-1", "slices_4-1"]
    assert [job.parameters["slices"] for job in jobs] == [8, 4, 8, 4]
    assert {job.parameters["division"] for job in jobs} == {0}, "all seeds test the same patients"
    assert [job.parameters["seed"] for job in jobs] == [0, 0, 1, 1]
    assert len({job.key for job in jobs}) == 4
    assert sweep.run(ENTRIES["without_T2W"], 1) == sweep.run(ENTRIES[BASELINE], 1)
    assert sweep.evaluation(chosen, [0, 1]) == []
    sweep.run(ENTRIES[BASELINE], 0).mkdir(parents=True)
    [scoring] = sweep.evaluation(chosen, [0, 1])
    assert scoring.after == jobs[0].key and scoring.parameters["model"] == jobs[0].parameters["run"]


def test_entries_are_compared_with_the_whole_on_the_same_patients(tmp_path: Path) -> None:
    sweep, chosen = sweep_in(tmp_path), choose(["T1W", "T2W"])
    with pytest.raises(InputError, match="no run of 'whole'"):
        collect(sweep, chosen, [0, 1], NOBODY, tmp_path)
    for seed in (0, 1):
        answers_in(sweep, BASELINE, seed, temperature=5)
        answers_in(sweep, "T1W", seed, temperature=0.2)
    answers_in(sweep, "T2W", 0, temperature=1)
    answers = collect(sweep, chosen, [0, 1], NOBODY, tmp_path)
    assert list(answers) == [BASELINE, "T1W"]
    comparisons = compare_entries(answers, resamples=200)
    [kappa] = comparisons[comparisons["metric"] == "quadratic weighted kappa"].to_dict("records")
    assert kappa["baseline"] == "T1W" and kappa["n"] == 90
    assert 0 < kappa["low"] < kappa["difference"] < kappa["high"] and kappa["p_holm"] < 0.05
    told = ablation_table(chosen, answers, comparisons)
    assert list(told.index) == [BASELINE, "T1W", "T2W"]
    assert told.loc["T2W", "kappa over seeds"] == "no run"
    assert told.loc["T1W", "whole less it, kappa"].startswith("+") and told.loc[BASELINE, "p (Holm)"] == ""
    assert " to " in told.loc[BASELINE, "accuracy over seeds"]
    assert compare_entries({BASELINE: answers[BASELINE]}).empty


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreparedCohort]:
    """A run of one epoch, and the prepared patients it was trained on; test patient 10 has T1W alone."""
    folder = tmp_path_factory.mktemp("toy")
    prepared = toy_cohort(folder / "prepared", {"train": 6, "valid": 3, "test": 3})
    lacking = [one for one in prepared.scans if (one.scan.patient, one.scan.sequence) != ("10", "T2W")]
    prepared = PreparedCohort(tuple(lacking), prepared.failures, prepared.settings, "toy", simulated=True)
    settings = TrainingSettings.preset("demo", epochs=1, width=16, slices=2)
    return cirrnb.train(prepared, folder / "runs" / "whole-0", settings, progress=False), prepared


def test_the_whole_stager_is_asked_again_without_a_sequence(
    toy: tuple[Path, PreparedCohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, prepared = toy
    monkeypatch.setattr(cirrnb, "prepare", lambda *_, **__: prepared, raising=False)
    sweep = Sweep(run.parent, run.parent, {})
    answers = collect(sweep, choose(["without_T1W", "without_T2W"]), [0], NOBODY, "prepared")
    tested = {name: table[table["split"] == "test"].set_index("subject") for name, [table] in answers.items()}
    assert tested["without_T2W"]["sequences"].tolist() == ["T1W"] * 3
    assert tested["without_T1W"]["sequences"].fillna("").tolist() == ["", "T2W", "T2W"]
    assert tested["without_T1W"]["predicted"].isna().tolist() == [True, False, False]
    assert tested[BASELINE]["stage"].tolist() == tested["without_T1W"]["stage"].tolist()
    # Patient 10 never had T2W: hiding it changes nothing.
    one, other = (tested[name].loc["cirrhotic/10", list(CIRRHOSIS)] for name in (BASELINE, "without_T2W"))
    np.testing.assert_allclose(one.astype(float), other.astype(float), atol=1e-6)
    assert compare_entries(answers, resamples=50)["left_out"].max() == 1
    whole = answers[BASELINE][0]
    again = predict_without(run, whole, NOBODY, "prepared")
    np.testing.assert_allclose(again[list(CIRRHOSIS)], whole[list(CIRRHOSIS)], atol=1e-6)


def test_architectures_are_not_ranked(toy: tuple[Path, PreparedCohort]) -> None:
    run, _ = toy
    run.parent.joinpath("ResNet-18-0").symlink_to(run)
    told = architecture_table(Sweep(run.parent, run.parent, {}), ablation.architectures(1), 0)
    assert list(told.index) == list(ARCHITECTURES)
    assert told["rank"].tolist() == ["not ranked"] + ["not run"] * 5
    assert told["works"].tolist() == ["yes"] + ["no"] * 5 and float(told.loc["ResNet-18", "million parameters"]) > 0


def test_an_entry_says_what_is_changed() -> None:
    told = entry_table(choose(["single_scale", "without_T2W"]))
    assert told["what is changed"].tolist() == ["nothing", "scales 1", "the whole stager is shown T1W only"]
