"""Faithfulness of explanations, on named test patients of the benchmark: perturbation, randomisation, and the truth.

Twenty patients of the cohort `cirrnb simulate OUT --patients 400 --seed 1007`: the first ten in its order whose stage
is severe and the first ten whose stage is moderate. The stager is the first fold of the benchmark's fused one. What is
made lies in the folder that CIRRNB_BENCHMARK names; CIRRNB_EXPLAINED takes the first so many of either stage, for
those in a hurry. A patient takes about six minutes of a processor, more than half of them for occlusion.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from test_stager_benchmark import prepared, train_folds

import cirrnb
from cirrnb.data.bag import Bag
from cirrnb.evaluation.bootstrap import bootstrap
from cirrnb.explanation.control_maps import advantages
from cirrnb.explanation.faithfulness import after_randomisation, case
from cirrnb.explanation.localisation import attributed_to_signs, liver_share, localisation, magnitude, sign_effects
from cirrnb.explanation.methods import method_named
from cirrnb.explanation.simulated_truth import SimulatedTruth
from cirrnb.model.trained_model import TrainedModel, load_model

pytestmark = pytest.mark.benchmark

METHODS = ("integrated_gradients", "gradient_shap", "smooth_saliency", "grad_cam", "occlusion", "attention")
COUNT = int(os.environ.get("CIRRNB_EXPLAINED", "10"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("CIRRNB_BENCHMARK")
    return Path(named) if named else tmp_path_factory.mktemp("benchmark")


def chosen(home: Path) -> list[Bag]:
    bags = prepared(home, "last", 400, 1007).bags(staged=True)
    severe, moderate = ([bag for bag in bags if bag.stage == stage][:COUNT] for stage in ("severe", "moderate"))
    return [bag for pair in zip(severe, moderate, strict=True) for bag in pair]


PARTS = ("faithfulness", "found", "signs", "costs", "randomised")


@cache
def measured(home: Path) -> dict[str, pd.DataFrame]:
    """All tables, kept by patient and method so that a run that was stopped goes on."""
    model, truth = load_model(train_folds(home, "fused")[0]), SimulatedTruth(home / "last")
    kept = home / "explained"
    kept.mkdir(exist_ok=True)
    people = chosen(home)
    costly = {bag.subject for bag in people[:2]}
    for bag in reversed(people) if os.environ.get("CIRRNB_BACKWARDS") else people:
        effects = effects_of(model, bag, truth)
        for method in METHODS:
            wanted = {"told"} | ({"randomised"} if method != "occlusion" or bag.subject in costly else set())
            missing = {one for one in wanted if not (kept / f"{bag.patient}-{method}-{one}-done").exists()}
            if not missing:
                continue
            tables = measure(model, truth, bag, method, effects, missing)
            for part, table in tables.items():
                told = table.assign(method=method, patient=bag.patient, stage=bag.stage)
                told.to_csv(kept / f"{bag.patient}-{method}-{part}.csv", index=False)
            for one in missing:
                (kept / f"{bag.patient}-{method}-{one}-done").touch()
    found = {part: sorted(kept.glob(f"*-{part}.csv")) for part in PARTS}
    found["faithfulness"] += sorted(kept.glob("*-worth.csv"))  # the name of earlier runs
    return {
        part: pd.concat([pd.read_csv(path, dtype={"patient": str}) for path in paths]) for part, paths in found.items()
    }


def measure(
    model: TrainedModel,
    truth: SimulatedTruth,
    bag: Bag,
    method: str,
    effects: Callable[[], pd.DataFrame],
    wanted: set[str],
) -> dict[str, pd.DataFrame]:
    """How faithful one map is (`told`), and what of it is left where the weights are random (`randomised`)."""
    began = time.process_time()
    told = cirrnb.explain(model, bag, method, permutations=64 if method == METHODS[0] else 4)
    cost = pd.DataFrame({"seconds": [time.process_time() - began], "delta": [told.relative_delta]})
    tables = {}
    if "randomised" in wanted:
        tables["randomised"] = after_randomisation(model, bag, told)
    if "told" in wanted:
        spacing = case(model, bag, "severity").spacing
        liver, share = liver_share(told.maps, bag)
        tables["costs"] = cost.assign(liver=liver, liver_share=share)
        tables["faithfulness"] = cirrnb.faithfulness(model, bag, told)
        found = localisation(magnitude(told.maps, spacing), bag, truth)
        tables["found"] = found.merge(effects(), on="sign", how="left")
        if method_named(method).signed:
            tables["signs"] = effects().merge(attributed_to_signs(told, bag, truth), on="sign")
    return tables


def effects_of(model: TrainedModel, bag: Bag, truth: SimulatedTruth) -> Callable[[], pd.DataFrame]:
    """What taking each sign away does to the score, asked once a patient and only where it is wanted."""
    return cache(lambda: sign_effects(case(model, bag, "severity").score, bag, truth))


def interval(values: pd.Series) -> str:
    """Mean over patients with its 95 % bootstrap interval."""
    told = values.dropna().to_numpy(dtype=float)
    if len(told) < 3:
        return f"{told.mean():.3f} (n {len(told)})" if len(told) else "none"
    limits = bootstrap(lambda index: float(told[index].mean()), np.zeros(len(told)))
    return f"{told.mean():.3f} ({limits.low:.3f} to {limits.high:.3f}, n {len(told)})"


def test_perturbation_curves_against_control_maps(home: Path) -> None:
    table = measured(home)["faithfulness"]
    for (measure, method), part in table.groupby(["measure", "method"], sort=False):
        print(f"\n{measure}, {method}: {interval(part['value'])}")
        compared = pd.DataFrame([advantages(row) for row in part.to_dict("records")])
        for control in compared:
            print(f"    better than {control} by {interval(compared[control])}")
    assert set(table["method"]) == set(METHODS)


def test_randomisation(home: Path) -> None:
    for (method, part), table in measured(home)["randomised"].groupby(["method", "randomised"], sort=False):
        print(f"\n{method}, {part} and above randomised: rank correlation {interval(table['correlation'])}")


def test_maps_against_the_truth(home: Path) -> None:
    table = measured(home)["found"]
    for method, part in table.groupby("method", sort=False):
        used = part[part["used"].astype(str) == "True"]
        print(f"\n{method}: used signs {interval(used.groupby('patient')['auroc'].mean())}")
        for sign, own in part.groupby("sign", sort=False):
            of_used = own[own["used"].astype(str) == "True"]["auroc"]
            print(f"    {sign}: {interval(own['auroc'])}; where used {interval(of_used)}")
    assert table["auroc"].between(0, 1).all()


def test_attribution_grows_with_the_effect(home: Path) -> None:
    for method, table in measured(home)["signs"].groupby("method", sort=False):
        patients = dict(list(table.groupby("patient")))
        names = list(patients)

        def rank(index: np.ndarray, patients=patients, names=names) -> float:  # type: ignore[no-untyped-def]
            drawn = pd.concat([patients[names[i]] for i in index])
            return float(spearmanr(drawn["effect"], drawn["attributed"]).statistic)

        limits = bootstrap(rank, np.zeros(len(names)), resamples=500)
        value = rank(np.arange(len(names)))
        print(f"\n{method}: rank correlation with the effect {value:.2f} ({limits.low:.2f} to {limits.high:.2f})")
        print(table.groupby(["stage", "sign"])[["effect", "attributed"]].mean().round(2).to_string())


def test_what_it_costs(home: Path) -> None:
    table = measured(home)["costs"]
    told = table.groupby("method", sort=False)[["seconds", "delta", "liver", "liver_share"]].mean()
    print(f"\n{told.round(3).to_string()}")
    assert (table["seconds"] > 0).all()
